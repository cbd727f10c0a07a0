"""Where everything of an experiment lies under `results/<experiment>/`: the one place that knows file names.

The Snakefile calls these functions with `{wildcards}`, the stages with names.  Imports no torch.

Folders whose number of files depends on the params (tailors, adapted, samples) are declared to Snakemake as folders;
what reads them depends on the job's record beside them, which holds the checksum of every file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kind.params import Experiment

SPLITS = ("train", "validation", "test")


def tailor_names(num_classes: int, num_groups: int = 0) -> list[str]:
    """One file a class, numbered in the order of the classes (names may not fit a file name), then one a group of
    classes that shares tailors."""
    counts = {"class": num_classes, "group": num_groups}
    return [f"{owner}_{index:04d}.safetensors" for owner, count in counts.items() for index in range(count)]


def last_step(folder: Path) -> Path | None:
    """Of a run's adapted models (see `Layout.adapted`), the one of most steps."""
    steps = {int(path.stem[5:]): path for path in folder.glob("step_*.safetensors") if path.stem[5:].isdecimal()}
    return steps[max(steps)] if steps else None


@dataclass(frozen=True)
class Layout:
    root: Path

    def record(self, folder: Path, name: str) -> Path:
        """What a job read, wrote and was told: `<stage>.json` beside its outputs."""
        return folder / f"{name}.json"

    def data(self, data: str) -> Path:
        return self.root / "data" / data

    def data_files(self, data: str) -> list[Path]:
        return [self.data(data) / name for name in ("images.npy", "index.npz", "manifest.json")]

    def latent_files(self, data: str) -> list[Path]:
        return [self.data(data) / name for name in ("latents.npy", "latents.json")]

    @staticmethod
    def is_described(path: Path) -> bool:
        """Whether a small file beside this large one holds its checksum, so that whoever has read that knows both."""
        return path.name in ("images.npy", "latents.npy")

    def training_files(self, experiment: Experiment, data: str) -> list[Path]:
        """What is trained on: latents too, where the data set has them."""
        return [*self.data_files(data), *(self.latent_files(data) if experiment.data[data].latents else [])]

    @property
    def extractor(self) -> Path:
        return self.root / "extractor" / "extractor.safetensors"

    def reference(self, task: str) -> Path:
        return self.root / "reference" / f"{task}.npz"

    @property
    def features(self) -> Path:
        """Features of images under keys of their content: no output, since all of it can be made again."""
        return self.root / "features"

    def judge(self, task: str) -> Path:
        return self.root / "reference" / f"{task}.judge.npz"

    def backbone(self, backbone: str) -> Path:
        return self.root / "backbones" / backbone

    def backbone_model(self, backbone: str) -> Path:
        return self.backbone(backbone) / "model.safetensors"

    def backbone_files(self, backbone: str) -> list[Path]:
        names = ("model.safetensors", "raw.safetensors", "train.csv", "cost.json", "preview.npz")
        return [self.backbone(backbone) / name for name in names]

    def replay(self, backbone: str) -> Path:
        """Samples of a backbone, for the objective `diff-tuning`."""
        return self.backbone(backbone) / "replay.npz"

    def learngenes(self, backbone: str) -> Path:
        return self.root / "learngenes" / backbone / "learngenes.safetensors"

    def tailors(self, backbone: str, num_classes: int, num_groups: int = 0) -> list[Path]:
        return [self.tailor_folder(backbone) / name for name in tailor_names(num_classes, num_groups)]

    def tailor_folder(self, backbone: str) -> Path:
        return self.learngenes(backbone).with_name("tailors")

    def run(self, task: str, method: str, seed: int | str) -> Path:
        return self.root / "runs" / task / method / f"seed_{seed}"

    def adapted(self, run: Path, step: int) -> Path:
        """What the method trained, averaged, after `step` steps."""
        return self.adapted_folder(run) / f"step_{step:06d}.safetensors"

    def adapted_folder(self, run: Path) -> Path:
        return self._apart("adapters", run)

    def adapted_files(self, run: Path, steps: list[int]) -> list[Path]:
        kept = [self.adapted(run, step) for step in steps]
        return [*kept, self.raw_adapted(run), run / "train.csv", run / "cost.json"]

    def raw_adapted(self, run: Path) -> Path:
        """The same after the last step, not averaged."""
        return self.adapted_folder(run) / "raw.safetensors"

    def start(self, form: str | None, backbone: str | None) -> Path | None:
        """The file that a method begins with: a dense backbone, learngenes, or nothing."""
        if form is None:
            return None
        return self.learngenes(backbone) if form == "kind" else self.backbone_model(backbone)

    def material(self, needs: Collection[str], backbone: str, pretraining_data: str) -> list[Path]:
        """Files of what a method needs besides (`Method.needs`); tailors by the record of the job that wrote them."""
        files = [self.record(self.learngenes(backbone).parent, "extract")] if "seen" in needs else []
        return [*files, *(self.data_files(pretraining_data) if "seen_embeddings" in needs else [])]

    def samples(self, run: Path, step: int, count: int, shard_size: int) -> list[Path]:
        """Shards of at most `shard_size` images."""
        folder = self.sample_folder(run) / f"step_{step:06d}"
        return [folder / f"shard_{index:03d}.npz" for index in range(-(-count // shard_size))]

    def sample_folder(self, run: Path) -> Path:
        return self._apart("samples", run)

    def _apart(self, part: str, run: Path) -> Path:
        """Big files of a run lie in a tree of their own, so that DVC can pull each kind alone."""
        return self.root / part / run.relative_to(self.root / "runs")

    def metrics(self, run: Path) -> Path:
        return run / "metrics.json"

    def tuned(self, method: str) -> Path:
        """The learning rate that tuning chose for a method, with all that was tried."""
        return self.tuning / f"{method}.json"

    def tuned_rate(self, method: str) -> Path:
        """The rate alone: what runs depend on, whatever else was tried."""
        return self.tuning / f"{method}.rate.json"

    def tuned_files(self, method: str) -> list[Path]:
        return [self.tuned(method), self.tuned_rate(method)]

    @property
    def tuning(self) -> Path:
        return self.root / "tuning"

    @property
    def analyses(self) -> Path:
        return self.root / "analyses"

    def weights_table(self, task: str) -> Path:
        return self.analyses / f"weights_{task}.csv"

    @property
    def interference_table(self) -> Path:
        return self.analyses / "interference.csv"

    def bounds_table(self, task: str) -> Path:
        return self.analyses / f"bounds_{task}.csv"

    def component_files(self) -> list[Path]:
        """Of energies, of similarities of pairs of classes, of correlations over pairs, and of pictures."""
        names = ("energy.csv", "similarity.csv", "correlation.csv", "pictures.npz")
        return [self.analyses / f"components_{name}" for name in names]

    @property
    def guidance_table(self) -> Path:
        return self.analyses / "guidance.csv"

    def make_optional_folders(self) -> None:
        """Of what not every experiment has: DVC wants all that dvc.yaml names to be there, if empty."""
        for folder in (self.tuning, self.analyses):
            folder.mkdir(parents=True, exist_ok=True)

    def analysis_files(self, experiment: Experiment) -> list[Path]:
        """What the `analyses` section asks for."""
        asked = experiment.analyses
        if asked is None:
            return []
        adapted = [task for task, one in experiment.tasks.items() if not one.seen]
        return [
            *(self.weights_table(task) for task in (adapted if asked.weights else [])),
            *([self.interference_table] if asked.interference else []),
            *(self.bounds_table(task) for task in (experiment.tasks if asked.bounds else [])),
            *(self.component_files() if asked.components else []),
            *([self.guidance_table] if asked.guidance else []),
        ]

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def report_tables(self) -> Path:
        return self.report / "tables"

    @property
    def report_summary(self) -> Path:
        return self.report / "summary"

    @property
    def report_plots(self) -> Path:
        return self.report / "plots"

    @property
    def report_grids(self) -> Path:
        return self.report / "grids"

    def report_files(self) -> list[Path]:
        return [self.report / name for name in ("index.html", "metrics.csv", "curves.csv", "means.json")]

    def log(self, stage: str, *parts: str | int) -> Path:
        """Parts are joined by dots, which names do not hold."""
        return self.root.joinpath("logs", stage, ".".join(str(part) for part in parts) + ".log")

    @property
    def track_log(self) -> Path:
        """Of the process that brings the experiment into MLflow."""
        return self.root / "logs" / "track.log"

    @property
    def states(self) -> Path:
        """A folder a job, of those that have begun and are not finished."""
        return self.root / "state"

    def part(self, stage: str, *names: str | int, part: str | int = "{part}", parts: str | int = "{parts}") -> Path:
        """The record of a part of a job (see kind/parts.py), until the whole is there."""
        name = ".".join(str(each) for each in names)
        return self.root / "state" / "parts" / stage / f"{name}.{part}_of_{parts}.json"

    def state(self, stage: str, *parts: str | int) -> Path:
        """What a running job needs to resume; undeclared, since Snakemake deletes a failed job's outputs."""
        return self.states.joinpath(stage, *(str(part) for part in parts))

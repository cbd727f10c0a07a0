"""What the table of mistakes is made of: places, commands, and what breaks them."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from place import FULL, KIND, Place

DATA, DENSE, FACTORIZED = (
    "data/digits/images.npy",
    "backbones/dense/model.safetensors",
    "backbones/kind/model.safetensors",
)
INDEX = "data/digits/index.npz"
LEARNGENES = "learngenes/kind/learngenes.safetensors"
EXTRACTOR, REFERENCE, JUDGE = "extractor/extractor.safetensors", "reference/novel.npz", "reference/novel.judge.npz"
OF_RUN, OF_KIND_RUN = "novel/full/seed_0", "novel/kind/seed_0"
RUN, ADAPTERS = f"runs/{OF_RUN}", f"adapters/{OF_RUN}"
ADAPTED, SHARD = f"{ADAPTERS}/step_000003.safetensors", f"samples/{OF_RUN}/step_000003/shard_001.npz"
STATE = "state/finetune/novel/full/0/training.pt"

PREPARE, TRAIN_EXTRACTOR, MAKE_REFERENCE = (
    ("prepare", "--data", "digits"),
    ("extractor",),
    ("reference", "--task", "novel"),
)
PRETRAIN, EXTRACT = ("pretrain", "--backbone", "dense"), ("extract", "--backbone", "kind")
FINETUNE, SAMPLE, EVALUATE = ("finetune", *FULL), ("sample", *FULL), ("evaluate", *FULL)
FINETUNE_KIND, SAMPLE_KIND = ("finetune", *KIND), ("sample", *KIND)
WEIGHTS, INTERFERENCE = (
    ("analyse", "--analysis", "weights", "--task", "novel"),
    ("analyse", "--analysis", "interference"),
)
ASKED = ("  curve: [0.4]\n", "  curve: [0.4]\nanalyses: {weights: {}}\n")
WEIGHTS_TABLE = "analyses/weights_novel.csv"
SEEN = (  # a task of classes of pre-training, and who runs on it
    ("images_per_class: 20}", "images_per_class: 20}\n  seen: {data: digits, classes: [0, 2], seen: true}"),
    ("kind: {}}", "kind: {}, recombined: {share: 0.5}}"),
)
REPORT, CHOOSE = ("report",), ("choose", "--method", "full")
OPEN_RATES = (
    ("finetune: {steps: 3, batch_size: 8, learning_rate: 1.0e-3", "finetune: {steps: 3, batch_size: 8"),
    (
        "methods:",
        "tune: {tasks: {practice: {data: digits, classes: [5, 6]}}, learning_rate: [0.1, 0.2], seed: 5}\nmethods:",
    ),
)


@dataclass(frozen=True)
class Case:
    """What is broken, the command that meets it, and what it says after `error: `."""

    name: str
    breaks: Callable[[Place], object]
    command: tuple[str, ...]
    message: str
    code: int = 2


def sealed(*changes: Callable[[Place], object]) -> Callable[[Place], object]:
    """These changes, with records and manifests that say nothing of them: only the file's own checks are left."""

    def breaks(place: Place) -> None:
        for change in changes:
            change(place)
        place.seal()

    return breaks


def changed(path: str, record: str, stage: str) -> str:
    return (
        f"results/tiny/{path}: not the file that results/tiny/{record} describes (sha256 ..., expected ...)\n"
        f"  -> cut off or changed after it was written: delete it, then run snakemake, or the stage {stage}, again"
    )


def put_state(place: Place, content) -> None:
    from kind.training_state import StateFiles

    StateFiles(place.results / STATE, "a run").save(content)


def start_from_nearest(place: Place, path: str | None = None) -> None:
    section = "" if path is None else f"embedding: {{path: {path}}}\n"
    place.edit(("methods: {full: {}, kind: {}}", f"{section}methods: {{full: {{}}, kind: {{tailor_start: nearest}}}}"))


INCEPTION_WAYS, DINOV2_WAYS = (
    f"  -> name {what} in the params as evaluation.extractor.weights_path, or name it in the variable {variable}, or run `python -m kind fetch {name}` where there is a network"
    for name, variable, what in (
        ("inception", "KIND_INCEPTION", "weights-inception-2015-12-05-6726825d.pth"),
        ("dinov2", "KIND_DINOV2", "a folder with config.json, model.safetensors"),
    )
)


def inception(place: Place, path: str = ", weights_path: w.pth") -> None:
    outside(place, "inception", path)


def outside(place: Place, kind: str, path: str) -> None:
    """An extractor that others trained."""
    place.edit(
        (
            "extractor: {type: trained, name: digits, steps: 5, batch_size: 8, feature_dim: 4}",
            f"extractor: {{type: {kind}{path}}}",
        )
    )


def drop_header(place: Place, name: str, key: str) -> None:
    from kind.artifacts import load_tensors, save_tensors

    tensors, header = load_tensors(place.results / name)
    save_tensors(place.results / name, tensors, {other: value for other, value in header.items() if other != key})


def foreign(place: Place, name: str) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, place.results / name)


def file_for_folder(place: Place) -> None:
    import shutil

    shutil.rmtree(place.results / "data" / "digits")
    (place.results / "data" / "digits").write_text("")


def write(place: Place, name: str, text: str) -> None:
    (place.results / name).parent.mkdir(parents=True)
    (place.results / name).write_text(text)

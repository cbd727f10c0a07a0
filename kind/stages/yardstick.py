"""What images of a task are measured against: the same for samples of runs and for all that is put beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.errors import UserError
from kind.params.messages import told_apart
from kind.stages.context import Context

if TYPE_CHECKING:
    from kind.evaluation.feature_sets import FeatureSet
    from kind.evaluation.features import Extractor
    from kind.evaluation.image_sets import ImageSet


@dataclass(frozen=True)
class Yardstick:
    """A task's extractor and reference; pixels: what else `evaluate_images` compares them with; cache: of features."""

    extractor: Extractor
    reference: FeatureSet
    batch_size: int
    cache: Path
    pixels: Mapping[str, Any]

    def measure(self, images: ImageSet, name: str) -> dict[str, Any]:
        """What `evaluate_images` says of images whose labels, if they have any, are positions in the task's classes.

        name: what messages call them.
        """
        from kind.evaluation.feature_sets import measure_images
        from kind.evaluation.metrics import evaluate_images

        features = measure_images(
            replace(images, name=name, class_names=self.reference.class_names),
            self.extractor,
            self.batch_size,
            cache=self.cache,
            quiet=False,
        )
        return evaluate_images(
            features, self.reference, images, known_classes=self.extractor.class_names, **self.pixels
        )

    def row(self, images: ImageSet, name: str) -> dict[str, Any]:
        """The same as a row of a table, under the names that metrics have in metrics.csv."""
        found = self.measure(images, name)
        row = dict(found["values"])
        row |= {f"{key}_{end}": one[end] for key, one in found["intervals"].items() for end in ("low", "high")}
        return row | {"indicative": " ".join(found["indicative"])}


def columns_of(rows: Iterable[Mapping[str, Any]], about: Sequence[str]) -> list[str]:
    """Metrics in the order in which rows bring them, each with the ends of its interval behind all, as metrics.csv.

    about: what says of what a row is.
    """
    keys = dict.fromkeys(key for row in rows for key in row if key not in (*about, "indicative"))
    ends = [key for key in keys if key.endswith(("_low", "_high"))]
    return [*about, *(key for key in keys if key not in ends), *ends, "indicative"]


def read_yardstick(context: Context, name: str, *, copies: bool) -> Yardstick:
    """That of a task.  copies: whether distances to its training images are measured.

    Raises UserError for a reference of something else.
    """
    from kind.evaluation.features import load_extractor
    from kind.evaluation.judge import load_judge
    from kind.evaluation.reference import load_reference, reference_images
    from kind.stages.images import load_images, load_shots, qualified

    experiment, layout = context.experiment, context.layout
    task, path = experiment.task(name), layout.reference(name)
    device = context.ready_device()
    extractor = load_extractor(context.extractor_weights(), device=str(device))
    reference, _ = load_reference(path)
    check_reference(path, reference, qualified(task.data, task.classes))
    pixels = {}
    if experiment.is_judged:
        pixels["judge"] = load_judge(layout.judge(name))
        pixels["judged_reference"] = reference_images(path)
    if copies:
        pixels["train_images"] = load_shots(context, task).images
        pixels["test_images"] = load_images(context, task.data, "test", task.classes).images
    return Yardstick(extractor, reference, experiment.evaluation.batch_size, layout.features, pixels)


def yardstick_files(context: Context, name: str) -> list[Path]:
    """What `read_yardstick` reads, and the record of what made the reference; not the data of copies."""
    layout = context.layout
    return [
        *context.extractor_files(),
        layout.reference(name),
        *([layout.judge(name)] if context.experiment.is_judged else []),
        layout.record(layout.reference(name).parent, name),
    ]


def check_reference(path: Path, found: FeatureSet, wanted: Sequence[str]) -> None:
    """Raises UserError unless it is the reference stage's, of the task's classes."""
    again = "run the reference stage again, or snakemake"
    if found.origin is None or found.labels is None or found.class_names is None:
        raise UserError(f"{path}: statistics alone, as other tools write them; a run needs features, too", hint=again)
    if list(found.class_names) != list(wanted):
        there, needed = told_apart(found.class_names, wanted)
        raise UserError(f"{path}: a reference of the classes {there}; the task's are {needed}", hint=again)

"""What learngenes and tailors hold: how large they are, whether alike pictures have alike tailors, and what they draw.

Of every backbone with tailors behind KIND's class gate that some method starts from.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from kind import recipes
from kind.artifacts import write_csv
from kind.kept import is_kept, keep
from kind.stages.bounds import load_backbone_for_sampling
from kind.stages.context import Context
from kind.stages.job import Job
from kind.stages.kept_rows import Rows, collect

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kind.data.prepared import LabelledImages, StoredImages
    from kind.models.dit import DiT

ENERGY = (
    "backbone", "block", "matrix", "learngene_energy", "tailor_energy_mean", "tailor_energy_std", "tailor_share",
)  # fmt: skip
SIMILARITY = ("backbone", "one", "other", "tailors", "features", "pixels")
CORRELATION = ("backbone", "block", "pictures", "rho", "p", "num_classes", "num_pairs", "num_permutations")
ALL_BLOCKS = "all"
MOST_COLUMNS = 6  # of pictures; see `images_per_row`
DRAWN = ("tailors", "label", "learngenes")  # pictures: with the class's tailors; with its label alone; with neither


def analyse_components(context: Context) -> None:
    experiment, layout = context.experiment, context.layout
    names, data = experiment.gated_backbones(), experiment.pretrain.data
    energy, similarity, correlation, pictures = layout.component_files()
    job = Job(
        recipe=recipes.components(experiment),
        inputs=[
            *map(layout.backbone_model, names),
            *context.extractor_files(),
            *layout.data_files(data),
            *context.vae_files(data),
        ],
        outputs=layout.component_files(),
        record=layout.record(layout.analyses, "components"),
        state=layout.state("analyse", "components"),
        planned=context.planned,
    )

    @cache
    def real() -> dict[str, Tensor]:
        return picture_similarities(context)

    def work() -> None:
        found = collect(job, {name: lambda name=name: [measure(context, name, real())] for name in names})
        draw_pictures(context, job, names, pictures)
        for path, columns in ((energy, ENERGY), (similarity, SIMILARITY), (correlation, CORRELATION)):
            key = path.stem.removeprefix("components_")
            write_csv(path, [row for one in found for row in one[key]], columns)

    job.run(work)


# --- energy and similarity --------------------------------------------------------------------------------------


def measure(context: Context, name: str, real: dict[str, Tensor]) -> dict[str, Rows]:
    """The rows of a backbone, by table.  On the CPU, in float64."""
    from kind.analysis.components import energy_rows

    model = load(context, name)
    return {
        table: [{"backbone": name, **row} for row in rows]
        for table, rows in {"energy": energy_rows(model), **compare_classes(context, model, real)}.items()
    }


def load(context: Context, name: str) -> DiT:
    from kind.checkpoints import load_backbone
    from kind.devices import prepare_torch
    from kind.stages.expected import check_backbone

    compute, path = context.experiment.compute, context.layout.backbone_model(name)
    prepare_torch(compute.threads, compute.deterministic)
    check_backbone(context, name, path)
    return load_backbone(path).model


def compare_classes(context: Context, model: DiT, real: dict[str, Tensor]) -> dict[str, Rows]:
    """Similarity of tailors and of pictures of every pair of classes, and how the one follows the other.

    A class that has no tailors in some block, or pictures that are just the mean of all, is left out.
    """
    import torch

    from kind.analysis.components import cosines, products_by_block
    from kind.analysis.mantel import mantel_test
    from kind.random_streams import derive_seed

    settings, classes = context.experiment.analyses.components, context.experiment.pretrain.classes
    by_block = products_by_block(model)
    tailors = {ALL_BLOCKS: cosines(by_block.sum(0)), **dict(enumerate(cosines(by_block)))}
    usable = torch.stack([each.diagonal().isfinite() for each in (*tailors.values(), *real.values())]).all(0)
    kept = usable.nonzero().flatten()
    tailors, pictures = ({key: each[kept][:, kept].numpy() for key, each in given.items()} for given in (tailors, real))
    count, correlations = len(kept), []
    for key, theirs in pictures.items():
        seed = derive_seed(settings.seed, "mantel", key)
        tested = mantel_test(list(tailors.values()), theirs, settings.num_permutations, seed)
        correlations += [
            {
                "block": block, "pictures": key, "rho": rho, "p": p, "num_classes": count,
                "num_pairs": count * (count - 1) // 2, "num_permutations": settings.num_permutations,
            }
            for block, (rho, p) in zip(tailors, tested, strict=True)
        ]  # fmt: skip
    columns = {"tailors": tailors[ALL_BLOCKS], **pictures}
    names = [classes[label] for label in kept.tolist()]
    pairs = [
        {"one": names[one], "other": names[other]}
        | {key: round(float(each[one, other]), 6) + 0.0 for key, each in columns.items()}
        for one, other in combinations(range(count), 2)
    ]
    return {"similarity": pairs, "correlation": correlations}


def picture_similarities(context: Context) -> dict[str, Tensor]:
    """Cosines of the classes' mean features, and, unless they are trained on as latents, of their mean images, less the
    mean of all classes; of training images.  [C, C] each."""

    from kind.analysis.components import centred_cosines
    from kind.evaluation.feature_sets import measure_images
    from kind.evaluation.features import load_extractor
    from kind.evaluation.image_sets import from_arrays

    experiment = context.experiment
    device = context.ready_device()
    extractor = load_extractor(context.extractor_weights(), device=str(device))
    images = training_images(context, experiment.analyses.components.images_per_class)
    features = measure_images(
        from_arrays(images.rows, name="training images of pre-training"), extractor,
        experiment.evaluation.batch_size, cache=context.layout.features, quiet=False,
    )  # fmt: skip
    vectors = {"features": features.pooled}
    if experiment.latents is None:
        vectors["pixels"] = images.rows
    means = {key: class_means(each, images.labels) for key, each in vectors.items()}
    return {key: centred_cosines(each) for key, each in means.items()}


def class_means(vectors: np.ndarray | StoredImages, labels: np.ndarray) -> Tensor:
    """[N, ...], [N] -> [C, F] float64; a class at a time, as images may not fit into memory."""
    import numpy as np
    import torch

    each = (vectors[np.flatnonzero(labels == label)] for label in np.unique(labels))
    return torch.from_numpy(np.stack([one.reshape(len(one), -1).mean(0, dtype=np.float64) for one in each]))


def training_images(context: Context, per_class: int) -> LabelledImages:
    """The first of each pre-training class, at most so many."""
    import numpy as np

    from kind.stages.images import load_images

    pretrain = context.experiment.pretrain
    images = load_images(context, pretrain.data, "train", pretrain.classes)
    places = [np.flatnonzero(images.labels == label)[:per_class] for label in range(len(pretrain.classes))]
    return images.take(np.concatenate(places))


# --- pictures ---------------------------------------------------------------------------------------------------


def draw_pictures(context: Context, job: Job, names: list[str], path: Path) -> None:
    """Arrays `BACKBONE.HOW` of images [N, H, W, C] of some classes, `labels` [N] for all of them, and beside them
    `real` images with `real_labels`."""
    import numpy as np

    from kind.artifacts import load_arrays, save_arrays
    from kind.reporting.grids import images_per_row, shown_classes

    images = training_images(context, MOST_COLUMNS)
    height = images.rows.shape[1]
    shown, columns = shown_classes(len(images.class_names), height), images_per_row(height)
    images = images.take(np.flatnonzero(np.isin(images.labels, shown)))
    arrays = {"labels": np.repeat(shown, columns), "real": images.images, "real_labels": images.labels}
    for name in names:
        kept = job.state / job.identity / f"{name}.npz"
        if not is_kept(kept):
            save_arrays(kept, **draw(context, name, shown, columns))
            keep(kept)
        arrays |= {f"{name}.{how}": each for how, each in load_arrays(kept, DRAWN).items()}
    save_arrays(path, **arrays)


def draw(context: Context, name: str, shown: list[int], columns: int) -> dict[str, np.ndarray]:
    """So many images a class, from the same noise for every class and way, without guidance."""
    import numpy as np
    import torch

    from kind.progress import Progress
    from kind.sampling import sample_images

    model, how = load_backbone_for_sampling(context, name, context.experiment.pretrain.data)

    progress = Progress(f"pictures of {name}", (2 * len(shown) + 1) * columns)

    def row(label: int) -> np.ndarray:
        return sample_images(model, labels=torch.full((columns,), label), progress=progress, **how)

    with_tailors = np.concatenate([row(label) for label in shown])
    close_tailors(model)
    with_label = np.concatenate([row(label) for label in shown])
    alone = np.concatenate([row(model.config.num_classes)] * len(shown))
    progress.close()
    return dict(zip(DRAWN, (with_tailors, with_label, alone), strict=True))


def close_tailors(model: DiT) -> None:
    """Every tailor's s is 0, in place: what is left are the learngenes and the label's row."""
    import torch

    from kind.models.factorized import factorized_layers

    with torch.no_grad():
        for _, layer in factorized_layers(model):
            layer.tailor_s.zero_()

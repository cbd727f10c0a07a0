"""What a metric can be at best, and without any adaptation: real images and untouched backbones, measured on a task.

Measured in the way of samples of runs, with as many images, so that their metrics have the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kind import recipes
from kind.artifacts import write_csv
from kind.stages.context import Context
from kind.stages.job import Job
from kind.stages.kept_rows import Rows, collect
from kind.stages.yardstick import columns_of, read_yardstick, yardstick_files

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
ABOUT = ("task", "what", "backbone", "words", "num_samples", "num_distinct")


def analyse_bounds(context: Context, task: str) -> None:
    experiment, layout = context.experiment, context.layout
    names, data = experiment.starting_backbones(), experiment.tasks[task].data
    job = Job(
        recipe=recipes.bounds(experiment, task),
        inputs=[
            *map(layout.backbone_model, names),
            *yardstick_files(context, task),
            *layout.data_files(data),
            *context.vae_files(data),
        ],
        outputs=[layout.bounds_table(task)],
        record=layout.record(layout.analyses, f"bounds_{task}"),
        state=layout.state("analyse", "bounds", task),
        planned=context.planned,
    )
    parts = {"real": lambda: measure_real(context, task)}
    parts |= {f"untouched.{name}": lambda name=name: measure_untouched(context, task, name) for name in names}

    def work() -> None:
        rows = collect(job, parts)
        write_csv(layout.bounds_table(task), rows, columns_of(rows, ABOUT))

    job.run(work)


def counts_of(context: Context) -> list[int]:
    """How many samples are measured: of a run, and at points of its curve where that is another number."""
    sampling = context.experiment.sampling
    return list(dict.fromkeys([sampling.num_samples, sampling.curve_num_samples or sampling.num_samples]))


def measure_real(context: Context, task: str) -> Rows:
    """Real images, as many of a class as samples have, in their order of labels, of a split that the reference is not:
    validation images where there are enough, as the extractor was trained on the training images; else these, or test
    images where the reference is the training images.
    """
    from kind.evaluation.image_sets import from_arrays
    from kind.random_streams import derive_seed
    from kind.sampling import balanced_labels
    from kind.stages.images import load_images

    experiment = context.experiment
    entry, (reference, _) = experiment.tasks[task], experiment.reference_set(task)
    counts = counts_of(context)
    labels = balanced_labels(max(counts), len(entry.classes)).numpy()
    split = "validation"
    found = load_images(context, entry.data, split, entry.classes)
    if reference == "validation" or not has_enough(found.labels, labels):
        split = {"train": "test"}.get(reference, "train")
        found = load_images(context, entry.data, split, entry.classes)
    words = f"real {'training' if split == 'train' else split} images"
    words += ", which are among the reference" if reference == "all" else ""
    chosen = draw_balanced(found.labels, labels, derive_seed(experiment.sampling.seed, "bounds"))
    images = from_arrays(found.take(chosen).images, labels)
    yardstick = read_yardstick(context, task, copies=False)
    about = {"task": task, "what": "real", "backbone": "", "words": words}
    distinct = {count: len(set(chosen[:count].tolist())) for count in counts}
    return [
        about
        | {"num_samples": count, "num_distinct": distinct[count]}
        | yardstick.row(images.first(count), f"{task}, real images")
        for count in counts
    ]


def has_enough(there: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether there is another image for each label of `wanted`.  Both are labels, [M] and [N]."""
    return all((there == label).sum() >= (wanted == label).sum() for label in set(wanted.tolist()))


def draw_balanced(there: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """For each label of `wanted` [N] an image of it, as positions in `there` [M], the labels of what there is.

    The images of a class are taken in a seeded order, and again from its beginning once all have been.
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    order = {label: generator.permutation(np.flatnonzero(there == label)) for label in np.unique(wanted)}
    taken = dict.fromkeys(order, 0)
    chosen = np.empty(len(wanted), dtype=np.int64)
    for place, label in enumerate(wanted):
        chosen[place] = order[label][taken[label] % len(order[label])]
        taken[label] += 1
    return chosen


def measure_untouched(context: Context, task: str, name: str) -> Rows:
    """Samples of a backbone under the null label, without guidance, from the noise of the first seed's runs."""
    import torch

    from kind.evaluation.image_sets import from_arrays
    from kind.sampling import sample_images

    model, how = load_backbone_for_sampling(context, name, context.experiment.tasks[task].data)
    counts = counts_of(context)
    null = torch.full((max(counts),), model.config.num_classes)
    drawn = sample_images(model, labels=null, label=f"{task}: {name} as it is", **how)
    yardstick = read_yardstick(context, task, copies=False)
    about = {"task": task, "what": "untouched", "backbone": name, "words": words_of(context.experiment, name)}
    images = from_arrays(drawn)
    return [
        about
        | {"num_samples": count, "num_distinct": ""}
        | yardstick.row(images.first(count), f"{task}, {name} as it is")
        for count in counts
    ]


def words_of(experiment: Any, name: str) -> str:
    """What a backbone draws under the null label.  A gate of any kind opens no tailors for it."""
    backbone = experiment.backbones[name]
    if backbone.form != "kind" or not backbone.has_tailors:
        return f"{name}, untouched"
    never = ", which pre-training never drew from" if backbone.null_gate == "true_class" else ""
    return f"learngenes of {name} alone{never}"


def load_backbone_for_sampling(context: Context, name: str, data: str) -> tuple[Any, dict[str, Any]]:
    """A backbone on its device, and how `sample_images` draws from it without guidance."""
    from kind.checkpoints import load_backbone
    from kind.random_streams import derive_seed
    from kind.stages.decoder import decoder_of
    from kind.stages.expected import check_backbone

    experiment, path = context.experiment, context.layout.backbone_model(name)
    protocol, device = experiment.sampling, context.ready_device()
    check_backbone(context, name, path)
    loaded = load_backbone(path)
    model = loaded.model.to(device)
    return model, {
        "diffusion": loaded.diffusion,
        "protocol": protocol,
        "seed": derive_seed(protocol.seed, experiment.seeds[0]),
        "guidance_scale": 1.0,
        "precision": context.precision_on(device),
        "decode": decoder_of(context, data, model.config, device),
    }

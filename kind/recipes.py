"""What each job depends on: its own part of the params, and the version of its stage.

The digest of a recipe stands in the job's command, so Snakemake reruns a job exactly when its recipe changes; the
manifest holds the whole of it.  Results of upstream jobs are no part of a recipe: they are the job's input files.
"""

from __future__ import annotations

from typing import Any

from kind.artifacts import digest
from kind.methods import METHODS, MethodOptions
from kind.params import Embedding, Experiment

# Raise a stage's number when its code changes what it writes: edits of kind/*.py alone rerun nothing.
STAGE_VERSIONS = {
    "prepare": 2,
    "encode": 1,
    "extractor": 1,
    "reference": 2,
    "pretrain": 2,
    "extract": 2,
    "replay": 1,
    "finetune": 3,
    "sample": 3,
    "evaluate": 3,
    "choose": 2,
    "analyse": 1,
    "report": 2,
}

Recipe = dict[str, Any]


def prepare(experiment: Experiment, data: str) -> Recipe:
    used_later = {"flips", "latents", "copies_of_pretraining"}
    return _recipe("prepare", data=experiment.data[data].model_dump(exclude=used_later))


def encode(experiment: Experiment, data: str) -> Recipe:
    return _recipe("encode", latents=experiment.data[data].latent_settings())


def extractor(experiment: Experiment) -> Recipe:
    classes = [[task.data, task.classes] for task in experiment.all_tasks().values()]
    return _recipe("extractor", extractor=experiment.evaluation.extractor.model_dump(), classes=classes)


def reference(experiment: Experiment, task: str) -> Recipe:
    return _recipe(
        "reference",
        classes=_classes(experiment, task),
        protocol=_reference_protocol(experiment, task),
        **_left_out(experiment, "judge"),
    )


def pretrain(experiment: Experiment, backbone: str) -> Recipe:
    soft = experiment.backbones[backbone].given_to == "soft"
    return _recipe(
        "pretrain",
        **({"embedding": experiment.embedding.model_dump()} if soft else {}),
        model=experiment.model.shape()._asdict(),
        diffusion=experiment.diffusion.model_dump(),
        backbone=experiment.backbones[backbone].model_dump(),
        pretrain=experiment.pretrain.model_dump(),
        precision=experiment.compute.precision,
        **_space(experiment, experiment.pretrain.data),
    )


def extract(experiment: Experiment, backbone: str) -> Recipe:
    return _recipe("extract", num_classes=len(experiment.pretrain.classes))


def replay(experiment: Experiment, backbone: str) -> Recipe:
    drawn = experiment.replay.model_dump(exclude={"share", "weight"})
    return _recipe(
        "replay",
        replay=drawn,
        num_classes=len(experiment.pretrain.classes),
        precision=experiment.compute.precision,
        **({"space": "latents"} if experiment.latents else {}),
    )


def finetune(experiment: Experiment, task: str, method: str, seed: int) -> Recipe:
    options, settings = experiment.method_options(method, task), experiment.training(task)
    name = experiment.method_name(method)
    rate = {"learning_rate": options.learning_rate or settings.learning_rate}  # own, of all, or None: what tuning finds
    fresh = {}
    if METHODS[name].start is None:  # nothing is inherited, so the network's shape comes from the params
        fresh = {"model": experiment.model.shape()._asdict(), "diffusion": experiment.diffusion.model_dump()}
    of_objective = {}
    if experiment.replay_of(method):
        of_objective = {"replay": experiment.replay.model_dump(include={"share", "weight"})}
    needs = experiment.needs(method, task)
    if "embeddings" in needs:
        fresh["embedding"] = experiment.embedding.model_dump()
    if "seen" in needs:
        fresh["seen"] = [experiment.pretrain.data, experiment.pretrain.classes]
    return _recipe(
        "finetune",
        method=name,
        options=method_options(options),
        task=experiment.task(task).model_dump(exclude={"guidance_scale"}),
        finetune=settings.model_dump() | rate if settings.steps else {"steps": 0, "learning_rate": None},
        steps=experiment.curve_steps(task),
        seed=seed,
        precision=experiment.compute.precision,
        **fresh,
        **of_objective,
        **_space(experiment, experiment.task(task).data),
    )


def method_options(options: MethodOptions) -> Recipe:
    """What a recipe and a file's header say of a method's options: the ordinary objective goes without saying."""
    given = options.model_dump()
    return {key: value for key, value in given.items() if (key, value) != ("objective", "standard")}


def sample(experiment: Experiment, task: str, method: str, seed: int) -> Recipe:
    return _recipe(
        "sample",
        sampling=_sampler(experiment, task) | {"guidance_scale": experiment.guidance_scale(method, task)},
        num_classes=len(experiment.task(task).classes),
        shard_size=experiment.sampling.shard_size,
        steps=experiment.curve_steps(task),
        seed=seed,
        precision=experiment.compute.precision,
        **_decoding(experiment),
    )


def evaluate(experiment: Experiment, task: str, method: str, seed: int) -> Recipe:
    return _recipe(
        "evaluate",
        protocol=protocol(experiment, task),
        classes=_classes(experiment, task),
        shots=_shots(experiment, task),
        steps=experiment.curve_steps(task),
        **_left_out(experiment, "judge", "memorisation"),
    )


def weights(experiment: Experiment, task: str) -> Recipe:
    """Of the analysis of a task's runs; what they trained are the job's input files."""
    return _recipe(
        "analyse",
        analysis="weights",
        settings=experiment.analyses.weights.model_dump(),
        runs=[[method, seed] for method in experiment.entries_on(task) for seed in experiment.seeds],
        **_final_weights(experiment),
    )


def interference(experiment: Experiment) -> Recipe:
    settings = experiment.analyses.interference
    return _recipe(
        "analyse",
        analysis="interference",
        settings=settings.model_dump(),
        classes=[_classes(experiment, task) for task in settings.tasks],
        seeds=experiment.seeds,
        batch_size=experiment.evaluation.batch_size,
        **_final_weights(experiment),
        **({"space": "latents"} if experiment.latents else {}),
    )


def bounds(experiment: Experiment, task: str) -> Recipe:
    """Of real images and of samples of the backbones as pre-trained; see the stage."""
    return _recipe(
        "analyse",
        analysis="bounds",
        sampling=_unguided(experiment, "num_samples", "curve_num_samples"),
        reference=_reference_protocol(experiment, task),
        precision=experiment.compute.precision,
        classes=_classes(experiment, task),
        backbones=experiment.starting_backbones(),
        seed=experiment.seeds[0],
        **_left_out(experiment, "judge"),
        **_decoding(experiment),
    )


def components(experiment: Experiment) -> Recipe:
    return _recipe(
        "analyse",
        analysis="components",
        settings=experiment.analyses.components.model_dump(),
        sampling=_unguided(experiment),
        precision=experiment.compute.precision,
        classes=[experiment.pretrain.data, experiment.pretrain.classes],
        backbones=experiment.gated_backbones(),
        extractor=[experiment.evaluation.extractor.name, experiment.evaluation.batch_size],
        **_decoding(experiment),
    )


def guidance(experiment: Experiment) -> Recipe:
    """Of samples of the trials whose rate was chosen; which these are, the job's input files say."""
    left_out = {"guidance_scale", "curve_num_samples", "shard_size"}
    return _recipe(
        "analyse",
        analysis="guidance",
        settings=experiment.analyses.guidance.model_dump(),
        sampling=experiment.sampling.model_dump(exclude=left_out),
        precision=experiment.compute.precision,
        methods=experiment.tuned(),
        seed=experiment.tune.seed,
        tasks={
            name: {
                "classes": _classes(experiment, name),
                "shots": _shots(experiment, name),
                "reference": _reference_protocol(experiment, name),
                "step": experiment.training(name).steps,
            }
            for name in experiment.tune.tasks
        },
        **_left_out(experiment, "judge", "memorisation"),
        **_decoding(experiment),
    )


def choose(experiment: Experiment, method: str) -> Recipe:
    tune = experiment.tune
    return _recipe("choose", rates=experiment.rates(method), tasks=list(tune.tasks), metric=tune.metric, seed=tune.seed)


def report(experiment: Experiment) -> Recipe:
    # a section that is not there is no part, so that reports that were made before there was one are still good
    absent = {"analyses"} if experiment.analyses is None else set()
    absent |= {"embedding"} if experiment.embedding == Embedding() else set()
    return _recipe("report", experiment=experiment.model_dump(exclude={"compute"} | absent))


def protocol(experiment: Experiment, task: str) -> Recipe:
    """Everything of the params that can move a metric of a task, to be copied beside every value."""
    return {
        "sampling": _sampler(experiment, task),
        "reference": _reference_protocol(experiment, task),
        "precision": experiment.compute.precision,
        "training_steps": experiment.training(task).steps,
        **_decoding(experiment),
    }


def recipe_digest(recipe: Recipe) -> str:
    return digest(recipe)


def _recipe(stage: str, **parts: Any) -> Recipe:
    return {"stage": stage, "version": STAGE_VERSIONS[stage], **parts}


def _sampler(experiment: Experiment, task: str) -> Recipe:
    settings = experiment.sampling.model_dump(exclude={"shard_size"})
    own = experiment.task(task).guidance_scale
    if own is not None:
        settings["guidance_scale"] = own
    settings["curve_num_samples"] = settings["curve_num_samples"] or settings["num_samples"]
    return settings


def _unguided(experiment: Experiment, *counts: str) -> Recipe:
    """What of the sampler moves images that are drawn without guidance from a backbone as it is."""
    named = {"sampler", "num_inference_steps", "timestep_spacing", "clip_sample", "batch_size", "seed", *counts}
    return experiment.sampling.model_dump(include=named)


def _space(experiment: Experiment, data: str) -> Recipe:
    """How rows of a data set become what a model sees, where that is not its pixels as they are."""
    found = experiment.data[data].space()
    return {"space": found} if found else {}


def _decoding(experiment: Experiment) -> Recipe:
    """How latents become pixels, where there are any."""
    return {"latents": experiment.latents.model_dump(exclude={"vae"})} if experiment.latents else {}


def _left_out(experiment: Experiment, *parts: str) -> Recipe:
    """Those of the costly measurements that are not made."""
    made = {"judge": experiment.is_judged, "memorisation": experiment.looks_for_copies}
    return {part: False for part in parts if not made[part]}


def _final_weights(experiment: Experiment) -> Recipe:
    """Which of a run's weights are its result."""
    return {"weights": experiment.sampling.weights, "step": experiment.finetune.steps}


def _reference_protocol(experiment: Experiment, task: str) -> Recipe:
    evaluation = experiment.evaluation
    split, count = experiment.reference_set(task)
    return {
        "set": split,
        "num_reference": count,
        "seed": evaluation.reference_seed,
        "extractor": evaluation.extractor.name,
        "batch_size": evaluation.batch_size,
    }


def _shots(experiment: Experiment, task: str) -> Recipe:
    """The images that a task trains on, with which samples are compared."""
    return experiment.task(task).model_dump(include={"images_per_class", "seed"})


def _classes(experiment: Experiment, task: str) -> list:
    return [experiment.task(task).data, experiment.task(task).classes]

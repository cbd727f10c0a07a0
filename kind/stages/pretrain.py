"""Pre-train a backbone: `dense` (an ordinary DiT) or `kind` (factorized, behind the class gate)."""

from __future__ import annotations

import argparse

from kind import processes, recipes
from kind.stages.context import Context, add_shared_arguments, add_time_argument, read_context
from kind.stages.job import Job
from kind.stages.together import run_job

EXAMPLE = "python -m kind pretrain --experiment smoke --backbone kind"
PREVIEW_PER_CLASS = 8
# How previews are drawn, whatever the experiment samples with: a change of its sampler must not pre-train again.
PREVIEW = {"sampler": "dpm", "num_inference_steps": 20, "timestep_spacing": "linspace", "guidance_scale": 1.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    add_time_argument(parser)
    parser.add_argument("--backbone", required=True, metavar="NAME", help="an entry of the params' backbones section")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.backbone
    context.choose("backbones", name)
    start = context.experiment.start_of_backbone(name)
    job = Job(
        recipe=recipes.pretrain(context.experiment, name),
        inputs=[
            *layout.training_files(context.experiment, context.experiment.pretrain.data),
            *context.vae_files(context.experiment.pretrain.data),
            *([layout.backbone_model(start)] if start else []),
            *(context.embedding_files() if context.experiment.backbones[name].given_to == "soft" else []),
        ],
        outputs=layout.backbone_files(name),
        record=layout.record(layout.backbone(name), "pretrain"),
        state=layout.state("pretrain", name),
        planned=context.planned,
    )
    count = context.experiment.compute.processes.pretrain
    run_job(job, lambda: train(context, name, job), count, arguments.command)


def train(context: Context, name: str, job: Job) -> dict:
    import torch

    from kind.artifacts import save_arrays
    from kind.checkpoints import load_backbone, save_backbone
    from kind.diffusion import Diffusion
    from kind.evaluation.complexity import describe_cost
    from kind.models.dit import build_dit
    from kind.models.factorized import factorize
    from kind.params import Sampling
    from kind.random_streams import derive_seed
    from kind.reporting.grids import shown_classes
    from kind.sampling import balanced_labels, sample_images
    from kind.stages.copies import copies_where_training_begins
    from kind.stages.decoder import decoder_of
    from kind.stages.expected import check_backbone
    from kind.stages.images import load_images, load_seen
    from kind.stages.material import class_embeddings
    from kind.stages.training_job import check_images, fresh_config, run_training, write_history

    experiment, layout = context.experiment, context.layout
    settings, backbone = experiment.pretrain, experiment.backbones[name]
    copies = copies_where_training_begins(context, job)
    data = load_seen(context, settings.data, "train", settings.classes)
    diffusion = Diffusion(**experiment.diffusion.model_dump())
    config = fresh_config(context, data, len(settings.classes))
    start = experiment.start_of_backbone(name)
    if start:
        check_backbone(context, start, layout.backbone_model(start))
        model = load_backbone(layout.backbone_model(start)).model
        check_images(data, model.config, f"backbones.{name}")
    else:
        model = build_dit(config, derive_seed(settings.seed, "backbone"))  # both forms begin with the same draw
    null_gate = "learngenes"
    if backbone.form == "kind":
        embeddings = None
        if backbone.given_to == "soft":
            pixels = load_images(context, settings.data, "train", settings.classes)
            embeddings = class_embeddings(context, settings.data, pixels)
        size = None if embeddings is None else embeddings.shape[1]
        factorization = backbone.factorization(settings.classes, size)
        model, null_gate = factorize(model, factorization, derive_seed(settings.seed, "factorize")), backbone.null_gate
        if embeddings is not None:
            model.class_shares.know_seen(embeddings)

    outcome = run_training(
        context,
        model,
        data,
        diffusion,
        settings,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        recipe=job.identity,
        null_gate=null_gate,
        snapshot_steps=(),
        state=job.state,
        label=f"pretrain {name}",
    )
    if processes.rank() > 0:
        return {}
    folder, classes = layout.backbone(name), list(settings.classes)
    save_backbone(folder / "raw.safetensors", model, classes, diffusion)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(outcome.averaged[settings.steps][key])
    save_backbone(layout.backbone_model(name), model, classes, diffusion)
    shown = torch.tensor(shown_classes(len(classes), config.image_size))  # more would cost and not be seen
    labels = shown[balanced_labels(PREVIEW_PER_CLASS * len(shown), len(shown))]
    protocol = Sampling(**PREVIEW, num_samples=len(labels))
    images = sample_images(
        model,
        diffusion,
        protocol,
        labels,
        settings.seed,
        null_gate=null_gate,
        label=f"preview {name}",
        decode=decoder_of(context, settings.data, model.config, next(model.parameters()).device),
    )
    save_arrays(folder / "preview.npz", arr_0=images, arr_1=labels.numpy())
    write_history(outcome, folder)
    return {"classes": classes, "num_images": len(data), "parameters": describe_cost(model), **copies}

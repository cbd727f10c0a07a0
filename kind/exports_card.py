"""The model card of an export: what the folder is and how stock libraries use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kind.models.dit import DiTConfig

HEAD = """---
library_name: diffusers
{task}tags: [kind, dit, class-conditional-image-generation{tag}]
---

# A DiT taken from a KIND model

{what}

Exported from a decomposable diffusion transformer (KIND: Xie et al., ICML 2025, arXiv 2408.07337).  Stock
diffusers{peft} load{s} it without any code of that project.

| class | label | adapter |
|---|---|---|
{rows}
| (the null label) | {null} | |

Images: {channels} x {size} x {size}, {space}.
Diffusion: {schedule} schedule, {prediction} prediction, {steps} timesteps.
Learngenes in a matrix: {learngenes}. Tailors of a class: {tailors}. Null gate: {policy}. Guidance: {guidance}.
`kind.json` holds all of this for programs; `components.safetensors` the components.

## Use

`guidance_scale`: {scale_means}.

```python
{imports}

FOLDER = "."  # this one
guidance_scale = {scale}

transformer = DiTTransformer2DModel.from_pretrained(FOLDER).eval()
scheduler = DDIMScheduler.from_pretrained(FOLDER)
"""
ADAPTERS = """
adapters = {adapters}  # by label
first, *others = adapters.values()
transformer = PeftModel.from_pretrained(transformer, FOLDER + "/adapters/" + first, adapter_name=first)
for name in others:
    transformer.load_adapter(FOLDER + "/adapters/" + name, adapter_name=name)
transformer.eval()


def choose_adapters(module, args, kwargs):
    # the null half of guidance {halves}: null label {null}
    labels = kwargs["class_labels"].tolist(){owners}
    kwargs["adapter_names"] = [adapters.get(label, "__base__") for label in labels]
    return args, kwargs


transformer.register_forward_pre_hook(choose_adapters, with_kwargs=True)
"""
BOTH_HALVES = """
    labels = [labels[i % (len(labels) // 2)] if label == {null} else label for i, label in enumerate(labels)]"""
LATENTS = """
vae = AutoencoderKL.from_pretrained("VAE"{scale})  # write the place of the one that encoded the training data
pipeline = DiTPipeline(transformer, vae, scheduler)
images = pipeline(class_labels=[{label}], guidance_scale=guidance_scale, num_inference_steps=50).images
```
"""
PIXELS = """

@torch.no_grad()
def sample(labels, num_steps=50, seed=0):
    \"\"\"Pixels in [0, 1], [B, {channels}, {size}, {size}]: DiTPipeline's loop, without the VAE that it asks for.\"\"\"
    images = torch.randn(len(labels), {channels}, {size}, {size}, generator=torch.Generator().manual_seed(seed))
    both = torch.tensor([*labels, *[{null}] * len(labels)])  # the conditional half of guidance, then the null half
    scheduler.set_timesteps(num_steps)
    for time in scheduler.timesteps:
        noisy = torch.cat([images, images])
        output = transformer(noisy, timestep=time.expand(len(both)), class_labels=both).sample[:, :{channels}]
        conditional, null = output.chunk(2)
        guided = null + guidance_scale * (conditional - null)
        images = scheduler.step(guided, time, images).prev_sample
    return (images / 2 + 0.5).clamp(0, 1)


images = sample([{label}])
```
"""
SPACES = {
    "pixels": "taken for pixels in [-1, 1]: the model does not say, but 1 channel is grey and 3 are colours",
    "latents": "taken for latents of a VAE, since pixels have 1 channel or 3: the model does not say, nor which VAE",
}
KNOWN_LATENTS = "latents, times {scale}, of the VAE whose diffusion_pytorch_model.safetensors has the sha256 `{vae}`"


def space_of(config: DiTConfig) -> str:
    """`pixels` or `latents`.  Where the model does not say that it was trained on latents, its channels do."""
    return "pixels" if config.latents is None and config.channels in (1, 3) else "latents"


def model_card(content: dict[str, Any]) -> str:
    """Markdown.  content: what kind.json holds."""
    classes, config = content["classes"], content["config"]
    with_adapters, channels = content["form"] == "adapters", config["channels"]
    common = {"null": content["null_row"], "channels": channels, "size": config["image_size"]}
    text = _head(content, with_adapters, common)
    if with_adapters:
        adapters = {
            label: place.removeprefix("adapters/")
            for label, name in enumerate(classes)
            if (place := content["adapters"][name]) is not None
        }
        in_both = content["guidance"] == "adapter"
        text += ADAPTERS.format(
            adapters=adapters,
            halves="uses the adapters too" if in_both else "is the base",
            owners=BOTH_HALVES.format(**common) if in_both else "",
            **common,
        )
    label = 0 if classes else content["null_row"]
    latents = config.get("latents")
    scale = f", scaling_factor={latents['scale']}" if latents else ""  # the pipeline takes the VAE's own
    return text + (PIXELS if content["space"] == "pixels" else LATENTS).format(label=label, scale=scale, **common)


def _head(content: dict[str, Any], with_adapters: bool, common: dict[str, int]) -> str:
    classes, diffusion, latents = content["classes"], content["diffusion"], content["config"].get("latents")
    if with_adapters:
        what = "The base is what all classes share (the learngenes); each class's own part (its tailors) is a LoRA."
    elif content["merged_class"] is not None:
        what = f"Dense weights of the class {content['merged_class']}."
    else:
        what = "Dense weights."
    adapters = content["adapters"]
    rows = [f"| {_cell(name)} | {label} | {adapters.get(name) or ''} |" for label, name in enumerate(classes)]
    if not classes or content["guidance"] == "none":
        scale, means = 1.0, "1, for these weights know one half of guidance only"
    else:
        scale = 4.0
        means = (
            "1 is no guidance; more is truer to the class and less varied. 4 is DiTPipeline's default; what is best "
            "differs between models and was not measured for this one"
        )
    return HEAD.format(
        # the Hub has no task for images of a class: only a model without classes has one of its tasks
        task="" if classes else "pipeline_tag: unconditional-image-generation\n",
        tag=", lora, peft" if with_adapters else "",
        what=what,
        peft=" and peft" if with_adapters else "",
        s="" if with_adapters else "s",
        rows="\n".join(rows),
        space=KNOWN_LATENTS.format(**latents) if latents else SPACES[content["space"]],
        schedule=diffusion["schedule"],
        prediction=diffusion["prediction"],
        steps=diffusion["num_train_timesteps"],
        learngenes=_span(content["num_learngenes"]),
        tailors=_span(content["num_tailors"]),
        policy=content["null_gate"] or "none",
        guidance=content["guidance_means"],
        scale=scale,
        scale_means=means,
        imports=_imports(content["space"], with_adapters),
        **common,
    ).replace("|---|---|---|\n\n", "|---|---|---|\n")


def _imports(space: str, with_adapters: bool) -> str:
    names = ["DDIMScheduler", "DiTTransformer2DModel"]
    if space == "latents":
        names = ["AutoencoderKL", "DDIMScheduler", "DiTPipeline", "DiTTransformer2DModel"]
    lines = ["import torch"] if space == "pixels" else []
    lines.append(f"from diffusers import {', '.join(names)}")
    return "\n".join([*lines, *(["from peft import PeftModel"] if with_adapters else [])])


def _cell(name: str) -> str:
    return name.replace("|", "\\|").replace("\n", " ")


def _span(counts: int | list[int] | None) -> str:
    if counts is None:
        return "none (a dense model)"
    return str(counts) if isinstance(counts, int) else f"{counts[0]} to {counts[1]}"

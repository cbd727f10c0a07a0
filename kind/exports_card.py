"""The model card of an export: what the folder is and how stock libraries use it."""

from __future__ import annotations

from typing import Any

HEAD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [kind, dit, class-conditional{tag}]
---

# A DiT taken from a KIND model

{what}

Exported from a decomposable diffusion transformer (KIND: Xie et al., ICML 2025, arXiv 2408.07337).  Stock
diffusers{peft} load{s} it without any code of that project.

| class | label | adapter |
|---|---|---|
{rows}
| null | {null} | |

Images: {channels} x {size} x {size}. Diffusion: {schedule} schedule, {prediction} prediction, {steps} timesteps.
Learngenes in a matrix: {learngenes}. Tailors of a class: {tailors}. Null gate: {policy}. Guidance: {guidance}.
`kind.json` holds all of this for programs; `components.safetensors` the components.

## Use

```python
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

transformer = DiTTransformer2DModel.from_pretrained(FOLDER)
scheduler = DDIMScheduler.from_pretrained(FOLDER)
vae = AutoencoderKL.from_pretrained(VAE)  # the one that the training data was encoded with
"""
DENSE = """pipeline = DiTPipeline(transformer, vae, scheduler)
images = pipeline(class_labels=[0], guidance_scale={scale}).images
```
"""
ADAPTERS = """
from peft import PeftModel

adapters = {adapters}  # by label
first, *others = adapters.values()
model = PeftModel.from_pretrained(transformer, FOLDER + "/adapters/" + first, adapter_name=first)
for name in others:
    model.load_adapter(FOLDER + "/adapters/" + name, adapter_name=name)
model.eval()


def choose_adapters(module, args, kwargs):
    {comment}
    labels = kwargs["class_labels"].tolist(){owners}
    kwargs["adapter_names"] = [adapters.get(label, "__base__") for label in labels]
    return args, kwargs


model.register_forward_pre_hook(choose_adapters, with_kwargs=True)
pipeline = DiTPipeline(model, vae, scheduler)
images = pipeline(class_labels=[{first}], guidance_scale=4.0).images
```
"""
BOTH_HALVES = """
    labels = [labels[i % (len(labels) // 2)] if label == 1000 else label for i, label in enumerate(labels)]"""


def model_card(content: dict[str, Any]) -> str:
    """Markdown.  content: what kind.json holds."""
    classes, adapters = content["classes"], content["adapters"]
    with_adapters = content["form"] == "adapters"
    if with_adapters:
        what = "The base is what all classes share (the learngenes); each class's own part (its tailors) is a LoRA."
    elif content["merged_class"] is not None:
        what = f"Dense weights of the class {content['merged_class']}."
    else:
        what = "Dense weights."
    rows = "\n".join(f"| {_cell(name)} | {label} | {adapters.get(name) or ''} |" for label, name in enumerate(classes))
    config, diffusion = content["config"], content["diffusion"]
    text = HEAD.format(
        tag=", lora, peft" if with_adapters else "",
        what=what,
        peft=" and peft" if with_adapters else "",
        s="" if with_adapters else "s",
        rows=rows,
        null=content["label_rows"]["null"],
        channels=config["channels"],
        size=config["image_size"],
        schedule=diffusion["schedule"],
        prediction=diffusion["prediction"],
        steps=diffusion["num_train_timesteps"],
        learngenes=_span(content["num_learngenes"]),
        tailors=_span(content["num_tailors"]),
        policy=content["null_gate"] or "none",
        guidance=content["guidance_means"],
    ).replace("| class | label | adapter |\n|---|---|---|\n\n", "| class | label | adapter |\n|---|---|---|\n")
    if not with_adapters:
        return text + DENSE.format(scale=1.0 if content["guidance"] == "none" else 4.0)
    by_label = {label: adapters[name].removeprefix("adapters/") for label, name in enumerate(classes) if adapters[name]}
    in_both = content["guidance"] == "adapter"
    comment = (
        "the null half of guidance " + ("uses the adapters too" if in_both else "is the base") + ": null label 1000"
    )
    return text + ADAPTERS.format(
        adapters=by_label,
        first=next(iter(by_label), 0),
        comment=f"# {comment}",
        owners=BOTH_HALVES if in_both else "",
    )


def _cell(name: str) -> str:
    return name.replace("|", "\\|").replace("\n", " ")


def _span(counts: int | list[int] | None) -> str:
    if counts is None:
        return "none (a dense model)"
    return str(counts) if isinstance(counts, int) else f"{counts[0]} to {counts[1]}"

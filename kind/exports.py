"""Folders that stock diffusers and peft load without any code of ours, and the way back.

config.json, diffusion_pytorch_model.safetensors    DiTTransformer2DModel.from_pretrained(FOLDER)
scheduler_config.json                               DDIMScheduler.from_pretrained(FOLDER), or another of diffusers'
adapters/CLASS/                                     PeftModel.from_pretrained(transformer, FOLDER/adapters/CLASS)
kind.json, README.md                                what it is: classes, components, gate, diffusion, versions
components.safetensors                              the components themselves, from which `read_export` restores
                                                    the KIND model bit for bit
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kind.artifacts import provenance, read_json, save_tensors, sha256, write_json, write_sealed_json, write_text
from kind.diffusion import Diffusion, make_sampler
from kind.errors import UserError
from kind.exports_card import model_card, space_of
from kind.models.dit import DiT
from kind.models.export import NULL_ROW, Adapter, adapter_of, stock_form
from kind.models.factorized import factorized_layers
from kind.models.soft_classes import require_owners
from kind.params.messages import some
from kind.params.protocol import DEFAULT_SPACING

FORMAT, COMPONENTS = "kind-export/1", "components/1"
FORMS = ("auto", "dense", "adapters")
WEIGHTS, COMPONENTS_FILE = "diffusion_pytorch_model.safetensors", "components.safetensors"
NEEDED = ("format", "form", "config", "factorization", "classes", "adapters", "merged_class", "diffusion")
GUIDANCE = {
    "both": "the dense weights serve the conditional and the null half of guidance",
    "conditional": "turn a class's adapter on in the conditional half of guidance only; the null half is the base",
    "adapter": "turn a class's adapter on in both halves of guidance",
    "none": "the dense weights serve the conditional half only: sample with a guidance scale of 1",
}


def write_export(
    folder: Path,
    model: DiT,
    classes: Sequence[str],
    diffusion: Diffusion,
    *,
    form: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as dense weights, and the tailors of its classes as adapters where dense weights do not suffice.

    form: `dense` merges the tailors of at most one class; `adapters` keeps the learngenes' product as base with one
    adapter a class; `auto` is dense where that serves both halves of guidance.  Returns what kind.json holds.
    Raises UserError for a form that cannot hold the model, and for a folder that holds something else.
    """
    folder, form = Path(folder), _chosen_form(require_owners(model, "exported"), form)
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        model = copy.deepcopy(model).to("cpu")  # the caller's own stays where it is
    if model.config.num_classes > NULL_ROW:
        raise UserError(
            f"{model.config.num_classes} classes: diffusers' DiTPipeline has the null label at {NULL_ROW}",
            hint=f"keep at most {NULL_ROW} classes",
        )
    _check_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        content = _write(temporary, model, list(classes), diffusion, form)
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return content


def _replace(folder: Path, new: Path) -> None:
    """What was there is moved aside first and goes last: a reader never finds half of it, nor nothing for long."""
    if not folder.exists():
        os.replace(new, folder)
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    os.replace(folder, aside)
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(aside, folder)
        raise
    shutil.rmtree(aside)


def is_export(folder: Path) -> bool:
    return (Path(folder) / "kind.json").is_file()


def _write(folder: Path, model: DiT, classes: list[str], diffusion: Diffusion, form: str) -> dict[str, Any]:
    gated = model.gate is not None
    policy = model.factorization.null_gate if gated else None
    merged = 0 if form == "dense" and _has_tailors(model) else None
    stock_form(model, merged).save_pretrained(folder)
    make_sampler("ddim", diffusion, diffusion.num_train_timesteps, DEFAULT_SPACING["ddim"], False).save_pretrained(
        folder
    )
    adapters: dict[str, str | None] = {}
    if form == "adapters":
        for label, name in enumerate(adapter_names(classes)):
            adapter = adapter_of(model, label)
            adapters[classes[label]] = None if adapter is None else f"adapters/{name}"
            if adapter is not None:
                _write_adapter(folder / "adapters" / name, adapter)
    if gated:
        save_tensors(folder / COMPONENTS_FILE, _components(model), {"format": COMPONENTS})
    if form == "adapters":
        guidance = "adapter" if policy == "true_class" else "conditional"
    else:
        guidance = "none" if merged is not None and policy == "learngenes" else "both"
    content = {
        "format": FORMAT,
        "form": form,
        "classes": classes,
        "label_rows": {name: label for label, name in enumerate(classes)},
        "null_row": NULL_ROW,
        "space": space_of(model.config),
        "adapters": adapters,
        "merged_class": None if merged is None else classes[merged],
        "guidance": guidance,
        "guidance_means": GUIDANCE[guidance],
        "null_gate": policy,
        "num_learngenes": _range(layer.num_learngenes for _, layer in factorized_layers(model)) if gated else None,
        "num_tailors": _range(
            layer.num_active(label) - layer.num_learngenes
            for _, layer in factorized_layers(model)
            for label in range(len(classes))
        )
        if gated
        else None,
        "config": model.config.to_dict(),
        "factorization": model.factorization.to_dict() if gated else None,
        "diffusion": diffusion.to_dict(),
        "versions": provenance()["versions"],
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    }
    write_sealed_json(folder / "kind.json", content)
    write_text(folder / "README.md", model_card(content))
    return content


def adapter_names(classes: Sequence[str]) -> list[str]:
    """Names of classes as peft and a file system take them: letters, digits, - and _; made different by a number."""
    names: list[str] = []
    for name in classes:
        plain = "".join(letter if letter.isascii() and letter.isalnum() or letter in "-_" else "_" for letter in name)
        plain = f"class_{plain}" if plain.startswith("lora_") or not plain else plain  # peft's own prefix
        taken, number = {one.lower() for one in names}, 2
        unique = plain
        while unique.lower() in taken:
            unique, number = f"{plain}_{number}", number + 1
        names.append(unique)
    return names


def _range(counts) -> int | list[int]:
    """One number, or the smallest and the largest."""
    counts = set(counts) or {0}
    return min(counts) if len(counts) == 1 else [min(counts), max(counts)]


def _write_adapter(folder: Path, adapter: Adapter) -> None:
    from peft import LoraConfig
    from safetensors.torch import save_file

    LoraConfig(**adapter.settings()).save_pretrained(folder)
    path = folder / "adapter_config.json"
    settings = read_json(path)  # peft keeps some lists as sets, whose order differs from run to run
    write_json(path, {key: _in_order(value) for key, value in sorted(settings.items())})
    save_file(adapter.tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _in_order(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _components(model: DiT) -> dict[str, Tensor]:
    """All learngenes and tailors: dense weights and LoRA factors give their products, not themselves."""
    found = {}
    for name, layer in factorized_layers(model):
        own = {f"{name}.{key}": value.detach() for key, value in layer.named_parameters() if key != "bias"}
        found |= own
    return found


def _chosen_form(model: DiT, form: str) -> str:
    if form not in FORMS:
        raise UserError(f"no form {form!r} of an export; there are {', '.join(FORMS)}")
    count, tailors = model.config.num_classes, _has_tailors(model)
    if form == "auto":
        plain = not tailors or (count == 1 and model.factorization.null_gate == "true_class")
        return "dense" if plain else "adapters"
    if form == "dense" and tailors and count > 1:
        raise UserError(
            f"one set of dense weights cannot hold the tailors of {count} classes",
            hint="keep one class, or learngenes alone, or export with form adapters",
        )
    if form == "adapters" and not tailors:
        raise UserError("a model without tailors has nothing to make adapters of", hint="export with form dense")
    return form


def _has_tailors(model: DiT) -> bool:
    """Classes may differ in nothing but their labels: then the learngenes' product serves them all."""
    return any(layer.ranks.num_tailors for _, layer in factorized_layers(model))


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if overwrite and is_export(folder):
        listed = read_json(folder / "kind.json")
        listed = listed.get("files") if isinstance(listed, dict) else None
        own = {"kind.json", "README.md", *(listed or ())}
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
        if others := [name for name in found if name not in own]:
            raise UserError(
                f"{folder}: holds {some(others, '')} too, which the export that is to be replaced did not write",
                hint="move what is yours out of the folder, or name another one",
            )
        return
    found = "an export" if is_export(folder) else "something else than an export"
    raise UserError(
        f"{folder}: holds {found} already",
        hint="name another folder" + (", or overwrite it (--overwrite)" if is_export(folder) else ", or empty it"),
    )

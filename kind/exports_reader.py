"""The way back from a folder that `kind.exports` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kind.artifacts import load_tensors, read_json, sha256
from kind.checkpoints import Loaded
from kind.diffusion import Diffusion
from kind.errors import UserError, first_difference
from kind.exports import COMPONENTS, COMPONENTS_FILE, FORMAT, WEIGHTS
from kind.models.dit import EMBEDDER, LABEL_TABLE, DiT, DiTConfig
from kind.models.export import NULL_ROW, adapter_of
from kind.models.factorized import Factorization, factorized_layers, make_room
from kind.params.messages import some

NEEDED = (
    "format", "form", "config", "factorization", "classes", "adapters", "merged_class", "diffusion", "files",
)  # fmt: skip


def read_export(folder: Path) -> Loaded:
    """The model that was exported, bit for bit.

    Components come from components.safetensors and all else from the dense weights.  Files that were changed since are
    refused, for instance by training that went on, for what they say is not in the components: factorized matrices and
    adapters are held against the products of the components, and every file read against its checksum in kind.json.
    """
    folder = Path(folder)
    content = read_json(folder / "kind.json")
    whole = isinstance(content, dict) and content.get("format") == FORMAT and all(key in content for key in NEEDED)
    if not whole or not isinstance(content["files"], dict):
        raise UserError(
            f"{folder / 'kind.json'}: not the description of an export of format {FORMAT!r}",
            hint="give a folder that `python -m kind export` wrote",
        )
    classes = content["classes"]
    try:
        model, diffusion = DiT(DiTConfig(**content["config"])), Diffusion(**content["diffusion"])
        if content["factorization"] is not None:
            make_room(model, Factorization.from_dict(content["factorization"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'kind.json'}: describes no model that this version knows ({error!r})",
            hint="export the model again",
        )
    _fill(folder, model)
    if model.gate is not None:
        _check_products(folder, model, content)
    _check_sums(folder, model, content)
    return Loaded(model, classes, diffusion, content)


def _fill(folder: Path, model: DiT) -> None:
    stock = _plain_tensors(folder / WEIGHTS)
    first = EMBEDDER.format(0)
    state = {f"embedder.{name.removeprefix(first)}": stock[name] for name in stock if name.startswith(first)}
    state |= {name: tensor for name, tensor in stock.items() if ".norm1.emb." not in name}
    if LABEL_TABLE in state and len(state[LABEL_TABLE]) == NULL_ROW + 1:
        table = state[LABEL_TABLE]
        state[LABEL_TABLE] = torch.cat([table[: model.config.num_classes], table[-1:]])
    if model.gate is not None:
        components, header = load_tensors(folder / COMPONENTS_FILE)
        if header.get("format") != COMPONENTS:
            raise UserError(
                f"{folder / 'components.safetensors'}: a file of format {header.get('format')!r}, where {COMPONENTS!r} "
                "is needed",
                hint="export the model again",
            )
        factorized = {f"{name}.weight" for name, _ in factorized_layers(model)}
        state = {name: tensor for name, tensor in state.items() if name not in factorized} | components
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: does not fit the architecture that its kind.json names: {first_difference(error)}",
            hint="export the model again",
        )


def _check_products(folder: Path, model: DiT, content: dict[str, Any]) -> None:
    stock, classes = _plain_tensors(folder / WEIGHTS), content["classes"]
    merged = None if content["merged_class"] is None else classes.index(content["merged_class"])
    for name, layer in factorized_layers(model):
        _compare(folder / WEIGHTS, f"{name}.weight", stock[f"{name}.weight"], layer.dense_weight(merged))
    for label, name in enumerate(classes):
        place = content["adapters"].get(name)
        if place is None:
            continue
        path = folder / place / "adapter_model.safetensors"
        found, expected = _plain_tensors(path), adapter_of(model, label)
        for key in sorted(found.keys() | expected.tensors.keys()):
            _compare(path, key, found.get(key), expected.tensors.get(key))


def _check_sums(folder: Path, model: DiT, content: dict[str, Any]) -> None:
    places = [place for place in content["adapters"].values() if place is not None]
    read = [WEIGHTS, *(f"{place}/adapter_model.safetensors" for place in places)]
    for name in [*read, COMPONENTS_FILE] if model.gate is not None else read:
        found, expected = sha256(folder / name), content["files"].get(name)
        if found != expected:
            different = _other_embedders(folder, model) if name == WEIGHTS else []
            what = f"{some(different, '')} differ from block 0's" if different else "some of its tensors differ"
            raise UserError(
                f"{folder / name}: was changed after the export: {what} (expected sha256 {str(expected)[:12]}, found "
                f"{found[:12]})",
                hint="put back the file that was exported, or go on with diffusers and peft, which need no checksums",
            )


def _other_embedders(folder: Path, model: DiT) -> list[str]:
    """diffusers has an embedder in every block; an export's are all the same."""
    stock, first = _plain_tensors(folder / WEIGHTS), EMBEDDER.format(0)
    names = [name.removeprefix(first) for name in stock if name.startswith(first)]
    others = [EMBEDDER.format(index) for index in range(1, model.config.depth)]
    return [
        block + name
        for block in others
        for name in names
        if block + name not in stock or not torch.equal(stock[block + name], stock[first + name])
    ]


def _compare(path: Path, name: str, found: Tensor | None, expected: Tensor | None) -> None:
    """Products may differ in their last bits between machines; anything more is another model."""
    shapes = [None if tensor is None else list(tensor.shape) for tensor in (found, expected)]
    same = shapes[0] == shapes[1]
    if not same or not torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max() or 1)):
        raise UserError(
            f"{path}: {name} {shapes[0]} is not the product of the components beside it ({shapes[1]}): it was changed "
            "after the export",
            hint="put back the file that was exported, or go on with diffusers and peft, which need no components",
        )


def _plain_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file that another library may have written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"{path}: no such file", hint="the export is not whole: export the model again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", hint="export the model again")

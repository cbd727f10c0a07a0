"""Checks of latents: sizes that the VAE can halve, and one space for all data sets.  Imports no torch.

`valid` as in kind/params/checks.py: what could be read, None for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kind.data.sources import SOURCES
from kind.params.ranks import known

COLOURS = 3  # of what AutoencoderKLs are trained on


def latent_problems(valid: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake.  options: of the data sets' sources."""
    data = {name: one for name, one in (valid.get("data") or {}).items() if known(one)}
    shape = valid["model"].shape() if valid.get("model") else None
    for name, one in data.items():
        if known(one.latents) and name in options:
            yield from _size_problems(name, one, options[name], shape)
    yield from _other_spaces(valid, data, options)
    sampling = valid.get("sampling")
    if sampling is not None and sampling.clip_sample and any(one.latents for one in data.values()):
        yield "sampling.clip_sample: clips to [-1, 1], which latents exceed; leave it out"


def _size_problems(name: str, data: Any, options: Any, shape: Any) -> Iterator[str]:
    where, factor = f"data.{name}.latents", data.latents.downsampling
    side, channels = side_of(options), SOURCES[data.source].channels(options)
    if channels not in (None, COLOURS):
        yield (
            f"{where}: images of {data.source} have {channels} channel{'s'[: channels > 1]} here, and a VAE takes "
            f"{COLOURS}; give a source of colours (`channels: {COLOURS}` of image files), or leave latents out"
        )
    if side is None:
        return
    if side % factor:
        sizes = " or ".join(str(size) for size in (side // factor * factor, (side // factor + 1) * factor) if size)
        yield f"{where}: images of {side} x {side} pixels are no multiple of downsampling {factor}; write size: {sizes}"
    elif shape is not None and side // factor % shape.patch_size:
        yield (
            f"{where}: {side} x {side} pixels become latents of {side // factor} x {side // factor}, no multiple of "
            f"model.patch_size {shape.patch_size}"
        )


def _other_spaces(valid: Mapping[str, Any], data: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """What is adapted to a task was pre-trained on the same kind of images."""
    pretrain = valid.get("pretrain")
    first = data.get(pretrain.data) if pretrain is not None else None
    tuning = getattr(valid.get("tune"), "tasks", None) or {}
    places = [*((f"tasks.{n}", task) for n, task in (valid.get("tasks") or {}).items())]
    places += [(f"tune.tasks.{n}", task) for n, task in tuning.items()]
    for where, task in places:
        other = data.get(task.data)
        if first is None or other is None or not (first.latents or other.latents):
            continue
        both = [one.latents and one.latents.model_dump() for one in (first, other)]
        if both[0] != both[1]:
            different = ["pixels" if one is None else f"latents {_told(one, both)}" for one in both]
            yield (
                f"{where}.data: {task.data} gives {different[1]}, but pretrain.data {pretrain.data} {different[0]}; "
                "give both the same `latents`"
            )
            continue
        sides = [side_of(options.get(name)) for name in (pretrain.data, task.data)]
        if None not in sides and sides[0] != sides[1]:
            yield (
                f"{where}.data: images of {task.data} are {sides[1]} x {sides[1]}, but those of pretrain.data "
                f"{pretrain.data} {sides[0]} x {sides[0]}; give both one size"
            )


def _told(one: Mapping[str, Any], both: list[Mapping[str, Any] | None]) -> str:
    """Of these settings what the others have otherwise."""
    if None in both:
        return f"of downsampling {one['downsampling']}"
    return "of " + ", ".join(f"{key} {value}" for key, value in one.items() if len({both[0][key], both[1][key]}) > 1)


def side_of(options: Any) -> int | None:
    """Of a source's square images, in pixels; None where only the data can tell."""
    return getattr(options, "size", None)

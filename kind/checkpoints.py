"""Files that hold models: backbones, learngenes and tailors, and what a method trained.  All describe themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kind.adaptation import Start, adapt, fill, learned_tensors
from kind.artifacts import REMAKE, load_tensors, provenance, save_tensors, sha256
from kind.diffusion import Diffusion
from kind.errors import UserError, first_difference
from kind.methods import METHODS
from kind.models.dit import DiT, DiTConfig
from kind.models.factorized import Factorization, make_room
from kind.models.learngene import assemble, take_apart
from kind.models.plain import require_plain
from kind.models.soft_classes import require_owners

BACKBONE, LEARNGENES, TAILORS, ADAPTED = "backbone/2", "learngenes/2", "tailors/2", "adapted/2"

STARTS = {"dense": "a dense backbone", "whole": "a factorized backbone", "soft": "a backbone with a soft gate"}
DESCRIPTION = ("config", "factorization", "classes", "diffusion")
NEEDED = {  # entries of a header
    BACKBONE: DESCRIPTION,
    LEARNGENES: DESCRIPTION,
    TAILORS: (*DESCRIPTION, "class", "group", "learngenes"),
    ADAPTED: ("method", "options", "classes", "config", "diffusion", "null_gate", "label_table", "seed", "start"),
}
AGAIN = "delete it and run the finetune stage again, or snakemake"


@dataclass(frozen=True)
class Loaded:
    """A model from a file, with its classes in the order of its labels and the diffusion it was trained for."""

    model: DiT
    classes: list[str]
    diffusion: Diffusion
    header: dict[str, Any]


def save_backbone(path: Path, model: DiT, classes: list[str], diffusion: Diffusion) -> None:
    """Raises UserError for a model that `load_backbone` could not read: one whose layers its header does not say."""
    require_plain(model, "saved")
    save_tensors(path, model.state_dict(), {"format": BACKBONE, **_description(model, classes, diffusion)})


def load_backbone(path: Path) -> Loaded:
    tensors, header = load_tensors(path)
    _expect(path, header, BACKBONE)
    model = DiT(DiTConfig(**header["config"]))
    if header["factorization"] is not None:
        make_room(model, Factorization.from_dict(header["factorization"]))
    _load(path, model, tensors)
    return Loaded(model, header["classes"], Diffusion(**header["diffusion"]), header)


def save_parts(learngenes: Path, tailors: list[Path], backbone: Path) -> None:
    """Take a factorized backbone apart into one file of learngenes (with all dense layers), one file a class and then
    one a group of classes that shares tailors."""
    write_parts(learngenes, tailors, load_backbone(backbone), str(backbone))


def write_parts(learngenes: Path, tailors: list[Path], loaded: Loaded, where: str) -> None:
    """`save_parts` of a model that is loaded already.  where: what it was loaded from, for messages."""
    if loaded.model.gate is None:
        raise UserError(
            f"{where}: a dense backbone has no learngenes",
            hint="extract from one of form `kind`: pre-train it, or put its file there",
        )
    parts = take_apart(require_owners(loaded.model, "taken apart", where))
    description = _description(loaded.model, loaded.classes, loaded.diffusion)
    save_tensors(learngenes, parts.shared, {"format": LEARNGENES, **description})
    owners = [{"class": name, "group": None} for name in loaded.classes]
    owners += [{"class": None, "group": index} for index in range(len(parts.groups))]
    for path, owner, part in zip(tailors, owners, (*parts.classes, *parts.groups), strict=True):
        save_tensors(path, part, {"format": TAILORS, **description, **owner, "learngenes": sha256(learngenes)})


def load_learngenes(path: Path) -> Loaded:
    """Learngenes alone, a model that knows only the null label; `classes` are those that it was pre-trained on."""
    tensors, header = load_tensors(path)
    _expect(path, header, LEARNGENES)
    model = _assemble([path], header, tensors, [], [], [])
    return Loaded(model, header["classes"], Diffusion(**header["diffusion"]), header)


def recombine(learngenes: Path, tailors: list[Path]) -> Loaded:
    """A model of the learngenes and any classes' tailors, labels in the order of the files.

    Where classes share tailors, the files of the groups that they are in are needed too, anywhere in the list.
    """
    shared, header = load_tensors(learngenes)
    _expect(learngenes, header, LEARNGENES)
    parts, classes, groups = [], [], {}
    for path in tailors:
        tensors, own = load_tensors(path)
        _expect(path, own, TAILORS)
        if own["learngenes"] != sha256(learngenes):
            raise UserError(
                f"{path}: tailors of {_owner(own)} belong to other learngenes than {learngenes}",
                hint="take both from one run of the extract stage",
            )
        if own["group"] is None:
            parts.append(tensors)
            classes.append(own["class"])
        else:
            groups[own["group"]] = tensors
    chosen = [header["classes"].index(name) for name in classes]
    needed = Factorization.from_dict(header["factorization"]).kept_groups(chosen)
    absent = [index for index in needed if index not in groups]
    if absent:
        raise UserError(
            f"{learngenes}: the classes share tailors of group {', '.join(map(str, absent))}, whose file is not given",
            hint="give the files of the groups beside those of the classes",
        )
    model = _assemble([learngenes, *tailors], header, shared, chosen, parts, [groups[index] for index in needed])
    return Loaded(model, classes, Diffusion(**header["diffusion"]), header)


def load_start(form: str | None, path: Path | None, config: DiTConfig | None = None, seed: int = 0) -> Start:
    """What a method of this start is given: a backbone, dense, factorized or with a soft gate, learngenes, or (None)
    fresh weights of `config`.

    path: the file, or the folder that holds it.
    """
    if form is None:
        return Start.fresh(config, seed)
    if path.is_dir():
        path = path / ("learngenes.safetensors" if form == "kind" else "model.safetensors")
        if not path.is_file():
            what = "learngenes (extract writes them)" if form == "kind" else STARTS[form]
            raise UserError(f"{path}: no such file", hint=f"give the file or the folder of {what} as the start")
    loaded = load_learngenes(path) if form == "kind" else load_backbone(path)
    if form == "dense" and loaded.model.gate is not None:
        raise UserError(
            f"{path}: a factorized backbone, where a dense one is needed",
            hint="give the method a backbone of form `dense`, or delete the file and run the stage pretrain again",
        )
    if form == "soft" and not (loaded.model.gate and loaded.model.gate.soft):
        raise UserError(
            f"{path}: a backbone without a soft gate, where one with it is needed",
            hint="give the method a backbone with `gate: soft`, or delete the file and run the stage pretrain again",
        )
    if form == "whole" and (loaded.model.gate is None or loaded.model.gate.soft):
        raise UserError(
            f"{path}: a backbone whose classes own no tailors, where a factorized one is needed",
            hint="give the method a backbone of form `kind`, or delete the file and run the stage pretrain again",
        )
    return Start(loaded.model, loaded.diffusion, sha256(path), tuple(loaded.classes))


def save_adapted(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """What a method trained.  header: see `load_adapted`, which reads it."""
    save_tensors(path, tensors, {"format": ADAPTED, **header})


def load_adapted(path: Path, start_path: Path | None) -> Loaded:
    """An adapted model: its start, the method attached again, and the trained parameters filled in."""
    tensors, header = load_tensors(path)
    _expect(path, header, ADAPTED)
    if header["method"] not in METHODS:
        raise UserError(
            f"{path}: was trained by method {header['method']!r}, which this version does not have; methods: "
            f"{', '.join(METHODS)}",
            hint=AGAIN,
        )
    method = METHODS[header["method"]]
    start = load_start(method.start, start_path, DiTConfig(**header["config"]), header["seed"])
    if start.identity != header["start"]:
        raise UserError(
            f"{path}: was trained from another start than {start_path} "
            f"(expected sha256 {str(header['start'])[:12]}, found {str(start.identity)[:12]})",
            hint="run the finetune stage again, or put back the start that it was trained from",
        )
    options = method.options.model_validate(header["options"])
    if method.for_seen:
        start = start.of_classes(header["classes"])
    model = adapt(start, method, options, len(header["classes"]), header["seed"], header["label_table"])
    wanted = learned_tensors(model)
    if wanted.keys() != tensors.keys() or any(wanted[name].shape != tensors[name].shape for name in wanted):
        different = sorted(wanted.keys() ^ tensors.keys()) or [n for n in wanted if wanted[n].shape != tensors[n].shape]
        name = different[0]
        found, needed = ("nothing" if name not in of else list(of[name].shape) for of in (tensors, wanted))
        raise UserError(
            f"{path}: does not hold what {header['method']} trains: {name} is {found}, where {needed} is needed",
            hint=AGAIN,
        )
    fill(model, tensors)
    return Loaded(model, header["classes"], Diffusion(**header["diffusion"]), header)


def _description(model: DiT, classes: list[str], diffusion: Diffusion) -> dict[str, Any]:
    return {
        "config": model.config.to_dict(),
        "factorization": None if model.gate is None else model.factorization.to_dict(),
        "classes": classes,
        "diffusion": diffusion.to_dict(),
        "versions": provenance()["versions"],
    }


def _expect(path: Path, header: Mapping[str, Any], wanted: str) -> None:
    if header.get("format") != wanted:
        raise UserError(
            f"{path}: a file of format {header.get('format')!r}, where {wanted!r} is needed",
            hint="put the right file there, or delete it and run the stage that writes it again",
        )
    absent = [key for key in NEEDED[wanted] if key not in header]
    if absent:
        raise UserError(f"{path}: its header has no {', '.join(absent)}", hint=REMAKE)


def _owner(header: Mapping[str, Any]) -> str:
    return f"class {header['class']!r}" if header["group"] is None else f"group {header['group']}"


def _assemble(
    paths: Sequence[Path],
    header: Mapping[str, Any],
    shared: Mapping[str, Tensor],
    chosen: Sequence[int],
    parts: Sequence[Mapping[str, Tensor]],
    groups: Sequence[Mapping[str, Tensor]],
) -> DiT:
    try:
        factorization = Factorization.from_dict(header["factorization"]).select(chosen)
        return assemble(DiTConfig(**header["config"]), factorization, shared, parts, groups)
    except RuntimeError as error:
        listed = ", ".join(map(str, paths))
        raise UserError(
            f"{listed}: does not fit the architecture that the header names: {first_difference(error)}", hint=REMAKE
        )


def _load(path: Path, model: DiT, tensors: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path}: does not fit the architecture that its own header names: {first_difference(error)}", hint=REMAKE
        )

"""Whether a file that a stage is given is the one that the params describe: its header against them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kind.artifacts import read_header
from kind.errors import UserError
from kind.params.messages import told_apart
from kind.stages.context import Context
from kind.stages.run_arguments import Run


def check_backbone(context: Context, name: str, path: Path) -> None:
    """Raises UserError for a backbone, or learngenes, of other architecture, classes or diffusion than `name`."""
    experiment, header = context.experiment, read_header(path)
    backbone = experiment.backbones[name]
    classes = experiment.pretrain.classes
    soft = (header.get("factorization") or {}).get("soft") or {}  # the data decide the size of embeddings, not params
    wanted = {
        **experiment.model.shape()._asdict(),
        **(backbone.factorization(classes, soft.get("embedding_size")).to_dict() if backbone.form == "kind" else {}),
        **experiment.diffusion.model_dump(),
        "form": backbone.form,
        "classes": list(classes),
    }
    parts = [header.get(key) or {} for key in ("config", "factorization", "diffusion")]
    found = {key: value for part in parts for key, value in part.items()}
    found |= {"classes": header["classes"]} if "classes" in header else {}
    if "factorization" in header:
        found["form"] = "kind" if header["factorization"] else "dense"
    _compare(path, found, wanted, f"backbones.{name} of {context.params_path}", f"the stage pretrain of {name}")


def check_adapted(this: Run, path: Path) -> None:
    """Raises UserError for weights that another method, other options, classes or another seed trained."""
    header = read_header(path)
    wanted = {
        "method": this.method.name,
        "classes": list(this.context.experiment.task(this.task).classes),
        "seed": this.seed,
    }
    if header.get("method") == this.method.name:
        wanted |= {f"options.{key}": value for key, value in this.options.model_dump().items()}
    described = f"task {this.task}, method {this.label} and seed {this.seed} of {this.context.params_path}"
    options = {f"options.{key}": value for key, value in (header.get("options") or {}).items()}
    _compare(path, header | options, wanted, described, "the finetune stage")


def _compare(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], described: str, again: str) -> None:
    """What the header lacks is told by whatever reads the whole file."""
    different = [key for key, value in wanted.items() if found.get(key, value) != value]
    if different:
        listed = "; ".join(f"{key}: {_difference(found[key], wanted[key])}" for key in different)
        raise UserError(
            f"{path}: does not fit {described}: {listed}",
            hint=f"run {again} again, or snakemake; or put the params back",
        )


def _difference(found: Any, wanted: Any) -> str:
    both = told_apart(*([value] if not isinstance(value, list) else value for value in (found, wanted)))
    return f"found {both[0]}, expected {both[1]}"

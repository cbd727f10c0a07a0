"""The `methods` section of a params file: its entries, and the defaults of params/methods.yaml.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from kind.errors import UserError
from kind.methods import METHODS
from kind.params.messages import nearest, show
from kind.params.read import optional_fields, read_into
from kind.params.types import PositiveFloat, Section
from kind.params.yaml import read_yaml

METHODS_FILE = Path(__file__).resolve().parents[2] / "params" / "methods.yaml"


class Entry(Section):
    """What a methods entry may say beside its method's options.

    method: its name, where the entry has another.  match: the entry whose number of trainable parameters its size is to
    come closest to, task by task.  learning_rates: those that `tune` tries with it, in place of the common ones.
    guidance_scale: of its samples, in place of the task's; part of a method's settings as its learning rate is, and not
    of the protocol.
    """

    method: str | None = None
    match: str | None = None
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=1)] | None = None


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says to its method."""
    return {key: value for key, value in given.items() if key not in Entry.model_fields}


def about(given: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says beside that; see `Entry`."""
    return {key: value for key, value in given.items() if key in Entry.model_fields}


def with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a params file with each methods entry over its method's defaults.

    A default learning rate stands behind a common one and behind `tune`.  Raises UserError where defaults are wrong.
    """
    methods, finetune = content.get("methods"), content.get("finetune")
    if not isinstance(methods, dict):
        return dict(content)
    common = "tune" in content or (isinstance(finetune, dict) and finetune.get("learning_rate") is not None)
    defaults = method_defaults(METHODS_FILE)
    merged = {label: _over(defaults, label, given, common) for label, given in methods.items()}
    return {**content, "methods": merged}


def _over(defaults: Mapping[str, Mapping[str, Any]], label: Any, given: Any, common: bool) -> Any:
    name = given.get("method", label) if isinstance(given, dict) else None
    if not isinstance(name, str) or name not in METHODS:
        return given
    dropped = {"learning_rate"} if common else set()
    if given.get("match") is not None:
        dropped.add(METHODS[name].size_option)
    return {key: value for key, value in defaults.get(name, {}).items() if key not in dropped} | given


def default_note(name: str, options: Any, problem: str) -> str:
    """Says of the values in a problem which are defaults: the params file does not hold them."""
    defaults = method_defaults(METHODS_FILE).get(name, {})
    used = [key for key, value in defaults.items() if key in problem and getattr(options, key, None) == value]
    return f" ({', '.join(used)}: unless the entry says otherwise, that of {METHODS_FILE})" if used else ""


@cache
def method_defaults(path: Path) -> dict[str, dict[str, Any]]:
    """Method -> its default options; raises one UserError that lists every problem of the file."""
    content = read_yaml(path)
    problems = list(_default_problems(content))
    if problems:
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{path}: {count}\n{lines}", hint=f"mend {path}, which holds the defaults of all experiments")
    return content


def _default_problems(content: Mapping[Any, Any]) -> Iterator[str]:
    for name, given in content.items():
        if name not in METHODS:
            yield f"{show(name)}: no such method{nearest(name, METHODS)}; methods: {', '.join(METHODS)}"
        elif not isinstance(given, dict):
            yield f"{name}: expected a mapping of options, found {show(given)}"
        else:
            model = METHODS[name].options
            required = [key for key, field in model.model_fields.items() if field.is_required()]
            yield from read_into(name, (name,), optional_fields(model, required), given, {}, partly=False)

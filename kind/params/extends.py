"""`extends` of a params file: what it says is laid over another file.  Imports no torch.

    extends: imagenet_b.yaml                  # a params file beside this one
    without: [methods, tasks.pokemon]         # what of it is left out, by key
    model: {preset: L/2}

Mappings are merged key by key; of anything else the later file's value stands.  What comes out is what the whole had
been in one file: recipes know the values alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kind.errors import UserError
from kind.params.messages import nearest, show
from kind.params.yaml import NOT_EXPERIMENTS, names_beside, read_yaml

EXTENDS, WITHOUT = "extends", "without"
LIKE = f"write for instance `{WITHOUT}: [methods, tasks.shift]`"
GIVEN_ANYWAY = "leave it out: every experiment has these defaults"
DEPTH = 6  # to which files are merged; YAML's anchors can nest without end


class Layered(NamedTuple):
    """content: of the file over those that it extends; origins: which file each value comes from, by its key."""

    content: dict[Any, Any]
    origins: Mapping[str, Path]

    def note(self, problem: str) -> str:
        """Says of a mistake, which begins with its key, where its value stands if that is in another file."""
        key = problem.partition(":")[0]
        own = {origin for where, origin in self.origins.items() if _holds(key, where) or _holds(where, key)}
        others = sorted({origin.name for origin in own} - {self.path.name})
        return f" (of {', '.join(others)})" if others else ""

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.origins[""]


def read_layered(path: Path, above: tuple[Path, ...] = ()) -> Layered:
    """A params file over what it extends, if it does.  above: the files that extend this one.

    Raises UserError for a file that is not there, a circle, and what is left out but was never there.
    """
    content = read_yaml(path)
    if EXTENDS not in content:
        if WITHOUT in content:
            raise UserError(
                f"{path}: {WITHOUT}: is for a file with `{EXTENDS}`, of which it leaves out parts",
                hint=f"name that file as `{EXTENDS}`, or take `{WITHOUT}` away",
            )
        return Layered(content, {"": path, **dict.fromkeys(_leaves(content), path)})
    base_path = _base(path, content.pop(EXTENDS), above)
    base = read_layered(base_path, (*above, path))
    if "experiments" in base.content:
        raise UserError(
            f"{path}: {EXTENDS}: {base_path} is a collection of experiments, not one",
            hint=f"name a file of one experiment; it has {show(base.content['experiments'])}",
        )
    merged = _without(path, content.pop(WITHOUT, []), base_path, base.content)
    merged, own = _over(merged, content), set(_leaves(content))
    origins = {key: path if key in own else base.origins.get(key, path) for key in _leaves(merged)}
    return Layered(merged, {**origins, "": path})


def files_of(path: Path) -> list[Path]:
    """The params file and those that it extends, one by one."""
    content = read_yaml(path)
    return [path, *(files_of(path.parent / content[EXTENDS]) if EXTENDS in content else [])]


def _base(path: Path, given: Any, above: tuple[Path, ...]) -> Path:
    if not isinstance(given, str) or not given.endswith((".yaml", ".yml")) or Path(given).name != given:
        raise UserError(
            f"{path}: {EXTENDS}: expected the name of a params file beside it, such as smoke.yaml, found {show(given)}",
            hint="files of an experiment and what it extends lie in one folder",
        )
    base = path.parent / given
    names = [f"{name}.yaml" for name in names_beside(path)]
    if base.stem in NOT_EXPERIMENTS:
        raise UserError(
            f"{path}: {EXTENDS}: {given} holds the defaults of methods and is no experiment", hint=GIVEN_ANYWAY
        )
    if not base.is_file():
        raise UserError(
            f"{path}: {EXTENDS}: no params file {given!r} beside it{nearest(given, names)}",
            hint=f"params files in {path.parent}: {', '.join(names)}",
        )
    if base in (*above, path):
        circle = " -> ".join(one.name for one in (*above, path, base))
        raise UserError(f"{path}: {EXTENDS}: {circle} goes in a circle", hint="let one of them extend none")
    return base


def _without(path: Path, keys: Any, base_path: Path, content: Mapping[Any, Any]) -> dict[Any, Any]:
    """The content without these dotted keys."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UserError(
            f"{path}: {WITHOUT}: expected a list of keys of {base_path.name}, found {show(keys)}", hint=LIKE
        )
    for key in keys:
        content = _removed(path, key, key.split("."), base_path, content)
    return dict(content)


def _removed(path: Path, key: str, parts: list[str], base_path: Path, content: Any) -> dict[Any, Any]:
    first, *rest = parts
    names = list(content) if isinstance(content, dict) else []
    if first not in names:
        known = f"; it has {', '.join(map(str, names))}" if names else ""
        raise UserError(f"{path}: {WITHOUT}: {base_path.name} has no {key!r}{nearest(first, names)}{known}", hint=LIKE)
    if not rest:
        return {name: value for name, value in content.items() if name != first}
    return {**content, first: _removed(path, key, rest, base_path, content[first])}


def _over(base: Any, own: Any, depth: int = DEPTH) -> Any:
    if not isinstance(base, dict) or not isinstance(own, dict) or not depth:
        return own
    new = {key: _over(base[key], value, depth - 1) if key in base else value for key, value in own.items()}
    return {**base, **new}


def _leaves(value: Any, key: str = "", depth: int = DEPTH) -> Iterator[str]:
    """Dotted keys of all that is no mapping."""
    if not isinstance(value, dict) or not value or not depth:
        yield key
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{key}.{name}" if key else str(name), depth - 1)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))

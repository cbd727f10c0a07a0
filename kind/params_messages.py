"""Mistakes in params files, in the words of a person who wrote the file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def describe_errors(error: ValidationError, where: tuple, annotation: Any) -> Iterator[str]:
    """One line for each mistake that pydantic found, in the words of the params file."""
    for item in error.errors(include_url=False):
        # pydantic puts the chosen form of a union into the path; the file has no such level
        path = [part for part in item["loc"] if part not in ("dense", "kind", "trained", "inception") or part in where]
        key = ".".join(str(part) for part in (*where, *path))
        given, kind = item["input"], item["type"]
        if kind == "extra_forbidden":
            allowed = _allowed_keys(annotation, path[:-1])
            keys = f"; allowed: {', '.join(allowed)}" if allowed else ""
            yield f"{key}: unknown key{nearest(path[-1], allowed)}{keys}"
        elif kind == "missing":
            yield f"{key}: missing"
        elif kind == "literal_error":
            allowed = item["ctx"]["expected"]
            yield f"{key}: {show(given)} is not allowed{nearest(given, allowed.split(chr(39)))}; allowed: {allowed}"
        elif isinstance(given, str) and kind in ("float_type", "int_type") and _number(given) is not None:
            fixed = f"{_number(given):g}" if kind == "int_type" else _yaml_float(_number(given))
            yield f"{key}: {given!r} is text to YAML, not a number; write {fixed}"
        elif isinstance(given, bool) and kind == "string_type":
            yield f"{key}: YAML reads this as {str(given).lower()}; put the name in quotes"
        else:
            yield f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}, found {show(given)}"


def _allowed_keys(annotation: Any, path: list) -> list[str]:
    """Keys of the section at `path` below an annotation, as far as they can be told."""
    options = [
        arg for arg in (annotation, *_nested(annotation)) if isinstance(arg, type) and issubclass(arg, BaseModel)
    ]
    for part in path:
        options = [
            inner
            for model in options
            if part in model.model_fields
            for inner in _nested(model.model_fields[part].annotation)
            if isinstance(inner, type) and issubclass(inner, BaseModel)
        ]
    return list(dict.fromkeys(name for model in options for name in model.model_fields))


def _nested(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _nested(inner)


def check_name(section: str, key: Any) -> Iterator[str]:
    """Names of entries become folder names, so they are plain."""
    if not isinstance(key, str) or not key or not all(c.isascii() and (c.isalnum() or c in "-_") for c in key):
        yield f"{section}: {show(key)} cannot be a name; use letters, digits, '-' and '_'"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _yaml_float(value: float) -> str:
    """A form that YAML 1.1 reads as a float: 1.0e-4, not 1e-04."""
    mantissa, _, exponent = f"{value:e}".partition("e")
    mantissa = mantissa.rstrip("0")
    mantissa = mantissa + "0" if mantissa.endswith(".") else mantissa
    return f"{mantissa}e{int(exponent):+d}" if abs(int(exponent)) > 3 else repr(value)


def show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def some(names: tuple[str, ...]) -> str:
    listed = ", ".join(names[:12])
    return f"classes: {listed}{f', ... ({len(names)} in all)' if len(names) > 12 else ''}"


def nearest(given: Any, allowed: Any) -> str:
    """` (did you mean 'x'?)` where something allowed is close to what was given."""
    close = difflib.get_close_matches(str(given), [str(name) for name in allowed], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

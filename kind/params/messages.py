"""Mistakes in params files, in the words of a person who wrote the file."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

# What pydantic calls a mistake, and what the file should hold instead; `{}` are filled from the error's context.
EXPECTED = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "invalid_key": "expected text as the key",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "too_short": "expected {min_length} or more entries",
    "too_long": "expected at most {max_length} entries",
    "string_pattern_mismatch": "does not match the pattern {pattern}",
    "recursion_loop": "refers to itself",
}


def describe_errors(error: ValidationError, where: tuple, annotation: Any) -> Iterator[str]:
    """One line for each mistake that pydantic found: its key in the file, what is wrong, what was given."""
    for item in error.errors(include_url=False):
        if item["type"] == "unresolved":
            yield from item["ctx"]["reasons"]
            continue
        path, models = _in_file(annotation, item["loc"])
        yield _describe(item, ".".join(_plain(part) for part in (*where, *path)), path, models)


def _describe(item: Any, key: str, path: list, models: list[type[BaseModel]]) -> str:
    given, kind, context = item["input"], item["type"], item.get("ctx", {})
    number = _number(given) if isinstance(given, str) else None
    if kind == "extra_forbidden":
        allowed = list(dict.fromkeys(name for model in models for name in model.model_fields))
        keys = f"allowed: {', '.join(allowed)}" if allowed else "no keys are allowed here"
        return f"{key}: unknown key{nearest(path[-1], allowed)}; {keys}"
    if kind == "missing":
        return f"{key}: missing"
    if kind == "literal_error":
        allowed = context["expected"]
        return f"{key}: {show(given)} is not allowed{nearest(given, allowed.split(chr(39)))}; allowed: {allowed}"
    if kind == "union_tag_not_found":
        tag = context["discriminator"].strip("'")
        if not isinstance(given, dict):
            return f"{key}: expected a mapping, found {show(given)}"
        return f"{key}.{tag}: missing; allowed: {', '.join(_tags(models, tag))}"
    if kind == "union_tag_invalid":
        tag, allowed = context["discriminator"].strip("'"), context["expected_tags"]
        value = given[tag]
        return f"{key}.{tag}: {show(value)} is not allowed{nearest(value, allowed.split(chr(39)))}; allowed: {allowed}"
    if kind in ("float_type", "int_type") and number is not None and (kind == "float_type" or number.is_integer()):
        fixed = _yaml_float(number) if kind == "float_type" else str(int(number))
        return f"{key}: {given!r} is text to YAML, not a number; write {fixed}"
    if kind == "string_type" and isinstance(given, bool):
        return f"{key}: YAML reads this as {str(given).lower()}; put the name in quotes"
    if kind == "string_type" and given is not None and not isinstance(given, list | dict):
        return f"{key}: expected text, found {show(given)}; put it in quotes"
    if kind == "too_short" and given == "":
        return f"{key}: must not be empty"
    if kind in EXPECTED:
        plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        return f"{key}: {EXPECTED[kind].format(**plain)}, found {show(given)}"
    return f"{key}: {item['msg'].removeprefix('Value error, ')}, found {show(given)}"


def _in_file(annotation: Any, location: tuple) -> tuple[list, list[type[BaseModel]]]:
    """pydantic's path without the levels that the file has not (the chosen form of a union), and the models there."""
    path, models, annotations = [], _models([annotation]), [annotation]
    for part in location:
        if part == "[key]":  # pydantic's word for a mistake in the key before
            break
        if mappings := [arguments for one in annotations if get_origin(one) is dict and (arguments := get_args(one))]:
            path.append(part)
            annotations = [value for _, value in mappings]
            models = _models(annotations)
            continue
        if len(models) > 1 and (chosen := [model for model in models if part in _tag_values(model)]):
            models = chosen
            continue
        path.append(part)
        inner = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        if models and not inner:
            break  # an unknown key: `models` say what would be known
        annotations = inner or [arg for annotation in annotations for arg in get_args(annotation)]
        models = _models(annotations)
    return path, models


def _models(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    """The pydantic models that these annotations offer, through unions but not through lists and mappings' keys."""
    found = []
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        else:
            found += _models(get_args(annotation))
    return found


def _tag_values(model: type[BaseModel]) -> list[str]:
    """What a field of one allowed value may hold: the tag of a form."""
    options = (get_args(field.annotation) for field in model.model_fields.values())
    return [values[0] for values in options if len(values) == 1 and isinstance(values[0], str)]


def _tags(models: list[type[BaseModel]], tag: str) -> list[str]:
    return [repr(value) for model in models for value in get_args(model.model_fields[tag].annotation)]


def check_name(section: str, key: Any) -> Iterator[str]:
    """Names of entries become folder names and command-line arguments, so they are plain."""
    if not isinstance(key, str) or not _is_plain(key):
        yield f"{section}: {show(key)} cannot be a name; use letters, digits, '-' and '_', and begin with no '-'"


def _is_plain(name: str) -> bool:
    return bool(name) and name[0] != "-" and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _yaml_float(value: float) -> str:
    """A form that YAML 1.1 reads as a float: 1.0e-4, not 1e-04."""
    text = repr(value)
    if "e" not in text and (1e-3 <= abs(value) < 1e6 or value == 0):
        return text
    mantissa, _, exponent = f"{Decimal(text).normalize():e}".partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"


class _Shown(reprlib.Repr):
    """A repr that stays short and quick whatever the value: YAML anchors can make a few lines gigantic."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxstring, self.maxother = 3, 4, 8, 60, 60

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if abs(value) < 10**20 else f"a number of {value.bit_length()} bits"


def show(value: Any) -> str:
    if value is None:
        return "nothing"
    text = _Shown().repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def some(names: Iterable[str], what: str = "classes: ") -> str:
    """The first of many names, and how many there are."""
    names = tuple(names)
    listed = ", ".join(names[:12])
    return f"{what}{listed}{f', ... ({len(names)} in all)' if len(names) > 12 else ''}"


def told_apart(found: Sequence[Any], wanted: Sequence[Any]) -> tuple[str, str]:
    """Both of two lists; of long ones how many there are and what the other lacks."""
    lists = [[str(item) for item in one] for one in (found, wanted)]
    if max(map(len, lists)) <= 12:
        return ", ".join(lists[0]), ", ".join(lists[1])
    return tuple(_unlike(one, other) for one, other in (lists, lists[::-1]))


def _unlike(one: list[str], other: list[str]) -> str:
    own = [item for item in one if item not in other]
    return f"{len(one)}, among them {some(own, '')}" if own else f"{len(one)}, in another order or all of the other's"


def nearest(given: Any, allowed: Iterable[Any]) -> str:
    """` (did you mean 'x'?)` where something allowed is close to what was given."""
    close = difflib.get_close_matches(str(given)[:100], [str(name) for name in allowed], n=1) if _short(given) else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def _short(given: Any) -> bool:
    return isinstance(given, str | int | float)


def _plain(part: Any) -> str:
    return part if isinstance(part, str) else show(part)

"""One section of a params file against its model, whatever the file holds.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from kind.params.messages import describe_errors


def read_into(key: Any, where: tuple, annotation: Any, given: Any, into: dict, *, partly: bool = True) -> Iterator[str]:
    """Put the typed value at `into[key]`; of a section with mistakes (`partly`) what is right, None for the rest."""
    try:
        into[key] = TypeAdapter(annotation).validate_python(given, strict=True)
    except ValidationError as error:
        yield from describe_errors(error, where, annotation)
        if partly and isinstance(given, dict) and (found := _read_partly(annotation, given)) is not None:
            into[key] = found


def _read_partly(annotation: Any, given: dict) -> BaseModel | None:
    for model in (arg for arg in (annotation, *leaves(annotation)) if _is_model(arg)):
        wrong: set[Any] = set()
        try:
            model.model_validate(given)
        except ValidationError as error:
            wrong = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        if "form" in wrong:
            continue  # another form of the union
        right = {name: value for name, value in given.items() if name not in wrong}
        fields = wrong & set(model.model_fields)
        try:
            return all_optional(model).model_validate(right).model_copy(update=dict.fromkeys(fields))
        except ValidationError:  # what remains does not fit together
            return None
    return None


def leaves(annotation: Any) -> Iterator[Any]:
    for inner in get_args(annotation):
        yield inner
        yield from leaves(inner)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def all_optional(model: type[BaseModel]) -> type[BaseModel]:
    """The same section, None where a required field is not given."""
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: (field.annotation | None, None) for name, field in required.items()}
    return create_model(model.__name__, __base__=model, **optional)


def optional_fields(model: type[BaseModel], names: Iterable[str]) -> type[BaseModel]:
    """The same section, None where one of these fields is not given; what is given keeps to its limits."""
    fields = {name: model.model_fields[name] for name in names}
    limited = {n: Annotated[f.annotation, *f.metadata] if f.metadata else f.annotation for n, f in fields.items()}
    return create_model(model.__name__, __base__=model, **{name: (kind, None) for name, kind in limited.items()})

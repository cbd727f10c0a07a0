"""What the models of params files are made of.  Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kind.data.class_sets import resolved

LARGEST_INT = 2**63 - 1  # what torch and numpy take as a seed
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST_INT)]
NaturalInt = Annotated[int, Field(ge=0, le=LARGEST_INT)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _class_name(value: Any) -> Any:
    """Digits may be written as numbers; `no` and `on` are booleans to YAML and must be quoted."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ClassName = Annotated[str, BeforeValidator(_class_name), Field(min_length=1)]


ClassList = Annotated[list[ClassName], BeforeValidator(resolved), Field(min_length=1)]  # see kind/params/class_sets.py


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    may_be_none: ClassVar[tuple[str, ...]] = ()  # fields that, when None, were not simply unreadable

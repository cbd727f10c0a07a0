"""Pictures of Pokemon: one class, or types from a CSV.  Layout and licence: docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.data.sources import folder


class Options(folder.Options):
    """As of `folder`, with defaults for these images."""

    labels: Literal["folders", "csv", "none"] = "none"
    class_name: Annotated[str, Field(min_length=1)] = "pokemon"
    size: Annotated[int, Field(ge=4, le=2048)] = 256


SOURCE = folder.preset(
    "pokemon",
    Options,
    "get a set of pictures, for instance Kaggle's kvpratama/pokemon-images-dataset (the pictures are Nintendo's: "
    "research only; `below: pokemon`, since its `pokemon_jpg` holds the same pictures again), and name the folder as "
    "`path`",
)

"""Pictures of the Hubble telescope: one class, or a folder a kind of object.  Layout and licence: docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.data.sources import folder


class Options(folder.Options):
    """As of `folder`, with defaults for these images."""

    labels: Literal["folders", "csv", "none"] = "none"
    class_name: Annotated[str, Field(min_length=1)] = "sky"
    size: Annotated[int, Field(ge=4, le=2048)] = 256


SOURCE = folder.preset(
    "hubble",
    Options,
    "get pictures from esahubble.org/images (CC BY 4.0, credit ESA/Hubble) and name their folder as `path`",
)

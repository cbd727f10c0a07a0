"""CelebA-HQ (Karras et al. 2018), faces: one class, or a CSV of attributes.  Layout and licence: docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.data.sources import folder


class Options(folder.Options):
    """As of `folder`, with defaults for these images."""

    labels: Literal["folders", "csv", "none"] = "none"
    class_name: Annotated[str, Field(min_length=1)] = "face"
    size: Annotated[int, Field(ge=4, le=2048)] = 256


SOURCE = folder.preset(
    "celebahq",
    Options,
    "get CelebA-HQ (tkarras/progressive_growing_of_gans on GitHub says how; for non-commercial research) and name "
    "the folder or archive of its images as `path`",
)

"""LSUN scenes (Yu et al. 2015), exported to image files: a folder a scene.  Layout and licence: docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.data.sources import folder


class Options(folder.Options):
    """As of `folder`, with defaults for these images."""

    labels: Literal["folders", "csv", "none"] = "folders"
    size: Annotated[int, Field(ge=4, le=2048)] = 256


SOURCE = folder.preset(
    "lsun",
    Options,
    "get LSUN with github.com/fyu/lsun (for research), write its LMDB out as files (`python data.py export`), a "
    "folder a scene, and name the place as `path`",
)

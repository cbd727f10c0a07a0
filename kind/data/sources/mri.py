"""Slices of brain MRI: a folder a class.  Layout and licence: docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.data.sources import folder


class Options(folder.Options):
    """As of `folder`, with defaults for these images."""

    labels: Literal["folders", "csv", "none"] = "folders"
    channels: Literal[1, 3] = 1
    size: Annotated[int, Field(ge=4, le=2048)] = 256


SOURCE = folder.preset(
    "mri",
    Options,
    "get the Brain Tumor MRI Dataset (Kaggle, masoudnickparvar; CC0; its class folders begin `below: Training`) or "
    "slices of your own, a folder a class, and name the place as `path`",
)

"""Stages that also work on files alone: which of their two ways a command line means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kind.errors import UserError


def works_on_files(
    stage: str,
    of_file: Mapping[str, Any],
    of_stage: Mapping[str, Any],
    *,
    files: str,
    file_options: bool = False,
    stage_options: bool = False,
    example: str,
) -> bool:
    """True for files, False for an experiment's job; raises UserError for neither, both or half of one.

    of_file, of_stage: the arguments that each way needs, as they are called and given; the options: whether others
    that belong to a way are given.  files: what the first way works on, in words.
    """
    with_file = any((*(value is not None for value in of_file.values()), file_options))
    with_stage = any((*(value is not None for value in of_stage.values()), stage_options))
    absent = " and ".join(name for name, value in (of_file if with_file else of_stage).items() if value is None)
    if with_file != with_stage and not absent:
        return with_file
    if with_file and with_stage:
        message = f"{stage} is given {files} and an experiment: it takes one of them"
    elif with_file or with_stage:
        message = f"{stage} is given no {absent}"
    else:
        message = f"{stage} is given neither {files} nor an experiment"
    first, second = (" and ".join(names) for names in (of_file, of_stage))
    raise UserError(
        message,
        hint=f"give {first}, or {second}: python -m kind {stage} --help shows both, for instance {example}",
    )

"""Every mistake that a person may meet beyond wrong params, and the one message that it ends in.

`...` in a message stands for any text on that line: checksums, and words of other libraries.
"""

from __future__ import annotations

from cases import choices, cluster, extended, image_files, latents, missing_and_damaged, wrong_content, wrong_files
from cases.parts import Case

CASES: list[Case] = [
    *missing_and_damaged.CASES,
    *wrong_files.CASES,
    *wrong_content.CASES,
    *choices.CASES,
    *image_files.CASES,
    *latents.CASES,
    *extended.CASES,
    *cluster.CASES,
]

__all__ = ["CASES", "Case"]

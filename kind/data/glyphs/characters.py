"""What Unicode says of characters: the part of the data that they belong to, their base letters and capitals.

Imports nothing heavy.
"""

from __future__ import annotations

import unicodedata

PARTS = ("letters", "symbols", "georgian", "armenian")
LETTERS = ("Ll", "Lu", "Lt", "Lo")  # categories; digits are left out, since handwritten ones are another domain
SYMBOLS = (range(0x2190, 0x2200), range(0x2500, 0x2600))  # arrows; boxes, blocks and geometric shapes


def part_of(code_point: int) -> str | None:
    """One of PARTS; None for what is set aside: digits, punctuation, marks, superscripts, other symbols, spaces."""
    if any(code_point in block for block in SYMBOLS):
        return None if "HEAVY" in name_of(code_point) else "symbols"  # heavy boxes differ from light ones in weight
    raised = unicodedata.decomposition(chr(code_point)).startswith("<super>")
    if raised or unicodedata.category(chr(code_point)) not in LETTERS:
        return None
    script = name_of(code_point).split()[0].lower()
    return script if script in PARTS else "letters"


def name_of(code_point: int) -> str:
    return unicodedata.name(chr(code_point), "")


def base_of(code_point: int) -> int | None:
    """The letter without its last mark: e of é, ê of ế; None for a letter without marks.

    By Unicode's decomposition; where it has none (ø, ƀ), by the name: all up to the last WITH or AND.
    """
    decomposed = unicodedata.decomposition(chr(code_point))
    if decomposed and not decomposed.startswith("<"):
        return int(decomposed.split()[0], 16)
    name = name_of(code_point)
    for word in (" AND ", " WITH "):
        if " WITH " in name and word in name:
            return _named(name.rpartition(word)[0])
    return None


def num_marks(code_point: int) -> int:
    """How deep a letter lies below the letter without marks."""
    base = base_of(code_point)
    return 0 if base is None else 1 + num_marks(base)


def capital_of(code_point: int) -> int | None:
    """The capital of a small letter, and of a capital drawn small."""
    capital = chr(code_point).upper()
    if len(capital) == 1 and ord(capital) != code_point:
        return ord(capital)
    name = name_of(code_point)
    return _named(name.replace("LETTER SMALL CAPITAL", "CAPITAL LETTER")) if "SMALL CAPITAL" in name else None


def _named(name: str) -> int | None:
    try:
        return ord(unicodedata.lookup(name))
    except (KeyError, TypeError):  # no such character, or a sequence of several
        return None

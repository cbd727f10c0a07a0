"""Plots as parts of the page: once for light and dark, in the page's colours, and without what only a file needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kind.reporting.plots import FONTS, INK, MUTED, PAPER, RULE, Plot

if TYPE_CHECKING:
    from markupsafe import Markup

COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--sheet)"}  # of page.css
REFERENCE = re.compile(r'(?:xlink:href="#|url\(#)([^")]+)')


def inline(plot: Plot) -> Markup:
    """The plot's SVG as an element of the page, with its text to be searched and read out.

    Names within it stay where something refers to them; those are a hash with the plot's own salt (`plots.render`), so
    that no two plots of a page share one.
    """
    from markupsafe import Markup, escape

    box = re.search(r'viewBox="[^"]*"', plot.svg)[0]
    body = plot.svg[plot.svg.index(">") + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # page.css has it
    body = body.replace(f" font-family: {FONTS};", "")  # the page's own
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    for colour, ours in COLOURS.items():
        body = body.replace(colour, ours)
    used = set(REFERENCE.findall(body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"\s*\n", " ", body)
    # names in the SVG are text that matplotlib has escaped
    return Markup(f'<svg role="img" aria-label="{escape(plot.alt)}" {box}>{body}')  # noqa: S704

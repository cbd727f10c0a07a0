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
    """The plot's SVG as an element of the page, whose words a browser finds.

    Names within it stay where something refers to them; those are a hash with the plot's own salt (`plots.render`), so
    that no two plots of a page share one.
    """
    from markupsafe import Markup, escape

    box = re.search(r'viewBox="[^"]*"', plot.svg)[0]
    body = plot.svg[plot.svg.index(">") + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # page.css has it
    used = {name for tag in re.findall(r"<[^>]*>", body) for name in REFERENCE.findall(tag)}

    def lighter(tag: re.Match[str]) -> str:
        found = tag[0].replace(f" font-family: {FONTS};", "")  # the page's own
        found = re.sub(r' transform="rotate\(-0 [^"]*"', "", found)
        found = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", found)
        for colour, ours in COLOURS.items():
            found = found.replace(colour, ours)
        return re.sub(r"\s+", " ", found)

    body = re.sub(r"<[^>]*>", lighter, body)  # not what stands between tags, which may be any words
    body = re.sub(r">\s+<", "><", body)
    # names in the SVG are text that matplotlib has escaped
    return Markup(f'<svg role="img" aria-label="{escape(plot.alt)}" {box}>{body.strip()}')  # noqa: S704

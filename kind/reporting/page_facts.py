"""Facts of the page that stand in records: what backbones cost, what code made the runs, what they warned of."""

from __future__ import annotations

from collections.abc import Sequence

from kind.reporting.labels import MISSING, fixed, plain, short_count
from kind.reporting.runs import BackboneRecord, RunRecord, number


def backbone_facts(backbones: Sequence[BackboneRecord]) -> list[tuple[str, list[str]]]:
    """A row a backbone: parameters, training time, peak memory, steps."""
    rows = []
    for backbone in backbones:
        total = number((backbone.record.get("parameters") or {}).get("deployed"))
        seconds, memory = (number(backbone.cost.get(key)) for key in ("train_seconds", "peak_memory_bytes"))
        steps = backbone.cost.get("steps", backbone.losses[0][-1] if backbone.losses[0] else None)
        marked = ((backbone.record.get("recipe") or {}).get("backbone") or {}).get("overcomplete")
        rows.append((f"{backbone.name} (overcomplete)" if marked else backbone.name, [
            MISSING if total is None else short_count(total),
            MISSING if steps is None else f"{steps:,}",
            MISSING if seconds is None else fixed(seconds, 1) if seconds < 1000 else fixed(seconds, 0),
            MISSING if memory is None else fixed(memory / 1e9, 2),
            plain(backbone.cost.get("device")),
        ]))  # fmt: skip
    return rows


def provenance_facts(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Fact -> its values over all runs; more than one means that the runs were made by different code."""
    facts: dict[str, dict[str, None]] = {}
    for run in runs:
        made = run.part("provenance")
        for words, key in (("git commit", "git"), ("package digest", "code"), ("Python", "python")):
            facts.setdefault(words, {})[plain(made.get(key))] = None
        for package, version in (made.get("versions") or {}).items():
            facts.setdefault(package, {})[plain(version)] = None
    return [(words, list(values)) for words, values in facts.items()]


def warnings(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Each warning once, with the runs that gave it."""
    grouped: dict[str, list[str]] = {}
    for run in runs:
        for text in run.metrics.get("warnings") or ():
            grouped.setdefault(str(text), []).append(run.name)
    return list(grouped.items())

"""Params files that extend others, and plans."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from cases.parts import FINETUNE, PRETRAIN, Case


def over(place, text: str) -> None:
    """Puts `tiny.yaml` over what it was, which is `base.yaml` then."""
    (place.folder / "base.yaml").write_text((place.folder / "tiny.yaml").read_text())
    (place.folder / "tiny.yaml").write_text(text)


CASES = [
    Case(
        "extended file that is not there",
        lambda p: over(p, "extends: bsae.yaml\n"),
        FINETUNE,
        "tiny.yaml: extends: no params file 'bsae.yaml' beside it (did you mean 'base.yaml'?)\n  -> params files in .: base.yaml, tiny.yaml",
    ),
    Case(
        "files that extend each other",
        lambda p: over(p, "extends: tiny.yaml\n"),
        FINETUNE,
        "tiny.yaml: extends: tiny.yaml -> tiny.yaml goes in a circle\n  -> let one of them extend none",
    ),
    Case(
        "left out what was never there",
        lambda p: over(p, "extends: base.yaml\nwithout: [tasks.nvel]\n"),
        FINETUNE,
        "tiny.yaml: without: base.yaml has no 'tasks.nvel' (did you mean 'novel'?); it has novel\n"
        "  -> write for instance `without: [methods, tasks.shift]`",
    ),
    Case(
        "mistake in an extended file",
        lambda p: (p.edit(("preset: micro/2}", "preset: micro/3}")), over(p, "extends: base.yaml\nseeds: [0]\n")),
        PRETRAIN,
        "tiny.yaml: 1 problem\n  1. model.preset: 'micro/3' is not allowed... (of base.yaml)\n"
        "  -> mend tiny.yaml and run the same command again",
    ),
    Case(
        "plan into no folder",
        lambda p: None,
        ("plan", "--json", "nowhere/plan.json"),
        "--json: nowhere is no folder\n  -> make it, or name another place",
    ),
]

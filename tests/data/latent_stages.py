"""The stages of the small experiment in latents, in order."""

from __future__ import annotations

from kind.__main__ import main

RUNS = ("full", "kind", "lora", "replayed")
STAGES = (
    ("prepare", "--data", "pictures"),
    ("encode", "--data", "pictures"),
    ("extractor",),
    ("reference", "--task", "novel"),
    ("pretrain", "--backbone", "dense"),
    ("pretrain", "--backbone", "kind"),
    ("extract", "--backbone", "kind"),
    ("replay", "--backbone", "dense"),
    *(
        (stage, "--task", "novel", "--method", method, "--seed", "0")
        for method in RUNS
        for stage in ("finetune", "sample", "evaluate")
    ),
)


def run_stage(stage: str, *chosen: str) -> int:
    return main([stage, "--experiment", "lat.yaml", *chosen])

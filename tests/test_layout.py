"""Every file has a place of its own, with names and with Snakemake's {wildcards} alike."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from kind.layout import Layout

NAMES = ["a", "a_b", "b", "b_c", "c", "a-b", "0", "extractor", "seed_0"]


def files(layout: Layout, data: str, backbone: str, task: str, method: str, seed: int | str) -> list[Path]:
    run = layout.run(task, method, seed)
    reference = layout.reference(task)
    return [
        *layout.data_files(data),
        layout.record(layout.data(data), "prepare"),
        layout.extractor,
        layout.record(layout.extractor.parent, "extractor"),
        reference,
        layout.judge(task),
        layout.record(reference.parent, task),
        *layout.backbone_files(backbone),
        layout.record(layout.backbone(backbone), "pretrain"),
        layout.learngenes(backbone),
        *layout.tailors(backbone, 12),
        layout.record(layout.learngenes(backbone).parent, "extract"),
        *layout.adapted_files(run, [1, 10, 100]),
        *layout.samples(run, 10, 25, 10),
        *layout.samples(run, 100, 25, 10),
        layout.metrics(run),
        *(layout.record(run, stage) for stage in ("finetune", "sample", "evaluate")),
        layout.weights_table(task),
        layout.record(layout.analyses, f"weights_{task}"),
        layout.interference_table,
        layout.record(layout.analyses, "interference"),
        layout.bounds_table(task),
        layout.record(layout.analyses, f"bounds_{task}"),
        layout.guidance_table,
        layout.record(layout.analyses, "guidance"),
        *layout.component_files(),
        layout.record(layout.analyses, "components"),
        *layout.report_files(),
        layout.record(layout.report, "report"),
        layout.log("prepare", data),
        layout.log("pretrain", backbone),
        layout.log("finetune", task, method, seed),
        layout.log("sample", task, method, seed),
        layout.log("analyse", "weights", task),
        layout.log("analyse", "interference"),
        layout.track_log,
        layout.state("prepare", data),
        layout.state("finetune", task, method, seed),
        layout.state("sample", task, method, seed),
        layout.part("sample", task, method, seed, part=1, parts=2),
        layout.part("evaluate", task, method, seed, part=1, parts=2),
    ]


def test_no_two_files_of_one_run_share_a_place():
    found = files(Layout(Path("results/x")), "d", "b", "t", "m", 0)
    assert len(set(found)) == len(found)
    assert all(path.is_relative_to("results/x") for path in found)


def test_no_two_runs_share_a_place():
    """Also where `a_b` with `c` and `a` with `b_c` read alike when joined."""
    layout = Layout(Path("r"))
    places: dict[Path, tuple] = {}
    for run in product(NAMES, NAMES, [0, 1, 10]):
        folder = layout.run(*run)
        for path in (
            *layout.adapted_files(folder, [5]), *layout.samples(folder, 5, 3, 2), layout.metrics(folder),
            layout.log("finetune", *run), layout.log("sample", *run), layout.state("finetune", *run),
        ):  # fmt: skip
            assert places.setdefault(path, run) == run, f"{path} is of {places[path]} and {run}"


def test_wildcards_give_the_places_that_names_give():
    names = {"experiment": "smoke", "data": "d", "backbone": "b", "task": "t", "method": "m-1", "seed": "3"}
    wild = files(Layout(Path("results/{experiment}")), *(f"{{{key}}}" for key in list(names)[1:]))
    plain = files(Layout(Path("results/smoke")), *list(names.values())[1:])
    assert [Path(str(path).format(**names)) for path in wild] == plain


def test_shards_cover_the_images_and_sort_by_number():
    layout, run = Layout(Path("r")), Path("r/runs/t/m/seed_0")
    counts = {count: len(layout.samples(run, 1, count, 10)) for count in (1, 9, 10, 11, 20, 21)}
    assert counts == {1: 1, 9: 1, 10: 1, 11: 2, 20: 2, 21: 3}
    shards = [str(path) for path in layout.samples(run, 1, 120, 10)]
    assert shards == sorted(shards)
    steps = [str(layout.adapted(run, step)) for step in (9, 10, 99_999, 100_000)]
    assert steps == sorted(steps)


def test_tailors_are_numbered_whatever_their_classes_are_called():
    names = [path.name for path in Layout(Path("r")).tailors("kind", 1001)]
    assert names[0] == "class_0000.safetensors" and names == sorted(names) and len(set(names)) == 1001


def test_the_start_of_a_method():
    layout = Layout(Path("r"))
    assert layout.start("dense", "big") == layout.backbone_model("big")
    assert layout.start("kind", "kind") == layout.learngenes("kind")
    assert layout.start(None, None) is None

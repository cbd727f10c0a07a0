"""A run's samples, their features and those of its reference by several jobs: the same files as by one."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from tiny_experiment import Experiment, run_commands

from kind.artifacts import read_json

RUN = ["--task", "novel", "--method", "full", "--seed", "0"]
TIMES = {"seconds", "provenance"}


def sums(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def in_parts(stage, of, *chosen):
    return [*([stage, *chosen, "--part", f"{number}/{of}"] for number in range(1, of + 1)), [stage, *chosen]]


@pytest.fixture(scope="module")
def spread(tiny, tmp_path_factory) -> Experiment:
    """The tiny experiment whose run was sampled and measured again, by parts."""
    folder = tmp_path_factory.mktemp("spread") / "work"
    shutil.copytree(tiny.folder, folder)
    results = folder / "results" / "tiny"
    run, reference = results / "runs/novel/full/seed_0", results / "reference"
    for path in (results / "features", results / "samples/novel/full"):
        shutil.rmtree(path)
    for path in (run / "sample.json", run / "evaluate.json", run / "metrics.json", *reference.iterdir()):
        path.unlink()
    found = Experiment(folder, results, {})
    commands = [
        *in_parts("reference", 2, "--task", "novel"), *in_parts("sample", 3, *RUN), *in_parts("evaluate", 2, *RUN)
    ]  # fmt: skip
    run_commands(folder, [found.command(*command) for command in commands])
    return found


def test_samples_are_the_same_files(tiny, spread):
    own, other = (each.results / "samples/novel/full" for each in (spread, tiny))
    assert len(sums(own)) == 4 and sums(own) == sums(other)


@pytest.mark.parametrize(
    ("record", "jobs"),
    [
        ("runs/novel/full/seed_0/sample.json", 3),
        ("runs/novel/full/seed_0/evaluate.json", 2),
        ("reference/novel.json", 2),
    ],
)
def test_the_record_says_the_same_and_of_how_many_jobs_it_is(tiny, spread, record, jobs):
    own, other = (read_json(each.results / record) for each in (spread, tiny))
    assert own.pop("jobs") == jobs and "jobs" not in other
    own, other = ({key: value for key, value in each.items() if key not in TIMES} for each in (own, other))
    if "evaluate" in record:  # metrics hold the time and what made them; its inputs hold records
        for each in (own, other):
            each["inputs"] = {name: value for name, value in each["inputs"].items() if not name.endswith(".json")}
            del each["outputs"]
    assert own == other


def test_numbers_and_features_are_the_same(tiny, spread):
    own, other = (read_json(each.results / "runs/novel/full/seed_0/metrics.json") for each in (spread, tiny))
    del own["provenance"], other["provenance"]
    assert own == other
    assert (
        sums(spread.results / "reference").items()
        >= {name: value for name, value in sums(tiny.results / "reference").items() if name.endswith(".npz")}.items()
    )
    features = sums(spread.results / "features")
    assert features and features.items() <= sums(tiny.results / "features").items()


def test_nothing_of_the_pieces_is_left(spread):
    left = [path for path in (spread.results / "state").rglob("*") if path.is_file()]
    assert left and all("parts" in path.parts for path in left), "records of parts, which Snakemake deletes"


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/x", "/"])
def test_a_part_that_there_is_not_is_refused(cli, part):
    done = cli("sample", "--experiment", "tiny.yaml", *RUN, "--part", part)
    assert done.returncode == 2
    assert f"--part: expected N/OF with N from 1 to OF, as 2/8; found '{part}'" in done.stderr


@pytest.mark.slow
def test_pieces_that_are_damaged_or_missing_are_drawn_again(tiny, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(tiny.folder, folder)
    results = folder / "results" / "tiny"
    wanted = sums(results / "samples/novel/full")
    shutil.rmtree(results / "samples/novel/full")
    (results / "runs/novel/full/seed_0/sample.json").unlink()
    found = Experiment(folder, results, {})
    run_commands(folder, [found.command("sample", *RUN, "--part", "1/1")])
    flipped, cut, gone, _ = sorted((results / "state").rglob("piece_*.npz"))
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:100])
    gone.unlink()
    run_commands(folder, [found.command("sample", *RUN)])
    assert sums(results / "samples/novel/full") == wanted

"""What every job does around its work."""

from __future__ import annotations

import fcntl
import socket

import pytest

from kind.artifacts import read_json, sha256
from kind.errors import DeadEnd, UserError
from kind.recipes import recipe_digest
from kind.stages.job import Job

RECIPE = {"stage": "finetune", "version": 1, "steps": 3}


@pytest.fixture
def make(tmp_path):
    """make(...) -> a job that copies its input; `runs` counts how often it worked."""
    (tmp_path / "in.txt").write_text("input")

    def make(**changes):
        given = {
            "recipe": RECIPE,
            "inputs": [tmp_path / "in.txt"],
            "outputs": [tmp_path / "out" / "out.txt", tmp_path / "out" / "cost.json"],
            "record": tmp_path / "out" / "finetune.json",
            "state": tmp_path / "state" / "job",
        }
        return Job(**(given | changes))

    return make


@pytest.fixture
def work(tmp_path):
    class Work:
        runs = 0

        def __call__(self):
            self.runs += 1
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "out.txt").write_text((tmp_path / "in.txt").read_text().upper())
            (tmp_path / "out" / "cost.json").write_text(f'{{"seconds": {self.runs}}}')
            return {"parameters": {"trainable": 7}}

    return Work()


def test_the_record_says_what_was_told_read_written_and_more(make, work, tmp_path):
    make().run(work)
    record = read_json(tmp_path / "out" / "finetune.json")
    assert record["recipe"] == RECIPE and record["recipe_digest"] == recipe_digest(RECIPE)
    assert record["inputs"] == {"../in.txt": sha256(tmp_path / "in.txt")}
    assert record["outputs"] == {"out.txt": sha256(tmp_path / "out" / "out.txt")}  # times differ from run to run
    assert record["parameters"] == {"trainable": 7} and record["provenance"]["versions"]
    assert not (tmp_path / "state" / "job").exists()


def test_a_finished_job_does_not_work_again_and_leaves_no_state(make, work, tmp_path, capsys):
    make().run(work)
    before = (tmp_path / "out" / "finetune.json").stat().st_mtime_ns
    make().run(work)
    assert work.runs == 1 and (tmp_path / "out" / "finetune.json").stat().st_mtime_ns == before
    assert capsys.readouterr().err == f"already done: {tmp_path / 'out' / 'finetune.json'}\n"
    assert not (tmp_path / "state" / "job").exists()


UNDOINGS = {
    "an output of other content": lambda root: (root / "out" / "out.txt").write_text("other"),
    "an output that is gone": lambda root: (root / "out" / "out.txt").unlink(),
    "a cost file that is gone": lambda root: (root / "out" / "cost.json").unlink(),
    "an input of other content": lambda root: (root / "in.txt").write_text("other"),
    "a record that is gone": lambda root: (root / "out" / "finetune.json").unlink(),
    "a record that is cut": lambda root: (root / "out" / "finetune.json").write_text('{"recipe'),
    "a record that is a list": lambda root: (root / "out" / "finetune.json").write_text("[]"),
}


@pytest.mark.parametrize("undo", UNDOINGS.values(), ids=UNDOINGS)
def test_it_works_again_after(make, work, tmp_path, undo):
    make().run(work)
    undo(tmp_path)
    make().run(work)
    assert work.runs == 2
    make().run(work)
    assert work.runs == 2


def test_another_recipe_another_input_or_output_is_another_job(make, work, tmp_path):
    make().run(work)
    make(recipe=RECIPE | {"steps": 4}).run(work)
    assert work.runs == 2
    (tmp_path / "more.txt").write_text("more")
    make(recipe=RECIPE | {"steps": 4}, inputs=[tmp_path / "in.txt", tmp_path / "more.txt"]).run(work)
    assert work.runs == 3


def test_a_changed_cost_file_is_no_reason_to_work_again(make, work, tmp_path):
    make().run(work)
    (tmp_path / "out" / "cost.json").write_text('{"seconds": 1000}')
    make().run(work)
    assert work.runs == 1


def test_the_identity_of_what_a_killed_job_left_covers_recipe_and_inputs(make, tmp_path):
    """Half-trained weights or drawn shards of other data must not be gone on with."""
    first = make().identity
    assert make().identity == first
    assert make(recipe=RECIPE | {"steps": 4}).identity != first
    (tmp_path / "in.txt").write_text("other")
    assert make().identity != first


def test_what_a_killed_process_had_begun_to_write_is_taken_away(make, work, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".out.txt.4711.tmp", ".finetune.json.4711.tmp", ".another.json.4711.tmp"):
        (tmp_path / "out" / name).write_text("half")
    state = tmp_path / "state" / "job" / ".training.pt.4711.tmp"
    state.parent.mkdir(parents=True)
    state.write_text("half")

    def look():
        assert not state.exists()
        return work()

    make().run(look)
    assert [path.name for path in (tmp_path / "out").glob(".*")] == [".another.json.4711.tmp"], "of another job"


def test_an_input_is_recorded_as_it_was_before_the_work(make, work, tmp_path):
    before = sha256(tmp_path / "in.txt")

    def slow():
        work()
        (tmp_path / "in.txt").write_text("changed meanwhile")

    make().run(slow)
    assert read_json(tmp_path / "out" / "finetune.json")["inputs"] == {"../in.txt": before}
    make().run(work)
    assert work.runs == 2


def test_a_plan_that_is_no_longer_true_is_refused_before_any_work(make, work):
    make(planned=recipe_digest(RECIPE)).run(work)
    with pytest.raises(UserError, match=r"changed after this job was planned.*\n  -> run snakemake again"):
        make(planned="000000000000").run(work)
    assert work.runs == 1


def test_missing_inputs_are_all_named_before_any_work(make, work, tmp_path):
    absent = [tmp_path / "a.npz", tmp_path / "b.npz"]
    with pytest.raises(UserError) as caught:
        make(inputs=[*absent, tmp_path / "in.txt"]).run(work)
    assert str(caught.value).startswith(f"missing input: {absent[0]}, {absent[1]}\n  -> run the stages")
    assert work.runs == 0 and not (tmp_path / "state").exists()


def test_a_second_process_on_one_job_is_refused(make, work, tmp_path):
    (tmp_path / "state" / "job").mkdir(parents=True)
    lock = tmp_path / "state" / "job" / "lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711")
        held.flush()
        with pytest.raises(UserError, match="another process is running this job") as caught:
            make().run(work)
        assert str(lock) in str(caught.value) and work.runs == 0
        assert lock.read_text() == "4711"  # the holder's process id stays
    make().run(work)
    assert work.runs == 1


def test_failed_work_keeps_its_state_leaves_no_record_and_frees_the_lock(make, work, tmp_path):
    def fail():
        (tmp_path / "state" / "job" / "training.pt").write_text("half")
        raise UserError("not finite")

    with pytest.raises(UserError, match="not finite"):
        make().run(fail)
    assert (tmp_path / "state" / "job" / "training.pt").is_file() and not (tmp_path / "out").exists()
    make().run(work)
    assert work.runs == 1 and not (tmp_path / "state" / "job").exists()


# --- failures that a retry would repeat -------------------------------------------------------------------------


def dead_end(runs: list):
    def work():
        runs.append(1)
        raise DeadEnd("not finite", hint="lower it", facts={"step": 7, "images": [3, 1]})

    return work


def test_a_failure_that_a_retry_would_repeat_is_kept_and_ends_the_retry_before_its_work(make, tmp_path):
    runs, said = [], []
    for _ in range(3):
        with pytest.raises(UserError, match="not finite\n  -> lower it\n  -> tried again as it is, ") as caught:
            make().run(dead_end(runs))
        said.append(str(caught.value))
    assert len(runs) == 1 and len(set(said)) == 1
    kept = read_json(tmp_path / "state" / "job" / "failed.json")
    assert kept["message"] == said[0] and (kept["step"], kept["images"]) == (7, [3, 1])
    assert kept["identity"] == make().identity and kept["recipe"] == RECIPE
    assert kept["host"] == socket.gethostname() and kept["time"][:2] == "20"


def test_a_kept_failure_says_nothing_of_another_recipe_or_other_inputs(make, work, tmp_path):
    runs = []
    with pytest.raises(UserError):
        make().run(dead_end(runs))
    with pytest.raises(UserError):
        make(recipe=RECIPE | {"steps": 4}).run(dead_end(runs))
    assert len(runs) == 2
    (tmp_path / "in.txt").write_text("changed")
    make(recipe=RECIPE | {"steps": 4}).run(work)
    assert work.runs == 1 and not (tmp_path / "state" / "job").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "message": 3, "identity": "x"}'])
def test_a_damaged_record_of_a_failure_is_named_and_not_used(make, work, tmp_path, capsys, text):
    (tmp_path / "state" / "job").mkdir(parents=True)
    (tmp_path / "state" / "job" / "failed.json").write_text(text)
    make().run(work)
    assert work.runs == 1 and "failed.json: not a whole record of a failure: not used" in capsys.readouterr().out

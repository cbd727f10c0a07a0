"""Training that is killed, signalled, started twice, and whose state is damaged, with real processes."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from warm import Command

pytestmark = pytest.mark.slow

NUM_KILLS = 20
STEPS = 240
PARAMS = (Path(__file__).parents[1] / "tiny.yaml").read_text()
PRETRAIN = ("pretrain", "--experiment", "tiny.yaml", "--backbone", "kind")


class Training:
    """A pre-training of a factorized backbone, which saves its state after every step."""

    def __init__(self, folder: Path):
        self.folder, self.results = folder, folder / "results" / "tiny"
        self.state, self.weights = self.results / "state" / "pretrain" / "kind", self.results / "backbones" / "kind"
        self._count = 0

    def start(self, *arguments: str) -> Command:
        self._count += 1
        return Command(self.folder, self.folder / f"{self._count}.log", *(arguments or PRETRAIN))

    def found(self) -> dict[str, str]:
        names = ("model.safetensors", "raw.safetensors", "train.csv", "preview.npz")
        return {name: hashlib.sha256((self.weights / name).read_bytes()).hexdigest() for name in names}

    def temporaries(self) -> list[Path]:
        return list(self.state.glob(".training.pt.*.tmp"))

    def rows(self) -> int:
        """Of the log so far."""
        path = self.state / "live.csv"
        return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The prepared data in a folder, and the checksums that a run without any disturbance leaves."""
    text = PARAMS
    for old, new in (
        ("compute: {device: cpu}", "compute: {device: cpu, checkpoint_seconds: 1.0e-6}"),
        ("steps: 3, batch_size: 8, learning_rate: 1.0e-3, ema_decay: 0.5}\ntasks",
         f"steps: {STEPS}, batch_size: 8, learning_rate: 1.0e-3, ema_decay: 0.5, log_every: 7}}\ntasks"),
    ):  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(text)
    training = Training(folder)
    assert training.start("prepare", "--experiment", "tiny.yaml", "--data", "digits").code() == 0
    prepared = tmp_path_factory.mktemp("prepared") / "folder"
    shutil.copytree(folder, prepared)
    (prepared / "tiny.yaml").write_text(text.replace("checkpoint_seconds: 1.0e-6", "checkpoint_seconds: 3600"))
    whole = Training(prepared)
    run = whole.start()
    assert run.code() == 0, run.said
    return folder, whole.found()


@pytest.fixture
def training(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "folder")
    return Training(tmp_path / "folder")


def damage(path: Path, numbers: random.Random) -> None:
    """Cut at any byte, or one bit flipped."""
    content = bytearray(path.read_bytes())
    place = numbers.randrange(len(content))
    if numbers.random() < 0.5:
        content = content[:place]
    else:
        content[place] ^= 1 << numbers.randrange(8)
    path.write_bytes(content)


def test_twenty_kills_and_damaged_states_leave_the_same_weights(training, undisturbed):
    """Killed while a state is being written, or some milliseconds after one was; after every fourth kill the newest
    state is damaged.  The moments differ from run to run, and whatever they are the weights do not."""
    numbers, kills, halves, damaged, unused = random.Random(3), 0, 0, 0, 0
    while kills < NUM_KILLS:
        run, newest, seen = training.start(), training.state / "training.pt", set()
        amid, pause, wanted = numbers.random() < 0.5, numbers.random() * 0.03, numbers.randrange(2, 12)

        def saved(newest=newest, seen=seen, wanted=wanted) -> bool:
            with suppress(FileNotFoundError):
                seen.add(newest.stat().st_mtime_ns)
            return len(seen) > wanted

        if run.wait_until(saved) and (not amid or run.wait_until(training.temporaries)):
            time.sleep(0.0 if amid else pause)
            run.signal(signal.SIGKILL)
        run.code()
        unused += "not used" in run.said
        if run.code() == -signal.SIGKILL:
            kills += 1
            halves += bool(training.temporaries())
            if kills % 4 == 0 and newest.exists():  # not where it was killed between two renames
                damage(newest, numbers)
                damaged += 1
            continue
        assert run.code() == 0, run.said  # it ended before it was killed: once more from the start
        assert training.found() == undisturbed[1]
        shutil.rmtree(training.weights)
    last = training.start()
    assert last.code() == 0, last.said
    assert training.found() == undisturbed[1] and "resuming after step" in last.said
    assert not training.state.exists()
    assert unused + ("not used" in last.said) == damaged, "every damaged state was named"
    print(f"{kills} kills, {halves} of them while a state was being written; {damaged} damaged states")


def test_signals_end_training_after_a_step_and_it_goes_on(training, undisturbed):
    for number, code in ((signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)):
        run = training.start()
        at_work = training.rows if number == signal.SIGUSR1 else lambda run=run: "resuming after step" in run.said
        assert run.wait_until(at_work), run.said
        run.signal(number)
        assert run.code() == code, run.said
        last = run.said.splitlines()[-1]
        assert "run the same command again to go on" in last and (
            code == 130 or f"{number.name} came after step" in last
        )
        assert not training.temporaries() and not (training.weights / "pretrain.json").exists()
    last = training.start()
    assert last.code() == 0 and "resuming after step" in last.said and training.found() == undisturbed[1]


def test_of_processes_on_one_run_one_does_the_work(training, undisturbed):
    first = training.start()
    assert first.wait_until(training.rows), first.said
    first.signal(signal.SIGSTOP)  # it holds the run for as long as the others take
    others = [training.start() for _ in range(3)]
    refusal = (
        f"error: another process is running this job (process {first.pid} on {socket.gethostname()} holds "
        "results/tiny/state/pretrain/kind/lock)\n  -> wait for it to end, or end it\n"
    )
    for other in others:
        assert other.code() == 2 and other.said.endswith(refusal), other.said
    first.signal(signal.SIGCONT)
    assert first.code() == 0 and training.found() == undisturbed[1], first.said


def test_of_processes_that_start_together_one_does_the_work(training, undisturbed):
    """Each of the others is refused, or finds the work done where it comes late."""
    runs = [training.start() for _ in range(4)]
    codes = [run.code() for run in runs]
    workers = [run for run in runs if "another process" not in run.said and "already done" not in run.said]
    assert len(workers) == 1 and workers[0].code() == 0, [run.said for run in runs]
    assert codes == [2 if "another process" in run.said else 0 for run in runs]
    assert training.found() == undisturbed[1] and not training.state.exists()

"""What a machine may do to a job: a full disk, a second process, a missing tool, an interrupt, an odd path."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import FULL

from kind import artifacts
from kind.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
FINETUNE = ["finetune", "--experiment", "tiny.yaml", *FULL]
PREPARE = ["prepare", "--experiment", "tiny.yaml", "--data", "digits"]
STATE = "results/tiny/state/finetune/novel/full/0/training.pt"
MINI = ROOT / "tests" / "workflow" / "mini.yaml"


def said(capsys) -> str:
    return "\n".join(line for line in capsys.readouterr().err.splitlines() if not line.startswith("$ "))


def temporaries(place) -> list[Path]:
    return list(place.folder.rglob("*.tmp"))


@contextmanager
def file_size_limit(size: int):
    """Of this process; Python ignores the signal, so that a write fails with EFBIG as it would with ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupt_when_there(path: Path, ended: threading.Event) -> threading.Thread:
    """Ctrl-C, as a person does: again if the first came where Python drops it (in a finaliser)."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        while not ended.wait(1.0):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_interrupted_and_then_full_training_keeps_its_state_and_goes_on(place, capsys):
    place.edit(
        ("compute: {device: cpu}", "compute: {device: cpu, checkpoint_seconds: 1.0e-6}"),
        ("finetune: {steps: 3,", "finetune: {steps: 1000, log_every: 2,"),
    )
    state, record = place.folder / STATE, place.results / "runs/novel/full/seed_0/finetune.json"
    finished = record.read_bytes()
    ended = threading.Event()
    thread = interrupt_when_there(state, ended)
    code = main(FINETUNE)
    ended.set()
    thread.join()
    assert (code, said(capsys)) == (130, "stopped; run the same command again to go on")
    assert temporaries(place) == [] and record.read_bytes() == finished

    kept = state.read_bytes()
    with file_size_limit(len(kept) // 2):
        code = main(FINETUNE)
    assert said(capsys) == (
        f"error: {STATE}: File too large\n"
        "  -> files may not grow that large here: raise the limit (ulimit -f), then run the same command again, "
        "which goes on where it stopped"
    )
    assert code == 2 and state.read_bytes() == kept and temporaries(place) == [] and record.read_bytes() == finished

    place.edit(("checkpoint_seconds: 1.0e-6", "checkpoint_seconds: 60.0"))
    assert main(FINETUNE) == 0
    assert "resuming after step" in capsys.readouterr().out and not state.exists()


def of_full(place) -> dict[str, str]:
    """Checksums of the run's weights."""
    return {name: digest for name, digest in place.contents().items() if "adapters/novel/full/" in name}


def test_training_goes_on_slice_by_slice_and_ends_with_the_same_bits(place, capsys):
    wanted = of_full(place)
    place.remove("runs/novel/full/seed_0/finetune.json")
    for step in (1, 2):
        assert main([*FINETUNE, "--minutes", "0.00001"]) == 75
        assert said(capsys) == (
            f"finetune novel full seed 0: time is up after step {step} of 3; run the same command again to go on"
        )
    for name in wanted:
        (place.folder / name).unlink()
    assert main([*FINETUNE, "--minutes", "60"]) == 0
    assert len(wanted) == 3 and of_full(place) == wanted
    assert json.loads((place.results / "runs/novel/full/seed_0/cost.json").read_text())["resumes"] == 2


def test_a_loss_that_is_not_finite_is_not_computed_again_until_it_is_cleared(place, capsys):
    start = "finetune: {steps: 3, batch_size: 8"
    place.edit(
        ("compute: {device: cpu}", "compute: {device: cpu, checkpoint_seconds: 1.0e-6}"),
        (f"{start}, learning_rate: 1.0e-3", f"{start}, learning_rate: 1.0e+38"),
    )
    assert main(FINETUNE) == 2
    first, state = said(capsys), place.folder / STATE
    failure = json.loads(state.with_name("failed.json").read_text())
    assert first == f"error: {failure['message']}" and len(failure["images"]) == 8
    written = (state.read_bytes(), state.stat().st_mtime_ns)
    assert main(FINETUNE) == 2
    assert said(capsys) == first and (state.read_bytes(), state.stat().st_mtime_ns) == written, "the same, at once"

    assert main(["clear-failure", "--experiment", "tiny.yaml", *FULL]) == 0
    assert main(FINETUNE) == 2
    output = capsys.readouterr()
    assert f"cleared: {STATE.replace('training.pt', 'failed.json')} (" in output.out and "resuming after" in output.out
    assert output.err.endswith(f"{first}\n")
    place.edit(("learning_rate: 1.0e+38", "learning_rate: 1.0e-4"))
    assert main(FINETUNE) == 0 and not state.parent.exists()


def test_training_that_finds_no_whole_state_starts_over_and_says_so(place, capsys):
    """A file of an older version, or anything else: named, not unpickled, not used."""
    wanted = of_full(place)
    place.remove("runs/novel/full/seed_0/finetune.json")
    place.pickle(STATE.removeprefix("results/tiny/"))
    assert main(FINETUNE) == 0
    out = capsys.readouterr().out
    assert f"note: {STATE}: cut off or changed after it was written, or of another version: not used\n" in out
    assert "finetune novel full seed 0: warning: no whole state of this run is left: starting over\n" in out
    assert not place.sprung.exists() and of_full(place) == wanted


@pytest.mark.parametrize(
    "command, name",
    [
        (["extract", "--experiment", "tiny.yaml", "--backbone", "kind"], "learngenes/kind/learngenes.safetensors"),
        (["reference", "--experiment", "tiny.yaml", "--task", "novel"], "reference/novel.npz"),
    ],
)
def test_a_write_that_fails_leaves_nothing_half_written(place, capsys, command, name):
    shutil.rmtree((place.results / name).parent)
    with file_size_limit(4096):
        code = main(command)
    assert f"error: results/tiny/{name}: File too large\n  -> files may not grow that large" in said(capsys)
    assert code == 2 and temporaries(place) == [] and not (place.results / name).exists()


def test_a_full_disk_is_one_message(place, lacking):
    (place.folder / "small").mkdir()
    script = 'mount -t tmpfs -o size=32k none small && { "$@"; code=$?; find small -name "*.tmp"; exit $code; }'
    command = [sys.executable, "-m", "kind", *PREPARE, "--results", "small"]
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "small"], capture_output=True).returncode:
        lacking("needs the right to mount a small disk; RLIMIT_FSIZE above takes the same way")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[1:] == [
        "error: small/tiny/data/digits/images.npy: No space left on device",
        "  -> the disk is full: free some space, then run the same command again, which goes on where it stopped",
    ]


def test_a_second_process_is_refused(place, capsys):
    lock = place.results / "state/prepare/digits/lock"
    lock.parent.mkdir(parents=True)
    hold = "import fcntl, os, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); f.write(f'{os.getpid()} on here'); "
    hold += "f.flush(); print(flush=True); sys.stdin.read()"
    before = place.contents()
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        code = main(PREPARE)
        other.stdin.close()
    assert code == 2 and said(capsys) == (
        f"error: another process is running this job (process {other.pid} on here holds "
        "results/tiny/state/prepare/digits/lock)\n  -> wait for it to end, or end it"
    )
    assert {name for name in place.contents() if name not in before} == {"results/tiny/state/prepare/digits/lock"}
    assert main(PREPARE) == 0


def test_without_git_provenance_says_null_and_work_goes_on(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place.folder))
    artifacts.provenance.cache_clear()
    try:
        place.remove("data/digits/prepare.json")
        assert main(PREPARE) == 0
    finally:
        artifacts.provenance.cache_clear()
    assert json.loads((place.results / "data/digits/prepare.json").read_text())["provenance"]["git"] is None


def test_a_path_with_spaces_and_quotes_works(place, capsys):
    odd = 'my "best" results; it\'s $HOME'
    assert main([*PREPARE, "--results", odd]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert shlex.split(first)[1:] == [sys.executable, "-m", "kind", *PREPARE, "--results", odd]
    assert (place.folder / odd / "tiny/data/digits/prepare.json").is_file()


# --- Snakemake ------------------------------------------------------------------------------------------------


def snakemake(folder: Path, profile: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    (folder / "params").mkdir()
    shutil.copy(MINI, folder / "params")
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / profile),
        "--directory", str(folder), *arguments,
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KIND_TRACKING": "off", **variables}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_slurm_without_sbatch_stops_before_the_first_job(tmp_path):
    """Without `sbatch`, the executor would fail one job after another with `No such file or directory: 'sacct'`."""
    (tmp_path / "tools").mkdir()
    for tool in ("bash", "sh", "which", "env", "uname"):
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))
    done = snakemake(tmp_path, "slurm", "--config", "experiment=params/mini.yaml", PATH=str(tmp_path / "tools"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.rstrip().splitlines()[-2:] == [
        "error: missing on this machine:",
        "  - sbatch: the executor slurm submits jobs with it; run this where Slurm is, or with --profile local",
    ]
    assert not (tmp_path / "results").exists()


def test_snakemake_takes_results_with_spaces_and_quotes(tmp_path):
    odd = 'my results, it\'s "here" now'
    done = snakemake(
        tmp_path, "local", "--until", "prepare", "--config", "experiment=params/mini.yaml", f"results={odd}"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / odd / "mini/data/digits/prepare.json").is_file()

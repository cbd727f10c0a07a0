"""A disk that is full at every moment of every stage, on a small tmpfs; RLIMIT_FSIZE in tests/errors needs no root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from place import COMMANDS

from kind.__main__ import main
from kind.artifacts import read_json

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("small_disk.py")
EVERY_STEP = ("compute: {device: cpu}", "compute: {device: cpu, checkpoint_seconds: 1.0e-6}")
STAGES = (("report",), *COMMANDS[:9])  # of the two runs one; the report before training, whose times it holds
STEPS, MADE = 12, "results/tiny/backbones/kind/"
PAGES = [0, *(3**k for k in range(12))]
TOLD = r"error: results/tiny/\S+: No space left on device\n  -> the disk is full: free some space, .*goes on.*"


def on_a_small_disk(folder: Path, commands: list[tuple], lacking: Callable[[str], None]) -> list[dict]:
    """What small_disk.py saw of every run; folder: has `template`.  lacking: called where none may be mounted."""
    (folder / "work").mkdir()
    allowed = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", folder / "work"], capture_output=True)
    if allowed.returncode:
        lacking(f"needs the right to mount a small disk: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, SCRIPT, folder, json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def seen(finished, tmp_path_factory, lacking) -> list[dict]:
    """Of every run of every stage."""
    folder = tmp_path_factory.mktemp("disk")
    shutil.copytree(finished.folder, folder / "template")
    params = folder / "template/tiny.yaml"
    params.write_text(params.read_text().replace(*EVERY_STEP))
    commands = []
    for command in STAGES:
        records = [path for path in finished.results.rglob("*.json") if made_by(path, command)]
        assert len(records) == 1, (command, records)
        outputs = [os.path.normpath(records[0].parent / name) for name in read_json(records[0])["outputs"]]
        inside = [str(Path(path).relative_to(finished.folder)) for path in (records[0], *outputs)]
        commands.append((command, inside[0], inside[1:], PAGES))
    return on_a_small_disk(folder, commands, lacking)


def made_by(path: Path, command: tuple[str, ...]) -> bool:
    recipe = read_json(path).get("recipe", {})
    return recipe.get("stage") == command[0] and all(value in str(path) for value in command[2::2])


@pytest.mark.slow
def test_every_stage_says_that_the_disk_is_full_and_goes_on_when_it_is_not(finished, seen):
    whole = {name: found for name, found in finished.contents().items() if name != "tiny.yaml"}
    times = {name for name in whole if name.endswith("cost.json") or made_by_a_job(finished.folder / name)}
    failed: dict[str, int] = {}
    for run in seen:
        where = f"{' '.join(run['command'])} with {run['pages']} free pages"
        if run["code"]:
            failed[run["command"][0]] = failed.get(run["command"][0], 0) + 1
            message = run["said"][run["said"].find("error: ") :].rstrip()
            assert run["code"] == 2 and re.fullmatch(TOLD, message), (where, run["said"])
        for name, found in run["files"].items():
            assert not name.endswith(".tmp"), (where, name)
            assert name in whole or "/state/" in name or name == "tiny.yaml", (where, name)
            if name in whole and name not in times:
                assert found == whole[name], (where, f"{name} is neither as it was nor as it should be")
        if run["code"] == 0:
            lacking = [name for name in whole if name not in run["files"]]
            assert not lacking and not any("/state/" in name for name in run["files"]), (where, lacking)
    assert failed.keys() == {command[0] for command in STAGES}
    assert sum(failed.values()) >= 40, failed


@pytest.mark.slow
def test_training_keeps_its_state_when_there_is_no_room_for_the_next_and_ends_with_the_same_bytes(
    place, tmp_path, lacking
):
    """States are saved after every step: none, half a one or one finds room, beside none, one or two."""
    more = f"steps: {STEPS}, batch_size: 8, learning_rate: 1.0e-3, ema_decay: 0.5}}\ntasks"
    place.edit(EVERY_STEP, (more.replace(f"steps: {STEPS}", "steps: 3"), more))
    model = place.results / "backbones/kind/model.safetensors"
    shutil.rmtree(model.parent)
    shutil.copytree(place.folder, tmp_path / "disk/template")
    command = ("pretrain", "--backbone", "kind")
    assert main([command[0], "--experiment", "tiny.yaml", *command[1:]]) == 0
    wanted = {name: found for name, found in place.contents().items() if MADE in name}
    room = 5 * model.stat().st_size // 4096  # pages, of about one and a half: weights, their mean, Adam's two moments
    free = [int(room * share) for share in (0, 0.5, 1.2, 0.5, 0, 1.2, 0.5, 0.3, 0, 0.1, 1.2)]
    *failed, last = on_a_small_disk(tmp_path / "disk", [(command, f"{MADE}pretrain.json", [], free)], lacking)
    assert len(failed) == 10
    held, full = {}, []  # checksums of the states so far; how many there were when another found no room
    for run in failed:
        assert run["code"] == 2 and re.fullmatch(TOLD, run["said"][run["said"].find("error: ") :].rstrip()), run
        assert not any(name.endswith(".tmp") or MADE in name for name in run["files"]), run
        states = {Path(name).name: found for name, found in run["files"].items() if name.endswith("training.pt")}
        assert not held or states and held["training.pt"] in states.values(), "what was saved last is kept"
        assert "training.pt" in states or not states, "under its name"
        if "training.pt: No space" in run["said"]:
            assert ("resuming after step" in run["output"]) == bool(held), run
            full.append(len(states))
        held = states
        assert "not used" not in run["output"], "each is whole"
    assert full == [0, 1, 1, 2, 2, 2, 2], [run["said"] for run in failed]
    assert last["code"] == 0 and "resuming after step 2" in last["output"], last
    assert not any("/state/" in name for name in last["files"])
    timed = {f"{MADE}cost.json", f"{MADE}pretrain.json"}
    assert {name for name in last["files"] if MADE in name} == wanted.keys() > timed
    assert all(last["files"][name] == found for name, found in wanted.items() if name not in timed)


def made_by_a_job(path: Path) -> bool:
    return path.suffix == ".json" and "recipe" in read_json(path)

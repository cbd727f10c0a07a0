"""Broken params files by the thousand: each ends in one message that names the file, or loads; nothing else happens."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from broken_params import BUNDLED, ROOT, as_yaml, by_hand, damaged, structures
from hypothesis import HealthCheck, given, settings

from kind.__main__ import main
from kind.errors import UserError
from kind.params import Experiment
from kind.params.file import load_experiment

SECONDS, MEMORY, LONGEST = 60, 2**30, 20_000  # of one file; far above what a good one takes
FEW, MANY = 60, 1500
HOW = {
    "deadline": None, "database": None, "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@contextmanager
def bounded() -> Iterator[None]:
    """A file that hangs, or takes more memory than a params file can be worth, ends the test."""

    def hangs(*_) -> None:
        raise AssertionError(f"not read within {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, hangs)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    there = sorted(path.parent.iterdir())
    with bounded():
        try:
            assert isinstance(load_experiment(path), Experiment)
        except UserError as error:
            message = str(error)
            assert message.startswith(str(path.parent)), message[:500]
            assert len(message) < LONGEST, f"{len(message)} characters"
            assert "\x1b" not in message and "Traceback" not in message
    assert sorted(path.parent.iterdir()) == there


@pytest.fixture(scope="module")
def folder(tmp_path_factory, valid_params) -> Path:
    """Bundled params lie beside the broken file, so that it may extend them."""
    folder = tmp_path_factory.mktemp("params")
    for path in sorted((ROOT / "params").glob("*.yaml")):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "other.yaml").write_text(valid_params)
    return folder


@pytest.fixture(scope="module")
def texts(valid_params) -> list[bytes]:
    """The small file stands for most of them: it is quick to read."""
    bundled = [path.read_bytes() for path in BUNDLED]
    return [*[valid_params.encode()] * 2 * len(bundled), *bundled]


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_changed_content_is_one_message(folder, texts, count):
    files, tried = [yaml.safe_load(text) for text in texts], []

    @settings(max_examples=count, **HOW)
    @given(structures(files))
    def look(content):
        tried.append(None)
        read(folder / "broken.yaml", as_yaml(content))

    look()
    assert len(tried) >= count


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_damaged_text_is_one_message(folder, texts, count):
    tried = []

    @settings(max_examples=count, **HOW)
    @given(damaged(texts))
    def look(content):
        tried.append(None)
        read(folder / "broken.yaml", content)

    look()
    assert len(tried) >= count


@pytest.mark.slow
def test_the_nastiest_by_hand_are_one_message_each(folder, valid_params, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    good = []
    for name, content in by_hand(valid_params).items():
        (folder / "broken.yaml").write_bytes(content)
        with bounded():
            code = main(["check", "--experiment", "broken.yaml"])
        said = capsys.readouterr().err
        assert code in (0, 2) and "Traceback" not in said and "\x1b" not in said, (name, said[:500])
        assert not list(folder.rglob("canary")), name
        good += [name] if code == 0 else []
    assert good == ["a long line", "10^18 curve points"]


@pytest.mark.parametrize("name", ["an escape as a data set", "an escape as a data set of another mistake"])
def test_an_escape_in_a_name_is_shown_and_not_obeyed(folder, valid_params, name):
    (folder / "broken.yaml").write_bytes(by_hand(valid_params)[name])
    with pytest.raises(UserError) as said:
        load_experiment(folder / "broken.yaml")
    assert "\\x1b" in str(said.value) and "\x1b" not in str(said.value)


def test_files_that_extend_one_another_without_end_are_told(folder, valid_params):
    (folder / "a.yaml").write_text(f"extends: b.yaml\n{valid_params}")
    (folder / "b.yaml").write_text("extends: a.yaml\n")
    chain = folder / "chain"
    chain.mkdir()
    for number in range(200):
        (chain / f"c{number}.yaml").write_text(f"extends: c{number + 1}.yaml\n")
    (chain / "c200.yaml").write_text(valid_params)
    with bounded():
        for path in (folder / "a.yaml", folder / "b.yaml"):
            with pytest.raises(UserError, match="extend"):
                load_experiment(path)
        try:
            load_experiment(chain / "c0.yaml")
        except UserError as error:
            assert len(str(error)) < LONGEST  # noqa: PT017  either is right: it loads, or is told


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a Python object", "laughs as options", "binary", "a name with a command", "deep brackets"]
)
def test_commands_say_it_too(tmp_path, valid_params, name):
    (tmp_path / "broken.yaml").write_bytes(by_hand(valid_params)[name])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KIND_TRACKING": "off"}
    snakemake = [
        sys.executable, "-m", "snakemake", "-n", "--snakefile", ROOT / "Snakefile", "--profile", ROOT / "local",
        "--directory", tmp_path, "--config", "experiment=broken.yaml",
    ]  # fmt: skip
    for command in ([sys.executable, "-m", "kind", "check", "--experiment", "broken.yaml"], snakemake):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2, done.stderr
        assert "error: " in done.stderr and "broken.yaml" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["broken.yaml"]

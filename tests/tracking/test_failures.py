"""A store that cannot be reached stops nothing and says so; several processes make one store."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys

import pytest
from tiny_results import ROOT

AGAIN = "python -m kind track --experiment smoke"


@pytest.mark.parametrize(
    "uri, reason",
    [
        ("http://127.0.0.1:9", "MLflow's store http://127.0.0.1:9"),
        ("sqlite:////proc/none/mlflow.db", "/proc/none"),
        ("file:///tmp/none", "MLflow's store file:///tmp/none"),
    ],
    ids=["no server", "unwritable", "refused by MLflow"],
)
def test_a_store_that_fails_is_one_message_with_what_to_do(make, track, monkeypatch, uri, reason):
    make().write_backbone("kind")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, said = track()
    assert code == 2 and reason in said and said.count("error:") == 1 and "Traceback" not in said
    assert f"bring runs in later: {AGAIN}" in said


def test_what_failed_is_brought_in_by_the_next_call(make, track, search, monkeypatch):
    from kind.tracking.index import Index

    make().write_all()

    def fail(*_):
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "_end", fail)
        code, said = track()
        assert code == 2 and "database is locked" in said
    code, said = track()
    assert code == 0
    assert len(search()) == 7 and {run.info.status for run in search()} == {"FINISHED"}


def test_a_damaged_file_keeps_no_other_run_out(make, track, search):
    results = make()
    results.write_all()
    damaged = results.layout.metrics(results.layout.run("novel", "kind", 0))
    damaged.write_text("{")
    code, said = track()
    assert code == 2 and f"run/novel/kind/0: UserError: {damaged.relative_to(results.folder)}: not valid JSON" in said
    assert len(search()) == 6


def test_without_mlflow_there_is_one_message(make, track, monkeypatch):
    make().write_backbone("kind")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, said = track()
    assert code == 2 and "MLflow is not installed" in said


def test_a_second_process_stands_back(make, track, monkeypatch):
    import fcntl

    from kind.stages import track as stage

    results = make()
    results.write_backbone("kind")
    monkeypatch.setattr(stage, "WAIT_FOR_OTHER", 0.0)
    path = results.layout.state("track") / "lock"
    path.parent.mkdir(parents=True)
    with open(path, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = track()
    assert code == 2 and "another process is bringing this experiment in" in said


def test_several_processes_make_the_store_at_once(make, place):
    """MLflow alone fails at this: three of four processes crash."""
    make()
    (place / "mlflow.db").unlink()
    code = (
        "import os, mlflow, mlflow.store.tracking.sqlalchemy_store\n"  # once for all of them
        "from kind.tracking.store import open_index\n"
        "children = []\n"
        "while len(children) < 3 and (child := os.fork()):\n"
        "    children.append(child)\n"
        "if len(children) < 3:\n"
        "    open_index('smoke', 'words')\n"
        "assert all(os.waitpid(child, 0)[1] == 0 for child in children if len(children) == 4)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(place / "mlflow.db") as database:
        assert database.execute("select count(*) from experiments where name = 'smoke'").fetchone() == (1,)
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)


def test_no_job_and_no_planning_imports_mlflow():
    importing = [path for path in (ROOT / "kind").rglob("*.py") if re.search(r"(import|from) mlflow", path.read_text())]
    assert {path.parent.name for path in importing} == {"tracking"}

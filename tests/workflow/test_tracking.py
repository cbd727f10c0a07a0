"""MLflow beside a real run: it gets everything, fails nothing, and is not there where nothing is to be done."""

from __future__ import annotations

import sqlite3

import pytest

pytestmark = pytest.mark.workflow

ON = {"KIND_TRACKING": "on"}
CHANGE = ("curve: [0.5]", "curve: [0.5]\ndescription: other words")  # the report is made again, nothing else


def test_a_run_brings_everything_into_the_store(copied):
    copied.edit(*CHANGE)
    run = copied.snakemake(variables=ON)
    assert run.code == 0 and "MLflow" not in run.output
    log = copied.results / "logs" / "track.log"
    assert "mini: " in log.read_text() and "error" not in log.read_text()
    with sqlite3.connect(copied.folder / "mlflow.db") as store:
        runs = dict(store.execute("select name, status from runs"))
        losses = (
            "select step from metrics join runs using (run_uuid) where name = ? and key = 'train/loss' order by step"
        )
        steps = [step for (step,) in store.execute(losses, ("novel / kind / seed 0",))]
    names = ["novel / kind / seed 0", "novel / lora / seed 0", "pretrain / dense", "pretrain / kind", "report"]
    assert runs == dict.fromkeys(names, "FINISHED")
    assert steps == [5, 10, 15, 20]
    log.unlink()
    assert "Nothing to be done" in copied.snakemake(variables=ON).output
    assert not log.exists()


def test_a_store_that_fails_stops_nothing_and_says_so(copied):
    copied.edit(*CHANGE)
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    run = copied.snakemake(variables=ON | away)
    assert run.code == 0, run.output
    (note,) = [line for line in run.output.splitlines() if "MLflow" in line]
    assert note.startswith("note: MLflow has not got everything (MLflow's store http://127.0.0.1:9")
    assert "results/mini/logs/track.log" in note
    assert note.endswith("python -m kind track --experiment params/mini.yaml --results results")


def test_a_word_that_is_neither_on_nor_off_is_refused(copied):
    """All other tests of this folder run with it off."""
    copied.edit(*CHANGE)
    run = copied.snakemake(variables={"KIND_TRACKING": "perhaps"})
    assert run.code == 2 and "error: tracking: expected on or off, found 'perhaps'" in run.output
    assert not (copied.folder / "mlflow.db").exists()

"""A store of its own for each test; its tables, which take seconds to make, are made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tiny_results import ROOT, TinyResults, client_of

from kind.__main__ import main


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    from kind.tracking.store import open_index

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        open_index("unused", "")
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, empty_store) -> Path:
    """A project's folder, to work in, with an empty store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def make(place):
    """make(**changes of smoke's params) -> tiny results of it; called again, the same folder with other params."""

    def make(**changes) -> TinyResults:
        content = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
        content["methods"], content["seeds"] = {"kind": {}, "lora": {"rank": 16}}, [0, 1]
        content["finetune"]["learning_rate"], content["sampling"]["guidance_scale"] = 3.0e-3, 1.5
        del content["tasks"]["shift"]
        for key, value in changes.items():
            *path, last = key.split("__")
            node = content
            for part in path:
                node = node[part]
            node[last] = value
        (place / "params").mkdir(exist_ok=True)
        (place / "params" / "smoke.yaml").write_text(yaml.safe_dump(content))
        return TinyResults(place, place / "params" / "smoke.yaml")

    return make


@pytest.fixture
def track(place, capsys):
    """track() -> (exit code, output) of the command that brings files in."""

    def track(*arguments: str) -> tuple[int, str]:
        code = main(["track", "--experiment", "smoke", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return track


@pytest.fixture
def search(place):
    """search(filter string) -> runs of smoke, in order of their names."""

    def search(filter_string: str = ""):
        client = client_of(place)
        found = client.search_runs([client.get_experiment_by_name("smoke").experiment_id], filter_string)
        return sorted(found, key=lambda run: (run.info.run_name, run.info.start_time))

    return search


@pytest.fixture
def history(place):
    """history(run, metric) -> [(step, value)] by step, every point that the store has."""

    def history(run, metric: str):
        client = client_of(place)
        return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric))

    return history

"""The store that runs are brought into: opened, and its experiments found or made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kind.errors import UserError
from kind.tracked.database import database_file, keep_readers_apart, one_at_a_time
from kind.tracking.index import VIEW, VIEW_KEY, Index

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_URI = "sqlite:///mlflow.db"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is away is tried again at the next look
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def open_index(experiment: str, description: str) -> Index:
    """The experiment's index in the store of `tracking_uri`, which is made if it is not there.

    Raises UserError where MLflow is missing or refuses the store.
    """
    with _opened() as client:
        return Index(client, _experiment(client, experiment, description, database_file(tracking_uri())))


def page_of(experiment: str) -> str | None:
    """Where the UI shows the experiment's runs, from the address's # on; None where nothing was brought in.

    The experiment's number is the store's choice, and the UI's own links to it lead to pages for language models.
    Raises as open_index does.
    """
    with _opened() as client:
        found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage == "deleted":
        return None
    view = f"viewStateShareKey={VIEW_KEY}&" if VIEW in found.tags else ""
    return f"#/experiments/{found.experiment_id}/runs?{view}workflowType=machine_learning"


@contextmanager
def _opened() -> Iterator[MlflowClient]:
    """A client of the store; what the store raises is one UserError."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    try:
        with one_at_a_time(database_file(uri)):
            yield _connect(uri)
    except ImportError as error:
        raise UserError(f"MLflow is not installed ({error})", hint="install requirements.lock, as `make setup` does")
    except Exception as error:  # noqa: BLE001  stores raise types of many libraries
        raise UserError(f"MLflow's store {uri}: {_first_line(error)}")


def _connect(uri: str) -> MlflowClient:
    import logging

    import mlflow

    for name in ("alembic", "mlflow"):  # they tell of every table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    path = database_file(uri)
    client = mlflow.MlflowClient(uri if path is None else f"sqlite:///{path}")
    if path is not None:
        keep_readers_apart(path)
    return client


def _experiment(client: MlflowClient, name: str, description: str, database: Path | None) -> Experiment:
    """The experiment, made if it is not there."""
    found = client.get_experiment_by_name(name)
    tags = {"mlflow.note.content": description, "mlflow.experimentKind": "custom_model_development"}
    if found is None:
        place = None if database is None else str(database.parent / "mlruns" / name)
        return client.get_experiment(client.create_experiment(name, artifact_location=place, tags=tags))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in tags.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

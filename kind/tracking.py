"""MLflow: an index of an experiment's files.  The only file that imports mlflow; no job does.

An entry (kind/tracked) is found again by its key and its recipe's parts, so that bringing it in twice changes nothing.
MLflow cannot take back a metric's value: where a finished file says another one, the run is made anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.artifacts import digest
from kind.errors import UserError
from kind.tracked.database import database_file, keep_readers_apart, one_at_a_time
from kind.tracked.entry import Entry, Point
from kind.tracked.progress import RUNNING

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is away is tried again at the next look
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
MOST_POINTS, MOST_PARAMS, MOST_TAGS, LONGEST = 800, 100, 100, 6000  # what MLflow takes in one call, and in one value
# Tags of our own; the UI does not show those that begin with `mlflow.`.
KEY, PARENT_KEY, PART = "mlflow.kind.key", "mlflow.kind.parent", "mlflow.kind.recipe."
POINTS, ARTIFACTS = "mlflow.kind.points", "mlflow.kind.artifacts"


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def open_index(experiment: str, description: str) -> Index:
    """The experiment's index in the store of `tracking_uri`, which is made if it is not there.

    Raises UserError where MLflow is missing or refuses the store.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    try:
        with one_at_a_time(database_file(uri)):
            client = _connect(uri)
            return Index(client, *_experiment(client, experiment, description, database_file(uri)))
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


def _experiment(client: MlflowClient, name: str, description: str, database: Path | None) -> tuple[str, str]:
    """Id and name of the experiment, made if it is not there."""
    found = client.get_experiment_by_name(name)
    tags = {"mlflow.note.content": description, "mlflow.experimentKind": "custom_model_development"}
    if found is None:
        place = None if database is None else str(database.parent / "mlruns" / name)
        return client.create_experiment(name, artifact_location=place, tags=tags), name
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in tags.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id, name


@dataclass
class _Run:
    """What the store holds of a run.  Points are read when they are needed."""

    id: str
    status: str
    ended: int | None
    started: int
    tags: dict[str, str]
    params: dict[str, str]
    unread: set[str] = field(default_factory=set)  # metrics whose points the store has and we do not know
    points: dict[Point, float] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, str]:
        return {key.removeprefix(PART): value for key, value in self.tags.items() if key.startswith(PART)}

    @property
    def superseded(self) -> bool:
        return self.tags.get("superseded") == "true"

    def may_be(self, parts: Mapping[str, str]) -> bool:
        """Whether this is a run of that recipe, as far as both are known."""
        return all(parts[stage] == part for stage, part in self.parts.items() if stage in parts)


class Index:
    """The runs of one experiment in a store."""

    def __init__(self, client: MlflowClient, experiment_id: str, name: str):
        self.client, self.experiment_id, self.name = client, experiment_id, name
        self.runs: dict[str, list[_Run]] = {}
        token = None
        while token != "":
            page = client.search_runs([experiment_id], max_results=1000, page_token=token)
            for found in page:
                if KEY in found.data.tags:
                    run = _Run(found.info.run_id, found.info.status, found.info.end_time, found.info.start_time,
                               dict(found.data.tags), dict(found.data.params), set(found.data.metrics))  # fmt: skip
                    self.runs.setdefault(found.data.tags[KEY], []).append(run)
            token = page.token or ""

    def bring(self, entry: Entry) -> bool:
        """Make the store hold what the entry says; whether anything had to be done.

        Raises LookupError if the entry's parent was not brought in before.
        """
        run = self._find(entry)
        made = run is None
        if run is not None and entry.status != RUNNING and self._contradicts(run, entry):
            self._supersede(run, "")
            self.client.delete_run(run.id)
            self.runs[entry.key].remove(run)
            run = None
        if run is None:
            run = self._create(entry)
            made = True
        changed = [self._set(run, entry), self._log_artifacts(run, entry), self._end(run, entry)]
        for other in self.runs[entry.key]:
            if other is not run:
                changed.append(self._supersede(other, run.id))
        if made:
            self._adopt(entry.key, run)
        return made or any(changed)

    def retire(self, expected: set[str]) -> None:
        """Runs of what the params do not ask for any more are superseded by nothing."""
        for key in self.runs.keys() - expected:
            for run in self.runs[key]:
                self._supersede(run, "")

    def count(self) -> int:
        return sum(len(runs) for runs in self.runs.values())

    # --- which run --------------------------------------------------------------------------------------------------

    def _find(self, entry: Entry) -> _Run | None:
        fitting = [run for run in self.runs.get(entry.key, []) if run.may_be(entry.parts)]
        return min(fitting, key=lambda run: (run.superseded, -run.started), default=None)

    def _create(self, entry: Entry) -> _Run:
        tags = {key: value for key, value in self._wanted_tags(entry).items() if value}
        started = _milliseconds(entry.started)
        made = self.client.create_run(self.experiment_id, start_time=started, tags=tags, run_name=entry.name)
        run = _Run(made.info.run_id, made.info.status, None, started, tags, {})
        self.runs.setdefault(entry.key, []).append(run)
        return run

    def _adopt(self, key: str, parent: _Run) -> None:
        """Children of an earlier run of this key stand under the new one."""
        for run in (run for runs in self.runs.values() for run in runs):
            if run.tags.get(PARENT_KEY) == key and not run.superseded:
                self._tag(run, {"mlflow.parentRunId": parent.id})

    def _supersede(self, run: _Run, successor: str) -> bool:
        changed = self._tag(run, {"superseded": "true"} | ({"superseded_by": successor} if successor else {}))
        if run.status == RUNNING:
            self.client.set_terminated(run.id, "KILLED")
            run.status = "KILLED"
        return changed

    # --- what it holds ----------------------------------------------------------------------------------------------

    def _wanted_tags(self, entry: Entry) -> dict[str, str]:
        tags = {KEY: entry.key, "superseded": "false", "superseded_by": ""}
        tags |= {f"{PART}{stage}": part for stage, part in entry.parts.items()}
        if entry.description:
            tags["mlflow.note.content"] = entry.description
        if entry.parent is not None:
            parents = [run for run in self.runs.get(entry.parent, []) if not run.superseded]
            if not parents:
                raise LookupError(entry.parent)
            tags |= {"mlflow.parentRunId": parents[-1].id, PARENT_KEY: entry.parent}
        return tags | {key: value[:LONGEST] for key, value in entry.tags.items()}

    def _set(self, run: _Run, entry: Entry) -> bool:
        """Tags, params and metrics that the store lacks, in as few calls as it takes."""
        from mlflow.entities import Metric, Param, RunTag

        tags = {key: value for key, value in self._wanted_tags(entry).items() if run.tags.get(key, "") != value}
        params = {key: value[:LONGEST] for key, value in entry.params.items() if key not in run.params}
        known = self._points(run, entry)
        if entry.status != RUNNING and entry.points:  # the last call writes tags, when all points are there
            tags |= {POINTS: _points_digest(entry)} if run.tags.get(POINTS) != _points_digest(entry) else {}
        points = [(point, value) for point, value in entry.points.items() if point not in known]
        calls = max(-(-len(points) // MOST_POINTS), -(-len(params) // MOST_PARAMS), -(-len(tags) // MOST_TAGS))
        for call in reversed(range(calls)):  # tags, of which there are fewest, come with the last
            chosen = _slice(points, call, MOST_POINTS)
            self.client.log_batch(
                run.id,
                [Metric(name, value, _milliseconds(entry.time_of(step)), step) for (name, step), value in chosen],
                [Param(*item) for item in _slice(list(params.items()), call, MOST_PARAMS)],
                [RunTag(*item) for item in _slice(list(tags.items()), call, MOST_TAGS)],
                synchronous=True,
            )
            known |= dict(chosen)
        run.tags |= tags
        run.params |= params
        return calls > 0

    def _points(self, run: _Run, entry: Entry) -> dict[Point, float]:
        """What the store has of the entry's metrics."""
        if run.tags.get(POINTS) == _points_digest(entry):
            return dict(entry.points)
        for name in sorted({name for name, _ in entry.points} & run.unread):
            history = self.client.get_metric_history(run.id, name)
            run.points |= {(name, point.step): point.value for point in history}
            run.unread.remove(name)
        return run.points

    def _contradicts(self, run: _Run, entry: Entry) -> bool:
        known = self._points(run, entry)
        wrong = any(
            abs(known[point] - value) > 1e-9 * abs(value) for point, value in entry.points.items() if point in known
        )
        return wrong or any(
            run.params.get(key, value[:LONGEST]) != value[:LONGEST] for key, value in entry.params.items()
        )

    def _tag(self, run: _Run, tags: dict[str, str]) -> bool:
        from mlflow.entities import RunTag

        tags = {key: value for key, value in tags.items() if run.tags.get(key, "") != value}
        if tags:
            self.client.log_batch(run.id, tags=[RunTag(*item) for item in tags.items()])
            run.tags |= tags
        return bool(tags)

    def _end(self, run: _Run, entry: Entry) -> bool:
        ended = None if entry.status == RUNNING else _milliseconds(entry.ended)
        if run.status == entry.status and (ended is None or run.ended == ended):
            return False
        if ended is None:
            self.client.update_run(run.id, status=RUNNING)
        else:
            self.client.set_terminated(run.id, entry.status, ended)
        run.status, run.ended = entry.status, ended
        return True

    # --- artifacts --------------------------------------------------------------------------------------------------

    def _log_artifacts(self, run: _Run, entry: Entry) -> bool:
        """Pictures, tables and files that changed since they were logged."""
        logged = json.loads(run.tags.get(ARTIFACTS, "{}"))
        before = dict(logged)
        for path, (content, make) in entry.pictures.items():
            if logged.get(path) != content and (picture := _made(entry, path, make)) is not None:
                self._upload(run, path, picture)
                logged[path] = content
        for path, (content, source) in entry.files.items():
            if logged.get(path) != content[:12]:
                self._upload(run, path, source.read_bytes())
                logged[path] = content[:12]
        for path, (content, make) in entry.tables.items():
            if logged.get(path) != content[:12]:
                self._log_table(run, path, make())
                logged[path] = content[:12]
        return self._tag(run, {ARTIFACTS: json.dumps(logged)}) if logged != before else False

    def _upload(self, run: _Run, path: str, content: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(path).name
            local.write_bytes(content)
            inside = str(Path(path).parent)
            self.client.log_artifact(run.id, str(local), None if inside == "." else inside)

    def _log_table(self, run: _Run, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """log_table appends to a table that is there; such a one is written anew in the same form."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        there = {found.path for found in self.client.list_artifacts(run.id, str(Path(path).parent))}
        if path in there:
            data = [[row.get(name) for name in columns] for row in rows]
            self._upload(run, path, json.dumps({"columns": columns, "data": data}).encode())
        else:
            self.client.log_table(run.id, {name: [row.get(name) for row in rows] for name in columns}, path)


def _made(entry: Entry, path: str, make: Callable[[], bytes]) -> bytes | None:
    """A picture; None, and a word in the log, where its files cannot be read: numbers are brought in all the same."""
    try:
        return make()
    except (OSError, ValueError, KeyError, UserError) as error:
        print(f"{entry.name}: no {path}: {error}", flush=True)
        return None


def _points_digest(entry: Entry) -> str:
    return digest(sorted([name, step, value] for (name, step), value in entry.points.items()))


def _slice(items: list, call: int, size: int) -> list:
    return items[call * size : (call + 1) * size]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""The runs of an experiment in the store, made to hold what the files say.

An entry (kind/tracked) is found again by its key and its recipe's parts, so that bringing it in twice changes nothing.
MLflow cannot take back a metric's value: where a finished file says another one, the run is made anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kind.artifacts import digest
from kind.tracked.entry import Entry, Point
from kind.tracked.progress import RUNNING
from kind.tracking.artifacts import log_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

MOST_POINTS, MOST_PARAMS, MOST_TAGS, LONGEST = 800, 100, 100, 6000  # what MLflow takes in one call, and in one value
# Tags of our own; the UI does not show those that begin with `mlflow.`.
KEY, PARENT_KEY, PART = "mlflow.kind.key", "mlflow.kind.parent", "mlflow.kind.recipe."
POINTS, ARTIFACTS = "mlflow.kind.points", "mlflow.kind.artifacts"
VIEW_KEY = "report"
VIEW = f"mlflow.sharedViewState.{VIEW_KEY}"  # the UI's own name for it


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

    def __init__(self, client: MlflowClient, experiment: Experiment):
        self.client, self.experiment_id = client, experiment.experiment_id
        self.view = experiment.tags.get(VIEW, "")
        self.runs: dict[str, list[_Run]] = {}
        token = None
        while token != "":
            page = client.search_runs([self.experiment_id], max_results=1000, page_token=token)
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
        if entry.view not in ("", self.view):
            self.client.set_experiment_tag(self.experiment_id, VIEW, entry.view)
            self.view = entry.view
        return made or any(changed)

    def retire(self, expected: set[str]) -> None:
        """Runs of what the params do not ask for any more are superseded by nothing."""
        for key in self.runs.keys() - expected:
            for run in self.runs[key]:
                self._supersede(run, "")

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

    def _log_artifacts(self, run: _Run, entry: Entry) -> bool:
        before = json.loads(run.tags.get(ARTIFACTS, "{}"))
        now = log_artifacts(self.client, run.id, entry, before)
        return self._tag(run, {ARTIFACTS: json.dumps(now)}) if now != before else False


def _points_digest(entry: Entry) -> str:
    return digest(sorted([name, step, value] for (name, step), value in entry.points.items()))


def _slice(items: list, call: int, size: int) -> list:
    return items[call * size : (call + 1) * size]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)

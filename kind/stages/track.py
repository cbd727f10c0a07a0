"""Bring an experiment's files into MLflow: what is there already is left, what is missing is added.

Snakemake starts it with --follow beside its jobs.  Without, it brings in what is on disk and ends: the command for
runs that MLflow has not seen.  The store is sqlite:///mlflow.db in this folder, unless MLFLOW_TRACKING_URI names one.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kind.errors import UserError
from kind.layout import Layout
from kind.params.file import find_params, load_experiments
from kind.stages.context import add_collection_arguments

EXAMPLE = "python -m kind track --experiment smoke"
FIRST_WAIT, PAUSE, LONG_PAUSE = 2.0, 4.0, 60.0  # seconds between looks; the last after a failure
SHARE = 0.05  # of a core that looks may take when nothing is new: thousands of runs have many files
WAIT_FOR_OTHER = 30.0
LOCAL_UI = "http://127.0.0.1:5000"  # of `make ui`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_collection_arguments(parser)
    parser.add_argument(
        "--follow", action="store_true", help="go on until the process that started this ends, or until SIGTERM"
    )
    parser.add_argument(
        "--link", action="store_true", help="bring nothing in: say where MLflow's UI shows the experiment"
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.link:
        for experiment in load_experiments(find_params(arguments.experiment)).values():
            _say_where(experiment.name)
        return
    stop, parent = threading.Event(), os.getppid()
    if arguments.follow:  # before the slow imports, so that a short pipeline can end this
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        os.nice(5)
    experiments = load_experiments(find_params(arguments.experiment)).values()
    layouts = {experiment.name: Layout(Path(arguments.results) / experiment.name) for experiment in experiments}
    catch_up = ["python", "-m", "kind", "track", "--experiment", arguments.experiment]
    if arguments.results != "results":
        catch_up += ["--results", arguments.results]
    with contextlib.ExitStack() as stack:
        for layout in layouts.values():
            stack.enter_context(_alone(layout))
        following = [_Following(experiment, layouts[experiment.name], arguments.follow) for experiment in experiments]
        try:
            if arguments.follow:
                _follow(following, stop, parent)
            else:
                _last_look(following)
        except UserError as error:
            raise UserError(str(error), hint=f"results are not touched; bring runs in later: {shlex.join(catch_up)}")
    for one in following:
        print(f"{one.name}: {one.brought} entries brought in or changed in {one.uri}", flush=True)


def _say_where(name: str) -> None:
    from kind.tracking.store import page_of, tracking_uri

    uri, page = tracking_uri(), page_of(name)
    server = uri.rstrip("/") if uri.startswith("http") else LOCAL_UI
    missing = f"MLflow has nothing of it yet: python -m kind track --experiment {name}"
    print(f"{name}: {missing if page is None else f'{server}/{page}'}", flush=True)


def _follow(following: list[_Following], stop: threading.Event, parent: int) -> None:
    """Looks at the files until told to stop, or until the process that started this is gone; then a last time."""
    pause = FIRST_WAIT
    while not stop.wait(pause) and os.getppid() == parent:
        pause, began, brought = PAUSE, time.process_time(), sum(one.brought for one in following)
        for one in following:
            try:
                one.look()
            except UserError as error:
                print(f"{time.strftime('%H:%M:%S')} {error}; trying again", file=sys.stderr, flush=True)
                pause = LONG_PAUSE
        if sum(one.brought for one in following) == brought:
            pause = min(LONG_PAUSE, max(pause, (time.process_time() - began) / SHARE))
    for one in following:
        one.reader.pipeline = "ended" if stop.is_set() else "unknown"
    _last_look(following)


def _last_look(following: list[_Following]) -> None:
    """Unfinished runs too; a problem with one experiment does not keep the others out."""
    problems = []
    for one in following:
        try:
            one.look(again=True)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))


class _Following:
    """One experiment's files and their index, which is opened when there is something to say."""

    def __init__(self, experiment, layout: Layout, follow: bool):
        from kind.tracked.reader import Reader
        from kind.tracking.store import tracking_uri

        self.name, self.description, self.uri = experiment.name, experiment.description, tracking_uri()
        self.reader = Reader(experiment, layout, "running" if follow else "unknown")
        self.index, self.brought = None, 0

    def look(self, again: bool = False) -> None:
        """Bring in what changed; raises UserError where MLflow fails, and the entries are tried again next time."""
        from kind.tracking.store import open_index

        for entry in self.reader.changed(again):
            try:
                if self.index is None:
                    self.index = open_index(self.name, self.description)
                    self.index.retire(self.reader.keys())
                self.brought += self.index.bring(entry)
            except LookupError:  # its parent comes first, at the next look
                self.reader.forget(entry.key)
            except UserError:
                self.reader.forget(entry.key)
                raise
            except Exception as error:  # noqa: BLE001  stores raise types of many libraries
                self.reader.forget(entry.key)
                self.index = None  # what it holds is read again
                raise UserError(f"MLflow's store {self.uri}: {entry.name}: {type(error).__name__}: {error}")
        if again and self.reader.problems:  # said when all others are in
            listed = "\n".join(f"  - {problem}" for problem in self.reader.problems.values())
            raise UserError(f"files that cannot be read were left out of MLflow:\n{listed}")


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One process brings in an experiment: two would both add what is missing."""
    path = layout.state("track") / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as handle:
        deadline = time.monotonic() + WAIT_FOR_OTHER
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"another process is bringing this experiment in (it holds {path})",
                                    hint="it brings in everything; look at the MLflow UI")  # fmt: skip
                time.sleep(0.5)
        yield

"""Real processes that run `python -m kind` without importing torch first: children of a server that has it loaded."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 900.0  # seconds after which a wait has failed: a machine may be busy
LOADED = (
    "kind.stages.pretrain", "kind.stages.training_job", "kind.checkpoints", "kind.sampling", "kind.data.sources",
    "kind.evaluation.complexity", "kind.stages.decoder", "kind.stages.images", "kind.stages.expected",
)  # fmt: skip


class Command:
    """A running `python -m kind ...` in a folder.  What it says lies in `log`."""

    def __init__(self, folder: Path, log: Path, *arguments: str):
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(list(LOADED))
        self.log = log
        self._process = server.Process(target=_run, args=(str(folder), str(log), list(arguments)))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def code(self) -> int:
        """Of its end, which is waited for: 0 and up, or the signal that killed it, negative."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, f"still running: {self.said}"
        return self._process.exitcode

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_until(self, come: Callable[[], object]) -> bool:
        """Whether it came before the command ended."""
        deadline = time.monotonic() + PATIENCE
        while not come():
            if self.ended:
                return False
            assert time.monotonic() < deadline, f"waited too long: {self.said}"
            time.sleep(0.0005)
        return True


def _run(folder: str, log: str, arguments: list[str]) -> None:
    os.chdir(folder)
    with open(log, "wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)

    from kind.__main__ import main

    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)

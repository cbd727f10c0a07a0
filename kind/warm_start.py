"""Jobs that start warm: one process imports PyTorch once, and each job of a local run is a fork of it.

Importing torch and diffusers takes some ten seconds of a core, which is most of what a short job takes.  So a run on
one machine starts `serve`, and `python -m kind STAGE` hands its arguments, working folder, environment and open files
to it (`ask`) in the place of importing anything.  What happens is the same in every other way: the job's output goes
where the command's does, signals reach it, it dies with its command, and its exit code is the command's.  Where nobody
answers, the command does the work itself.  Imports no torch.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

SOCKET = "KIND_WARM_SOCKET"  # the variable that says where a server listens
# Stages that need torch.  A plan of others alone must not pay for its import.
STAGES = ("extractor", "reference", "pretrain", "extract", "replay", "finetune", "sample", "evaluate", "analyse")
LOADED = (  # in this order: see kind/diffusers_parts.py for the first
    "kind.checkpoints", "kind.sampling", "kind.training", "kind.soup", "kind.evaluation.metrics",
    "kind.evaluation.features", "kind.evaluation.small_extractor", "kind.evaluation.judge",
    "kind.evaluation.memorisation", "kind.evaluation.held_out_loss", "kind.stages.training_job", "kind.reporting.grids",
    "kind.analysis.weights", "kind.analysis.interference", "kind.analysis.components", "peft",
)  # fmt: skip
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
NUMBER = struct.Struct("!i")


# --- the command ----------------------------------------------------------------------------------------------


def ask(arguments: list[str]) -> int | None:
    """Exit code of `python -m kind ARGUMENTS`, run by the server that the environment names; None where none does."""
    path = os.environ.get(SOCKET)
    if path is None or arguments[0] not in STAGES:
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
            environment = {name: value for name, value in os.environ.items() if name != SOCKET}
            request = json.dumps([arguments, str(Path.cwd()), environment]).encode()
            socket.send_fds(server, [NUMBER.pack(len(request))], [0, 1, 2])
            server.sendall(request)
            process = _number(server)  # comes when everything is imported
        except OSError:
            return None
        if process is None:
            return None
        for number in FORWARDED:
            signal.signal(number, lambda number, _: _send(process, number))
        code = _number(server)
    if code is None:
        print(f"error: process {process} of this job was killed", file=sys.stderr)
        return 128 + signal.SIGKILL
    return code


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(process, number)


def _number(connection: socket.socket) -> int | None:
    """The next number that the other side sends; None where it is gone."""
    received = b""
    while len(received) < NUMBER.size:
        more = connection.recv(NUMBER.size - len(received))
        if not more:
            return None
        received += more
    return NUMBER.unpack(received)[0]


# --- the server -----------------------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Fork a process for each command that asks at this socket, until the standard input ends.

    Whoever starts it holds the other end of its standard input, so that it ends with them, however they end; jobs that
    run then go on.  Nothing is imported before somebody asks.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands, which pass it on
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    loaded = False
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        while sys.stdin.fileno() not in (ready := select.select([listener, sys.stdin.fileno()], [], [])[0]):
            assert ready, "select without a timeout waits"
            if not loaded:
                _load()
                loaded = True
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _work(connection)
            connection.close()


def _load() -> None:
    from kind.artifacts import provenance

    provenance()  # of the code that the forks run, whatever the files say by then
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or the first collection in each fork would copy all pages


def _work(connection: socket.socket) -> None:
    """In the fork: become the command, run it, say how it ended.  Does not return."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.sendall(NUMBER.pack(os.getpid()))
        arguments = _become(connection)
        threading.Thread(target=_die_with, args=(connection,), daemon=True).start()

        from kind.__main__ import main

        code = main(arguments)
    except SystemExit as stop:  # of argparse
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter would
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(NUMBER.pack(code))
        finally:
            os._exit(code)  # what the server would do at its end is not the fork's to do


def _become(connection: socket.socket) -> list[str]:
    """Take over the command's open files, folder and environment; returns its arguments."""
    header, files, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    (size,) = NUMBER.unpack(header)
    request = b""
    while len(request) < size:
        more = connection.recv(size - len(request))
        if not more:  # the command is gone
            os._exit(1)
        request += more
    arguments, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["kind", *arguments]
    return arguments


def _die_with(connection: socket.socket) -> None:
    """kill -9 of the command is kill -9 of the job."""
    try:
        while connection.recv(1):
            pass
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        serve(sys.argv[1])
    finally:
        Path(sys.argv[1]).unlink(missing_ok=True)
        os._exit(0)  # libraries that only wait for the interpreter's end have nothing to say

"""MLflow's server, for runs on several machines: their trackers write to it, and browsers read from it.

It is reached from this machine alone unless --host says otherwise; it asks nobody for a password, so let only a network
that you trust reach it.  Runs and artifacts lie in --folder.  Ctrl-C ends it; started again, it has everything.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from kind.errors import UserError

EXAMPLE = "python -m kind server --host 0.0.0.0"
HERE = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  compared with what is asked for
DATABASE = "mlflow.db"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address that it listens at; 0.0.0.0 for all of this machine's (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=5000, help="(default: %(default)s)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("mlflow-server"),
        help="where runs and artifacts lie, on a local disk (default: %(default)s)",
    )
    parser.add_argument(
        "--store", metavar="URI", help="a database in the place of the folder's: postgresql://USER:PASSWORD@HOST/NAME"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that answer (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    from kind.tracked.database import keep_readers_apart
    from kind.tracking.store import QUIET

    check_free(arguments.host, arguments.port)
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    store = arguments.store
    if store is None:
        keep_readers_apart(folder / DATABASE)
        store = f"sqlite:///{folder / DATABASE}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", arguments.host, "--port", str(arguments.port),
        "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"),
        "--workers", str(arguments.workers), *allowed_hosts(arguments.host, arguments.port),
    ]  # fmt: skip
    address = f"http://{shown(arguments.host)}:{arguments.port}"
    print(f"Where Snakemake is started: export MLFLOW_TRACKING_URI={address}\n(Ctrl-C ends the server)", flush=True)
    variables = os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, command, variables)  # noqa: S606  no shell, as it should be


def check_free(host: str, port: int) -> None:
    """Raises UserError where nothing can listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"no server can listen at {host}, port {port} ({getattr(error, 'strerror', None) or error})",
                hint="name an address of this machine with --host, and a free port with --port",
            )


def shown(host: str) -> str:
    return socket.gethostname() if host in EVERYWHERE else host


def allowed_hosts(host: str, port: int) -> list[str]:
    """By which names it may be called: by itself MLflow, against pages that trick a browser, takes local ones alone."""
    if host in HERE:
        return []
    names = dict.fromkeys(["localhost", "127.0.0.1", host, shown(host), socket.gethostname(), socket.getfqdn()])
    private = ["10.*", "192.168.*", *(f"172.{second}.*" for second in range(16, 32))]
    return ["--allowed-hosts", ",".join([*(each for name in names for each in (name, f"{name}:{port}")), *private])]

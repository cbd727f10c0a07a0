"""A one-node SLURM in a folder of its own, with pretend GPUs: no systemd, no accounting, nothing outside the folder.

    python tests/slurm/one_node.py up FOLDER [--gpus N]      prints what to export
    python tests/slurm/one_node.py down FOLDER

Everything runs as the present user and listens on free ports.  It refuses to start where another SLURM is.
Needs the packages munge and slurm-wlm (Debian).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
SYSTEM_CONFIGURATIONS = (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"))
START_SECONDS, STOP_SECONDS = 180, 15
PR_SET_PDEATHSIG = 1

CONFIGURATION = """\
ClusterName=kindtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=5
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory={memory} {gres} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=1024
"""
STAND_INS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")  # SLURM takes only device files, each as one GPU
CPUS, MEMORY = 4, 512_000  # what the node says it has, so that the profile's own figures fit; nothing holds jobs to it


class NotHere(Exception):
    """Why no test cluster can be started."""


def up(folder: Path, gpus: int = 1, *, with_parent: bool = False) -> Path:
    """Start it; returns its slurm.conf.  with_parent: the daemons die with this process, however it ends.

    Raises NotHere where programs are missing or another SLURM is, or may be, and RuntimeError if it does not start.
    """
    refuse()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged takes nothing below a folder that others may write to
    configuration = configure(folder, gpus)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "key-file", "log-file", "pid-file", "seed-file")]
    munge[1] = f"--key-file={key}"
    try:
        start(folder, "munged", ["--foreground", *munge], with_parent)
        until(folder, "munged", lambda: (folder / "munge.socket").exists())
        start(folder, "slurmctld", ["-D", "-c", "-f", str(configuration)], with_parent)
        start(folder, "slurmd", ["-D", "-f", str(configuration)], with_parent)
        until(folder, "slurmctld and slurmd", lambda: asks(configuration, "sinfo", "-h", "-o", "%t") == "idle")
    except BaseException:
        down(folder)
        raise
    return configuration


def down(folder: Path) -> None:
    """End all that belongs to it, jobs too: every process whose environment names its slurm.conf."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := members(folder)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(OSError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@contextmanager
def running(folder: Path, gpus: int = 1) -> Iterator[Path]:
    try:
        yield up(folder, gpus, with_parent=True)
    finally:
        down(folder)


def refuse() -> None:
    """Raises NotHere where another SLURM is, or may be, or where programs are missing."""
    for path in SYSTEM_CONFIGURATIONS:
        if path.exists():
            raise NotHere(f"{path} exists: this machine belongs to another SLURM")
    if os.environ.get("SLURM_CONF"):
        raise NotHere(f"SLURM_CONF={os.environ['SLURM_CONF']} names another SLURM")
    for pid in processes():
        if (name := read(f"/proc/{pid}/comm").strip()) in ("slurmctld", "slurmd"):
            raise NotHere(f"a {name} is running already (process {pid})")
    missing = [name for name in PROGRAMS if which(name) is None]
    if missing:
        raise NotHere(f"{', '.join(missing)} not found; on Debian: apt-get install munge slurm-wlm")


def configure(folder: Path, gpus: int) -> Path:
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder, host=host, user=getuser(), controller_port=controller_port, node_port=node_port,
            cpus=CPUS, memory=MEMORY, gres=f"Gres=gpu:{gpus}" if gpus else "",
        )
    )  # fmt: skip
    devices = [folder / f"gpu{index}" for index in range(gpus)]
    for device, stand_in in zip(devices, STAND_INS[:gpus], strict=True):
        device.symlink_to(stand_in)
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={host} Name=gpu File={device} Flags=nvidia_gpu_env\n" for device in devices)
    )
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    write_srun(folder, configuration)
    return configuration


def write_srun(folder: Path, configuration: Path) -> None:
    """The executor's job steps call srun without most SLURM_ variables, SLURM_CONF among them; this one knows it."""
    (folder / "bin").mkdir(exist_ok=True)
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec {which("srun")} "$@"\n')
    srun.chmod(0o755)


def start(folder: Path, program: str, arguments: list[str], with_parent: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    with open(folder / f"{program}.out", "w") as output:
        subprocess.Popen(
            [which(program), *arguments],
            env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=die_with_parent if with_parent else None,
        )  # fmt: skip


def until(folder: Path, what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            said = "\n".join(f"{path.name}: {path.read_text()[-500:]}" for path in folder.glob("*.[ol][uo][tg]"))
            raise RuntimeError(f"{what} did not start within {START_SECONDS} s\n{said}")
        time.sleep(0.1)


def asks(configuration: Path, *command: str) -> str:
    env = {**os.environ, "SLURM_CONF": str(configuration)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=START_SECONDS)
    return done.stdout.strip()


def members(folder: Path) -> list[int]:
    """Its daemons, and what they started; not this process."""
    entry = f"SLURM_CONF={folder / 'slurm.conf'}"
    found = [pid for pid in processes() if entry in read(f"/proc/{pid}/environ").split("\0")]
    return [pid for pid in found if pid != os.getpid()]


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # it ended, or belongs to another
        return ""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--gpus", type=int, default=1, choices=range(len(STAND_INS) + 1), help="pretend GPUs (default: 1)"
    )
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    if arguments.action == "down":
        down(folder)
        return 0
    try:
        configuration = up(folder, arguments.gpus)
    except NotHere as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"export SLURM_CONF={configuration} PATH={folder}/bin:$PATH")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `dvc repro` starts: Snakemake, on the experiments that dvc.yaml versions.

    python workflow/reproduce.py EXPERIMENT [EXPERIMENT ...]

KIND_EXPERIMENT   one of them, or a collection of some (default: all of them)
KIND_PROFILE      Snakemake profile, local or slurm (default: local); no result depends on it, and DVC does not see it

When this ends well, DVC notes all of them as made from the present params.  So it refuses where that would be untrue.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kind.errors import UserError  # noqa: E402
from kind.layout import Layout  # noqa: E402
from kind.params.extends import files_of  # noqa: E402
from kind.params.file import find_params, load_experiments  # noqa: E402
from kind.params.yaml import read_yaml  # noqa: E402


def main(versioned: list[str]) -> int:
    try:
        profile = choose_profile(os.environ.get("KIND_PROFILE") or "local")
        chosen = choose_experiments(os.environ.get("KIND_EXPERIMENT"), versioned)
        for name in versioned:
            check_params(name)
            check(name, name in chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in chosen:
        if code := run(snakemake(name, profile)):
            return code
    for name in versioned:  # which older results may lack
        Layout(ROOT / "results" / name).make_optional_folders()
    return 0


def choose_profile(name: str) -> str:
    profiles = sorted(path.parent.name for path in ROOT.glob("*/config.yaml"))
    if name not in profiles:
        raise UserError(f"KIND_PROFILE={name}: no such profile; profiles: {', '.join(profiles)}")
    return name


def choose_experiments(wanted: str | None, versioned: list[str]) -> list[str]:
    if not wanted:
        return versioned
    names = [experiment.name for experiment in load_experiments(find_params(wanted)).values()]
    if set(names) <= set(versioned):
        return names
    raise UserError(
        f"KIND_EXPERIMENT={wanted}: dvc.yaml versions {', '.join(versioned)} here",
        hint=f"name {wanted} in dvc.yaml to version it (on a branch of its own, to keep both); "
        f"without DVC: snakemake --profile local --config experiment={wanted}",
    )


def check_params(name: str) -> None:
    """A params file that another extends is a dependency too; raises UserError where dvc.yaml does not name it."""
    given = read_yaml(ROOT / "dvc.yaml")["stages"]["reproduce"]["params"]
    named = {str(key) for entry in given for key in (entry if isinstance(entry, dict) else [entry])}
    own, *extended = files_of(find_params(name))
    lacking = [f"params/{path.name}" for path in extended if f"params/{path.name}" not in named]
    if lacking:
        raise UserError(
            f"dvc.yaml does not name {', '.join(lacking)}, which {own} extends; DVC would not see a change of it",
            hint=f"add `- {lacking[0]}:` to `params` in dvc.yaml",
        )


def check(name: str, is_chosen: bool) -> None:
    """Ask Snakemake what it would do; raises UserError where DVC would note something untrue."""
    dry = subprocess.run([*snakemake(name, "local"), "--dry-run"], capture_output=True, text=True)
    said = dry.stdout + dry.stderr
    if dry.returncode:
        raise UserError(f"Snakemake cannot plan the experiment {name}:\n{said.strip()}")
    if unknown := re.search("^Rules with missing metadata: (.+)", said, re.M):
        raise UserError(
            f"results/{name} holds results of {unknown[1].strip().replace(' ', ', ')} without Snakemake's record of "
            "what they were made from (.snakemake/metadata); no change of a parameter would be noticed",
            hint=f"get the record too: dvc pull .snakemake/metadata; or compute again: rm -r results/{name}",
        )
    if not is_chosen and "Nothing to be done" not in said:
        raise UserError(
            f"dvc.yaml versions {name} too, and its results are not up to date",
            hint="without KIND_EXPERIMENT all that dvc.yaml versions is run",
        )


def run(command: list[str]) -> int:
    """Its exit code.  Ctrl-C reaches it too, and SIGTERM is passed on: it ends its jobs and takes its lock away."""
    stopped, running = [], []

    def stop(*_: object) -> None:
        stopped.append(True)
        for process in running:
            process.terminate()

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, stop)
    running.append(subprocess.Popen(command))
    if stopped:  # between the two lines above
        stop()
    return running[0].wait()


def snakemake(experiment: str, profile: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--profile", profile, "--config", f"experiment={experiment}"]


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))

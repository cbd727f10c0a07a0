"""Profiles of clusters, as checked by hand, and as a killed run is recovered with them."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from collections.abc import Callable

from place import Place

from cases.parts import Case


def profile(text: str) -> Callable[[Place], object]:
    """A profile `slurm` that holds this."""

    def breaks(place: Place) -> None:
        (place.folder / "slurm").mkdir()
        (place.folder / "slurm" / "config.yaml").write_text(text)

    return breaks


MEND = "  -> a profile is a file of Snakemake's options; slurm/config.yaml of the project is one"

CASES = [
    Case(
        "check with a profile that is not there",
        profile("executor: slurm\n"),
        ("check", "--profile", "slrum"),
        "--profile slrum: slrum/config.yaml does not exist\n  -> profiles here: slurm",
    ),
    Case(
        "check with a profile that is no YAML",
        profile("executor: [\n"),
        ("check", "--profile", "slurm"),
        f"slurm/config.yaml: not valid YAML (...)\n{MEND}",
    ),
    Case(
        "check with a profile without resources",
        profile("executor: slurm\nset-resources: [pretrain]\n"),
        ("check", "--profile", "slurm"),
        f"slurm/config.yaml: set-resources: expected `name: value`, found ['pretrain']\n{MEND}",
    ),
    Case(
        "recover jobs that nothing tells from others",
        profile("executor: slurm\n"),
        ("recover", "--profile", "slurm"),
        "slurm/config.yaml: without slurm-jobname-prefix its jobs cannot be told from others\n"
        "  -> cancel them by hand (squeue --me, scancel), then add slurm-jobname-prefix to the profile",
    ),
]

"""A Snakemake profile as a file: its executor, and what it asks of a cluster for each rule."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kind.cluster.preflight import Request
from kind.errors import UserError

MEND = "a profile is a file of Snakemake's options; slurm/config.yaml of the project is one"


@dataclass(frozen=True)
class Profile:
    path: Path
    content: Mapping[str, Any]

    @property
    def executor(self) -> str:
        return str(self.content.get("executor", "local"))

    @property
    def status_command(self) -> str | None:
        return self.content.get("slurm-status-command")

    @property
    def job_prefix(self) -> str:
        """How the names of its jobs begin; the executor puts `_` and a number of its own behind it."""
        return str(self.content.get("slurm-jobname-prefix") or "")

    @property
    def experiment(self) -> str | None:
        config = self.content.get("config")
        if isinstance(config, Mapping):
            return config.get("experiment")
        found = re.search(r"\bexperiment=(\S+)", str(config or ""))
        return found[1] if found else None

    def requests(self) -> list[Request]:
        """Of every rule that it names, and of the others as `other rules`."""
        default = self._mapping("default-resources")
        rules = {"other rules": {}, **self._mapping("set-resources")}
        last = 1 + (number(self.content.get("retries")) or 0)
        return [request_of(rule, {**default, **resources}, last) for rule, resources in rules.items()]

    def problems(self) -> list[str]:
        """Names that Snakemake would take for Python's, and then stop when it plans; a line each."""
        kinds = {"default-resources": self._mapping("default-resources"), **self._mapping("set-resources")}
        found = [
            (key, value)
            for resources in kinds.values()
            if isinstance(resources, Mapping)
            for key, value in resources.items()
            if isinstance(value, str) and hasattr(builtins, value)
        ]
        return [
            f"{key}: {value} is a name of Python's, and Snakemake takes it for that; write two quotes in {self.path}: "
            f"{key}: \"'{value}'\""
            for key, value in dict.fromkeys(found)
        ]

    def _mapping(self, key: str) -> dict[str, Any]:
        found = self.content.get(key) or {}
        if not isinstance(found, Mapping):
            raise UserError(f"{self.path}: {key}: expected `name: value`, found {found!r}", hint=MEND)
        return dict(found)


def read_profile(name: str) -> Profile:
    """A profile's folder by its name, as Snakemake finds it from the project's root, or by its path."""
    path = Path(name) / "config.yaml"
    if not path.is_file():
        there = ", ".join(sorted(found.parent.name for found in Path().glob("*/config.yaml"))) or "none"
        raise UserError(f"--profile {name}: {path} does not exist", hint=f"profiles here: {there}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})", hint=MEND)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected `key: value`, found {type(content).__name__}", hint=MEND)
    return Profile(path, content)


def request_of(rule: str, resources: Mapping[str, Any], last_attempt: int = 1) -> Request:
    """A rule's resources, from a profile or evaluated by Snakemake, as what it asks of SLURM.

    Of the last attempt: SLURM lets a job wait for ever that asks for more than its partition gives.
    """
    named = {key: unquoted(resources.get(f"slurm_{key}")) for key in ("partition", "account")}
    in_gres = re.search(r"\bgpu(?::[^:,]+)?:(\d+)", str(resources.get("gres") or ""))
    gpus = next((number(found) for key in ("gpu", "gpus") if (found := resources.get(key)) is not None), None)
    return Request(
        rule,
        **{key: str(value) if value else None for key, value in named.items()},
        gpus=gpus or (int(in_gres[1]) if in_gres else 0),
        minutes=number(resources.get("runtime"), last_attempt),
        memory_mb=number(resources.get("mem_mb"), last_attempt),
    )


def unquoted(value: Any) -> Any:
    """A text that is quoted once more, so that Snakemake takes it for one."""
    found = re.fullmatch(r"(['\"])(.*)\1", value) if isinstance(value, str) else None
    return found[2] if found else value


def number(value: Any, attempt: int = 1) -> int | None:
    """A count as profiles have it: 60, `60 * attempt`, `8h` (in minutes); None for other expressions of Snakemake's."""
    if isinstance(value, int):
        return value
    text = str(value or "").strip()
    if found := re.fullmatch(r"(\d+)([dhm])", text):
        return int(found[1]) * {"d": 1440, "h": 60, "m": 1}[found[2]]
    found = re.fullmatch(r"(\d+)( ?\* ?attempt)?", text)
    return int(found[1]) * (attempt if found[2] else 1) if found else None

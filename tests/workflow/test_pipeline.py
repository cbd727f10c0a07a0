"""The whole graph through the real Snakefile."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
from workspace import ROOT, environment, snakemake

pytestmark = pytest.mark.workflow

ALL_JOBS = {
    "prepare": 1, "extractor": 1, "reference": 1, "pretrain": 2, "extract": 1,
    "finetune": 2, "sample": 2, "evaluate": 2, "report": 1, "all": 1,
}  # fmt: skip


def test_a_dry_run_lists_every_job_and_writes_nothing(workspace):
    run = workspace.snakemake("--dry-run")
    assert run.code == 0, run.output
    assert run.planned == ALL_JOBS
    assert not workspace.results.exists()


def test_a_run_ends_in_a_report_of_every_run(finished):
    report = finished.results / "report"
    rows = list(csv.DictReader((report / "metrics.csv").open()))
    assert [(row["task"], row["method"], row["seed"]) for row in rows] == [
        ("novel", "kind", "0"),
        ("novel", "lora", "0"),
    ]
    assert all(float(row["fd_digits_60_vs_60"]) >= 0 for row in rows)
    curve = list(csv.DictReader((report / "curves.csv").open()))
    assert {row["step"] for row in curve} == {"10", "20"}
    assert all(row["fd_digits_40_vs_60"] for row in curve), (
        "every point of the curve, its end too, has one sample count"
    )
    page = (report / "index.html").read_text()
    assert "data:image/" in page
    assert (report / "tables" / "novel.tex").is_file()
    copying = list(csv.DictReader((report / "summary" / "memorisation.csv").open()))
    assert len(copying) == 3, "real test images and two methods"


def test_metrics_carry_protocol_cost_and_code_state(finished):
    metrics = json.loads((finished.results / "runs/novel/kind/seed_0/metrics.json").read_text())
    assert metrics["protocol"]["sampling"]["num_inference_steps"] == 3
    assert metrics["protocol"]["reference"]["num_images"] == 60
    assert metrics["parameters"]["trainable"] > metrics["parameters"]["trainable_label_table"] == 4 * 32
    assert set(metrics["provenance"]) >= {"code", "git", "versions"}
    extractor = finished.results / "extractor/extractor.safetensors"
    assert metrics["protocol"]["reference"]["extractor_sha256"] == sha256(extractor)


def test_a_second_run_does_nothing(finished):
    run = finished.snakemake("--dry-run")
    assert run.code == 0
    assert "Nothing to be done" in run.output


def test_where_the_interpreter_and_the_params_file_lie_reruns_nothing(finished, tmp_path):
    """The same results from a virtual environment elsewhere, or with the params file named in full."""
    assert "Nothing to be done" in finished.snakemake("--dry-run", experiment=str(finished.params)).output
    elsewhere = tmp_path / "python"
    elsewhere.symlink_to(sys.executable)
    environment_of_it = {"PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])}
    run = finished.snakemake("--dry-run", python=str(elsewhere), variables=environment_of_it)
    assert "Nothing to be done" in run.output, run.output


def test_a_time_limit_reruns_nothing(finished):
    limits = finished.snakemake("--dry-run", "--set-resources", "finetune:runtime=60", "pretrain:runtime=600")
    assert "Nothing to be done" in limits.output, limits.output


def test_touched_but_equal_inputs_rerun_nothing(copied):
    for name in ("images.npy", "index.npz", "manifest.json"):
        (copied.results / "data/digits" / name).touch()
    (copied.results / "backbones/dense/model.safetensors").touch()
    assert "Nothing to be done" in copied.snakemake("--dry-run").output


def test_a_plan_does_not_read_the_images_but_what_describes_them(copied):
    """More than the profile lets Snakemake hash, as large data sets are; a job would refuse what is no image file."""
    os.truncate(copied.results / "data/digits/images.npy", 5 * 2**30)
    assert "Nothing to be done" in copied.snakemake("--dry-run").output
    manifest = copied.results / "data/digits/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    planned = copied.snakemake("--dry-run").planned
    assert planned == Counter(ALL_JOBS) - Counter({"prepare": 1}), "all that depends on the images"


@pytest.mark.parametrize(
    ("old", "new", "jobs"),
    [
        ("lora: {rank: 4}", "lora: {rank: 5}", {"finetune": 1, "sample": 1, "evaluate": 1, "report": 1, "all": 1}),
        ("curve: [0.5]", "curve: [0.5]\ndescription: other words", {"report": 1, "all": 1}),
        ("checkpoint_seconds: 0.001", "checkpoint_seconds: 9.0", {}),
        ("guidance_scale: 1.5", "guidance_scale: 2.0", {"sample": 2, "evaluate": 2, "report": 1, "all": 1}),
        ("kind: {}", "kind: {}\n  full: {}", {"finetune": 1, "sample": 1, "evaluate": 1, "report": 1, "all": 1}),
    ],
    ids=["a method's option", "the description", "a setting that moves no result", "guidance", "one more method"],
)
def test_a_changed_parameter_reruns_what_depends_on_it(copied, old, new, jobs):
    copied.edit(old, new)
    run = copied.snakemake("--dry-run")
    assert run.code == 0, run.output
    assert run.planned == jobs
    if old.startswith("lora"):
        assert "finetune novel with lora, seed 0" in run.output
        assert "with kind" not in run.output


def test_every_job_can_be_run_again_by_the_command_in_its_log(finished):
    logs = sorted((finished.results / "logs").rglob("*.log"))
    assert len(logs) == sum(ALL_JOBS.values()) - 1
    commands = {log: log.read_text().splitlines()[0].removeprefix("$ ") for log in logs}
    assert all(" -m kind " in command for command in commands.values())
    before = checksums(finished.results)
    log = finished.results / "logs/evaluate/novel.kind.0.log"
    again = subprocess.run(
        shlex.split(commands[log]), cwd=finished.folder, env=environment(), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "already done" in again.stderr
    assert checksums(finished.results) == before


@pytest.mark.parametrize(
    ("stage", "arguments", "result"),
    [
        ("pretrain", ["--backbone", "kind"], "backbones/kind"),
        ("finetune", ["--task", "novel", "--method", "lora", "--seed", "0"], "runs/novel/lora/seed_0"),
    ],
)
def test_a_training_job_killed_in_the_middle_ends_with_the_same_bytes(copied, stage, arguments, result):
    """kill -9 as soon as there is state, then the same command again."""
    folder = copied.results / result
    wanted = checksums(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    command = copied.stage(stage, *arguments)
    state = copied.results / "state" / stage / Path(*arguments[1::2]) / "training.pt"
    process = subprocess.Popen(command, cwd=copied.folder, env=environment(), stderr=subprocess.PIPE)
    wait_for(state, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / f"{stage}.json").exists(), "killed too late to test anything"

    again = subprocess.run(command, cwd=copied.folder, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stdout
    found = checksums(folder)
    assert f"{stage}.json" in found
    differing = {name for name in found if found[name] != wanted[name]}
    assert differing <= {"cost.json"}, "only times and memory may differ"
    assert json.loads((folder / "cost.json").read_text())["resumes"] == 1
    assert not state.exists(), "state of a finished job is removed"


def test_what_is_missing_stops_a_real_run_before_its_first_job(workspace):
    workspace.edit(
        "{type: trained, name: digits, steps: 60, batch_size: 32, learning_rate: 1.0e-2}",
        "{type: inception, weights_path: /none/inception.pth}",
    )
    dry = workspace.snakemake("--dry-run")
    assert dry.code == 0, dry.output
    assert not {"extractor", "fetch"} & set(dry.planned)
    real = workspace.snakemake()
    assert real.code == 2, real.output
    assert "missing on this machine" in real.output
    assert "/none/inception.pth" in real.output
    assert not workspace.results.exists()
    assert workspace.snakemake("--dry-run").code == 0, "no lock is left"


def test_wrong_params_end_in_one_message(workspace):
    workspace.edit("lora: {rank: 4}", "lora: {rnk: 4}\n  bone: {}")
    run = workspace.snakemake("--dry-run")
    assert run.code == 2
    assert "methods.lora.rnk" in run.output
    assert "bone" in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_the_documented_commands_plan_literally(profile):
    run = snakemake("--profile", profile, "--dry-run", "--forceall")
    assert run.code == 0, run.output
    assert run.planned["finetune"] > 0
    assert run.planned["finetune"] == run.planned["sample"] == run.planned["evaluate"]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until the file is there; fails if the process ends first."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read().decode()
        os.sched_yield()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_conda_environment_is_the_lock_file():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert [name.split("=")[0] for name in plain] == ["python", "pip"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert "-r requirements.lock" in (ROOT / "Makefile").read_text()

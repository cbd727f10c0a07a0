"""`python -m kind`: help, and what a person reads who mistyped something."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

import pytest

from kind.__main__ import ON_FILES, STAGES, main, stage_module

ROOT = Path(__file__).parents[1]
RUN = ["--task", "novel", "--method", "full", "--seed", "0"]
CHOSEN = {
    "prepare": ["--data", "digits"],
    "encode": ["--data", "digits"],
    "extractor": [],
    "reference": ["--task", "novel"],
    "pretrain": ["--backbone", "dense"],
    "extract": ["--backbone", "kind"],
    "replay": ["--backbone", "dense"],
    "choose": ["--method", "full"],
    "finetune": RUN,
    "sample": RUN,
    "evaluate": RUN,
    "analyse": ["--analysis", "interference"],
    "report": [],
}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, valid_params):
    """call(*arguments) -> (exit code, stdout, stderr) of the command line, in a folder with the valid small.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(valid_params)
    for library in ("OMP", "OPENBLAS", "MKL"):  # which a stage sets
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")

    def run(*arguments):
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def parser_of(stage: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    stage_module(stage).add_arguments(parser)
    return parser


# --- help -----------------------------------------------------------------------------------------------------


def test_the_overview_lists_every_stage(call):
    for arguments in ([], ["--help"], ["-h"]):
        code, out, _ = call(*arguments)
        assert code == 0
        width = max(map(len, STAGES | ON_FILES))
        assert all(f"  {stage:<{width}}  {text}" in out for stage, text in (STAGES | ON_FILES).items())


def test_every_stage_module_is_in_the_overview():
    modules = {path.stem: path.read_text() for path in (ROOT / "kind" / "stages").glob("*.py")}
    stages = {name.replace("_", "-") for name, text in modules.items() if "\nEXAMPLE = " in text}
    assert stages == set(STAGES | ON_FILES)


@pytest.mark.parametrize("stage", STAGES | ON_FILES)
def test_the_help_of_a_stage_explains_every_argument_and_shows_a_command(call, stage):
    code, out, _ = call(stage, "--help")
    module = stage_module(stage)
    assert code == 0 and f"usage: python -m kind {stage} " in out
    assert module.__doc__.strip() in out and f"example:\n  {module.EXAMPLE}" in out
    for action in parser_of(stage)._actions:
        assert action.help and (action.option_strings or [action.metavar])[-1] in out


@pytest.mark.parametrize("stage", STAGES)
def test_the_example_of_a_stage_is_a_command_of_that_stage_on_the_smoke_experiment(stage):
    """That of `encode` is on a data set of the paper: the smoke experiment has no latents."""
    from kind.params.file import load_experiment

    words = shlex.split(stage_module(stage).EXAMPLE.splitlines()[0])
    assert words[:4] == ["python", "-m", "kind", stage]
    parsed, smoke = parser_of(stage).parse_args(words[4:]), load_experiment(ROOT / "params" / "smoke.yaml")
    for section in ("data", "backbones", "tasks", "methods"):
        name = getattr(parsed, section if section == "data" else section.removesuffix("s"), None)
        assert name is None or name in getattr(smoke, section) or stage == "encode"


@pytest.mark.parametrize("stage", ["extract", *ON_FILES])
def test_every_example_on_files_is_a_command(stage):
    for line in stage_module(stage).EXAMPLE.splitlines():
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "kind", stage]
        parser_of(stage).parse_args(words[4:])


# --- mistakes -------------------------------------------------------------------------------------------------


def test_a_mistyped_stage_names_the_nearest(call):
    code, _, err = call("fintune", "--experiment", "small.yaml")
    assert code == 2 and "error: no stage 'fintune' (did you mean 'finetune'?); stages: prepare, encode, " in err
    code, _, err = call("nonsense")
    assert code == 2 and "error: no stage 'nonsense'; stages: prepare, " in err


def test_missing_and_unknown_arguments(call):
    code, _, err = call("finetune", "--experiment", "small.yaml", "--task", "novel")
    assert code == 2 and "the following arguments are required: --method, --seed" in err
    code, _, err = call("finetune", "--experiment", "small.yaml", *RUN, "--steps", "3")
    assert code == 2 and "unrecognized arguments: --steps 3" in err
    code, _, err = call("finetune", "--experiment", "small.yaml", *RUN[:-1], "first")
    assert code == 2 and "argument --seed: invalid int value: 'first'" in err
    code, _, err = call("report", "--exp", "small.yaml")  # no abbreviations: a later option would make them unclear
    assert code == 2 and "required: --experiment" in err


@pytest.mark.parametrize("stage", STAGES)
def test_an_experiment_that_is_not_there(call, stage):
    code, _, err = call(stage, "--experiment", "smal.yaml", *CHOSEN.get(stage, []))
    assert code == 2 and "error: smal.yaml: no such params file (did you mean 'small'?)" in err


UNKNOWN = [
    ("prepare", ["--data", "digit"], "data has no 'digit' (did you mean 'digits'?); it has digits, letters"),
    ("encode", ["--data", "digits"], "data.digits has no latents: its images are trained on as pixels\n  -> to encode them by a VAE, write data.digits.latents: {}"),
    ("reference", ["--task", "shft"], "tasks has no 'shft' (did you mean 'shift'?); it has novel, shift"),
    ("pretrain", ["--backbone", "dens"], "backbones has no 'dens' (did you mean 'dense'?); it has dense, kind"),
    ("extract", ["--backbone", "dense"], "backbones.dense is of form dense, which has no learngenes\n  -> backbones of form kind: kind"),
    ("finetune", ["--task", "novl", *RUN[2:]], "tasks has no 'novl' (did you mean 'novel'?); it has novel, shift"),
    ("sample", [*RUN[:2], "--method", "lra", *RUN[4:]], "methods has no 'lra' (did you mean 'lora'?); it has kind, full, lora, scratch"),
    ("evaluate", [*RUN[:4], "--seed", "7"], "seeds has no 7; it has 0, 1\n  -> add it to `seeds` to run it"),
    ("evaluate", [*RUN[:4], "--seed", "-1"], "seeds has no -1; it has 0, 1"),
]  # fmt: skip


@pytest.mark.parametrize("stage, chosen, message", UNKNOWN)
def test_a_name_that_the_params_lack(call, stage, chosen, message):
    code, _, err = call(stage, "--experiment", "small.yaml", *chosen)
    assert code == 2 and f"error: small.yaml: {message}" in err


@pytest.mark.parametrize("stage", STAGES)
def test_wrong_params_are_one_message_and_exit_code_2_in_every_stage(call, tmp_path, stage):
    text = (tmp_path / "small.yaml").read_text().replace("rank: 4", "rank: 400").replace("seeds: [0, 1]", "seed: [0]")
    (tmp_path / "small.yaml").write_text(text)
    code, out, err = call(stage, "--experiment", "small.yaml", *CHOSEN.get(stage, []))
    assert code == 2 and out == ""
    assert "error: small.yaml: 3 problems\n  1. 'seed': unknown section (did you mean 'seeds'?)" in err
    assert "\n  3. methods.lora: impossible rank: 400" in err
    assert not (tmp_path / "results").exists()


def test_a_stage_that_an_experiment_has_no_use_for(call, tmp_path):
    text = (tmp_path / "small.yaml").read_text()
    text = text.replace("{type: trained, name: digits}", "{type: inception, weights_path: w.pth}")
    (tmp_path / "small.yaml").write_text(text)
    code, _, err = call("extractor", "--experiment", "small.yaml")
    assert code == 2 and "evaluation.extractor is of type inception: its weights are given, none are trained" in err


@pytest.mark.parametrize("stage", ["prepare", "finetune"])
def test_inputs_or_results_that_are_not_there_or_cannot_be_written(call, tmp_path, stage):
    (tmp_path / "file").write_text("")
    code, _, err = call(stage, "--experiment", "small.yaml", "--results", "file", *CHOSEN[stage])
    last = [line for line in err.splitlines() if not line.startswith("$ ")]
    assert code == 2 and last[0].startswith("error: ") and "file/small/" in last[0]
    if stage == "prepare":
        assert last[0] == f"error: file/small/state/prepare/digits: {os.strerror(20)}"


# --- in order -------------------------------------------------------------------------------------------------


def test_check_says_what_would_run(call):
    code, out, _ = call("check", "--experiment", "small.yaml")
    assert (code, out) == (0, "small.yaml: in order (2 tasks, 4 methods, 16 runs)\n")


def test_check_says_which_classes_a_set_is(call, tmp_path):
    text = (tmp_path / "small.yaml").read_text()
    text = text.replace("  letters: {source: letters, options: {classes: [A, C, E], images_per_class: 40}}",
                        "  letters: {source: glyphs611, options: {part: georgian, images_per_class: 40}}")  # fmt: skip
    (tmp_path / "small.yaml").write_text(text.replace("classes: [A, C, E]", "classes: {of: all, count: 20}"))
    code, out, _ = call("check", "--experiment", "small.yaml")
    first, line = out.splitlines()
    assert (code, first) == (0, "small.yaml: in order (2 tasks, 4 methods, 16 runs)")
    assert line.startswith("  tasks.shift: letters, 20 of the 43 classes of the set all: ")
    assert line.endswith(", ... (20 in all)") and line.count(",") == 13


def test_check_lists_what_the_machine_lacks(call, tmp_path):
    text = (tmp_path / "small.yaml").read_text()
    text = text.replace("{type: trained, name: digits}", "{type: inception, weights_path: /nowhere/w.pth}")
    (tmp_path / "small.yaml").write_text(text)
    code, _, err = call("check", "--experiment", "small.yaml")
    assert (
        code == 2
        and "missing on this machine:\n  - evaluation.extractor.weights_path: /nowhere/w.pth does not exist" in err
    )


@pytest.mark.parametrize(
    "extractor, origin",
    [
        ("inception, weights_path: w.pth", "w.pth, which evaluation.extractor.weights_path names"),
        ("inception", "there.pth, which KIND_INCEPTION names"),
        ("dinov2", "snakemake fetches them; for a stage by hand, or a run without a network, name a folder with"),
    ],
)
def test_check_says_where_weights_of_others_come_from(call, tmp_path, monkeypatch, extractor, origin):
    for name in ("w.pth", "there.pth"):
        (tmp_path / name).touch()
    monkeypatch.setenv("KIND_INCEPTION", "there.pth")
    monkeypatch.delenv("KIND_DINOV2", raising=False)
    text = (tmp_path / "small.yaml").read_text().replace("{type: trained, name: digits}", f"{{type: {extractor}}}")
    (tmp_path / "small.yaml").write_text(text)
    code, out, _ = call("check", "--experiment", "small.yaml")
    assert code == 0 and out.startswith("small.yaml: in order")
    assert f"\n  weights {extractor.partition(',')[0]}: {origin}" in out


def test_a_log_begins_with_the_command_that_repeats_it(call):
    _, _, err = call("check", "--experiment", "small.yaml")
    assert err.splitlines()[0] == f"$ {shlex.quote(sys.executable)} -m kind check --experiment small.yaml"


def test_an_interrupt_says_how_to_go_on(call, monkeypatch):
    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("kind.stages.check.run", stop)
    code, _, err = call("check", "--experiment", "small.yaml")
    assert code == 130 and "stopped; run the same command again to go on" in err and "Traceback" not in err


def test_a_full_disk_is_one_message(call, monkeypatch):
    """The error for a write names no file by itself."""
    from kind.artifacts import atomic_file

    def fill(arguments):
        with atomic_file("results/x.npz"):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("kind.stages.check.run", fill)
    code, _, err = call("check", "--experiment", "small.yaml")
    assert code == 2 and err.splitlines()[-2] == f"error: results/x.npz: {os.strerror(28)}"

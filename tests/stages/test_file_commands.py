"""`extract`, `recombine` and `export` on model files, without an experiment."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import kind
from kind.__main__ import main
from kind.checkpoints import save_backbone
from kind.diffusion import Diffusion
from kind.models.factorized import factorized_layers

CLASSES = ["0", "1", "cat", "3", "9"]


@pytest.fixture
def call(build, tmp_path, monkeypatch, capsys):
    """call(words) -> (exit code, stdout, error lines); `whole` in the working folder is a KIND model."""
    monkeypatch.chdir(tmp_path)
    save_backbone(tmp_path / "whole", build(learngenes=8, tailors=2), CLASSES, Diffusion())

    def run(words: str):
        capsys.readouterr()
        try:
            code = main(words.split())
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, [line for line in captured.err.splitlines() if not line.startswith("$ ")]

    return run


def files():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_a_model_is_taken_apart_put_together_cut_exported_and_taken_back(call, tmp_path):
    assert call("extract whole --output parts")[0] == 0
    tailors = [f"parts/tailors/class_{index:04d}.safetensors" for index in (2, 4)]
    code, out, _ = call(f"recombine parts/learngenes.safetensors {' '.join(tailors)} --output two")
    assert code == 0 and out.splitlines()[-1] == "two: written"
    assert kind.load("two").classes == ("cat", "9")
    code, out, _ = call("recombine whole --classes 9 cat --macs 80% --output small --report kept.csv")
    small, whole = kind.load("small"), kind.load("whole")
    assert code == 0 and small.classes == ("9", "cat") and small.cost["macs"] <= 0.8 * whole.keep(["9"]).cost["macs"]
    before, after = out.splitlines()[1:3]
    assert [f"{whole.cost[key]:,}" in before and f"{small.cost[key]:,}" in after for key in whole.cost] == [True] * 3
    assert "learngenes alone" in out and "class 9" in out
    rows = list(csv.DictReader((tmp_path / "kept.csv").open()))
    assert len(rows) == 12 * 3 and {row["class"] for row in rows} == {"9", "cat", ""}
    assert all(
        int(row["components_after"]) <= int(row["components_before"]) == 8 + 2 * bool(row["class"]) for row in rows
    )
    assert call("export small --output folder")[1].startswith("folder: dense weights and 2 adapters\nguidance: turn")
    assert call("recombine folder --output again")[0] == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "small").read_bytes()


def test_the_rest_of_what_recombine_does(call):
    assert call("recombine whole --learngenes-only --output alone")[0] == 0
    assert kind.load("alone").classes == ()
    for name, chosen in (("a", "9 0"), ("b", "cat")):
        assert call(f"recombine whole --classes {chosen} --output {name}")[0] == 0
    assert call("recombine a b --classes cat 9 --rank 3 --raw-energies --output both")[0] == 0
    both = kind.load("both")
    assert both.classes == ("cat", "9") and both.model.transformer_blocks[1].ff.net[2].num_active(0) <= 3
    assert call("export whole --classes 3 --form dense --output three")[0] == 0
    assert call("export whole --classes 3 --form dense --output three --overwrite")[0] == 0


def test_outputs_and_parts_that_are_there_are_overwritten_when_asked(call):
    assert call("recombine whole --classes 3 --output one")[0] == 0
    assert call("recombine whole --classes 9 --output one --overwrite")[0] == 0
    assert kind.load("one").classes == ("9",)
    assert call("extract whole --output parts")[0] == 0
    code, _, err = call("extract one --output parts")
    assert code == 2 and err[0] == "error: parts: holds parts already"
    assert kind.load("parts").classes == tuple(CLASSES)
    assert call("extract one --output parts --overwrite")[0] == 0
    assert kind.load("parts").classes == ("9",)
    Path("parts/tailors/mine.safetensors").write_bytes(Path("one").read_bytes())
    code, _, err = call("extract whole --output parts --overwrite")
    assert code == 2 and "mine.safetensors: is none of the parts that may be overwritten" in err[0]


def test_classes_that_a_budget_leaves_without_tailors_are_named(call):
    _, out, _ = call("recombine whole --classes 3 --rank 9 --output most")
    assert "warning" not in out and "learngenes  tailors" in out
    model = kind.load("whole")
    with torch.no_grad():
        for _, layer in factorized_layers(model.model):
            layer.tailor_s[layer.rows_of_owner(3)] *= 1e-6
            layer.tailor_s[layer.rows_of_owner(2)] *= 1e3
    model.save("faint")
    _, out, _ = call("recombine faint --classes 3 cat --rank 8 --output few")
    assert "warning: no tailors are left of class 3: only its label tells it from others" in out
    row = next(line for line in out.splitlines() if line.startswith("class 3 ")).split()
    assert int(row[2]) > 0 and row[3] == "0"


MISTAKES = [
    ("recombine nothing --output x", "nothing: no such file"),
    ("recombine whole --classes cta --output x", "the model has no class 'cta' (did you mean 'cat'?); it has 0, 1, cat, 3, 9"),
    ("recombine whole --parameters 10 --output x", "a budget of 10 parameters cannot be met: what is not factorized takes"),
    ("recombine whole --parameters 1% --output x", "a budget of"),
    ("recombine whole whole --output x", "class '0', '1', '3', '9', 'cat' is in more than one of the models"),
    ("recombine whole --null-row-of 2 --output x", "--null-row-of 2: there are 1 models, counted from 1"),
    ("recombine whole --raw-energies --output x", "--raw-energies and --report go with a budget"),
    ("recombine whole --output whole", "whole: is read by this command; write to another file"),
    ("recombine whole --output folder", "folder: is a folder, where the name of a file"),
    ("recombine text --output x", "text: not a whole safetensors file"),
    ("recombine folder --output x", "folder: holds no model"),
    ("export whole --form dense --output x", "one set of dense weights cannot hold the tailors of 5 classes"),
    ("export whole --output folder", "folder: holds something else than an export already"),
    ("extract", "extract is given neither a model file nor an experiment"),
    ("extract whole", "extract is given no --output"),
    ("extract --output x", "extract is given no MODEL"),
    ("extract --experiment smoke", "extract is given no --backbone"),
    ("extract whole --output x --backbone kind", "extract is given a model file and an experiment"),
    ("extract whole --start whole --output x", "whole: is whole, and needs no start"),
    ("recombine whole --start whole --output x", "whole: is whole, and needs no start"),
    ("recombine whole dense --start whole --output x", "none of the models needs --start"),
    ("recombine folder/../whole --output whole", "whole: is read by this command; write to another file"),
    ("recombine link --output whole", "whole: is read by this command; write to another file"),
    ("recombine backbone --output backbone/model.safetensors", "backbone/model.safetensors: lies in backbone, which this command reads"),
    ("recombine backbone --output backbone/small", "backbone/small: lies in backbone, which this command reads"),
    ("recombine whole --start dense --output dense", "dense: is read by this command; write to another file"),
    ("recombine whole --output dense", "dense: is there already"),
    ("recombine whole --output dense --overwrite --rank 3 --report whole", "whole: is read by this command"),
    ("recombine whole --output x --rank 3 --report x", "x: is read by this command"),
    ("recombine whole --output x --rank 3 --report dense", "dense: is there already"),
    ("export whole --start dense --output x", "whole: is whole, and needs no start"),
    ("extract dense --output x", "the model: a dense backbone has no learngenes"),
]  # fmt: skip


@pytest.mark.parametrize("words, message", MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_message_and_leaves_nothing(call, build, tmp_path, words, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "text").write_text("not tensors at all")
    save_backbone(tmp_path / "dense", build(), CLASSES, Diffusion())
    save_backbone(tmp_path / "backbone" / "model.safetensors", build(learngenes=8, tailors=2), CLASSES, Diffusion())
    (tmp_path / "link").symlink_to("whole")
    before = files()
    code, _, err = call(words)
    assert code == 2 and err[0].startswith(f"error: {message}"), err
    assert files() == before


@pytest.mark.parametrize("words, message", [
    ("recombine whole --parameters much --output x", "argument --parameters: 'much' is no amount: give 120000, 45.4M"),
    ("recombine whole --macs 5% --rank 3 --output x", "argument --rank: not allowed with argument --macs"),
    ("recombine --output x", "the following arguments are required: MODEL"),
    ("export whole", "the following arguments are required: --output"),
    ("exprot whole", "no stage 'exprot' (did you mean 'export'?)"),
])  # fmt: skip
def test_arguments_that_say_nothing(call, words, message):
    code, _, err = call(words)
    assert code == 2 and message in err[-1]


def test_amounts():
    from kind.stages.model_arguments import amount

    found = [amount(text) for text in ("120000", "120_000", "1,200", "45.4M", "2k", "1.5G", "50%", "0.5", ".25", "1")]
    assert found == [120000, 120000, 1200, 45_400_000, 2000, 1_500_000_000, 0.5, 0.5, 0.25, 1]
    assert isinstance(amount("1"), int) and isinstance(amount("100%"), float)

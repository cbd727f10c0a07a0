"""Runs that need more than their backbone: replayed images (Diff-Tuning) and other runs (soups), stage by stage."""

from __future__ import annotations

import shutil

import pytest
import torch
import yaml
from tiny_experiment import TINY, Experiment, run_commands

from kind.artifacts import load_arrays, load_tensors, read_json, save_arrays

METHODS = {
    "full": {},
    "full-fast": {"method": "full", "learning_rate": 1e-2},
    "lora-a": {"method": "lora", "rank": 2},
    "lora-b": {"method": "lora", "rank": 3},
    "full-diff": {"method": "full", "objective": "diff-tuning"},
    "soup": {"of": ["full", "full-fast"]},
    "greedy": {"method": "soup", "of": ["lora-a", "lora-b"], "choose": "greedy"},
}
AT = ["--task", "novel", "--seed", "0", "--method"]


@pytest.fixture(scope="module")
def more(tiny, tmp_path_factory) -> Experiment:
    """The tiny experiment with other methods, on the same data and backbones."""
    folder = tmp_path_factory.mktemp("more")
    content = yaml.safe_load(TINY) | {"methods": METHODS, "replay": {"num_images": 7, "num_inference_steps": 2}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    for part in ("data", "backbones"):
        shutil.copytree(tiny.results / part, folder / "results" / "tiny" / part)
    found = Experiment(folder, folder / "results" / "tiny", {})
    stages = [["replay", "--backbone", "dense"], *(["finetune", *AT, label] for label in METHODS)]
    run_commands(folder, [found.command(*stage) for stage in [*stages, ["sample", *AT, "soup"]]])
    return found


def adapted(more, label, step="step_000003"):
    return load_tensors(more.results / "adapters" / "novel" / label / "seed_0" / f"{step}.safetensors")


def test_replayed_images_are_drawn_once_and_change_what_is_learned(more):
    drawn = load_arrays(more.results / "backbones" / "dense" / "replay.npz")
    assert drawn["arr_0"].shape == (7, 8, 8, 1) and drawn["arr_0"].dtype == "uint8"
    assert drawn["arr_1"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    plain, replaying = adapted(more, "full"), adapted(more, "full-diff")
    assert any(not torch.equal(plain[0][name], replaying[0][name]) for name in plain[0])
    assert replaying[1]["options"]["objective"] == "diff-tuning"
    assert "objective" not in plain[1]["options"]


def test_replayed_images_of_another_size_are_refused(more, cli):
    path = more.results / "backbones" / "dense" / "replay.npz"
    whole, record = path.read_bytes(), path.with_name("replay.json")
    kept = record.read_bytes()
    try:
        record.unlink()
        arrays = load_arrays(path)
        save_arrays(path, arr_0=arrays["arr_0"][:, :4], arr_1=arrays["arr_1"])
        done = cli(*more.command("finetune", *AT, "full-diff"), folder=more.folder)
    finally:
        path.write_bytes(whole)
        record.write_bytes(kept)
    assert done.returncode == 2
    assert "images of (height, width, channels) (4, 8, 1), but the model takes (8, 8, 1)" in done.stderr
    assert "run the stage replay again" in done.stderr


@pytest.mark.parametrize("step", ["step_000001", "step_000003", "raw"])
def test_a_soup_is_the_mean_of_its_members(more, step):
    (found, header), first, second = (adapted(more, label, step) for label in ("soup", "full", "full-fast"))
    assert header["method"] == "soup"
    assert found.keys() == first[0].keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (first[0][name] + second[0][name]) / 2)
    record = read_json(more.results / "runs" / "novel" / "soup" / "seed_0" / "finetune.json")
    assert record["soup"]["kept"] == ["full", "full-fast"]
    assert record["training"]["learning_rate"] is None


def test_a_greedy_soup_of_adapters_averages_matrices_and_says_what_it_kept(more):
    record = read_json(more.results / "runs" / "novel" / "greedy" / "seed_0" / "finetune.json")["soup"]
    assert record["of"] == ["lora-a", "lora-b"]
    assert record["held_out_loss"] <= min(record["held_out_losses"])
    best = record["of"][record["held_out_losses"].index(min(record["held_out_losses"]))]
    assert record["kept"][0] == best
    tensors, _ = adapted(more, "greedy")
    assert "transformer_blocks.0.attn1.to_q.weight" in tensors
    assert not any("lora" in name for name in tensors)


def test_a_soup_costs_what_its_members_cost(more):
    soup, *members = (
        read_json(more.results / "runs" / "novel" / label / "seed_0" / "cost.json")
        for label in ("soup", "full", "full-fast")
    )
    assert soup["train_seconds"] == sum(one["train_seconds"] for one in members)
    assert (more.results / "samples" / "novel" / "soup" / "seed_0" / "step_000003" / "shard_001.npz").is_file()

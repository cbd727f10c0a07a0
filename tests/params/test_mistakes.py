"""Every mistake in a params file is told in words that say where, what was given and what is allowed."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import pytest
from wrong_keys_and_values import UNKNOWN_KEYS, WRONG_VALUES

SOFT = {"form": "kind", "gate": "soft", "num_learngenes": 20, "num_tailors": 12}

COMBINATIONS = [
    ("tasks.novel.classes", [2, 7], "tasks.novel.classes: '2' also in pretrain.classes; a task's classes must be new "
     "to the backbone; where nothing is trained, all are known: `seen: true`"),
    ("tasks.novel.classes", [7, "7"], "tasks.novel.classes: '7' is named twice"),
    ("pretrain.classes", [0, 1, 0], "pretrain.classes: '0' is named twice"),
    ("tasks.novel.classes", [7, 11], "tasks.novel.classes: digits has no class '11' (did you mean '1'?); classes: 0, "
     "1, 2, 3, 4, 5, 6, 7, 8, 9"),
    ("tasks.novel.data", "digitss", "tasks.novel.data: no data set 'digitss' (did you mean 'digits'?); data sets: "
     "digits, letters"),
    # half of 174 eights, exactly; half of 179 sevens is 89.5, which the larger remainder of test (71.6) beats
    ("tasks.novel.images_per_class", 90, "tasks.novel.images_per_class: 90 asked, but digits has fewer training images: "
     "'7' 89 (of 179), '8' 87 (of 174); split.train is 0.5"),
    ("tasks.novel.images_per_class", 88, "tasks.novel.images_per_class: 88 asked, but digits has fewer training images: "
     "'8' 87 (of 174); split.train is 0.5"),
    ("data.digits.split.test", 0.5, "data.digits.split: train 0.5 + validation 0.1 + test 0.5 = 1.1; the sum must "
     "be 1"),
    ("data.digits.split.test", 0.401, "data.digits.split: train 0.5 + validation 0.1 + test 0.401 = 1.001; the sum must "
     "be 1"),
    ("data.letters.split", {"train": 0.3, "validation": 0.005, "test": 0.695}, "data.letters.split: leaves no "
     "validation images of 'A' (40 images), 'C' (40 images), 'E' (40 images); ask for more images or give "
     "larger shares"),
    ("methods.scratch.objective", "diff-tuning", "methods.scratch.objective: diff-tuning trains on samples of the backbone that the method starts from, and scratch starts from none; leave it out"),
    ("methods.lora.objective", "diff", "methods.lora.objective: 'diff' is not allowed; allowed: 'standard' or 'diff-tuning'"),
    ("methods.soup", {"of": ["full", "lora"]}, "methods.soup.of: entries of one method are averaged, found full (full), lora (lora)"),
    ("methods.soup", {"of": ["full", "lorra"]}, "methods.soup.of: no method entry 'lorra' (did you mean 'lora'?); entries: full, kind, lora, scratch, soup"),
    ("methods.soup", {"of": ["full", "full"]}, "methods.soup.of: 'full' is named twice"),
    ("methods.soup", {"of": ["full", "soup"]}, "methods.soup.of: soup is a soup itself; name the entries that it is made of"),
    ("methods.soup", {"of": ["full", "kind"]}, "methods.soup.of: kind is of method kind, whose result is no plain dense model"),
    ("methods.soup", {"of": ["full"]}, "methods.soup.of: expected 2 or more entries, found ['full']"),
    ("replay", {"sampler": "ddim"}, "replay.timestep_spacing: linspace is wrong for ddim, which steps by a fixed stride and not along the list; write leading or trailing"),
    ("methods.lora.rank", 33, "methods.lora: impossible rank: 33 exceeds the rank 32 of a matrix of width 32"),
    ("backbones.kind.num_tailors", 13, "backbones.kind: impossible rank: num_learngenes 20 + num_tailors 13 = 33 "
     "components are active, but a matrix of width 32 has rank at most 32"),
    ("backbones.kind.num_tailors", 5, "backbones.kind: impossible rank: num_learngenes 20 + 3 classes x num_tailors 5 "
     "= 35 components exceed the rank 32 of a matrix of width 32; lower them or say `overcomplete: true`"),
    ("backbones.kind.matrices", ["q", "adaln", "q"], "backbones.kind.matrices: 'q' is named twice"),
    ("backbones.kind.matrices", ["q", "adaline"], "backbones.kind.matrices.1: 'adaline' is not allowed (did you mean "
     "'adaln'?); allowed: 'adaln', 'q', 'k', 'v', 'o', 'in' or 'out'"),
    ("backbones.kind.ranks", {"adaln": {"num_tailors": 1}}, "backbones.kind.ranks: 'adaln' is not factorized; matrices: "
     "q, k, v, o, in, out"),
    ("backbones.kind.ranks", {"o": {"num_learngenes": 29}}, "backbones.kind.ranks.o: impossible rank: num_learngenes 29 "
     "+ num_tailors 4 = 33 components are active, but a matrix of width 32 has rank at most 32"),
    ("backbones.kind.ranks", {"o": {"num_learngene": 2}}, "backbones.kind.ranks.o.num_learngene: unknown key (did you "
     "mean 'num_learngenes'?); allowed: num_learngenes, num_tailors"),
    ("backbones.kind.ranks", {"p": {"num_learngenes": 2}}, "backbones.kind.ranks.p: 'p' is not allowed; allowed: "
     "'adaln', 'q', 'k', 'v', 'o', 'in' or 'out'"),
    ("backbones.kind.groups", {"round": {"classes": [0], "num_tailor": 1, "num_tailors": 1}}, "backbones.kind.groups."
     "round.num_tailor: unknown key (did you mean 'num_tailors'?); allowed: classes, num_tailors"),
    ("backbones.kind.class_tailors", {"2": 13}, "backbones.kind: impossible rank: num_learngenes 20 + 13 tailors of "
     "class '2' = 33 components are active, but a matrix of width 32 has rank at most 32"),
    ("backbones.kind.class_tailors", {"2": 5}, "backbones.kind: impossible rank: num_learngenes 20 + 13 tailors of "
     "classes and groups = 33 components exceed the rank 32 of a matrix of width 32; lower them or say `overcomplete: "
     "true`"),
    ("backbones.kind.class_tailors", {"3": 1}, "backbones.kind.class_tailors: no pre-training class '3'; classes: 0, 1, "
     "2"),
    ("backbones.kind.groups", {"round": {"classes": [0, 3], "num_tailors": 1}}, "backbones.kind.groups.round.classes: no "
     "pre-training class '3'; classes: 0, 1, 2"),
    ("backbones.kind.groups", {"round": {"classes": [0, 0], "num_tailors": 1}}, "backbones.kind.groups.round.classes: "
     "'0' is named twice"),
    ("backbones.kind.groups", {"round": {"classes": [0, 1], "num_tailors": 9}}, "backbones.kind: impossible rank: "
     "num_learngenes 20 + 13 tailors of class '0' = 33 components are active, but a matrix of width 32 has rank at most "
     "32"),
    ("backbones.kind.start", "dens", "backbones.kind.start: no backbone 'dens' (did you mean 'dense'?); backbones: "
     "dense, kind"),
    ("backbones.kind.start", "kind", "backbones.kind.start: 'kind' is of form kind; a start is of form dense"),
    ("backbones.kind.gate_scale", "none", "backbones.kind.gate_scale: is of a soft gate; leave it out, or say `gate: "
     "soft`"),
    ("backbones.kind.gate", "dynamic", "backbones.kind.gate: 'dynamic' is not allowed; allowed: 'binary' or 'soft'"),
    ("backbones.soft", {**SOFT, "num_tailors": 13}, "backbones.soft: impossible rank: num_learngenes 20 + num_tailors 13 "
     "= 33 components are active, but a matrix of width 32 has rank at most 32"),
    ("backbones.soft", {**SOFT, "num_tailors": 0}, "backbones.soft.num_tailors: 0 tailors leave a soft gate nothing to "
     "share out; give 1 or more"),
    ("backbones.soft", {**SOFT, "class_tailors": {"2": 1}}, "backbones.soft.class_tailors: behind a soft gate no class "
     "owns tailors; leave it out, or say `gate: binary`"),
    ("backbones.soft", {**SOFT, "ranks": {"o": {"num_tailors": 1}}}, "backbones.soft.ranks.o.num_tailors: a soft gate "
     "has one row of shares for all matrices, and so one number of tailors; leave it out"),
    ("backbones.soft", {**SOFT, "gate_hidden": [0]}, "backbones.soft.gate_hidden.0: must be at least 1, found 0"),
    ("methods.divgate", {}, "methods.divgate.backbone: no backbone 'kind-soft' (did you mean 'kind'?); backbones: dense, kind (divgate starts "
     "from 'soft' unless `backbone` names another)"),
    ("methods.divgate", {"backbone": "kind"}, "methods.divgate.backbone: 'kind' is of form kind, but divgate needs form "
     "soft"),
    ("backbones.kind", {**SOFT, "num_tailors": 2}, "methods.kind.backbone: 'kind' is of form soft, but kind needs form "
     "kind"),
    ("embedding", {"path": "clip.pt"}, r"embedding.path: does not match the pattern \.(npz|safetensors)$, found "
     "'clip.pt'"),
    ("embedding", {"side": 9}, "embedding.side: must be at most 8, found 9"),
    ("methods.control", {"method": "kind-dense", "num_learngenes": 8, "tailor_start": "mean"}, "methods.control: "
     "tailor_start 'mean' begins with the tailors of the pre-training classes, and its backbone has none; write random "
     "or zero"),
    ("compute", {"recompute": "block"}, "compute.recompute: 'block' is not allowed (did you mean 'blocks'?); allowed: "
     "'nothing', 'hidden' or 'blocks'"),
    ("compute", {"processes": {"pretrain": 3}, "accumulation": 3}, "pretrain.batch_size: 8 images are fewer than the "
     "parts they are divided into, compute.processes.pretrain 3 x compute.accumulation 3"),
    ("compute", {"processes": {"finetune": 99}}, "finetune.batch_size: 8 images are fewer than the parts they are "
     "divided into, compute.processes.finetune 99 x compute.accumulation 1"),
    ("compute", {"processes": 2}, "compute.processes: expected a mapping, found 2"),
    ("compute", {"processes": {"sample": 2}}, "compute.processes.sample: unknown key; allowed: pretrain, finetune"),
    ("compute", {"precision": "tf23"}, "compute.precision: 'tf23' is not allowed (did you mean 'tf32'?); allowed: "
     "'auto', 'float32', 'tf32' or 'bfloat16'"),
    ("methods.kind.num_tailors", 13, "methods.kind: impossible rank: 20 learngenes + 13 tailors a class = 33 active "
     "components exceed the rank 32; lower num_tailors or tailor_budget"),
    ("methods.kind", {"num_tailors": 1, "tailor_budget": 3}, "methods.kind: num_tailors and tailor_budget are two ways "
     "to say one thing; give one"),
    ("methods.full", {"backbone": "dens"}, "methods.full.backbone: no backbone 'dens' (did you mean 'dense'?); "
     "backbones: dense, kind (full starts from 'dense' unless `backbone` names another)"),
    ("methods.full", {"backbone": "kind"}, "methods.full.backbone: 'kind' is of form kind, but full needs form dense"),
    ("methods.kind", {"backbone": "dense"}, "methods.kind.backbone: 'dense' is of form dense, but kind needs form "
     "kind"),
    ("model.num_heads", 5, "model: width 32 is no multiple of num_heads 5"),
    ("model", {"preset": "micro/2", "width": 34}, "model: width 34 is no multiple of 4, which the position embedding "
     "needs"),
    ("finetune.warmup_steps", 9, "finetune.warmup_steps: 9 exceeds finetune.steps 8"),
    ("pretrain.warmup_steps", 11, "pretrain.warmup_steps: 11 exceeds pretrain.steps 10"),
    ("sampling.num_samples", 2, "sampling.num_samples: 2 is fewer than the 3 classes of task shift"),
    ("sampling.curve_num_samples", 2, "sampling.curve_num_samples: 2 is fewer than the 3 classes of task shift"),
    ("sampling.shard_size", 15, "sampling.shard_size: 15 is no multiple of sampling.batch_size 10, so that a batch "
     "would lie in two shards; write 20"),
    ("sampling.num_samples", 10**18, "sampling.shard_size: 1000000000000000000 samples in shards of 10000 are more than "
     "100000 files; write at least 10000000000000, or lower num_samples"),
    ("sampling.num_inference_steps", 1001, "sampling.num_inference_steps: 1001 exceeds diffusion.num_train_timesteps "
     "1000"),
    ("evaluation.extractor.name", "svc", "evaluation.extractor.name: this name is taken; choose another, found 'svc'"),
    ("sampling.weights", "raw", "sampling.weights: raw weights are kept of the last step only, so that a curve would mix "
     "two models; write evaluation.curve: [] or weights: ema"),
    ("sampling.timestep_spacing", "linspace", "sampling.timestep_spacing: linspace is wrong for ddim, which steps by a "
     "fixed stride and not along the list; write leading or trailing"),
    # letters: 3 classes x 0.35 x 40 = 42 test images; digits: 0.4 x 179 -> 71, 0.4 x 174 -> 70
    ("evaluation.num_reference", 43, "evaluation.num_reference: 43 asked, but the test images of task shift are 42"),
]  # fmt: skip


CASES = UNKNOWN_KEYS + WRONG_VALUES + COMBINATIONS


@pytest.mark.parametrize("key, value, line", CASES, ids=[f"{key}={value}" for key, value, _ in CASES])
def test_one_mistake_gives_one_line(complain, tmp_path, key, value, line):
    path = tmp_path / "small.yaml"
    assert complain(**{key: value}) == (
        f"{path}: 1 problem\n  1. {line}\n  -> mend {path} and run the same command again"
    )


FINE = [
    ("sampling.shard_size", 20),
    ("sampling.shard_size", 1005),  # everything in one shard, whatever the batch size
    ("tasks.novel.images_per_class", 87),
    ("evaluation.num_reference", 42),
    ("evaluation.num_reference", None),
    ("finetune.warmup_steps", 8),
    ("compute", {"processes": {"pretrain": 2}, "accumulation": 4}),
    ("finetune.learning_rate", 1),  # a whole number where any number goes
    ("methods.lora.rank", 32),
    ("methods.kind.num_tailors", 12),
    ("backbones.kind.overcomplete", True),
    ("backbones.kind.matrices", ["adaln", "q"]),
    ("backbones.kind.ranks", {"o": {"num_learngenes": 2}, "in": {"num_tailors": 3}}),
    ("backbones.kind.class_tailors", {0: 0, "2": 8}),
    ("backbones.kind.start", "dense"),
    ("backbones.kind.start", None),
    ("pretrain.classes", ["0", 1, "2"]),
    ("backbones.soft", SOFT),  # 20 + 12 in all, however many classes there are
    ("backbones.soft", {**SOFT, "gate_hidden": [], "gate_scale": "none", "ranks": {"o": {"num_learngenes": 2}}}),
    ("methods.kind.tailor_start", "nearest"),
    ("embedding", {"path": "vectors.safetensors"}),
    ("data.letters.split", {"train": 0.1, "validation": 0.2, "test": 0.7}),  # 0.1 + 0.2 + 0.7 is not quite 1 in floats
]


@pytest.mark.parametrize("key, value", FINE)
def test_what_is_at_the_edge_passes(load, key, value):
    load(**{key: value})


def test_shots_are_counted_as_the_split_makes_them(complain, load):
    """181 sixes: half are 90.5; the largest remainder gives training 91, where a floor would say 90."""
    load(**{"tasks.novel.classes": [6], "tasks.novel.images_per_class": 91})
    assert "92 asked, but digits has fewer training images: '6' 91 (of 181)" in complain(
        **{"tasks.novel.images_per_class": 92}
    )


def test_an_overcomplete_backbone_may_hold_more_than_the_rank_but_not_use_more(load, complain):
    load(**{"methods.kind.num_tailors": 1, "backbones.kind.overcomplete": True, "backbones.kind.num_tailors": 12})
    assert "33 components are active" in complain(**{"backbones.kind.num_tailors": 13})


def test_all_mistakes_of_a_file_come_together(complain):
    message = complain(
        **{
            "pretrain.setps": 4,
            "finetune.learning_rate": "1e-4",
            "tasks.novel.classes": [1, 7],
            "tasks.novel.images_per_class": 500,
            "methods.lorra": {},
            "methods.lora.rank": 64,
            "sampling.clip_sample": 1,
            "seeds": [0, 0],
        }
    )
    found = message.splitlines()
    assert found[0].endswith("small.yaml: 8 problems") and found[-1].startswith("  -> mend ")
    wanted = [
        "pretrain.setps: unknown key (did you mean 'steps'?)",
        "finetune.learning_rate: '1e-4' is text",
        "methods: no method 'lorra'",
        "sampling.clip_sample: expected true or false, found 1",
        "seeds: 0 is named twice",
        "tasks.novel.classes: '1' also in pretrain.classes",
        "tasks.novel.images_per_class: 500 asked, but digits has fewer training images: '1' 91",
        "methods.lora: impossible rank: 64",
    ]
    assert len(found) == len(wanted) + 2
    for number, start in enumerate(wanted, 1):
        assert found[number].startswith(f"  {number}. {start}")


def test_a_mistake_gives_no_second_message_about_its_consequences(complain):
    """A share that is text: nothing about the sum, shots or references of that data set."""
    message = complain(**{"data.digits.split.train": "0.7", "tasks.novel.images_per_class": 100})
    assert message.splitlines()[1:-1] == [
        "  1. data.digits.split.train: '0.7' is text to YAML, not a number; write 0.7"
    ]


def test_a_problem_of_some_tasks_only_names_them(complain):
    """A budget of 26 is 13 for each of two classes and 8 for each of three: 20 + 13 > 32, 20 + 8 is not."""
    message = complain(**{"methods.kind.tailor_budget": 26})
    assert "1 problem\n" in message and "13 tailors a class" in message and "(task novel)" in message

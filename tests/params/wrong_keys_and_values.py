"""Keys and values of a params file that are wrong by themselves, with the line that says so."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from kind.data.sources import SOURCES
from kind.methods import METHODS

SECTIONS = (
    "description, seeds, compute, data, model, diffusion, embedding, backbones, pretrain, tasks, finetune, methods, tune, "
    "ablations, replay, sampling, evaluation, analyses"
)
TRAINING = (
    "steps, batch_size, learning_rate, warmup_steps, learning_rate_schedule, weight_decay, gradient_clip, ema_decay, "
    "label_dropout, log_every"
)
KIND_KEYS = "form, num_learngenes, num_tailors, null_gate, overcomplete, matrices, ranks, class_tailors, groups, start, gate, gate_hidden, gate_scale"
LETTERS_KEYS = "classes, images_per_class, size, faces, max_rotation, max_shear, min_scale, max_scale, max_shift, seed"

# key, new value (... deletes), the one line of the message
UNKNOWN_KEYS = [
    ("modle", {}, f"'modle': unknown section (did you mean 'model'?); allowed: {SECTIONS}"),
    ("name", "x", "name: not a key; an experiment's name is its file's name"),
    (
        "compute",
        {"thread": 1},
        "compute.thread: unknown key (did you mean 'threads'?); allowed: threads, device, precision, "
        "checkpoint_seconds, spare_seconds, slices, recompute, accumulation, processes, compile, deterministic, workers, "
        "sampling_jobs, feature_jobs",
    ),
    (
        "data.digits.sauce",
        1,
        "data.digits.sauce: unknown key (did you mean 'source'?); allowed: source, options, split, flips, latents, "
        "copies_of_pretraining",
    ),
    (
        "data.digits.split.tset",
        0.1,
        "data.digits.split.tset: unknown key (did you mean 'test'?); allowed: train, validation, test, seed",
    ),
    ("data.digits.options", {"sise": 8}, "data.digits.options.sise: unknown key (did you mean 'size'?); allowed: size"),
    (
        "data.letters.options.sise",
        8,
        f"data.letters.options.sise: unknown key (did you mean 'size'?); allowed: {LETTERS_KEYS}",
    ),
    (
        "model.dept",
        2,
        "model.dept: unknown key (did you mean 'depth'?); allowed: preset, depth, width, num_heads, patch_size",
    ),
    ("backbones.dense.num_tailors", 2, "backbones.dense.num_tailors: unknown key; allowed: form"),
    (
        "backbones.kind.num_tailor",
        2,
        f"backbones.kind.num_tailor: unknown key (did you mean 'num_tailors'?); allowed: {KIND_KEYS}",
    ),
    (
        "pretrain.class",
        [1],
        f"pretrain.class: unknown key (did you mean 'classes'?); allowed: {TRAINING}, data, classes, seed",
    ),
    (
        "tasks.novel.guidance",
        2.0,
        "tasks.novel.guidance: unknown key (did you mean 'guidance_scale'?); allowed: data, classes, "
        "images_per_class, seed, guidance_scale, seen",
    ),
    (
        "finetune.stpes",
        2,
        f"finetune.stpes: unknown key (did you mean 'steps'?); allowed: {TRAINING}, label_table",
    ),
    (
        "methods.lora.rang",
        2,
        "methods.lora.rang: unknown key (did you mean 'rank'?); allowed: learning_rate, objective, backbone, rank, alpha",
    ),
    ("methods.scratch.backbone", "dense", "methods.scratch.backbone: unknown key; allowed: learning_rate, objective"),
    (
        "evaluation.extractor.feature_dims",
        2,
        "evaluation.extractor.feature_dims: unknown key (did you mean 'feature_dim'?); allowed: type, name, "
        "feature_dim, steps, batch_size, learning_rate, seed",
    ),
    (
        "evaluation.extractor",
        {"type": "inception", "weights_path": "w", "name": "x"},
        "evaluation.extractor.name: unknown key; allowed: type, weights_path",
    ),
]

WRONG_VALUES = [
    ("finetune.learning_rate", "1e-4", "finetune.learning_rate: '1e-4' is text to YAML, not a number; write 1.0e-4"),
    ("pretrain.learning_rate", "3e-5", "pretrain.learning_rate: '3e-5' is text to YAML, not a number; write 3.0e-5"),
    ("methods.full", {"learning_rate": "2.5e-4"}, "methods.full.learning_rate: '2.5e-4' is text to YAML, not a number; "
     "write 2.5e-4"),
    ("methods.lora.rank", "4", "methods.lora.rank: '4' is text to YAML, not a number; write 4"),
    ("finetune.steps", "1e6", "finetune.steps: '1e6' is text to YAML, not a number; write 1000000"),
    ("finetune.steps", "0.5", "finetune.steps: expected a whole number, found '0.5'"),
    ("finetune.steps", "many", "finetune.steps: expected a whole number, found 'many'"),
    ("finetune.steps", 8.0, "finetune.steps: expected a whole number, found 8.0"),
    ("finetune.steps", float("inf"), "finetune.steps: expected a whole number, found inf"),
    ("finetune.steps", True, "finetune.steps: expected a whole number, found True"),
    ("finetune.steps", None, "finetune.steps: expected a whole number, found nothing"),
    ("finetune.steps", 0, "finetune.steps: must be at least 1, found 0"),
    ("finetune.steps", 2**63, "finetune.steps: must be at most 9223372036854775807, found 9223372036854775808"),
    ("finetune.learning_rate", [1.0], "finetune.learning_rate: expected a number, found [1.0]"),
    ("finetune.learning_rate", 0, "finetune.learning_rate: must be greater than 0, found 0"),
    ("finetune.learning_rate", float("nan"), "finetune.learning_rate: expected a finite number, found nan"),
    ("finetune.ema_decay", 1.0, "finetune.ema_decay: must be less than 1, found 1.0"),
    ("finetune.ema_decay", -0.1, "finetune.ema_decay: must be at least 0, found -0.1"),
    ("finetune.gradient_clip", float("inf"), "finetune.gradient_clip: expected a finite number, found inf"),
    ("sampling.clip_sample", "yes", "sampling.clip_sample: expected true or false, found 'yes'"),
    ("sampling.guidance_scale", 0.5, "sampling.guidance_scale: must be at least 1, found 0.5"),
    ("sampling.sampler", "dpmm", "sampling.sampler: 'dpmm' is not allowed (did you mean 'dpm'?); allowed: 'ddpm', "
     "'ddim' or 'dpm'"),
    ("model.preset", "tiny/3", "model.preset: 'tiny/3' is not allowed (did you mean 'tiny/2'?); allowed: 'S/2', 'B/2', "
     "'L/2', 'XL/2', 'tiny/2' or 'micro/2'"),
    ("description", 5, "description: expected text, found 5; put it in quotes"),
    ("seeds", [], "seeds: expected 1 or more entries, found []"),
    ("seeds", [0, -1], "seeds.1: must be at least 0, found -1"),
    ("seeds", [3, 3, 4], "seeds: 3 is named twice"),
    ("seeds", 2, "seeds: expected a list, found 2"),
    ("seeds", ["1"], "seeds.0: '1' is text to YAML, not a number; write 1"),
    ("pretrain.classes", [False, 1], "pretrain.classes.0: YAML reads this as false; put the name in quotes"),
    ("tasks.shift.classes", ["A", True], "tasks.shift.classes.1: YAML reads this as true; put the name in quotes"),
    ("tasks.shift.classes", ["A", 1.5], "tasks.shift.classes.1: expected text, found 1.5; put it in quotes"),
    ("tasks.shift.classes", ["A", ""], "tasks.shift.classes.1: must not be empty"),
    ("tasks.shift.classes", [], "tasks.shift.classes: expected 1 or more entries, found []"),
    ("tasks.shift.images_per_class", 0, "tasks.shift.images_per_class: must be at least 1, found 0"),
    ("evaluation.curve", [0.5, 1.0], "evaluation.curve.1: must be less than 1, found 1.0"),
    ("evaluation.extractor.name", "Big", "evaluation.extractor.name: does not match the pattern ^[a-z][a-z0-9]*$, "
     "found 'Big'"),
    ("evaluation.extractor.type", "trainde", "evaluation.extractor.type: 'trainde' is not allowed (did you mean "
     "'trained'?); allowed: 'trained', 'inception', 'dinov2'"),
    ("evaluation.extractor.type", ..., "evaluation.extractor.type: missing; allowed: 'trained', 'inception', 'dinov2'"),
    ("evaluation.extractor", None, "evaluation.extractor: expected a mapping, found nothing"),
    ("backbones.kind.form", "kinds", "backbones.kind.form: 'kinds' is not allowed (did you mean 'kind'?); allowed: "
     "'dense', 'kind'"),
    ("backbones.kind.form", ..., "backbones.kind.form: missing; allowed: 'dense', 'kind'"),
    ("backbones.kind.num_tailors", "many", "backbones.kind.num_tailors: expected a whole number, found 'many'"),
    ("data.digits.source", "digit", "data.digits.source: 'digit' is not allowed (did you mean 'digits'?); allowed: "
     + f"{', '.join(map(repr, [*SOURCES][:-1]))} or {[*SOURCES][-1]!r}"),
    ("data.letters.copies_of_pretraining", "counts", "data.letters.copies_of_pretraining: 'counts' is not allowed (did "
     "you mean 'count'?); allowed: 'fail' or 'count'"),
    ("data.letters.options", [1], "data.letters.options: expected a mapping, found [1]"),
    ("data.letters.options.classes", ["A", "C", "E", "A"], "data.letters.options.classes: 'A' named twice, found ['A', "
     "'C', 'E', 'A']"),
    ("methods.kind-dense", {}, "methods.kind-dense.num_learngenes: missing"),
    ("methods.kind", None, "methods.kind: expected a mapping of options ({} for the defaults), found nothing"),
    ("methods.kind", [], "methods.kind: expected a mapping of options ({} for the defaults), found []"),
    ("methods", {}, "methods: expected a mapping of names to entries, at least one, found an empty mapping"),
    ("methods", None, "methods: expected a mapping of names to entries, at least one, found nothing"),
    ("methods.lorra", {}, "methods: no method 'lorra' (did you mean 'lora'?); methods: " + f"{', '.join(METHODS)} (an "
     "entry of another name says `method: NAME`)"),
    ("methods.big", {"method": "fulll"}, "methods.big.method: no method 'fulll' (did you mean 'full'?); methods: "
     + ", ".join(METHODS)),
    ("methods.big", {"method": ["full"]}, "methods.big.method: no method ['full']; methods: " + ", ".join(METHODS)),
    ("model", ..., "model: missing section"),
    ("tasks", [], "tasks: expected a mapping of names to entries, at least one, found []"),
    ("tasks.a/b", {"data": "letters", "classes": ["A", "C", "E"]}, "tasks: 'a/b' cannot be a name; use letters, digits, '-' and "
     "'_', and begin with no '-'"),
    ("tasks.-x", {"data": "letters", "classes": ["A", "C", "E"]}, "tasks: '-x' cannot be a name; use letters, digits, '-' and "
     "'_', and begin with no '-'"),
    ("methods.my method", {"method": "full"}, "methods: 'my method' cannot be a name; use letters, digits, '-' and "
     "'_', and begin with no '-'"),
    ("data.é", {"source": "digits"}, "data: 'é' cannot be a name; use letters, digits, '-' and '_', and begin with no "
     "'-'"),
]  # fmt: skip

"""Every mistake that a person may meet beyond wrong params, and the one message that it ends in.

`...` in a message stands for any text on that line: checksums, and words of other libraries.
"""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from place import FULL, KIND, Place

DATA, DENSE, FACTORIZED = (
    "data/digits/train.npz",
    "backbones/dense/model.safetensors",
    "backbones/kind/model.safetensors",
)
LEARNGENES = "learngenes/kind/learngenes.safetensors"
EXTRACTOR, REFERENCE, JUDGE = "extractor/extractor.safetensors", "reference/novel.npz", "reference/novel.judge.npz"
OF_RUN, OF_KIND_RUN = "novel/full/seed_0", "novel/kind/seed_0"
RUN, ADAPTERS = f"runs/{OF_RUN}", f"adapters/{OF_RUN}"
ADAPTED, SHARD = f"{ADAPTERS}/step_000003.safetensors", f"samples/{OF_RUN}/step_000003/shard_001.npz"
STATE = "state/finetune/novel/full/0/training.pt"

PREPARE, TRAIN_EXTRACTOR, MAKE_REFERENCE = (
    ("prepare", "--data", "digits"),
    ("extractor",),
    ("reference", "--task", "novel"),
)
PRETRAIN, EXTRACT = ("pretrain", "--backbone", "dense"), ("extract", "--backbone", "kind")
FINETUNE, SAMPLE, EVALUATE = ("finetune", *FULL), ("sample", *FULL), ("evaluate", *FULL)
FINETUNE_KIND, SAMPLE_KIND = ("finetune", *KIND), ("sample", *KIND)
WEIGHTS, INTERFERENCE = (
    ("analyse", "--analysis", "weights", "--task", "novel"),
    ("analyse", "--analysis", "interference"),
)
ASKED = ("  curve: [0.4]\n", "  curve: [0.4]\nanalyses: {weights: {}}\n")
WEIGHTS_TABLE = "analyses/weights_novel.csv"
REPORT, CHOOSE = ("report",), ("choose", "--method", "full")
OPEN_RATES = (
    ("finetune: {steps: 3, batch_size: 8, learning_rate: 1.0e-3", "finetune: {steps: 3, batch_size: 8"),
    (
        "methods:",
        "tune: {tasks: {practice: {data: digits, classes: [5, 6]}}, learning_rate: [0.1, 0.2], seed: 5}\nmethods:",
    ),
)


@dataclass(frozen=True)
class Case:
    """What is broken, the command that meets it, and what it says after `error: `."""

    name: str
    breaks: Callable[[Place], object]
    command: tuple[str, ...]
    message: str
    code: int = 2


def sealed(*changes: Callable[[Place], object]) -> Callable[[Place], object]:
    """These changes, with records and manifests that say nothing of them: only the file's own checks are left."""

    def breaks(place: Place) -> None:
        for change in changes:
            change(place)
        place.seal()

    return breaks


def changed(path: str, record: str, stage: str) -> str:
    return (
        f"results/tiny/{path}: not the file that results/tiny/{record} describes (sha256 ..., expected ...)\n"
        f"  -> cut off or changed after it was written: delete it, then run snakemake, or the stage {stage}, again"
    )


CASES = [
    # --- missing
    Case(
        "missing params file",
        lambda p: (p.folder / "tiny.yaml").unlink(),
        FINETUNE,
        "tiny.yaml: no such params file\n  -> the experiments are in params/",
    ),
    Case(
        "missing backbone",
        lambda p: p.remove(DENSE),
        FINETUNE,
        "missing input: results/tiny/backbones/dense/model.safetensors\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "missing data and learngenes",
        lambda p: p.remove(DATA, LEARNGENES),
        FINETUNE_KIND,
        "missing input: results/tiny/data/digits/train.npz, results/tiny/learngenes/kind/learngenes.safetensors\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "missing record of an earlier stage",
        lambda p: p.remove(f"{RUN}/finetune.json", "reference/novel.json"),
        EVALUATE,
        "missing input: results/tiny/reference/novel.json, results/tiny/runs/novel/full/seed_0/finetune.json\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "missing metrics for the report",
        lambda p: p.remove(f"{RUN}/metrics.json"),
        REPORT,
        "missing input: results/tiny/runs/novel/full/seed_0/metrics.json\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "missing Inception weights",
        lambda p: p.edit(
            (
                "extractor: {type: trained, name: digits, steps: 5, batch_size: 8, feature_dim: 4}",
                "extractor: {type: inception, weights_path: w.pth}",
            )
        ),
        MAKE_REFERENCE,
        "tiny.yaml: evaluation.extractor.weights_path: w.pth does not exist\n"
        "  -> download torch-fidelity's weights-inception-2015-12-05-6726825d.pth and give its path as weights_path",
    ),
    # --- analyses
    Case(
        "an analysis that the params do not ask for",
        lambda p: None,
        WEIGHTS,
        "tiny.yaml: analyses has no weights\n  -> to ask for it, write analyses: {weights: {}}",
    ),
    Case(
        "interference that the params do not ask for",
        lambda p: p.edit(ASKED),
        INTERFERENCE,
        "tiny.yaml: analyses has no interference\n"
        "  -> to ask for it, write analyses: {interference: {tasks: [A, B], methods: {lora: {}}}}",
    ),
    Case(
        "weights of no task",
        lambda p: p.edit(ASKED),
        WEIGHTS[:3],
        "--analysis weights is of one task: give --task\n  -> tasks: novel",
    ),
    Case(
        "weights of a run that is cut off",
        lambda p: (p.edit(ASKED), p.cut(ADAPTED)),
        WEIGHTS,
        changed(ADAPTED, f"{RUN}/finetune.json", "finetune"),
    ),
    Case(
        "missing runs for an analysis",
        lambda p: (p.edit(ASKED), p.remove(ADAPTED, DENSE)),
        WEIGHTS,
        f"missing input: results/tiny/{DENSE}, results/tiny/{ADAPTED}\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "missing analyses for the report",
        lambda p: p.edit(ASKED),
        REPORT,
        f"missing input: results/tiny/{WEIGHTS_TABLE}\n  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "analyses of something else",
        lambda p: (p.edit(ASKED), p.write(WEIGHTS_TABLE, "task,method,seed\n")),
        REPORT,
        f"results/tiny/{WEIGHTS_TABLE}: has no column block, intruders, drift, effective_rank\n"
        "  -> delete it and run the analyse stage again, or snakemake",
    ),
    # --- cut off, one bit flipped: the record of the stage that wrote it knows
    *(
        Case(
            f"{damage} {name}",
            lambda p, damage=damage, path=path: getattr(p, {"cut": "cut", "flipped": "flip"}[damage])(path),
            command,
            changed(path, record, stage),
        )
        for damage in ("cut", "flipped")
        for name, path, command, record, stage in [
            ("backbone", DENSE, FINETUNE, "backbones/dense/pretrain.json", "pretrain"),
            ("factorized backbone", FACTORIZED, EXTRACT, "backbones/kind/pretrain.json", "pretrain"),
            ("learngenes", LEARNGENES, FINETUNE_KIND, "learngenes/kind/extract.json", "extract"),
            ("adapted weights", ADAPTED, SAMPLE, f"{RUN}/finetune.json", "finetune"),
            ("samples shard", SHARD, EVALUATE, f"{RUN}/sample.json", "sample"),
            ("reference", REFERENCE, EVALUATE, "reference/novel.json", "reference"),
            ("judge", JUDGE, EVALUATE, "reference/novel.json", "reference"),
            ("extractor", EXTRACTOR, MAKE_REFERENCE, "extractor/extractor.json", "extractor"),
            ("data split", DATA, PRETRAIN, "data/digits/prepare.json", "prepare"),
            ("manifest", "data/digits/manifest.json", PRETRAIN, "data/digits/prepare.json", "prepare"),
            ("metrics", f"{RUN}/metrics.json", REPORT, f"{RUN}/evaluate.json", "evaluate"),
        ]
    ),
    # --- the same without a record that knows, as for files from elsewhere
    Case(
        "cut backbone of elsewhere",
        sealed(lambda p: p.cut(DENSE)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut learngenes of elsewhere",
        sealed(lambda p: p.cut(LEARNGENES)),
        FINETUNE_KIND,
        "results/tiny/learngenes/kind/learngenes.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut adapted weights of elsewhere",
        sealed(lambda p: p.cut(ADAPTED)),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000003.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut shard of elsewhere",
        sealed(lambda p: p.cut(SHARD)),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: not a whole npz file of plain arrays (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "flipped header of elsewhere",
        sealed(lambda p: p.flip(DENSE, 6)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut reference of elsewhere",
        sealed(lambda p: p.cut(REFERENCE)),
        EVALUATE,
        "results/tiny/reference/novel.npz: not a whole npz file of plain arrays (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut judge of elsewhere",
        sealed(lambda p: p.cut(JUDGE)),
        EVALUATE,
        "results/tiny/reference/novel.judge.npz: not a whole npz file of plain arrays (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut extractor of elsewhere",
        sealed(lambda p: p.cut(EXTRACTOR)),
        MAKE_REFERENCE,
        "results/tiny/extractor/extractor.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "empty extractor",
        sealed(lambda p: (p.results / EXTRACTOR).write_bytes(b"")),
        MAKE_REFERENCE,
        "results/tiny/extractor/extractor.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut data of elsewhere",
        sealed(lambda p: p.cut(DATA)),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: not a whole npz file of plain arrays (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut record",
        lambda p: p.cut(f"{RUN}/finetune.json"),
        EVALUATE,
        "results/tiny/runs/novel/full/seed_0/finetune.json: not valid JSON (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "record without its entries",
        lambda p: p.json(f"{RUN}/finetune.json", training=None),
        EVALUATE,
        "results/tiny/runs/novel/full/seed_0/finetune.json: a record without training; it holds format, recipe, recipe_digest, inputs, outputs, provenance, num_images, parameters, trained\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "cut training state",
        lambda p: (p.json(f"{RUN}/finetune.json", recipe_digest="0"), p.pickle(STATE, "torch"), p.cut(STATE)),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> cut off or changed after it was written: delete it and run the same command again, to start over",
    ),
    Case(
        "training state without entries",
        lambda p: (p.remove(f"{RUN}/finetune.json"), _torch(p, {"format": 3})),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> cut off or changed after it was written: delete it and run the same command again, to start over",
    ),
    # --- the wrong model
    Case(
        "backbone of another architecture",
        lambda p: (p.edit(("preset: micro/2}", "preset: micro/2, width: 64}")), p.remove(f"{RUN}/finetune.json")),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: does not fit backbones.dense of tiny.yaml: width: found 32, expected 64\n"
        "  -> run the stage pretrain of dense again, or snakemake; or put the params back",
    ),
    Case(
        "backbone of other classes",
        lambda p: (p.edit(("classes: [0, 1, 2]", "classes: [0, 1, 3]")), p.remove(f"{RUN}/finetune.json")),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: does not fit backbones.dense of tiny.yaml: classes: found 0, 1, 2, expected 0, 1, 3\n"
        "  -> run the stage pretrain of dense again, or snakemake; or put the params back",
    ),
    Case(
        "factorized backbone of fewer classes",
        lambda p: p.edit(("classes: [0, 1, 2]", "classes: [0, 1]")),
        EXTRACT,
        "results/tiny/backbones/kind/model.safetensors: does not fit backbones.kind of tiny.yaml: classes: found 0, 1, 2, expected 0, 1\n"
        "  -> run the stage pretrain of kind again, or snakemake; or put the params back",
    ),
    Case(
        "backbone of another factorization",
        lambda p: (p.edit(("num_learngenes: 20", "num_learngenes: 12")), p.remove(f"runs/{OF_KIND_RUN}/finetune.json")),
        FINETUNE_KIND,
        "results/tiny/learngenes/kind/learngenes.safetensors: does not fit backbones.kind of tiny.yaml: num_learngenes: found 20, expected 12\n"
        "  -> run the stage pretrain of kind again, or snakemake; or put the params back",
    ),
    Case(
        "factorized where dense is needed",
        sealed(lambda p: p.copy(FACTORIZED, DENSE)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: does not fit backbones.dense of tiny.yaml: form: found kind, expected dense\n"
        "  -> run the stage pretrain of dense again, or snakemake; or put the params back",
    ),
    Case(
        "dense where factorized is needed",
        sealed(lambda p: p.copy(DENSE, FACTORIZED)),
        EXTRACT,
        "results/tiny/backbones/kind/model.safetensors: does not fit backbones.kind of tiny.yaml: form: found dense, expected kind\n"
        "  -> run the stage pretrain of kind again, or snakemake; or put the params back",
    ),
    Case(
        "backbone where learngenes are needed",
        sealed(lambda p: p.copy(FACTORIZED, LEARNGENES)),
        FINETUNE_KIND,
        "results/tiny/learngenes/kind/learngenes.safetensors: a file of format 'backbone/2', where 'learngenes/2' is needed\n"
        "  -> put the right file there, or delete it and run the stage that writes it again",
    ),
    Case(
        "extractor where a backbone is needed",
        sealed(lambda p: p.copy(EXTRACTOR, DENSE)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: a file of format None, where 'backbone/2' is needed\n"
        "  -> put the right file there, or delete it and run the stage that writes it again",
    ),
    Case(
        "backbone where an extractor is needed",
        sealed(lambda p: p.copy(DENSE, EXTRACTOR)),
        MAKE_REFERENCE,
        "results/tiny/extractor/extractor.safetensors: not a small-extractor file; its header has the keys classes, config, diffusion, factorization, format, versions\n"
        "  -> delete it and run the extractor stage again, or snakemake",
    ),
    Case(
        "backbone that lacks a tensor",
        sealed(lambda p: p.tensors(DENSE, drop=("proj_out_2.weight",))),
        FINETUNE,
        'results/tiny/backbones/dense/model.safetensors: does not fit the architecture that its own header names: Missing key(s) in state_dict: "proj_out_2.weight"\n'
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "backbone whose header lacks its classes",
        sealed(lambda p: _drop_header(p, DENSE, "classes")),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: its header has no classes\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "safetensors of others",
        sealed(lambda p: _foreign(p, DENSE)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: a safetensors file, but none of this project's: it has no 'kind' header\n"
        "  -> give a file that a stage of this project wrote",
    ),
    Case(
        "adapted weights of another start",
        sealed(lambda p: p.copy("backbones/dense/raw.safetensors", DENSE)),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000001.safetensors: was trained from another start than results/tiny/backbones/dense/model.safetensors (expected sha256 ..., found ...)\n"
        "  -> run the finetune stage again, or put back the start that it was trained from",
    ),
    Case(
        "adapted weights of another method",
        sealed(lambda p: p.copy(f"adapters/{OF_KIND_RUN}/step_000003.safetensors", ADAPTED)),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000003.safetensors: does not fit task novel, method full and seed 0 of tiny.yaml: method: found kind, expected full\n"
        "  -> run the finetune stage again, or snakemake; or put the params back",
    ),
    Case(
        "adapted weights of other classes",
        lambda p: (p.edit(("classes: [7, 8]", "classes: [5, 6]")), p.remove(f"{RUN}/sample.json")),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000001.safetensors: does not fit task novel, method full and seed 0 of tiny.yaml: classes: found 7, 8, expected 5, 6\n"
        "  -> run the finetune stage again, or snakemake; or put the params back",
    ),
    Case(
        "adapted weights that lack a tensor",
        sealed(lambda p: p.tensors(f"{ADAPTERS}/step_000001.safetensors", drop=("proj_out_2.weight",))),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000001.safetensors: does not hold what full trains: proj_out_2.weight is nothing, where [4, 32] is needed\n"
        "  -> delete it and run the finetune stage again, or snakemake",
    ),
    # --- npz of wrong keys, dtype or shape
    Case(
        "samples without labels",
        sealed(lambda p: p.arrays(SHARD, drop=("arr_1",))),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: has no array arr_1; it holds arr_0\n"
        "  -> expected the arrays arr_0, arr_1: delete the file, then run the stage that writes it again",
    ),
    Case(
        "samples of floats",
        sealed(lambda p: p.arrays(SHARD, arr_0=lambda a: a.astype(np.float32))),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: arr_0 must be uint8 [N, H, W, C] with C = 1 or 3; the file holds arr_0 float32 [10, 8, 8, 1], arr_1 int64 [10]\n"
        "  -> delete it and run the sample stage again, or snakemake",
    ),
    Case(
        "samples of two sizes",
        sealed(lambda p: p.arrays(SHARD, arr_0=lambda a: a[:, :4])),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: images of (H, W, C) (4, 8, 1), but the reference's are (8, 8, 1)\n"
        "  -> delete it and run the sample stage again, or snakemake",
    ),
    Case(
        "samples of a class too many",
        sealed(lambda p: p.arrays(SHARD, arr_1=lambda a: a + 1)),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: labels from 1 to 2, but the task has 2 classes, 0 to 1\n"
        "  -> delete it and run the sample stage again, or snakemake",
    ),
    Case(
        "samples with labels of floats",
        sealed(lambda p: p.arrays(SHARD, arr_1=lambda a: a.astype(np.float64))),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: arr_1 must be 10 integer labels; the file holds arr_0 uint8 [10, 8, 8, 1], arr_1 float64 [10]\n"
        "  -> delete it and run the sample stage again, or snakemake",
    ),
    Case(
        "reference of another tool",
        sealed(lambda p: p.arrays(REFERENCE, drop=("pooled", "spatial", "labels", "protocol"))),
        EVALUATE,
        "results/tiny/reference/novel.npz: has no array pooled, spatial, labels, protocol; it holds arr_0, logits, mu, mu_s, sigma, sigma_s\n"
        "  -> expected the arrays mu, sigma, mu_s, sigma_s, pooled, spatial, logits, labels, arr_0, protocol: delete the file, then run the stage that writes it again",
    ),
    Case(
        "reference of another dtype",
        sealed(lambda p: p.arrays(REFERENCE, arr_0=lambda a: a / 255)),
        EVALUATE,
        "results/tiny/reference/novel.npz: arr_0 is float64 [30, 8, 8, 1], expected uint8 [30, 8, 8, 1]\n"
        "  -> delete it and run the reference stage again, or snakemake",
    ),
    Case(
        "reference of another shape",
        sealed(lambda p: p.arrays(REFERENCE, mu=lambda a: a[:3])),
        EVALUATE,
        "results/tiny/reference/novel.npz: mu is float64 [3], expected floats [4]\n"
        "  -> delete it and run the reference stage again, or snakemake",
    ),
    Case(
        "reference of other classes",
        lambda p: p.edit(("classes: [7, 8]", "classes: [5, 6]")),
        EVALUATE,
        "results/tiny/reference/novel.npz: a reference of the classes digits/7, digits/8; the task's are digits/5, digits/6\n"
        "  -> run the reference stage again, or snakemake",
    ),
    Case(
        "judge without an array",
        sealed(lambda p: p.arrays(JUDGE, drop=("gamma",))),
        EVALUATE,
        "results/tiny/reference/novel.judge.npz: has no array gamma; it holds class_names, classes, dual_coefficients, image_shape, intercepts, num_support, support_vectors\n"
        "  -> expected the arrays support_vectors, dual_coefficients, intercepts, num_support, classes, gamma, image_shape: delete the file, then run the stage that writes it again",
    ),
    Case(
        "judge of another shape",
        sealed(lambda p: p.arrays(JUDGE, support_vectors=lambda a: a[:, :9])),
        EVALUATE,
        "results/tiny/reference/novel.judge.npz: support_vectors is float64 [439, 9], expected floats [439, 64]\n"
        "  -> delete it and run the reference stage again, or snakemake",
    ),
    # --- a manifest that does not match its data
    Case(
        "data that the manifest does not know",
        lambda p: (p.arrays(DATA, images=lambda a: 255 - a), p.remove("data/digits/prepare.json")),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: is not the file that manifest.json beside it describes (sha256 differs)\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of other counts",
        sealed(lambda p: p.arrays(DATA, images=lambda a: a[1:], labels=lambda a: a[1:])),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: holds [88, 91, 88, 92, 91, 91, 91, 89, 87, 90] images of the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; manifest.json says [89, 91, 88, 92, 91, 91, 91, 89, 87, 90]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of another dtype",
        sealed(lambda p: p.arrays(DATA, images=lambda a: a.astype(np.int16))),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: expected images uint8 [N, H, W, C] and labels int64 [N]; the file holds images int16 [899, 8, 8, 1], labels int64 [899]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of labels without a class",
        sealed(lambda p: p.json("data/digits/manifest.json", classes=["0", "1", "2"])),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: labels from 0 to 9, but manifest.json has 3 classes\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "manifest of another format",
        sealed(lambda p: p.json("data/digits/manifest.json", format="other")),
        PRETRAIN,
        "results/tiny/data/digits/manifest.json: format 'other', but this code reads 'kind-prepared-1'\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "manifest without entries",
        sealed(lambda p: p.json("data/digits/manifest.json", classes=None, counts=3)),
        PRETRAIN,
        "results/tiny/data/digits/manifest.json: has no classes, counts, or not of the right kind\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "cut manifest of elsewhere",
        lambda p: (p.cut("data/digits/manifest.json"), p.remove("data/digits/prepare.json")),
        PRETRAIN,
        "results/tiny/data/digits/manifest.json: not valid JSON (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    # --- results of another experiment or run
    Case(
        "metrics of another run",
        sealed(lambda p: p.copy(f"runs/{OF_KIND_RUN}/metrics.json", f"{RUN}/metrics.json")),
        REPORT,
        "results/tiny/runs/novel/full/seed_0/metrics.json: written for task novel, method kind, seed 0; its place says task novel, method full, seed 0\n"
        "  -> a copied or renamed folder? delete it and run the evaluate stage again",
    ),
    Case(
        "planned with other params",
        lambda p: None,
        (*FINETUNE, "--recipe", "0123456789ab"),
        "the params changed after this job was planned: its recipe is ... now, 0123456789ab then\n"
        "  -> run snakemake again, so that it plans with the params as they are",
    ),
    # --- class embeddings, and tailors of the pre-training classes
    Case(
        "missing class embeddings",
        lambda p: _start_from_nearest(p, "v.npz"),
        FINETUNE_KIND,
        "tiny.yaml: embedding.path: v.npz does not exist\n"
        "  -> put a file of one vector a class there, or leave it out: classes' mean images are taken then",
    ),
    Case(
        "class embeddings without a class",
        lambda p: (_start_from_nearest(p, "v.npz"), np.savez("v.npz", **{"7": np.ones(3), "digits/0": np.ones(3)})),
        FINETUNE_KIND,
        "v.npz: has no vector of class '8' of digits; it has 7, digits/0\n"
        "  -> add them, each under the name of its class or as digits/CLASS, or leave embedding.path out",
    ),
    Case(
        "cut class embeddings",
        lambda p: (_start_from_nearest(p, "v.safetensors"), (p.folder / "v.safetensors").write_bytes(b"\0" * 5)),
        FINETUNE_KIND,
        "v.safetensors: not a whole safetensors file of plain arrays (...)\n"
        "  -> write it again: one vector of numbers for each class, under the name of the class",
    ),
    Case(
        "pickle as class embeddings",
        lambda p: (_start_from_nearest(p, "v.npz"), p.pickle("../../v.npz")),
        FINETUNE_KIND,
        "v.npz: not a whole npz file of plain arrays (...)\n"
        "  -> write it again: one vector of numbers for each class, under the name of the class",
    ),
    Case(
        "missing tailors of a pre-training class",
        lambda p: (_start_from_nearest(p), p.remove("learngenes/kind/tailors/class_0001.safetensors")),
        FINETUNE_KIND,
        "missing input: results/tiny/learngenes/kind/tailors/class_0001.safetensors\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "flipped tailors of a pre-training class",
        lambda p: (_start_from_nearest(p), p.flip("learngenes/kind/tailors/class_0001.safetensors")),
        FINETUNE_KIND,
        changed("learngenes/kind/tailors/class_0001.safetensors", "learngenes/kind/extract.json", "extract"),
    ),
    Case(
        "taking apart what has a soft gate",
        lambda p: p.edit(
            ("num_learngenes: 20, num_tailors: 4}", "gate: soft, num_learngenes: 20, num_tailors: 4}"),
            ("methods: {full: {}, kind: {}}", "methods: {full: {}}"),
        ),
        EXTRACT,
        "tiny.yaml: backbones.kind has a soft gate, behind which no class owns tailors\n"
        "  -> backbones of form kind: none",
    ),
    # --- a pickle that poses as a file of ours is not run
    Case(
        "pickle as backbone",
        sealed(lambda p: p.pickle(DENSE)),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "torch file as backbone",
        sealed(lambda p: p.pickle(DENSE, "torch")),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as learngenes",
        sealed(lambda p: p.pickle(LEARNGENES)),
        FINETUNE_KIND,
        "results/tiny/learngenes/kind/learngenes.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as adapted weights",
        sealed(lambda p: p.pickle(ADAPTED)),
        SAMPLE,
        "results/tiny/adapters/novel/full/seed_0/step_000003.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as extractor",
        sealed(lambda p: p.pickle(EXTRACTOR)),
        MAKE_REFERENCE,
        "results/tiny/extractor/extractor.safetensors: not a whole safetensors file (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as samples",
        sealed(lambda p: p.pickle(SHARD)),
        EVALUATE,
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as reference",
        sealed(lambda p: p.pickle(REFERENCE)),
        EVALUATE,
        "results/tiny/reference/novel.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as judge",
        sealed(lambda p: p.pickle(JUDGE)),
        EVALUATE,
        "results/tiny/reference/novel.judge.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle in data",
        sealed(lambda p: p.pickle(DATA, "npz")),
        PRETRAIN,
        "results/tiny/data/digits/train.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle as training state",
        lambda p: (p.remove(f"{RUN}/finetune.json"), p.pickle(STATE)),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> cut off or changed after it was written: delete it and run the same command again, to start over",
    ),
    Case(
        "pickle in training state",
        lambda p: (p.remove(f"{RUN}/finetune.json"), p.pickle(STATE, "torch")),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> cut off or changed after it was written: delete it and run the same command again, to start over",
    ),
    Case(
        "pickle as Inception weights",
        lambda p: (_inception(p), p.pickle("../../w.pth")),
        MAKE_REFERENCE,
        "w.pth: not a whole file of plain tensors (...)\n"
        "  -> download torch-fidelity's weights-inception-2015-12-05-6726825d.pth and give its path as weights_path",
    ),
    Case(
        "pickle in Inception weights",
        lambda p: (_inception(p), p.pickle("../../w.pth", "torch")),
        MAKE_REFERENCE,
        "w.pth: not a whole file of plain tensors (...)\n"
        "  -> download torch-fidelity's weights-inception-2015-12-05-6726825d.pth and give its path as weights_path",
    ),
    # --- the machine
    Case(
        "CUDA where there is none",
        lambda p: (p.edit(("device: cpu", "device: cuda")), p.remove(f"{RUN}/finetune.json")),
        FINETUNE,
        "tiny.yaml: compute.device: cuda was asked for, but this machine has no usable CUDA device\n"
        "  -> write `device: auto` (falls back to the CPU) or run where there is a GPU",
    ),
    Case(
        "results below a file",
        lambda p: (p.folder / "file").write_text(""),
        (*PREPARE, "--results", "file"),
        "file/tiny/state/prepare/digits: Not a directory\n"
        "  -> a file stands where a folder is needed: move it, or name another place with --results",
    ),
    Case(
        "results where nobody may write",
        lambda p: None,
        (*PREPARE, "--results", "/proc/kind"),
        "/proc/kind: No such file or directory\n"
        "  -> no such place, and it cannot be made: name another one, for results with --results",
    ),
    Case(
        "file where a folder is needed",
        lambda p: (p.remove("data/digits/prepare.json"), _file_for_folder(p)),
        PREPARE,
        "results/tiny/data/digits/manifest.json: Not a directory\n"
        "  -> a file stands where a folder is needed: move it, or name another place with --results",
    ),
    Case(
        "loss that is not finite",
        lambda p: p.edit(
            (
                "finetune: {steps: 3, batch_size: 8, learning_rate: 1.0e-3",
                "finetune: {steps: 3, batch_size: 8, learning_rate: 1.0e+38",
            )
        ),
        FINETUNE,
        "finetune novel full seed 0: the loss or its gradient is not finite in steps 1 to 3, learning rate 1e+38\n"
        "  -> lower the learning rate, lengthen the warm-up or set gradient_clip",
    ),
    # --- choices that the params leave open
    Case(
        "nothing to choose",
        lambda p: None,
        CHOOSE,
        "tiny.yaml: no learning rate is to be chosen for full: there is no `tune` section\n"
        "  -> the stage is for entries whose rate `tune` leaves open",
    ),
    Case(
        "a choice for an entry that has its rate",
        lambda p: p.edit(*OPEN_RATES, ("methods: {full: {}", "methods: {full: {learning_rate: 1.0e-3}")),
        CHOOSE,
        "tiny.yaml: no learning rate is to be chosen for full: methods.full has a learning rate of its own\n"
        "  -> the stage is for entries whose rate `tune` leaves open",
    ),
    Case(
        "a choice before its trials",
        lambda p: p.edit(*OPEN_RATES),
        CHOOSE,
        "missing input: results/tiny/runs/practice/full@1/seed_5/metrics.json, "
        "results/tiny/runs/practice/full@2/seed_5/metrics.json\n  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "a run before the choice of its rate",
        lambda p: p.edit(*OPEN_RATES),
        FINETUNE,
        "missing input: results/tiny/tuning/full.rate.json\n  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "a choice without a rate",
        lambda p: (p.edit(*OPEN_RATES), _write(p, "tuning/full.rate.json", "{}")),
        FINETUNE,
        "results/tiny/tuning/full.rate.json: a record without learning_rate; it holds nothing\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "a comparison by a metric that there is not",
        lambda p: None,
        ("compare", "--metric", "fid"),
        "task novel: no metric is fid; the runs have fd_digits_20_vs_30...\n"
        "  -> give one of these names, or how one begins: fd, sfd, kd, precision",
    ),
    Case(
        "a comparison of runs that are not there",
        lambda p: p.remove(f"{RUN}/metrics.json"),
        ("compare",),
        "1 of the 6 files of 2 runs are missing:\n  results/tiny/runs/novel/full/seed_0/metrics.json\n"
        "  -> run finetune, sample and evaluate for these runs (the Snakemake command does), then try again",
    ),
]


def _torch(place: Place, content) -> None:
    import torch

    (place.results / STATE).parent.mkdir(parents=True)
    torch.save(content, place.results / STATE)


def _start_from_nearest(place: Place, path: str | None = None) -> None:
    section = "" if path is None else f"embedding: {{path: {path}}}\n"
    place.edit(("methods: {full: {}, kind: {}}", f"{section}methods: {{full: {{}}, kind: {{tailor_start: nearest}}}}"))


def _inception(place: Place) -> None:
    place.edit(
        (
            "extractor: {type: trained, name: digits, steps: 5, batch_size: 8, feature_dim: 4}",
            "extractor: {type: inception, weights_path: w.pth}",
        )
    )


def _drop_header(place: Place, name: str, key: str) -> None:
    from kind.artifacts import load_tensors, save_tensors

    tensors, header = load_tensors(place.results / name)
    save_tensors(place.results / name, tensors, {other: value for other, value in header.items() if other != key})


def _foreign(place: Place, name: str) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, place.results / name)


def _file_for_folder(place: Place) -> None:
    import shutil

    shutil.rmtree(place.results / "data" / "digits")
    (place.results / "data" / "digits").write_text("")


def _write(place: Place, name: str, text: str) -> None:
    (place.results / name).parent.mkdir(parents=True)
    (place.results / name).write_text(text)

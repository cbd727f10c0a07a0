"""Files of another model, experiment or shape than the params say, and pickles."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import numpy as np

from cases.parts import (
    ADAPTED,
    ADAPTERS,
    DENSE,
    EVALUATE,
    EXTRACT,
    EXTRACTOR,
    FACTORIZED,
    FINETUNE,
    FINETUNE_KIND,
    JUDGE,
    LEARNGENES,
    MAKE_REFERENCE,
    OF_KIND_RUN,
    REFERENCE,
    REPORT,
    RUN,
    SAMPLE,
    SHARD,
    Case,
    drop_header,
    foreign,
    sealed,
)

CASES = [
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
        sealed(lambda p: drop_header(p, DENSE, "classes")),
        FINETUNE,
        "results/tiny/backbones/dense/model.safetensors: its header has no classes\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "safetensors of others",
        sealed(lambda p: foreign(p, DENSE)),
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
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: has no array arr_1: samples of a run have labels\n"
        "  -> delete it and run the sample stage again, or snakemake",
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
        sealed(lambda p: p.arrays(REFERENCE, drop=("pooled", "logits", "labels", "protocol"))),
        EVALUATE,
        "results/tiny/reference/novel.npz: statistics alone, as other tools write them; a run needs features, too\n"
        "  -> run the reference stage again, or snakemake",
    ),
    Case(
        "reference of another dtype",
        sealed(lambda p: p.arrays(REFERENCE, arr_0=lambda a: a / 255)),
        EVALUATE,
        "results/tiny/reference/novel.npz: arr_0 must be uint8 [N, H, W, C] with C = 1 or 3; the file holds ...\n"
        "  -> delete it and run the reference stage again, or snakemake",
    ),
    Case(
        "reference of another shape",
        sealed(lambda p: p.arrays(REFERENCE, mu=lambda a: a[:3])),
        EVALUATE,
        "results/tiny/reference/novel.npz: sigma is float64 [4, 4], expected floats [3, 3]\n"
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
]

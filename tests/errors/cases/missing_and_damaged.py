"""Files that are missing or damaged."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from cases.parts import (
    ADAPTED,
    DATA,
    DENSE,
    DINOV2_WAYS,
    EVALUATE,
    EXTRACT,
    EXTRACTOR,
    FACTORIZED,
    FINETUNE,
    FINETUNE_KIND,
    INCEPTION_WAYS,
    JUDGE,
    LEARNGENES,
    MAKE_REFERENCE,
    PRETRAIN,
    REFERENCE,
    REPORT,
    RUN,
    SAMPLE,
    SHARD,
    Case,
    changed,
    inception,
    outside,
    put_state,
    sealed,
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
        "missing input: results/tiny/data/digits/images.npy, results/tiny/learngenes/kind/learngenes.safetensors\n"
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
        inception,
        MAKE_REFERENCE,
        "tiny.yaml: evaluation.extractor.weights_path: w.pth does not exist\n" + INCEPTION_WAYS,
    ),
    Case(
        "Inception weights neither named nor fetched",
        lambda p: inception(p, ""),
        MAKE_REFERENCE,
        "tiny.yaml: inception weights, which are neither named nor fetched: weights/inception/weights-inception-2015-12-05-6726825d.pth does not exist\n"
        + INCEPTION_WAYS,
    ),
    Case(
        "a file where DINOv2 weights are a folder",
        lambda p: outside(p, "dinov2", ", weights_path: tiny.yaml"),
        MAKE_REFERENCE,
        "tiny.yaml: evaluation.extractor.weights_path: tiny.yaml is no folder\n" + DINOV2_WAYS,
    ),
    Case(
        "DINOv2 weights without their config",
        lambda p: (
            outside(p, "dinov2", ", weights_path: results/tiny/extractor"),
            p.write("extractor/model.safetensors", ""),
        ),
        MAKE_REFERENCE,
        "tiny.yaml: evaluation.extractor.weights_path: results/tiny/extractor has no config.json\n" + DINOV2_WAYS,
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
        "  -> delete it and run the sample stage again, or snakemake",
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
        "  -> delete it and run the reference stage again, or snakemake",
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
        "results/tiny/data/digits/images.npy: not a whole npy file of plain numbers (...)\n"
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
        "training state without entries",
        lambda p: (p.remove(f"{RUN}/finetune.json"), put_state(p, {"step": 3})),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> not of this version of the program: move it away and run the same command again, to start over",
    ),
]

"""Manifests that do not match, and content that is not what it poses as."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import numpy as np

from cases.parts import (
    ADAPTED,
    DATA,
    DENSE,
    EVALUATE,
    EXTRACTOR,
    FINETUNE,
    FINETUNE_KIND,
    INCEPTION_WAYS,
    INDEX,
    JUDGE,
    LEARNGENES,
    MAKE_REFERENCE,
    PRETRAIN,
    REFERENCE,
    RUN,
    SAMPLE,
    SHARD,
    STATE,
    Case,
    inception,
    sealed,
)

CASES = [
    # --- a manifest that does not match its data
    Case(
        "data that the manifest does not know",
        lambda p: (p.flip(DATA), p.remove("data/digits/prepare.json")),
        PRETRAIN,
        "results/tiny/data/digits/images.npy: is not the file that manifest.json beside it describes (sha256 differs)\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of other counts",
        sealed(
            lambda p: p.arrays(
                INDEX, splits=lambda a: np.where(np.arange(len(a)) == np.flatnonzero(a == 0)[0], np.int8(-1), a)
            )
        ),
        PRETRAIN,
        "results/tiny/data/digits/index.npz: holds train images 88, 91, 88, 92, 91, 91, 91, 89, 87, 90 of the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; manifest.json says [89, 91, 88, 92, 91, 91, 91, 89, 87, 90]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of another dtype",
        sealed(lambda p: np.save(p.results / DATA, np.load(p.results / DATA).astype(np.int16))),
        PRETRAIN,
        "results/tiny/data/digits/images.npy: expected images uint8 [N, H, W, C]; the file holds int16 [1797, 8, 8, 1]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "an index of another dtype",
        sealed(lambda p: p.arrays(INDEX, splits=lambda a: a.astype(np.int64))),
        PRETRAIN,
        "results/tiny/data/digits/index.npz: expected labels int64 [1797] and splits int8 [1797]; the file holds labels int64 [1797], splits int64 [1797]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "an index of another length",
        sealed(lambda p: p.arrays(INDEX, splits=lambda a: a[1:], labels=lambda a: a[1:])),
        PRETRAIN,
        "results/tiny/data/digits/index.npz: expected labels int64 [1797] and splits int8 [1797]; the file holds labels int64 [1796], splits int8 [1796]\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "data of labels without a class",
        sealed(lambda p: p.json("data/digits/manifest.json", classes=["0", "1", "2"])),
        PRETRAIN,
        "results/tiny/data/digits/index.npz: labels from 0 to 9, but manifest.json has 3 classes\n"
        "  -> run the prepare stage of this data set again",
    ),
    Case(
        "manifest of another format",
        sealed(lambda p: p.json("data/digits/manifest.json", format="other")),
        PRETRAIN,
        "results/tiny/data/digits/manifest.json: format 'other', but this code reads 'kind-prepared-2'\n"
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
        "results/tiny/samples/novel/full/seed_0/step_000003/shard_001.npz: not a whole npz file of plain arrays (...)\n"
        "  -> delete it and run the sample stage again, or snakemake",
    ),
    Case(
        "pickle as reference",
        sealed(lambda p: p.pickle(REFERENCE)),
        EVALUATE,
        "results/tiny/reference/novel.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> delete it and run the reference stage again, or snakemake",
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
        sealed(lambda p: p.pickle(INDEX, "npz")),
        PRETRAIN,
        "results/tiny/data/digits/index.npz: not a whole npz file of plain arrays (it holds pickled objects, which are not read)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle in images",
        sealed(lambda p: p.pickle(DATA, "npy")),
        PRETRAIN,
        "results/tiny/data/digits/images.npy: not a whole npy file of plain numbers (...)\n"
        "  -> cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again",
    ),
    Case(
        "pickle in training state",
        lambda p: (p.remove(f"{RUN}/finetune.json"), p.pickle(STATE, "state")),
        FINETUNE,
        "results/tiny/state/finetune/novel/full/0/training.pt: unreadable training state (...); expected what finetune novel full seed 0 saved\n"
        "  -> not of this version of the program: move it away and run the same command again, to start over",
    ),
    Case(
        "pickle as Inception weights",
        lambda p: (inception(p), p.pickle("../../w.pth")),
        MAKE_REFERENCE,
        "w.pth: not a whole file of plain tensors (...)\n" + INCEPTION_WAYS,
    ),
    Case(
        "pickle in Inception weights",
        lambda p: (inception(p), p.pickle("../../w.pth", "torch")),
        MAKE_REFERENCE,
        "w.pth: not a whole file of plain tensors (...)\n" + INCEPTION_WAYS,
    ),
]

"""What single choices of the params need: analyses, class embeddings, tuning; and the machine."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import numpy as np

from cases.parts import (
    ADAPTED,
    ASKED,
    CHOOSE,
    DENSE,
    EXTRACT,
    FINETUNE,
    FINETUNE_KIND,
    INTERFERENCE,
    OPEN_RATES,
    PREPARE,
    REPORT,
    RUN,
    SEEN,
    WEIGHTS,
    WEIGHTS_TABLE,
    Case,
    changed,
    file_for_folder,
    start_from_nearest,
    write,
)

CASES = [
    # --- classes by the name of a set
    Case(
        "a set of a source without sets",
        lambda p: p.edit(("classes: [7, 8]", "classes: novel")),
        FINETUNE,
        "tiny.yaml: 1 problem\n"
        "  1. tasks.novel.classes: the source digits of digits names no sets of classes; give a list of classes\n"
        "  -> mend tiny.yaml and run the same command again",
    ),
    Case(
        "a set that there is not, and too many of one",
        lambda p: p.edit(
            ("{source: digits, split:", "{source: glyphs611, split:"),
            ("classes: [0, 1, 2]", "classes: sene"),
            ("classes: [7, 8]", "classes: {of: novel, count: 462}"),
        ),
        PREPARE,
        "tiny.yaml: 2 problems\n"
        "  1. pretrain.classes: digits has no set of classes 'sene' (did you mean 'seen'?); sets: all, seen, novel\n"
        "  2. tasks.novel.classes.count: 462 asked, but the set novel has 461 classes\n"
        "  -> mend tiny.yaml and run the same command again",
    ),
    # --- classes of pre-training
    Case(
        "a method that trains, on classes of pre-training",
        lambda p: p.edit(*SEEN),
        ("finetune", "--task", "seen", "--method", "full", "--seed", "0"),
        "tiny.yaml: full does not run on the task seen, which has classes of pre-training\n"
        "  -> entries that do: recombined",
    ),
    Case(
        "a method that trains nothing, on new classes",
        lambda p: p.edit(*SEEN),
        ("finetune", "--task", "novel", "--method", "recombined", "--seed", "0"),
        "tiny.yaml: recombined does not run on the task novel, which has new classes\n  -> entries that do: full, kind",
    ),
    Case(
        "new classes among those of pre-training",
        lambda p: p.edit(SEEN[0], SEEN[1], ("classes: [0, 2]", "classes: [0, 9]")),
        FINETUNE,
        "tiny.yaml: 1 problem\n"
        "  1. tasks.seen.classes: '9' not in pretrain.classes; a task with `seen: true` has classes of pre-training "
        "alone, and new ones need a task of their own without it\n"
        "  -> mend tiny.yaml and run the same command again",
    ),
    # --- ablations
    Case(
        "ablations of entries that are not there, and of equal ones",
        lambda p: p.edit(
            (
                "methods: {full: {}, kind: {}}\n",
                "methods: {full: {}, kind: {}, zero: {method: kind, tailor_start: zero}}\nablations:\n"
                "  begin: {axis: tailor_start, entries: [kind, full, zer]}\n"
                "  same: {axis: learngenes, entries: [kind, zero]}\n"
                "  words: {axis: learngenes, base: full, entries: {kind: one, zero: one}}\n",
            )
        ),
        REPORT,
        "tiny.yaml: 6 problems\n"
        "  1. ablations.begin.entries: no method entry 'zer' (did you mean 'zero'?); entries: full, kind, zero\n"
        "  2. ablations.begin.axis: 'tailor_start' is no option of full; its options: learning_rate, objective, backbone, form; measured: trainable_parameters, deployed_parameters, deployed_macs\n"
        "  3. ablations.same: kind, zero have the same learngenes frozen; each needs its own, or words in the place of the axis (entries: {ENTRY: words})\n"
        "  4. ablations.words.base: 'full' is none of its entries; entries: kind, zero\n"
        "  5. ablations.words: the axis learngenes and words of entries both say what an entry stands for; give a list of entries, or no axis\n"
        "  6. ablations.words.entries: kind, zero have the same words 'one'; each needs its own\n"
        "  -> mend tiny.yaml and run the same command again",
    ),
    # --- jobs of a run
    Case(
        "no job, and more jobs than anybody means",
        lambda p: p.edit(("compute: {device: cpu}", "compute: {device: cpu, sampling_jobs: 0, feature_jobs: 10000}")),
        FINETUNE,
        "tiny.yaml: 2 problems\n"
        "  1. compute.sampling_jobs: must be at least 1, found 0\n"
        "  2. compute.feature_jobs: must be at most 1000, found 10000\n"
        "  -> mend tiny.yaml and run the same command again",
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
    # --- class embeddings, and tailors of the pre-training classes
    Case(
        "missing class embeddings",
        lambda p: start_from_nearest(p, "v.npz"),
        FINETUNE_KIND,
        "tiny.yaml: embedding.path: v.npz does not exist\n"
        "  -> put a file of one vector a class there, or leave it out: classes' mean images are taken then",
    ),
    Case(
        "class embeddings without a class",
        lambda p: (start_from_nearest(p, "v.npz"), np.savez("v.npz", **{"7": np.ones(3), "digits/0": np.ones(3)})),
        FINETUNE_KIND,
        "v.npz: has no vector of class '8' of digits; it has 7, digits/0\n"
        "  -> add them, each under the name of its class or as digits/CLASS, or leave embedding.path out",
    ),
    Case(
        "cut class embeddings",
        lambda p: (start_from_nearest(p, "v.safetensors"), (p.folder / "v.safetensors").write_bytes(b"\0" * 5)),
        FINETUNE_KIND,
        "v.safetensors: not a whole safetensors file of plain arrays (...)\n"
        "  -> write it again: one vector of numbers for each class, under the name of the class",
    ),
    Case(
        "pickle as class embeddings",
        lambda p: (start_from_nearest(p, "v.npz"), p.pickle("../../v.npz")),
        FINETUNE_KIND,
        "v.npz: not a whole npz file of plain arrays (...)\n"
        "  -> write it again: one vector of numbers for each class, under the name of the class",
    ),
    Case(
        "missing tailors of a pre-training class",
        lambda p: (start_from_nearest(p), p.remove("learngenes/kind/tailors/class_0001.safetensors")),
        FINETUNE_KIND,
        "missing input: results/tiny/learngenes/kind/tailors/class_0001.safetensors\n"
        "  -> run the stages that write it first, or snakemake",
    ),
    Case(
        "flipped tailors of a pre-training class",
        lambda p: (start_from_nearest(p), p.flip("learngenes/kind/tailors/class_0001.safetensors")),
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
        lambda p: (p.remove("data/digits/prepare.json"), file_for_folder(p)),
        PREPARE,
        "results/tiny/data/digits/manifest.json: Not a directory\n"
        "  -> a file stands where a folder is needed: move it, or name another place with --results",
    ),
    Case(
        "wall time that is none",
        lambda p: None,
        (*FINETUNE, "--minutes", "nan"),
        "--minutes nan: not a length of time\n  -> give the job's wall time, or 0: no limit",
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
        "finetune novel full seed 0: the loss or its gradient is not finite in step ...\n"
        "  -> lower the learning rate, lengthen the warm-up or set gradient_clip\n"
        "  -> tried again as it is, this ends the same way at once, until the params change or ... takes away "
        "results/tiny/state/finetune/novel/full/0/failed.json",
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
        lambda p: (p.edit(*OPEN_RATES), write(p, "tuning/full.rate.json", "{}")),
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

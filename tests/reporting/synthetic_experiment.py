"""A synthetic finished experiment, written as the other stages write it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from kind.artifacts import digest, save_arrays, write_csv, write_json

SEEDS = [0, 1]
TASKS = {
    "novel": {"data": "digits", "classes": ["7", "8", "9"], "images_per_class": 20},
    "shift": {"data": "letters", "classes": ["A", "B", "C", "D", "E"], "guidance_scale": 2.0},
}
METHODS = {
    "kind": {"num_tailors": 4, "learning_rate": 0.002},
    "full": {"learning_rate": 0.0005},
    "lora": {"rank": 8, "learning_rate": 0.002},
    "scratch": {},
}
QUALITY = {"kind": 7.0, "full": 11.0, "lora": 19.0, "scratch": 84.0}
TRAINABLE = {"kind": 24_832, "full": 251_904, "lora": 30_976, "scratch": 251_904}
STEPS = (75, 150, 225, 300)
COMMAND = "snakemake --profile local --config experiment=smoke"
REFERENCE = {"novel": 180, "shift": 240}


def params(tasks=None, methods=None, seeds=None) -> dict:
    return {
        "name": "smoke",
        "description": "Real handwritten digits at 8x8: seven classes pre-train, three are new; letters are a shift.",
        "seeds": seeds or SEEDS,
        "backbones": {"dense": {"form": "dense"}, "kind": {"form": "kind", "num_learngenes": 16, "num_tailors": 4}},
        "pretrain": {"classes": list("0123456"), "steps": 2000},
        "tasks": tasks or TASKS,
        "methods": methods or METHODS,
    }


def values(quality: float, samples: int, reference: int) -> dict[str, float]:
    close = 1 / (1 + quality / 30)
    return {
        f"fd_digits_{samples}_vs_{reference}": quality,
        f"sfd_digits_{samples}_vs_{reference}": 1.7 * quality,
        f"kd_digits_{samples}_vs_{reference}": 0.0004 * quality - 0.001,
        f"is_digits_{samples}": 1 + 2 * close,
        f"precision_digits_{samples}_vs_{reference}": 0.2 + 0.7 * close,
        f"recall_digits_{samples}_vs_{reference}": 0.1 + 0.8 * close,
        f"accuracy_digits_{samples}": 0.3 + 0.7 * close,
        f"accuracy_svc_{samples}": 0.3 + 0.68 * close,
        f"nearest_train_{samples}": 9 + 0.1 * quality,
    }


def direction(name: str) -> str | None:
    if name.startswith(("fd", "sfd", "kd")):
        return "lower"
    return None if name.startswith("nearest") else "higher"


def protocol(task: str) -> dict:
    return {
        "sampler": "ddim", "num_inference_steps": 50, "timestep_spacing": "trailing",
        "guidance_scale": TASKS.get(task, {}).get("guidance_scale", 1.5), "guided_channels": "all", "clip_sample": True,
        "weights": "ema", "num_samples": 500, "curve_num_samples": 200, "sampling_seed": 0, "precision": "float32",
        "extractor": {"name": "digits", "identity": "5f0c9ab12d34", "feature_dim": 32},
        "reference": "test", "num_reference": REFERENCE.get(task, 180), "reference_identity": digest(task),
    }  # fmt: skip


def glyph(kind: int, noise: float, random: np.random.Generator, size: int) -> np.ndarray:
    """A ring or bars that differ by class, [size, size, 1] uint8."""
    ys, xs = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    angle, radius = np.arctan2(ys, xs), np.hypot(ys, xs)
    picture = np.cos(angle * (kind + 1)) * np.exp(-((radius - 0.6) ** 2) * 8) * 255
    return np.clip(picture + noise * random.normal(size=picture.shape) * 60, 0, 255).astype(np.uint8)[..., None]


def images(count: int, classes: int, noise: float, seed: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return np.stack([glyph(int(label), noise, random, size) for label in labels]), labels.astype(np.int64)


def write_run(folder: Path, task: str, method: str, seed: int, classes: int, size: int = 8) -> None:
    place = folder / "runs" / task / method / f"seed_{seed}"
    base = QUALITY.get(method, 15 + 3.7 * len(method)) * (1.0 if task == "novel" else 1.6)
    random = np.random.default_rng([seed, len(task), *method.encode()])
    end = base * (1 + 0.06 * random.normal())
    final = values(end, 500, REFERENCE.get(task, 180))
    steps = {
        str(step): {
            "values": values(end * (1 + 3 * math.exp(-step / 80)) + 1.5, 200, REFERENCE.get(task, 180)),
            "indicative": [f"sfd_digits_200_vs_{REFERENCE.get(task, 180)}"],
        }
        for step in STEPS
    }
    trainable = TRAINABLE.get(method, 9_000 + 1_700 * sum(method.encode()) % 200_000)
    write_json(place / "metrics.json", {
        "format": 1, "experiment": "smoke", "task": task, "method": method, "seed": seed,
        "protocol": protocol(task), "protocol_hash": digest(protocol(task)), "final_step": 300,
        "steps": steps, "values": final, **distances(final, task, random),
        "directions": {name: direction(name) for name in final},
        "memorisation": {"sample_median": 9.6 + 0.02 * end, "sample_p5": 4.9 + 0.02 * end,
                         "test_median": 10.4, "test_p5": 5.6,
                         "share_below_test_p5": 0.06, "share_copies": 0.0},
        "judge": {"accuracy_on_real_test": 0.983},
        "parameters": {"trainable": trainable, "trainable_label_table": 256, "deployed": 251_904 if method != "kind"
                       else 187_200, "macs": 3_420_160 if method == "kind" else 4_021_248},
        "warnings": ["EMA decay 0.999 is slow for 300 steps"] if method == "scratch" else [],
        "provenance": {"code": "a1b2c3d4e5f6", "git": "0123456789ab", "python": "3.11.7",
                       "versions": {"torch": "2.11.0", "diffusers": "0.42.1", "numpy": "2.3.1"}},
    })  # fmt: skip
    cost = {"train_seconds": 6.0 + random.random(), "train_cpu_seconds": 11.0 + random.random()}
    write_json(place / "cost.json", cost | {"peak_memory_bytes": 9.1e8, "device": "cpu", "resumes": 0, "steps": 300})
    write_losses(place / "train.csv", 300, 0.16 + 0.002 * base, random)
    pictures, labels = images(40, classes, base / 30, seed + 10 * len(method), size)
    samples = folder / "samples" / task / method / f"seed_{seed}" / "step_000300"
    save_arrays(samples / "shard_000.npz", arr_0=pictures[:25], arr_1=labels[:25])
    save_arrays(samples / "shard_001.npz", arr_0=pictures[25:], arr_1=labels[25:])


def distances(final: dict[str, float], task: str, random: np.random.Generator) -> dict:
    """The interval of the kernel distance, and a row a class."""
    name, kernel = next((name, value) for name, value in final.items() if name.startswith("kd_"))
    rows = {
        f"digits/{label}": {"num_samples": 166, "num_reference": 60, "fd_digits": 9.5, "fd_digits_indicative": False,
                            "kd_digits": kernel * (1 + 0.2 * random.random()), "kd_digits_low": 0.5 * kernel,
                            "kd_digits_high": 2 * kernel, "accuracy_digits": 0.9}
        for label in TASKS.get(task, {}).get("classes", ["a", "b"])
    }  # fmt: skip
    spatial = [name for name in final if name.startswith("sfd_")]
    return {"intervals": {name: {"value": kernel, "low": 0.8 * kernel, "high": 1.2 * kernel}}, "per_class": rows,
            "indicative": spatial}  # fmt: skip


def write_losses(path: Path, steps: int, floor: float, random: np.random.Generator) -> None:
    write_csv(path, [
        {"step": step, "loss": floor * (1 + 4 * math.exp(-step / 40)) * (1 + 0.1 * random.normal()),
         "learning_rate": 0.001, "gradient_norm": 0.5}
        for step in range(1, steps + 1)
    ])  # fmt: skip


def write_experiment(folder: Path, tasks=None, methods=None, seeds=None, size: int = 8) -> Path:
    tasks, methods, seeds = tasks or TASKS, methods or METHODS, seeds or SEEDS
    for task, entry in tasks.items():
        pictures, labels = images(60, len(entry["classes"]), 0.1, 99, size)
        save_arrays(folder / "reference" / f"{task}.npz", arr_0=pictures, arr_1=labels, mu=np.zeros(3))
        for method in methods:
            for seed in seeds:
                write_run(folder, task, method, seed, len(entry["classes"]), size)
    for name in ("dense", "kind"):
        place = folder / "backbones" / name
        write_losses(place / "train.csv", 1000, 0.14, np.random.default_rng(len(name)))
        cost = {"train_seconds": 81.5, "peak_memory_bytes": 1.1e9, "device": "cpu", "steps": 1000}
        write_json(place / "cost.json", cost)
        write_json(place / "pretrain.json", {"parameters": {"deployed": 251_904}})
        pictures, labels = images(70, 7, 0.2, 5, size)
        save_arrays(place / "preview.npz", arr_0=pictures, arr_1=labels)
    return folder


def change(path: Path, **changes) -> None:
    """Replace top-level keys of a JSON file; NaN is allowed, because other tools write it."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))

"""Names of metrics, which say extractor and counts, and which way each is better."""

from __future__ import annotations

from kind.evaluation.features import INCEPTION
from kind.evaluation.judge import Judge

DIRECTIONS = {
    "frechet": "lower",
    "spatial_frechet": "lower",
    "kernel": "lower",
    "class_frechet": "lower",
    "class_kernel": "lower",
    "precision": "higher",
    "recall": "higher",
    "score": "higher",
    "accuracy": "higher",
    "judge_accuracy": "higher",
    "nearest_train": None,
}
UNKNOWN = "unknown"  # a count that a file of statistics does not say


def count_label(count: int | None) -> str:
    """500 -> "500", 1000 -> "1k", 1797 -> "1797", 50000 -> "50k": exact, and short where thousands are whole."""
    if count is None:
        return UNKNOWN
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)


def metric_names(
    extractor: str, num_samples: int | None, num_reference: int | None, vectors: tuple[int, int] | None = None
) -> dict[str, str]:
    """The name of each metric in files and tables, by its role in `DIRECTIONS`.

    fd_digits_500_vs_180 for an extractor called digits; fid_50k_vs_10k, sfid_, kid_ for Inception and only for it,
    where `accuracy`, which needs a classifier of the experiment's own classes, has no name.
    vectors: how many features of each side are there, where that is fewer than images.
    """
    one = count_label(num_samples)
    two = f"{one}_vs_{count_label(num_reference)}"
    pairs = two if vectors is None else "_vs_".join(map(count_label, vectors))
    prefixes, infix = (("fid", "sfid", "kid"), "") if extractor == INCEPTION else (("fd", "sfd", "kd"), f"{extractor}_")
    names = {
        "frechet": f"{prefixes[0]}_{infix}{two}",
        "spatial_frechet": f"{prefixes[1]}_{infix}{two}",
        "kernel": f"{prefixes[2]}_{infix}{pairs}",
        "class_frechet": f"class_{prefixes[0]}_{infix}{pairs}",
        "class_kernel": f"class_{prefixes[2]}_{infix}{pairs}",
        "precision": f"precision_{infix}{pairs}",
        "recall": f"recall_{infix}{pairs}",
        "score": f"is_{infix}{one}",
        "accuracy": f"accuracy_{infix}{one}",
        "judge_accuracy": f"accuracy_{Judge.name}_{one}",
        "nearest_train": f"nearest_train_{one}",
    }
    if extractor == INCEPTION:
        del names["accuracy"]
    return names


def base_name(extractor: str, role: str) -> str:
    """The name without counts: a row of the table of classes has its own."""
    return metric_names(extractor, 0, 0)[role].removesuffix("_0_vs_0").removesuffix("_0")

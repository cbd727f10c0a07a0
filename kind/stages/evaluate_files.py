"""`python -m kind evaluate SAMPLES REFERENCE`: metrics of anyone's images, as JSON and as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kind.errors import UserError
from kind.stages.measure_files import Side, check_writable, needs_extractor, read_side

FORMAT = 1
CLASSES_SHOWN = 20


def evaluate_files(arguments: argparse.Namespace) -> None:
    from kind.artifacts import provenance, write_json
    from kind.evaluation.metrics import compare_sets

    output = arguments.output or default_output(arguments.samples)
    check_writable(output)
    check_options(arguments)
    reference = read_side(arguments.reference, arguments)
    samples = read_side(arguments.samples, arguments, like=reference.features.origin, first=arguments.num_samples)
    found = compare_sets(samples.features, reference.features, samples.known_classes)
    warn_of_sizes(samples, reference, found["warnings"])
    origin = samples.features.origin or reference.features.origin
    content = {
        "format": FORMAT,
        "samples": samples.about(arguments.samples),
        "reference": reference.about(arguments.reference),
        "extractor": None if origin is None else origin._asdict(),
        **found,
        "provenance": provenance(),
    }
    if arguments.output is None:
        check_not_another(output, content)
    write_json(output, content)
    print("\n".join(lines(content)))
    print(f"\nwritten: {output}")


def default_output(samples: Path) -> Path:
    """Beside the samples, and of their whole name: cfg-1.5 and cfg-1.25 are two."""
    samples = samples.resolve()
    name = samples.name.removesuffix(".npz")
    return samples.with_name(f"{name}.metrics.json")


def check_options(arguments: argparse.Namespace) -> None:
    """Raises UserError for options that would do nothing."""
    if any(needs_extractor(path) for path in (arguments.samples, arguments.reference)):
        return
    given = [name for name in ("extractor", "weights", "size", "batch_size") if getattr(arguments, name) is not None]
    if given:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{listed}: both files hold what is compared, so nothing is extracted", hint="leave it out")


def check_not_another(output: Path, content: Mapping[str, Any]) -> None:
    """Raises UserError where the file that nobody named holds another comparison."""
    from kind.artifacts import read_json

    if not output.exists():
        return
    found = read_json(output)
    keys = ("samples", "reference", "extractor")
    if not isinstance(found, dict) or any(found.get(key) != content[key] for key in keys):
        raise UserError(
            f"{output}: holds another comparison, which is left as it is",
            hint="name another file with --output; what was extracted is kept and not extracted again",
        )


def warn_of_sizes(samples: Side, reference: Side, warnings: list[str]) -> None:
    """Images of two sizes go through the extractor's resizing in two ways."""
    shapes = [side.shape for side in (samples, reference)]
    if None not in shapes and shapes[0] != shapes[1]:
        ours, theirs = (" x ".join(map(str, shape)) for shape in shapes)
        warnings.append(f"samples are of {ours}, the reference of {theirs}: that moves distances by itself")
    labels = None if samples.images is None else samples.images.labels
    if labels is not None and samples.whole_labels is not None:
        absent = len(set(samples.whole_labels.tolist()) - set(labels.tolist()))
        if absent:
            warnings.append(
                f"the first {samples.features.count} samples have none of {absent} classes that others have"
            )


def lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The table that a person reads."""
    for side in ("samples", "reference"):
        about = content[side]
        count = "a number that the file does not say of" if about["num_images"] is None else f"{about['num_images']:,}"
        shape = "" if about["image_shape"] is None else " of " + " x ".join(map(str, about["image_shape"]))
        what = "statistics of " if "protocol" in about else ""
        yield f"{side:<10} {about['path']}: {what}{count} images{shape}"
    made = content["extractor"]
    known = "not said by either file" if made is None else f"{made['extractor']} ({made['identity'][:12]})"
    yield f"extractor  {known}" + ("" if made is None else f", batches of {made['batch_size']}")
    yield ""
    width = max(map(len, content["values"]))
    for name, value in content["values"].items():
        arrow = {"lower": "lower is better", "higher": "higher is better"}.get(content["directions"][name], "")
        notes = [arrow]
        if interval := content["intervals"].get(name):
            notes.append(f"95 % interval {number(interval['low'])} to {number(interval['high'])}")
        if name in content["indicative"]:
            notes.append("INDICATIVE ONLY")
        yield f"{name:<{width}}  {number(value):>12}  {'; '.join(filter(None, notes))}"
    yield from class_lines(content["per_class"])
    if content["warnings"]:
        yield ""
    for warning in content["warnings"]:
        yield f"warning: {warning}"


def class_lines(per_class: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not 2 <= len(per_class) <= CLASSES_SHOWN:
        if per_class:
            yield f"\n{len(per_class)} classes: their distances are in the JSON file"
        return
    keys = [key for key in dict.fromkeys(key for row in per_class.values() for key in row) if "_indicative" not in key]
    width = max(5, *map(len, per_class))
    yield f"\n{'class':<{width}}  " + "  ".join(f"{key:>14}" for key in keys)
    for name, row in per_class.items():
        cells = [number(row[key]) if key in row else "" for key in keys]
        cells = [f"{cell}*" if row.get(f"{key}_indicative") else cell for key, cell in zip(keys, cells, strict=True)]
        yield f"{name:<{width}}  " + "  ".join(f"{cell:>14}" for cell in cells)
    if any(value for row in per_class.values() for key, value in row.items() if key.endswith("_indicative")):
        yield "* indicative only: too few images for the number of feature dimensions"


def number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"

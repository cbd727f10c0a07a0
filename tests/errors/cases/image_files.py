"""Image files of a person's own: not there, damaged, without a class."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from place import Place

from cases.parts import PREPARE, Case


def pictures(*changes: Callable[[Place], object], options: str = "") -> Callable[[Place], object]:
    """The data are a folder of images, two of each of two classes, so changed."""

    def breaks(place: Place) -> None:
        place.edit(
            ("{source: digits,", f"{{source: folder, options: {{path: pictures, size: 8, channels: 1{options}}},")
        )
        for number in range(4):
            path = place.folder / "pictures" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 9), 60 * number, np.uint8)).save(path)
        for change in changes:
            change(place)

    return breaks


def put(name: str, content: bytes) -> Callable[[Place], object]:
    return lambda place: (place.folder / name).write_bytes(content)


CASES = [
    Case(
        "no folder of images",
        lambda p: p.edit(("{source: digits,", "{source: folder, options: {path: pictures, size: 8},")),
        PREPARE,
        "the data source folder lacks what it needs on this machine:\n"
        "pictures does not exist; put the images there, or name the place where they are as `path`\n"
        "  -> then run the same command again",
    ),
    Case(
        "images that cannot be decoded",
        pictures(put("pictures/a/0.png", b""), put("pictures/b/c.jpg", b"404 not found")),
        PREPARE,
        "2 of 5 image files cannot be decoded (all of them: results/tiny/state/prepare/digits/bad_images.csv):\n"
        "  a/0.png: is empty\n"
        "  b/c.jpg: is no image that is read here (JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM)\n"
        "  -> mend or remove them and run the same command again, which goes on where it stopped; or leave them out with `bad_images: skip` in the options of this data set",
    ),
    Case(
        "images outside class folders",
        pictures(put("pictures/c.png", b"")),
        PREPARE,
        "pictures: 'c.png' in no class folder\n"
        "  -> put each class into a folder of its own, name the folder they lie in as `below`, or say `labels: csv` or `labels: none`",
    ),
    Case(
        "a class without images",
        pictures(options=", classes: [0, 1, 2, 7, 8]"),
        PREPARE,
        "pictures: no images of class '0', '1', '2', '7', '8'; there are: a, b\n  -> add images, or leave these classes out of `classes`",
    ),
    Case(
        "labels out of range",
        pictures(
            put("l.csv", b"file,label\na/0.png,0\nb/1.png,9\n"),
            options=", labels: csv, csv: l.csv, classes: [0, 1, 2, 7, 8]",
        ),
        PREPARE,
        "l.csv: labels that `classes` does not name: '9'; classes: 0, 1, 2, 7, 8\n"
        "  -> mend the rows, or add the classes",
    ),
    Case(
        "a file in train and in test",
        pictures(
            put("l.csv", b"file,label,part\na/0.png,a,train\na/2.png,a,test\n"),
            lambda p: (p.folder / "pictures/a/2.png").write_bytes((p.folder / "pictures/a/0.png").read_bytes()),
            options=", labels: csv, csv: l.csv, split_column: part",
        ),
        PREPARE,
        "the same picture is in two splits, 1 times:\n  a/0.png (train) and a/2.png (test)\n"
        "  -> leave one of each pair out, or put both into one split",
    ),
    Case(
        "no workers",
        pictures(),
        (*PREPARE, "--workers", "0"),
        "--workers: 0 given; at least 1\n  -> leave it out to have it chosen",
    ),
]

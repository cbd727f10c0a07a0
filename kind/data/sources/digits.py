"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from kind.data.installed import missing_files, package_folder
from kind.data.sources import RawData, Source, SourceOptions

COUNTS = {"0": 178, "1": 182, "2": 177, "3": 183, "4": 181, "5": 182, "6": 181, "7": 179, "8": 174, "9": 180}
FILE = ("datasets", "data", "digits.csv.gz")
MAX_VALUE = 16  # a pixel counts the set bits in a 4x4 block of the 32x32 scan


class Options(SourceOptions):
    """No options: all ten classes, all images."""


def load(options: Options) -> RawData:
    """Pixels 0..16 become round(255 v / 16).  images [1797, 8, 8, 1]."""
    import gzip
    import hashlib
    from importlib import metadata

    import numpy as np

    path = package_folder("sklearn").joinpath(*FILE)
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",")  # importing sklearn.datasets for this would cost a second or two
    images = np.rint(table[:, :-1] * 255 / MAX_VALUE).astype(np.uint8).reshape(-1, 8, 8, 1)
    notes = {
        "file": "/".join(("sklearn", *FILE)),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scikit-learn": metadata.version("scikit-learn"),
    }
    return RawData(images, table[:, -1].astype(np.int64), tuple(COUNTS), notes)


def missing(options: Options) -> list[str]:
    return missing_files("sklearn", [FILE], "scikit-learn")


SOURCE = Source(
    name="digits",
    options=Options,
    load=load,
    class_names=lambda options: tuple(COUNTS),
    class_counts=lambda options: dict(COUNTS),
    channels=lambda options: 1,
    missing=missing,
)

"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kind.data.installed import missing_files, package_folder
from kind.data.sources import RawData, Source, SourceOptions

if TYPE_CHECKING:
    import numpy as np

COUNTS = {"0": 178, "1": 182, "2": 177, "3": 183, "4": 181, "5": 182, "6": 181, "7": 179, "8": 174, "9": 180}
FILE = ("datasets", "data", "digits.csv.gz")
SIDE = 8
MAX_VALUE = 16  # a pixel counts the set bits in a 4x4 block of the 32x32 scan


class Options(SourceOptions):
    """size: 8 as scanned, or enlarged, to stand beside other data of that size; our choice."""

    size: Literal[8, 12, 16, 32] = SIDE


def load(options: Options) -> RawData:
    """Pixels 0..16 become round(255 v / 16), Pillow enlarges them (bicubic).  images [1797, size, size, 1]."""
    import gzip
    import hashlib
    from importlib import metadata

    import numpy as np

    path = package_folder("sklearn").joinpath(*FILE)
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",")  # importing sklearn.datasets for this would cost a second or two
    images = np.rint(table[:, :-1] * 255 / MAX_VALUE).astype(np.uint8).reshape(-1, SIDE, SIDE)
    notes = {
        "file": "/".join(("sklearn", *FILE)),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scikit-learn": metadata.version("scikit-learn"),
    }
    if options.size != SIDE:
        images = _enlarged(images, options.size)
        notes["pillow"] = metadata.version("pillow")
    return RawData(images[..., None], table[:, -1].astype(np.int64), tuple(COUNTS), notes)


def _enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, 8, 8] -> uint8 [N, size, size]"""
    import numpy as np
    from PIL import Image

    enlarged = (Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images)
    return np.stack([np.asarray(image) for image in enlarged])


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

"""What rendered sources share: the faces that matplotlib ships, the random affine map, pixels of one contrast."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kind.data.installed import missing_files, package_folder

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FOLDER = ("mpl-data", "fonts", "ttf")
FACES = tuple(
    family + style
    for family, slanted in (("DejaVuSans", "Oblique"), ("DejaVuSansMono", "Oblique"), ("DejaVuSerif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
SATURATED = 0.08  # share of a picture's pixels that are at full white, about as in the digits


def face_path(face: str) -> Path:
    return package_folder("matplotlib").joinpath(*FOLDER, f"{face}.ttf")


def missing_faces(faces: Iterable[str]) -> list[str]:
    """A line for each face that this machine lacks."""
    return missing_files("matplotlib", [(*FOLDER, f"{face}.ttf") for face in faces], "matplotlib")


def what_draws(faces: Iterable[str]) -> dict[str, object]:
    """For a manifest: all that the bytes of drawings depend on besides this code."""
    from importlib import metadata

    from PIL import features

    from kind.artifacts import sha256

    return {
        "faces": {face: sha256(face_path(face)) for face in faces},
        "matplotlib": metadata.version("matplotlib"),
        "pillow": metadata.version("pillow"),
        "freetype": features.version("freetype2"),
    }


def move(
    drawing: Image, side: int, *, angle: float, shear: float, scale: float, shift_x: float, shift_y: float
) -> Image:
    """The square drawing, mapped about its centre to side x side pixels: A = R(angle) S(shear) scale, then the shift.

    angle is in radians, the shift in pixels of the result.  Pillow wants the map from output to input:
    x_in = (side_in / side) A^-1 (x_out - centre_out - shift) + centre_in.
    """
    from PIL import Image

    ratio = drawing.width / side
    cosine, sine = ratio * math.cos(angle) / scale, ratio * math.sin(angle) / scale
    a, b, d, e = cosine + shear * sine, sine - shear * cosine, -sine, cosine  # S^-1 R^-1 / scale
    centre_in, centre_out = drawing.width / 2, side / 2
    c = centre_in - a * (centre_out + shift_x) - b * (centre_out + shift_y)
    f = centre_in - d * (centre_out + shift_x) - e * (centre_out + shift_y)
    return drawing.transform((side, side), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def to_pixels(drawing: Image, factor: int) -> np.ndarray:
    """Area averages of factor x factor pixels, then the brightest ones set to 255.  uint8 [side, side]"""
    import numpy as np

    small = np.asarray(drawing.reduce(factor), dtype=np.float64)
    white = max(np.sort(small, axis=None)[-math.ceil(SATURATED * small.size)], small.max() / 2, 1)
    return np.rint(np.minimum(small * (255 / white), 255)).astype(np.uint8)

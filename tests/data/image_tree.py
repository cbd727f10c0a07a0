"""Small trees of real image files, and archives of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (20, 14)) -> Image.Image:
    """Blocks of random colours, (width, height)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def jpeg(seed: int, size: tuple[int, int] = (20, 14)) -> bytes:
    handle = io.BytesIO()
    picture(seed, size).save(handle, "JPEG", quality=95)
    return handle.getvalue()


def make_tree(folder: Path, counts: dict[str, int], size: tuple[int, int] = (20, 14)) -> Path:
    """`NAME/NAME_3.JPEG`, as ILSVRC has them; every picture is another."""
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            write(folder / name / f"{name}_{number}.JPEG", jpeg(seed, size))
            seed += 1
    return folder


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=".")
    return path


def tars_of_classes(folder: Path, into: Path) -> Path:
    """A tar a class, whose members have no folder: what ILSVRC2012_img_train.tar holds."""
    into.mkdir()
    for one in sorted(folder.iterdir()):
        with tarfile.open(into / f"{one.name}.tar", "w") as archive:
            for file in sorted(one.iterdir(), reverse=True):  # in no order that anything may rely on
                archive.add(file, arcname=file.name)
    return into


def zip_of(folder: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path

"""PNG grids of what a run or a backbone draws, made from its files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LARGEST_REFERENCE = 200e6  # bytes: real images of a larger file are left out rather than read as a whole


def run_picture(samples: Path, reference: Path, title: str, label: str, classes: list[str]) -> bytes:
    """The first samples of each class beside real images."""
    from kind.reporting.grids import make_panel, read_shard

    shards = sorted(samples.glob("shard_*.npz"))
    panels = [make_panel(label, ((_first(path, "arr_0"), _first(path, "arr_1")) for path in shards), classes)]
    if reference.stat().st_size < LARGEST_REFERENCE:
        panels.insert(0, make_panel("real", [read_shard(reference)], classes))
    return _grid(title, panels, classes)


def backbone_picture(preview: Path, name: str, classes: list[str]) -> bytes:
    """The preview that pre-training left."""
    from kind.reporting.grids import make_panel, read_shard

    return _grid(f"pretrain / {name}", [make_panel("preview", [read_shard(preview)], classes)], classes)


def _grid(title: str, panels: list, classes: list[str]) -> bytes:
    import tempfile

    from kind.reporting.grids import write_grid

    with tempfile.TemporaryDirectory() as folder:
        write_grid(Path(folder) / "grid.png", title, panels, classes)
        return (Path(folder) / "grid.png").read_bytes()


def _first(path: Path, name: str, count: int = 8192) -> np.ndarray:
    """The first rows of an array in an npz file, without reading the others: a shard may hold gigabytes."""
    import numpy as np

    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, _, dtype = read_header(stream)
        row = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        rows = min(shape[0], count, max(512, int(LARGEST_REFERENCE // max(1, row))))
        return np.frombuffer(stream.read(rows * row), dtype).reshape(rows, *shape[1:])

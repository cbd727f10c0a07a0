"""Sample grids: real images beside generated ones, a row a class; the first of each class, not a selection."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kind.artifacts import load_arrays, write_bytes
from kind.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SMALL = 32  # pixels: images up to this size are shown pixel by pixel
THUMBNAIL = 96  # larger ones are scaled down to at most this
PAPER, INK, MUTED = (255, 255, 255), (29, 31, 36), (100, 104, 114)


@dataclass(frozen=True)
class Panel:
    """One source of images. tiles: class -> images [K, H, W, C]; picture: PNG or WebP for the page."""

    title: str
    alt: str
    picture: bytes
    media_type: str
    size: tuple[int, int]
    tiles: Sequence[Sequence[np.ndarray]]
    method: str | None = None

    @property
    def pixelated(self) -> bool:
        return self.media_type == "image/png"


def shown_classes(num_classes: int, height: int) -> list[int]:
    """At most ten classes (four of large images), spread over all."""
    limit = min(num_classes, 10 if height <= SMALL else 4)
    return [place * num_classes // limit for place in range(limit)]


def images_per_row(height: int) -> int:
    return 6 if height <= SMALL else 4


def read_samples(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The shards of a samples folder, one after another."""
    shards = sorted(folder.glob("shard_*.npz"))
    if not shards:
        raise UserError(f"{folder}: no sample shards (shard_*.npz)", hint="run the sample stage of this run")
    for shard in shards:
        yield read_shard(shard)


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W, C] and class indices [N] of samples or of a reference."""
    arrays = load_arrays(path, ("arr_0", "arr_1"), without=("sigma", "sigma_s", "pooled", "logits"))
    return arrays["arr_0"], arrays["arr_1"]


def make_panel(
    title: str, shards: Iterable[tuple[np.ndarray, np.ndarray]], classes: Sequence[str], method: str | None = None
) -> Panel:
    """The first images of each shown class; stops reading shards once it has them."""
    rows: list[list[np.ndarray]] = []
    for images, labels in shards:
        if not rows:
            shown = shown_classes(len(classes), images.shape[1])
            per_row = images_per_row(images.shape[1])
            rows = [[] for _ in shown]
        for row, index in zip(rows, shown, strict=True):
            row.extend(images[labels == index][: per_row - len(row)])
        if all(len(row) == per_row for row in rows):
            break
    tiles = [[_thumbnail(image) for image in row] for row in rows]
    picture = _mosaic(tiles, per_row)
    small = images.shape[1] <= SMALL
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True) if small else picture.save(buffer, "WEBP", quality=82)
    names = ", ".join(classes[index] for index in shown)
    return Panel(
        title=title,
        alt=f"{title}: a grid of {len(rows)} rows of {per_row} images; rows are the classes {names}.",
        picture=buffer.getvalue(),
        media_type="image/png" if small else "image/webp",
        size=picture.size,
        tiles=tiles,
        method=method,
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """[H, W, C] to [H', W', 3], no side above THUMBNAIL."""
    import numpy as np
    from PIL import Image

    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    if max(image.shape[:2]) <= THUMBNAIL:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _mosaic(tiles: Sequence[Sequence[np.ndarray]], per_row: int) -> Image.Image:
    """All tiles with a transparent gap; a class without enough images leaves empty places."""
    import numpy as np
    from PIL import Image

    height, width = next((tile.shape[:2] for row in tiles for tile in row), (1, 1))
    gap = max(1, height // 16)
    canvas = np.zeros((len(tiles) * (height + gap) - gap, per_row * (width + gap) - gap, 4), np.uint8)
    for down, row in enumerate(tiles):
        for across, tile in enumerate(row):
            top, left = down * (height + gap), across * (width + gap)
            canvas[top : top + height, left : left + width, :3] = tile
            canvas[top : top + height, left : left + width, 3] = 255
    return Image.fromarray(canvas)


def write_grid(path: Path, title: str, panels: Sequence[Panel], classes: Sequence[str], per_line: int = 4) -> None:
    """All panels in one PNG: in every line the real images (the first panel) stand left of the generated ones."""
    from PIL import Image, ImageDraw

    real, generated = panels[0], panels[1:]
    lines = [generated[start : start + per_line] for start in range(0, len(generated), per_line)] or [[]]
    scale = max(1, 32 // _tile_height(real))
    width, height = real.size[0] * scale, real.size[1] * scale
    small, large = _font(13), _font(17, bold=True)
    shown = shown_classes(len(classes), real.tiles[0][0].shape[0]) if real.tiles[0] else []
    rows = [_one_line(classes[index]) for index in shown]
    margin, gap, head = 20, 22, 26
    gutter = min(120, max((math.ceil(small.getlength(name)) for name in rows), default=0)) + 10
    columns = 1 + max(len(line) for line in lines)
    full_width = max(2 * margin + gutter + columns * (width + gap) - gap, int(large.getlength(title)) + 2 * margin)
    canvas = Image.new("RGB", (full_width, 2 * margin + 24 + len(lines) * (head + height + gap) - gap), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, margin - 6), title, INK, large)
    for down, line in enumerate(lines):
        top = margin + 24 + down * (head + height + gap)
        for place, name in enumerate(rows):
            middle = top + head + (place + 0.5) * height / len(rows)
            draw.text((margin + gutter - 10, middle), _fit(name, small, gutter - 10), MUTED, small, anchor="rm")
        for across, panel in enumerate([real, *line]):
            left = margin + gutter + across * (width + gap)
            draw.text((left, top + 4), _fit(panel.title, small, width), INK if across else MUTED, small)
            picture = _mosaic(panel.tiles, images_per_row(_tile_height(panel)))
            picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + head), picture)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def _tile_height(panel: Panel) -> int:
    return next((tile.shape[0] for row in panel.tiles for tile in row), 1)


def _font(size: int, bold: bool = False):
    """DejaVu Sans, which matplotlib ships."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _one_line(text: str) -> str:
    """A font measures nothing else."""
    return " ".join(text.split())


def _fit(text: str, font, width: float) -> str:
    text = _one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

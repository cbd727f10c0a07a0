"""From image files to pixels and from a model's output to pixels: the one decoding, the one crop, the one rounding.

Whatever a file holds becomes uint8 [H, W, C] in one way, so that training images, references and samples differ by what
they show and not by how they were read.  Importing this imports neither numpy, PIL nor torch.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from kind.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

# What is read; PIL knows more, among it formats (EPS) that start other programs.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "BMP": (".bmp",), "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm", ".pbm"),
}  # fmt: skip
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 178_956_970  # PIL's own limit: half a gigabyte of RGB; more is a mistake or an attack
WHITE = 255
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


class BadImage(UserError):
    """A file that cannot be decoded; `name` is the file, `reason` what is wrong with it."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}", hint="mend, replace or remove the file")
        self.name, self.reason = name, reason

    def __reduce__(self):
        return BadImage, (self.name, self.reason)  # across processes: the base class would forget the reason


def decode_image(content: bytes, *, channels: int, size: int | None, name: str, background: int = WHITE) -> np.ndarray:
    """An image file's bytes as uint8 [H, W, channels]: `open_image`, then `centre_crop` to size x size.

    size: None keeps the picture's own.  Raises BadImage, which names the file.
    """
    return fit(open_image(content, channels=channels, name=name, background=background), size, name)


def fit(image: Image, size: int | None, name: str) -> np.ndarray:
    """`centre_crop`, or the whole picture for None.  Raises BadImage for one so thin that resizing made it huge."""
    if size is None:
        return _pixels(image)
    if max(image.size) * size * size > MAX_PIXELS * min(image.size):
        raise BadImage(name, f"{image.width} x {image.height} pixels are too thin to be cropped to {size} x {size}")
    return centre_crop(image, size)


def open_image(content: bytes, *, channels: int, name: str, background: int = WHITE) -> Image:
    """The picture as a person sees it, of mode L (channels 1) or RGB (3), in its own size.

    Turned as its EXIF orientation says.  What is transparent is composited over a grey of level `background` before
    anything is resized (white: our choice).  CMYK, grey and other modes are converted by PIL without colour profiles,
    as in ADM's loader; 16-bit grey is scaled, round(255 v / 65535).  Of several frames the first counts.
    Raises BadImage for bytes that are no image, truncated or damaged as far as the format tells (JPEG has no
    checksums), in a format that FORMATS does not name, or of more than MAX_PIXELS.
    """
    from PIL import Image

    assert channels in (1, 3), f"{channels} channels: images have 1 or 3"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are allowed here
            image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
            image = _composited(_eight_bits(image), background).convert("L" if channels == 1 else "RGB")
            return image.transpose(Image.Transpose[turn]) if turn else image
    except Image.DecompressionBombError:
        raise BadImage(name, f"has more than {MAX_PIXELS} pixels")
    except MemoryError:
        raise  # of the machine, not of the file
    except Image.UnidentifiedImageError:
        raise BadImage(name, f"is no image that is read here ({', '.join(FORMATS)})" if content else "is empty")
    except Exception as error:  # noqa: BLE001  PIL raises what its decoders come upon: any type
        raise BadImage(name, f"is damaged or of an unknown kind ({type(error).__name__}: {error})")


def centre_crop(image: Image, size: int) -> np.ndarray:
    """The centre square as uint8 [size, size, C]: ADM's `center_crop_arr`, bit for bit.

    While the short side is at least 2 size, halve by box averaging; then resize the short side to `size` bicubically
    (a smaller picture is enlarged); then cut.  (guided-diffusion's image_datasets.py; DiT's train.py has the same.)
    """
    from PIL.Image import Resampling

    while min(image.size) >= 2 * size:
        image = image.resize(tuple(side // 2 for side in image.size), Resampling.BOX)
    scale = size / min(image.size)
    pixels = _pixels(image.resize(tuple(round(side * scale) for side in image.size), Resampling.BICUBIC))
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def _pixels(image: Image) -> np.ndarray:
    """uint8 [H, W, C] of a picture of mode L or RGB."""
    import numpy as np

    return np.array(image).reshape(image.height, image.width, -1)


def _eight_bits(image: Image) -> Image:
    """16-bit grey as L, or as LA where one level stands for transparent; other modes as they are."""
    import numpy as np
    from PIL import Image

    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")):
        if image.mode in ("I", "F"):
            raise ValueError(f"the range of its {image.mode} pixels is not known")
        return image
    levels = np.asarray(image).astype(np.int64)
    grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # round(255 v / 65535)
    key = image.info.get("transparency")
    if key is None:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8))))


def _composited(image: Image, background: int) -> Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image
    ground = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA"))


def to_model_range(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]; latents, which are floats already, as they are."""
    return images if images.is_floating_point() else images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """[-1, 1] float [B, C, H, W] -> uint8 [B, H, W, C], rounded once and clipped."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()

"""Decoding: every kind of file gives the pixels that it shows, or is named as bad; one crop and one rounding."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from kind import images
from kind.images import BadImage, centre_crop, decode_image, to_uint8

NAME = "n01440764/n01440764_18.JPEG"


def encoded(image, form="PNG", **options):
    handle = io.BytesIO()
    image.save(handle, form, **options)
    return handle.getvalue()


def noise(width, height, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def decode(content, channels=3, size=None, **options):
    return decode_image(content, channels=channels, size=size, name=NAME, **options)


def reason(content, **options):
    with pytest.raises(BadImage) as error:
        decode(content, **options)
    assert str(error.value).startswith(f"{NAME}: ") and error.value.name == NAME
    return error.value.reason


# --- the crop -------------------------------------------------------------------------------------------------


def adm_center_crop(pil_image, image_size):
    """openai/guided-diffusion, image_datasets.py, as it stands there."""
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size]


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (131, 64), (64, 301), (32, 32), (31, 47), (7, 5), (1, 1)])
def test_the_crop_is_adms_bit_for_bit(size):
    picture = noise(*size)
    expected = adm_center_crop(picture, 32)
    assert expected.shape == (32, 32, 3)
    np.testing.assert_array_equal(centre_crop(picture, 32), expected)
    np.testing.assert_array_equal(decode(encoded(picture), size=32), expected)
    grey = picture.convert("L")
    np.testing.assert_array_equal(decode(encoded(grey), 1, 32)[..., 0], adm_center_crop(grey, 32))


def test_golden_pixels():
    """Written down once: another Pillow that resizes otherwise shows here."""
    ramp = Image.fromarray((np.add.outer(np.arange(9) * 20, np.arange(13) * 7) % 256).astype(np.uint8))
    assert centre_crop(ramp, 4)[..., 0].tolist() == [
        [28, 42, 63, 77], [78, 92, 113, 127], [128, 142, 163, 177], [168, 182, 203, 217],
    ]  # fmt: skip


def test_without_a_size_the_picture_keeps_its_own():
    picture = noise(13, 9)
    np.testing.assert_array_equal(decode(encoded(picture)), np.asarray(picture))
    assert decode(encoded(picture), 1).shape == (9, 13, 1)


def test_a_crop_that_would_pass_through_a_huge_picture_is_refused():
    assert "20000 x 1 pixels are too thin" in reason(encoded(noise(20000, 1)), size=256)
    assert decode(encoded(noise(200, 1)), size=32).shape == (32, 32, 3)


# --- what files hold ------------------------------------------------------------------------------------------


def test_grey_and_colour_become_what_is_asked_for():
    colour, grey = noise(6, 5), noise(6, 5, channels=1)
    levels = np.asarray(colour).astype(np.float64) @ [0.299, 0.587, 0.114]  # ITU-R 601
    assert np.abs(decode(encoded(colour), 1)[..., 0] - levels).max() <= 0.51
    np.testing.assert_array_equal(decode(encoded(grey)), np.repeat(np.asarray(grey)[..., None], 3, 2))
    stripes = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert decode(encoded(stripes), 1)[..., 0].tolist() == [[0, 255], [255, 0]]


def test_sixteen_bits_are_scaled_not_cut():
    levels = np.array([[0, 128, 129, 256], [257, 30000, 65406, 65535]], np.uint16)
    expected = np.rint(levels * (255 / 65535)).astype(np.uint8)
    for form in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(levels), form), 1)[..., 0], expected)
    keyed = decode(encoded(Image.fromarray(levels), transparency=30000), 1, background=7)[..., 0]
    assert keyed[1, 1] == 7 and keyed[1, 3] == 255


def test_cmyk_is_the_colour_that_it_prints():
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # cyan
    assert np.abs(decode(encoded(ink, "JPEG")).astype(int) - [0, 255, 255]).max() <= 2
    assert np.abs(decode(encoded(ink, "TIFF")).astype(int) - [0, 255, 255]).max() == 0


def test_palettes_are_looked_up_and_what_is_transparent_shows_the_background():
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert decode(encoded(palette)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    for form, clear in (("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)):
        found = decode(encoded(palette, form, transparency=clear))
        assert found.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]], (form, clear)


def test_alpha_is_composited_over_white_or_what_is_asked_for():
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    for background in (255, 0, 40):
        alpha = pixels[..., 3:] / 255
        expected = pixels[..., :3] * alpha + background * (1 - alpha)
        found = decode(encoded(Image.fromarray(pixels)), background=background)
        assert np.abs(found - expected).max() <= 1
    assert decode(encoded(Image.fromarray(pixels)))[0, 1].tolist() == [255, 255, 255]
    grey = Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8))
    assert decode(encoded(grey), 1)[0, :, 0].tolist() == [80, 255]


def test_transparent_edges_take_the_backgrounds_colour_before_the_resize():
    """Else the invisible colour under transparent pixels bleeds into the visible ones."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 255, 255, 255)  # opaque white; the rest transparent black
    assert decode(encoded(Image.fromarray(pixels)), size=4).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    """The stored picture is the upright one, moved as the tag says (rows and columns of the EXIF standard)."""
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decode(content, 1)[..., 0], upright)


def test_of_several_frames_the_first_counts():
    frames = [Image.new("L", (2, 2), level) for level in (10, 200)]
    assert np.unique(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), 1)).tolist() == [10]


# --- bad files ------------------------------------------------------------------------------------------------


def test_what_is_no_image_says_so():
    assert reason(b"") == "is empty"
    assert reason(b"<html>404</html>").startswith("is no image that is read here (JPEG, PNG")
    postscript = encoded(noise(4, 4), "EPS")  # PIL would start Ghostscript
    assert reason(postscript).startswith("is no image that is read here")
    assert "range of its F pixels is not known" in reason(encoded(Image.new("F", (4, 4)), "TIFF"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_bad_wherever_they_end(form):
    content = encoded(noise(40, 40), form)
    for share in (0.3, 0.6, 0.9):
        assert reason(content[: int(len(content) * share)])


def test_no_damage_in_a_png_gives_other_pixels():
    picture = noise(12, 12)
    content, bad = encoded(picture), 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 16
        try:
            np.testing.assert_array_equal(decode(bytes(damaged)), np.asarray(picture))
        except BadImage:
            bad += 1
    assert bad > 0.9 * len(content)


def test_huge_pictures_are_refused_by_their_header():
    content = bytearray(encoded(Image.new("L", (1, 1))))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    assert reason(bytes(content)) == f"has more than {images.MAX_PIXELS} pixels"


def test_large_pictures_are_read_without_a_warning(recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(noise(15, 10))).shape == (10, 15, 3) and not recwarn.list


def test_a_bad_image_crosses_processes_whole():
    error = pickle.loads(pickle.dumps(BadImage("a.png", "is empty")))
    assert (error.name, error.reason) == ("a.png", "is empty") and str(error) == str(BadImage("a.png", "is empty"))


# --- from a model's output ------------------------------------------------------------------------------------


def test_pixels_are_rounded_once_and_clipped():
    levels = torch.arange(256).reshape(1, 1, 16, 16)
    assert np.array_equal(to_uint8(levels / 127.5 - 1), levels.permute(0, 2, 3, 1).numpy())
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 254.4 / 127.5 - 1])
    assert to_uint8(values.reshape(1, 1, 1, 8)).ravel().tolist() == [0, 0, 128, 255, 255, 0, 1, 254]
    picture = torch.zeros(2, 3, 4, 5)
    picture[1, 2, 3, 4] = 1
    assert to_uint8(picture).shape == (2, 4, 5, 3)
    assert to_uint8(picture)[1, 3, 4, 2] == 255

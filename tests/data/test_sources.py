"""Sources: what they hold, that they are repeatable, and that importing them costs nothing."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import kind
from kind.data.installed import missing_files
from kind.data.sources import SOURCES
from kind.errors import UserError

PACKAGE = Path(kind.__file__).parent
ONE_FACE = {"faces": ["DejaVuSans-Bold"]}
STILL = {"max_rotation": 0, "max_shear": 0, "min_scale": 1, "max_scale": 1, "max_shift": 0}


def load(name, **options):
    source = SOURCES[name]
    return source.load(source.options(**options))


def letters(**options):
    return load("letters", **{"images_per_class": 40, **options})


def run_python(code, folder=PACKAGE.parent, **environment):
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment).stdout


# --- the registry ---------------------------------------------------------------------------------------------


def test_bundled_sources_are_found_and_need_nothing():
    assert {"digits", "letters", "glyphs611"} <= set(SOURCES)
    for name in ("digits", "letters", "glyphs611"):
        assert SOURCES[name].name == name
        assert SOURCES[name].missing(SOURCES[name].options()) == []


def test_a_new_source_is_one_file(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "kind", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "kind/data/sources/stripes.py").write_text(
        "from kind.data.sources import Source, SourceOptions\n"
        "class Options(SourceOptions):\n    width: int = 2\n"
        "SOURCE = Source(name='stripes', options=Options, load=lambda options: None)\n"
    )
    found = run_python("from kind.data.sources import SOURCES; print(*SOURCES)", tmp_path).split()
    assert found == sorted([*SOURCES, "stripes"])


def test_importing_and_asking_for_classes_loads_nothing_heavy():
    out = run_python(
        "import sys, kind.data.splits, kind.data.prepared\n"
        "from kind.data.sources import SOURCES\n"
        "for s in SOURCES.values():\n"
        "    given = {'path': '.', 'size': 8} if 'path' in s.options.model_fields else {}\n"
        "    o = s.options(**given); s.class_names(o); s.class_counts(o); s.missing(o); s.class_sets(o)\n"
        "print({'numpy', 'sklearn', 'matplotlib', 'PIL', 'torch'} & set(sys.modules))"
    )
    assert out.strip() == "set()"


@pytest.mark.parametrize("name", ["digits", "letters"])
def test_what_is_said_ahead_is_what_is_loaded(name):
    source = SOURCES[name]
    options = source.options()
    raw = source.load(options)
    assert raw.class_names == source.class_names(options)
    counted = Counter(raw.class_names[label] for label in raw.labels)
    assert source.class_counts(options) == dict(counted)
    assert raw.images.dtype == np.uint8 and raw.labels.dtype == np.int64
    assert raw.images.shape == (len(raw.labels), 8, 8, 1)


def test_missing_files_say_what_to_install():
    assert "pip install no-such-thing" in missing_files("no_such_package", [("x",)], "no-such-thing")[0]
    (line,) = missing_files("sklearn", [("__init__.py",), ("datasets", "gone.csv")], "scikit-learn")
    assert "gone.csv" in line and "scikit-learn" in line


@pytest.mark.parametrize(("name", "options"), [("digits", {"sise": 8}), ("letters", {"klasses": ["A"]})])
def test_unknown_options_are_refused(name, options):
    with pytest.raises(ValidationError, match="Extra inputs"):
        SOURCES[name].options(**options)


# --- digits ---------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch, raw = load_digits(), load("digits")
    np.testing.assert_array_equal(raw.labels, bunch.target)
    np.testing.assert_array_equal(
        raw.images[..., 0], [[[round(v * 255 / 16) for v in r] for r in i] for i in bunch.images]
    )
    assert raw.class_names == tuple("0123456789")
    assert len(raw.notes["sha256"]) == 64


@pytest.mark.parametrize("size", [12, 16, 32])
def test_enlarged_digits_show_the_same(size):
    """Averaged down again they are the scanned ones, but for what the smooth curve between pixels adds."""
    small, large = load("digits").images[::50], load("digits", size=size).images[::50]
    assert large.shape == (len(small), size, size, 1) and large.dtype == np.uint8
    side = np.lcm(size, 8)
    spread = large.repeat(side // size, 1).repeat(side // size, 2).astype(float)
    averaged = spread.reshape(len(small), 8, side // 8, 8, side // 8).mean((2, 4))
    assert np.abs(averaged - small[..., 0]).mean() < 16
    assert np.corrcoef(averaged.ravel(), small.ravel())[0, 1] > 0.98


# --- letters --------------------------------------------------------------------------------------------------


def test_letters_are_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from kind.data.sources import SOURCES; s = SOURCES['letters']\n"
        "print(hashlib.sha256(s.load(s.options(images_per_class=12)).images.tobytes()).hexdigest())"
    )
    first, second = (run_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second


def test_letters_depend_on_the_seed():
    assert (letters(seed=0).images != letters(seed=1).images).mean() > 0.2


def test_more_letters_or_images_leave_the_others_as_they_are():
    few = letters(classes=["A", "B"], images_per_class=5)
    more = letters(classes=["Q", "B", "A"], images_per_class=9)
    np.testing.assert_array_equal(few.images[few.labels == 0], more.images[more.labels == 2][:5])
    np.testing.assert_array_equal(few.images[few.labels == 1], more.images[more.labels == 1][:5])


def test_letters_are_legible_and_varied():
    raw = letters(images_per_class=80)
    pixels = raw.images.reshape(len(raw.images), -1).astype(float)
    train = np.arange(len(pixels)) % 2 == 0
    distances = ((pixels[~train, None] - pixels[train]) ** 2).sum(-1)
    assert (raw.labels[train][distances.argmin(1)] == raw.labels[~train]).mean() > 0.97
    assert len({image.tobytes() for image in raw.images}) == len(raw.images)


def test_letters_have_the_contrast_of_digits():
    drawn, written = letters().images, load("digits").images
    assert drawn.max((1, 2, 3)).min() == 255
    assert abs(drawn.mean() - written.mean()) < 15
    assert abs((drawn == 255).mean() - (written == 255).mean()) < 0.03


def test_undistorted_letters_are_upright_and_centred():
    raw = letters(classes=["T", "L"], images_per_class=2, size=32, **STILL, **ONE_FACE)
    np.testing.assert_array_equal(raw.images[0], raw.images[1])
    t, stem = raw.images[0, ..., 0].astype(float), raw.images[2, ..., 0].astype(float)
    assert t[:10].sum() > 1.5 * t[-10:].sum(), "the bar of a T is above"
    assert stem[:, :16].sum() > 1.2 * stem[:, 16:].sum(), "the stem of an L is left"
    for picture in (t, stem):
        rows, columns = np.flatnonzero(picture.max(1) > 64), np.flatnonzero(picture.max(0) > 64)
        assert abs(rows[0] + rows[-1] - 31) <= 1 and abs(columns[0] + columns[-1] - 31) <= 1
        assert 26 <= len(rows) <= 29, "a capital takes 0.86 of the height"


def _moments(image):
    """Centre (x, y), area and slope dx/dy of the upright main axis of a picture, in shares of the side."""
    image = image[..., 0].astype(float) / image.sum()
    y, x = (np.indices(image.shape) + 0.5) / len(image) - 0.5
    centre = (image * x).sum(), (image * y).sum()
    x, y = x - centre[0], y - centre[1]
    return centre, (image * y * y).sum(), (image * x * y).sum() / (image * y * y).sum()


@pytest.mark.parametrize(
    ("option", "moved", "reach"),
    [
        ({"max_shift": 0.1}, "centre", 0.1),
        ({"max_rotation": 12}, "slope", np.tan(np.radians(12))),
        ({"max_shear": 0.2}, "slope", 0.2),
        ({"min_scale": 0.7, "max_scale": 1.1}, "scale", None),
    ],
)
def test_each_distortion_does_what_it_says_up_to_its_limit(option, moved, reach):
    """The letter I has one stroke, whose place, tilt and length can be measured."""
    common = {"classes": ["I"], "size": 32, **ONE_FACE}
    (centre, height, slope) = _moments(letters(images_per_class=1, **common, **STILL).images[0])
    found = [_moments(image) for image in letters(images_per_class=60, **common, **{**STILL, **option}).images]
    offsets = np.array([np.subtract(f[0], centre) for f in found])
    scales, slopes = np.sqrt([f[1] / height for f in found]), np.array([f[2] - slope for f in found])
    if moved == "centre":
        for axis in (0, 1):
            assert offsets[:, axis].min() < -0.6 * reach and 0.6 * reach < offsets[:, axis].max()
            assert np.abs(offsets[:, axis]).max() <= reach + 0.01
    else:
        assert np.abs(offsets).max() < 0.02, "turned, slanted and scaled about the centre"
    if moved == "slope":
        assert slopes.min() < -0.6 * reach and 0.6 * reach < slopes.max() and np.abs(slopes).max() < 1.1 * reach
    else:
        assert np.abs(slopes).max() < 0.02
    if moved == "scale":
        assert 0.65 < scales.min() < 0.8 and 1.0 < scales.max() < 1.15
    elif option != {"max_rotation": 12}:
        assert np.abs(scales - 1).max() < 0.05


def test_all_distortions_together_keep_the_area_and_only_the_shift_moves_the_centre():
    still, moved = (
        letters(classes=["■"], images_per_class=300, size=16, min_scale=0.5, max_scale=0.5, **more, **ONE_FACE).images
        for more in (
            {"max_rotation": 0, "max_shear": 0, "max_shift": 0},
            {"max_rotation": 45, "max_shear": 0.5, "max_shift": 0.1},
        )
    )
    areas = moved.astype(float).sum((1, 2, 3)) / still[0].sum()
    assert np.abs(areas - 1).max() < 0.03
    offsets = np.array([np.subtract(_moments(image)[0], _moments(still[0])[0]) for image in moved])
    assert np.abs(offsets).max() <= 0.105 and (np.abs(offsets).max(0) > 0.08).all()


def test_classes_are_distorted_independently():
    options = {"size": 32, "images_per_class": 20, **STILL, "max_shift": 0.1, **ONE_FACE}
    i, h = (np.array([_moments(image)[0] for image in letters(classes=[name], **options).images]) for name in "IH")
    assert np.abs(i - h).max() > 0.05


def test_a_thin_drawing_keeps_its_grey_edges():
    assert len(np.unique(letters(classes=["."], images_per_class=1, size=32, **STILL, **ONE_FACE).images)) > 6


def test_the_faces_take_turns():
    faces = ["DejaVuSans", "DejaVuSerif-Bold"]
    both = letters(classes=["A"], images_per_class=4, faces=faces, **STILL).images
    alone = [letters(classes=["A"], images_per_class=1, faces=[face], **STILL).images[0] for face in faces]
    np.testing.assert_array_equal(both, [*alone, *alone])
    assert (alone[0] != alone[1]).any()


def test_classes_may_be_any_text_the_faces_hold():
    names = ["Ω", "ж", '"', "é", "A b", "wide text"]
    raw = letters(classes=names, images_per_class=2, size=16)
    assert raw.class_names == tuple(names)
    edges = letters(classes=["wide text"], images_per_class=1, size=64, **STILL, **ONE_FACE).images[0, ..., 0]
    assert edges[:, 0].max() == 0 and edges[:, -1].max() == 0, "made small enough to fit"


@pytest.mark.parametrize("name", ["漢", "A漢", " ", "A\n"])
def test_a_letter_that_a_face_lacks_is_refused(name):
    with pytest.raises(UserError, match="DejaVuSans-Bold cannot draw") as error:
        letters(classes=[name], **ONE_FACE)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": []},
        {"classes": [""]},
        {"classes": ["A", "B", "A"]},
        {"faces": ["Comic"]},
        {"faces": []},
        {"min_scale": 1.2, "max_scale": 1.1},
        {"images_per_class": 0},
        {"images_per_class": 2.5},
        {"max_shift": "0.1"},
        {"max_rotation": float("nan")},
    ],
)
def test_senseless_options_are_refused(options):
    with pytest.raises(ValidationError) as error:
        SOURCES["letters"].options(**options)
    assert any(key in str(error.value) for key in options)


def test_letters_record_what_drew_them():
    notes = letters(images_per_class=1, **ONE_FACE).notes
    assert list(notes["faces"]) == ["DejaVuSans-Bold"] and len(notes["faces"]["DejaVuSans-Bold"]) == 64
    assert all(notes[name] for name in ("pillow", "freetype", "matplotlib"))

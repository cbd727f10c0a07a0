"""glyphs611: exact classes, repeatable pictures, and nothing of pre-training among novel classes and shifts."""

from __future__ import annotations

import hashlib
import random
import unicodedata

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kind.data.drawing import FACES
from kind.data.glyphs.__main__ import build
from kind.data.glyphs.characters import PARTS, base_of, capital_of, num_marks, part_of
from kind.data.glyphs.draw import SIDE, draw, texture
from kind.data.glyphs.merging import (
    NEARLY,
    Classes,
    differences,
    least_differences,
    merge,
    pictures,
    unite,
    unite_twins,
)
from kind.data.glyphs.sheet import sheet
from kind.data.glyphs.table import MERGES, TABLE, classes_of
from kind.data.preparing import prepare
from kind.data.sources import SOURCES, glyphs611
from kind.errors import UserError
from kind.params import Split

SOURCE = SOURCES["glyphs611"]
STILL = {"max_rotation": 0, "max_shear": 0, "min_scale": 1, "max_scale": 1, "max_shift": 0, "max_stroke": 0}
UPRIGHT = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
SOME = (*UPRIGHT, "DejaVuSans-Bold", "DejaVuSansMono-Oblique", "DejaVuSerif-BoldItalic")


def load(**options):
    return SOURCE.load(SOURCE.options(**{"images_per_class": 2, **options}))


def of_class(name, **options):
    return np.stack(glyphs611.pictures(name, SOURCE.options(**options)))


# --- classes --------------------------------------------------------------------------------------------------


def test_there_are_611_classes_of_letters_and_no_character_is_in_two():
    counts = {part: len(classes_of(part)) for part in PARTS}
    assert counts["letters"] == 611 and counts["georgian"] >= 40 and counts["symbols"] > 200
    everything = [point for part in PARTS for points in classes_of(part).values() for point in points]
    assert len(everything) == len(set(everything))
    for part in PARTS:
        for name, points in classes_of(part).items():
            assert name == chr(min(points)) and list(points) == sorted(points)
            assert {part_of(point) for point in points} == {part}


@pytest.mark.parametrize(
    ("name", "others"),
    [("A", "ΑА"), ("C", "cСс"), ("O", "oΟοОо"), ("K", "ΚКкκĸ"), ("P", "ΡР"), ("I", "lıΙІ")],
)  # fmt: skip
def test_one_picture_in_several_scripts_is_one_class(name, others):
    assert set(others) <= set(map(chr, classes_of("letters")[name]))


def test_letters_with_one_mark_stay_apart_and_those_with_most_marks_joined_first():
    names = set(classes_of("letters"))
    assert {"é", "ñ", "ź", "ń", "ș"} & names == {"é", "ñ", "ź", "ń"}, "ș is ş"
    steps = [line.split("\t") for line in MERGES.read_text(encoding="utf-8").splitlines()[1:]]
    assert [step[0] for step in steps] == [str(number) for number in range(1, len(steps) + 1)]
    marks = [int(step[4]) for step in steps if step[3] == "base"]
    assert marks == sorted(marks, reverse=True) and marks[-1] == 2
    kept = sum(len(points) for points in classes_of("letters").values()) - len(steps)
    assert kept == 611, "every step makes one class less"


def test_what_unicode_says():
    def said(of):
        return "".join(chr(of(ord(letter)) or ord("-")) for letter in "éếøǖḜAжʀ")

    assert said(base_of) == "eêoüȨ---" and said(capital_of) == "ÉẾØǕ--ЖƦ"
    assert [num_marks(ord(letter)) for letter in "Aéếø"] == [0, 1, 2, 1]
    assert [part_of(ord(letter)) for letter in "Aжა5→■°ªՖ"] == [
        "letters", "letters", "georgian", None, "symbols", "symbols", None, None, "armenian",
    ]  # fmt: skip


def test_differences_are_the_formula():
    generator = random.Random(0)
    ones, others = (np.array([[generator.randrange(256) for _ in range(9)] for _ in range(n)], float) for n in (3, 4))
    for i, one in enumerate(ones):
        for j, other in enumerate(others):
            expected = sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / (one @ one + other @ other)
            assert differences(ones, others)[i, j] == pytest.approx(expected, rel=1e-12)
    assert differences(ones, ones).diagonal() == pytest.approx(0, abs=1e-12)


def test_merging_unites_looks_then_twins_then_the_deepest(monkeypatch):
    points = [ord(letter) for letter in "AΑCcEeéếOơớ"]
    drawn = pictures(points)
    classes = Classes.apart(points)
    unite(classes, points, least_differences(drawn, drawn))
    unite_twins(classes, points, drawn)
    assert [(step.rule, chr(step.kept), chr(step.joined)) for step in classes.log] == [
        ("identical", "A", "Α"), ("capital", "C", "c"),
    ]  # fmt: skip
    assert len(classes) == 9
    monkeypatch.setattr("kind.data.glyphs.merging.NUM_CLASSES", 6)
    merge(classes, points, drawn)
    assert [(step.rule, step.marks) for step in classes.log[2:]] == [("base", 2), ("base", 2), ("base", 1)]
    assert classes.of[ord("ế")] == classes.of[ord("é")] == ord("e") != classes.of[ord("E")]
    monkeypatch.setattr("kind.data.glyphs.merging.NUM_CLASSES", 5)
    with pytest.raises(AssertionError, match="no more letters"):
        merge(classes, points, drawn)


@pytest.mark.slow
def test_the_shipped_tables_are_what_the_rules_make():
    from importlib import metadata

    from PIL import features

    assert build() == tuple(path.read_text(encoding="utf-8") for path in (TABLE, MERGES)), (
        f"made with Pillow {metadata.version('pillow')}, FreeType {features.version('freetype2')}"
    )


# --- nothing leaks --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets():
    return SOURCE.class_sets(SOURCE.options())


@pytest.mark.parametrize("faces", [SOME, pytest.param(FACES, marks=pytest.mark.slow)])
def test_no_seen_character_looks_like_a_novel_one_or_one_of_a_shift(sets, faces, monkeypatch):
    """Undistorted, in any two of these faces."""
    monkeypatch.setattr("kind.data.glyphs.merging.FACES", faces)
    letters = classes_of("letters")
    seen, novel = ([p for name in sets[one] for p in letters[name]] for one in ("seen", "novel"))
    shifts = [p for part in PARTS[1:] for points in classes_of(part).values() for p in points]
    seen, others = pictures(seen), pictures(novel + shifts)
    assert least_differences(seen, others).min() >= NEARLY


@pytest.mark.parametrize("count", [2, pytest.param(2 * len(FACES), marks=pytest.mark.slow)])
def test_no_picture_of_pre_training_is_one_of_a_novel_class_or_a_shift(sets, count):
    """Undistorted, of two faces a class or of all twelve: distorted ones hardly ever coincide, whatever the letter."""

    def drawn(part):
        raw = load(part=part, images_per_class=count, **STILL)
        return {image.tobytes(): raw.class_names[label] for image, label in zip(raw.images, raw.labels, strict=True)}

    letters = drawn("letters")
    seen = {image for image, name in letters.items() if name in set(sets["seen"])}
    assert len(seen) > 150 * min(count, len(FACES)) * 0.9, "hardly a picture twice"
    assert not any(image in seen for image, name in letters.items() if name in set(sets["novel"]))
    for part in ("symbols", "georgian", "armenian", "textured"):
        assert seen.isdisjoint(drawn(part)), part


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["letters", "symbols", "georgian", "armenian", "textured"])
def test_what_is_said_ahead_is_what_is_loaded(part):
    options = SOURCE.options(part=part, images_per_class=1, size=16)
    raw = SOURCE.load(options)
    assert raw.class_names == SOURCE.class_names(options) == SOURCE.class_sets(options)["all"]
    assert SOURCE.class_counts(options) == dict.fromkeys(raw.class_names, 1)
    assert raw.images.shape == (len(raw.class_names), 16, 16, 1) and raw.images.dtype == np.uint8
    assert raw.labels.tolist() == list(range(len(raw.class_names)))
    assert raw.notes["pillow"] and raw.notes["freetype"] and set(raw.notes["faces"]) == set(FACES)


def test_pictures_depend_on_seed_class_and_number_alone():
    nine = of_class("é", images_per_class=9)
    np.testing.assert_array_equal(of_class("é", images_per_class=30)[:9], nine)
    assert (of_class("é", images_per_class=9, seed=1) != nine).any((1, 2)).all()
    np.testing.assert_array_equal(of_class("é", images_per_class=9, split_seed=1), nine)
    textured = of_class("ź", part="textured", images_per_class=20)
    np.testing.assert_array_equal(of_class("ź", part="textured", images_per_class=9), textured[:9])


def test_bytes_are_those_of_this_pillow_and_freetype(lacking):
    """As they were when the tests were written, with the locked versions; others may draw otherwise."""
    from importlib import metadata

    from PIL import features

    found = (metadata.version("pillow"), features.version("freetype2"))
    if found != ("13.0.0", "2.14.3"):
        lacking(f"needs Pillow 13.0.0 with FreeType 2.14.3, found {' and '.join(map(str, found))}")
    pictured = [of_class(name, images_per_class=8, size=size) for name, size in (("é", 12), ("Ж", 16), ("ß", 32))]
    sums = [hashlib.sha256(images.tobytes()).hexdigest()[:12] for images in pictured]
    assert sums == ["24a5fafa39f5", "2d1da30b3fce", "c2c63ee4bf1d"]


def test_sizes_show_the_same():
    small, large = (of_class("ß", images_per_class=6, size=size).astype(float) for size in (16, 32))
    halved = large.reshape(6, 16, 2, 16, 2).mean((2, 4))
    for one, other in zip(small, halved, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97


def test_ink_fills_the_same_share_of_the_picture_whatever_the_letter():
    for letter in "cCI→":
        box = draw(ord(letter), FACES[0]).getbbox()
        assert abs(max(box[2] - box[0], box[3] - box[1]) - 0.8 * SIDE) <= 2
        assert abs(box[0] + box[2] - SIDE) <= 2 and abs(box[1] + box[3] - SIDE) <= 2


def test_strokes_grow_and_shrink_by_what_is_said(monkeypatch):
    """A bar of known thickness: every edge moves by up to max_stroke of the side."""
    bar = Image.new("L", (SIDE, SIDE))
    bar.paste(255, (18, 28, 78, 68))  # 60 x 40
    monkeypatch.setattr("kind.data.glyphs.draw.draw", lambda point, face: bar)
    found = of_class("é", images_per_class=200, size=32, **STILL | {"max_stroke": 0.02}).astype(float)
    thick = found[:, :, 14:18].sum(1).mean(1) / 255 / 32 * SIDE
    moved = (thick - 40) / 2 / SIDE
    assert moved.min() == pytest.approx(-0.02, abs=0.003) and moved.max() == pytest.approx(0.02, abs=0.003)


def test_texture_is_black_ink_on_two_greys():
    picture = np.zeros((12, 12), np.uint8)
    picture[4:8, 4:8] = 255
    found = [texture(picture, random.Random(seed)) for seed in range(40)]
    for one in found:
        assert (one[4:8, 4:8] == 0).all() and set(np.unique(one)) == {0, 150, 255}
    assert len({one.tobytes() for one in found}) > 12


def test_textured_pictures_are_of_novel_letters_alone(sets):
    options = SOURCE.options(part="textured")
    assert SOURCE.class_names(options) == sets["novel"]
    assert of_class("ź", part="textured", images_per_class=20).mean() > 110 > of_class("ź", images_per_class=20).mean()


def test_a_classifier_knows_held_out_pictures_of_a_task():
    """20 novel classes, 60 training pictures each, the size that experiments use."""
    from sklearn.svm import SVC

    from kind.data.class_sets import select

    names = select(SOURCE.class_sets(SOURCE.options())["novel"], 20, 0, 0)
    pixels = np.stack([of_class(name) for name in names]).reshape(20, 100, -1) / 255
    train, test = (part.reshape(-1, part.shape[-1]) for part in (pixels[:, :60], pixels[:, 60:]))
    machine = SVC(C=10).fit(train, np.repeat(np.arange(20), 60))
    assert machine.score(test, np.repeat(np.arange(20), 40)) >= 0.95


def test_the_contact_sheet_puts_every_picture_in_its_place():
    black, white = np.zeros((16, 16), np.uint8), np.full((16, 16), 255, np.uint8)
    drawn = np.asarray(sheet([[black, white], [], [white]]))
    assert drawn.shape == (2 + 18 * 3, 2 + 18 * 47)
    assert (drawn[2:18, 2:18] == 0).all() and (drawn[2:18, 20:36] == 255).all() and (drawn[38:54, 2:18] == 255).all()
    assert (drawn == 255).sum() == 2 * 256 and (drawn == 0).sum() == 256


# --- mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8},
        {"part": "greek"},
        {"images_per_class": 0},
        {"min_scale": 1.2, "max_scale": 1.1},
        {"max_stroke": 0.1},
    ],
)
def test_senseless_options_are_refused(options):
    with pytest.raises(ValidationError) as error:
        SOURCE.options(**options)
    assert any(key in str(error.value) for key in options)


def test_missing_faces_are_named_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr("kind.data.installed.package_folder", lambda package: tmp_path)
    with pytest.raises(UserError) as error:
        prepare("glyphs611", {}, Split(), tmp_path / "out")
    lines = str(error.value).splitlines()
    assert lines[0] == "the data source glyphs611 lacks what it needs on this machine:" and len(lines) == 14
    assert "DejaVuSerif-BoldItalic.ttf: install matplotlib again" in lines[-2]
    assert not (tmp_path / "out").exists()


def test_names_of_classes_are_plain_to_read():
    for part in PARTS:
        assert not [name for name in classes_of(part) if unicodedata.category(name)[0] in "ZCM"]


def test_chosen_classes_are_drawn_as_among_all():
    source = SOURCES["glyphs611"]
    some = source.options(part="armenian", images_per_class=2, classes=["Խ", "Ա"])
    whole = source.load(source.options(part="armenian", images_per_class=2))
    drawn = source.load(some)
    assert drawn.class_names == source.class_names(some) == ("Խ", "Ա")
    assert source.class_counts(some) == {"Խ": 2, "Ա": 2}
    for label, name in enumerate(drawn.class_names):
        wanted = whole.images[whole.labels == whole.class_names.index(name)]
        assert (drawn.images[drawn.labels == label] == wanted).all()
    assert source.class_sets(some) == {"all": ("Ա", "Խ")}
    sets = source.class_sets(source.options(classes=["H", "Ĉ"]))
    assert sets == {"all": ("H", "Ĉ"), "seen": ("H",), "novel": ("Ĉ",)}


@pytest.mark.parametrize(("classes", "problem"), [(["ab"], "has no 'ab'"), (["H", "H"], "'H' is named twice")])
def test_classes_that_a_part_lacks_are_refused(classes, problem):
    with pytest.raises(ValidationError, match=problem):
        SOURCES["glyphs611"].options(classes=classes)

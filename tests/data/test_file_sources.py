"""Sources of image files: which file is of which class, without decoding any."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from image_tree import jpeg, make_tree, tar_of, tars_of_classes, write
from pydantic import ValidationError

from kind.__main__ import main
from kind.data.sources import SOURCES
from kind.data.sources.imagenet611 import TABLE, read_mapping, read_table
from kind.data.wordnet_merge import merge
from kind.errors import UserError

ROOT = Path(__file__).parents[2]


def listed(name, **options):
    source = SOURCES[name]
    found = source.listing(source.options(**{"size": 8, **options}))
    names = found.class_names
    return names, {item.key: names[label] for item, label in zip(found.items, found.labels, strict=True)}


def said(name, **options):
    with pytest.raises(UserError) as error:
        listed(name, **options)
    return str(error.value)


def table(path, rows):
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return str(path)


# --- folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree", {"10": 3, "2": 4, "1": 2})


def test_folders_are_classes_by_their_names(tree):
    names, label_of = listed("folder", path=str(tree))
    assert names == ("1", "10", "2")  # stored with the data; nothing depends on it
    assert all(key.split("/")[0] == name for key, name in label_of.items()) and len(label_of) == 9


def test_chosen_classes_keep_their_order_and_may_be_numbers(tree):
    names, label_of = listed("folder", path=str(tree), classes=[2, "1"])
    assert names == ("2", "1") and Counter(label_of.values()) == {"2": 4, "1": 2}
    assert "no images of class '3'; there are: 1, 10, 2" in said("folder", path=str(tree), classes=["1", "3"])
    assert "class '2' named twice" in said("folder", path=str(tree), classes=["2", 2])


def test_folders_below_a_class_belong_to_it_and_classes_may_begin_deeper(tree):
    write(tree / "2" / "more" / "a.png", jpeg(50))
    assert listed("folder", path=str(tree))[1]["2/more/a.png"] == "2"
    names, label_of = listed("folder", path=str(tree.parent), below="tree/")
    assert names == ("1", "10", "2") and "2/2_0.JPEG" in label_of
    assert "holds no images below 'trees'" in said("folder", path=str(tree.parent), below="trees")


def test_images_outside_class_folders_are_named(tree):
    write(tree / "loose.png", jpeg(50))
    assert "'loose.png' in no class folder\n  -> " in said("folder", path=str(tree))
    names, label_of = listed("folder", path=str(tree), labels="none", class_name="all")
    assert names == ("all",) and len(label_of) == 10


def test_a_cap_is_drawn_by_class_and_seed(tree):
    def keys(**options):
        return set(listed("folder", path=str(tree), **options)[1])

    two, three = keys(images_per_class=2), keys(images_per_class=3)
    assert len(two) == 6 and len(three) == 8 and two < three
    assert keys(images_per_class=2, classes=["2"]) == {key for key in two if key.startswith("2/")}
    assert len({frozenset(keys(images_per_class=1, seed=seed)) for seed in range(8)}) > 1


def test_an_empty_place_says_what_images_are(tmp_path):
    write(tmp_path / "a" / "readme.txt", b"x")
    assert "holds no images (1 other files)\n  -> images are files .jpg" in said("folder", path=str(tmp_path))


def test_options_that_do_not_fit_together_are_refused():
    options = SOURCES["folder"].options
    for given, message in [
        ({"labels": "csv"}, "needs the path of the table"),
        ({"csv": "a.csv"}, "with labels: csv only"),
        ({"labels": "none", "classes": ["a"]}, "leave `classes` out"),
        ({"bad_images": "ignore"}, "'fail' or 'skip'"),
        ({"channels": 4}, "1 or 3"),
    ]:
        with pytest.raises(ValidationError, match=message):
            options(path="x", size=8, **given)


# --- csv ------------------------------------------------------------------------------------------------------


def test_a_csv_gives_labels_and_leaves_other_files_out(tree, tmp_path):
    rows = [("file", "label"), ("2/2_0.JPEG", "b"), ("./1/1_1.JPEG", "a"), ("10/10_0.JPEG", "b")]
    names, label_of = listed("folder", path=str(tree), labels="csv", csv=table(tmp_path / "a.csv", rows))
    assert names == ("a", "b")
    assert label_of == {"1/1_1.JPEG": "a", "10/10_0.JPEG": "b", "2/2_0.JPEG": "b"}


def test_columns_and_splits_of_a_csv_can_be_named(tree, tmp_path):
    rows = [("kind", "name", "part"), ("b", "2/2_0.JPEG", "test"), ("a", "1/1_1.JPEG", "train")]
    options = {"file_column": "name", "label_column": "kind", "split_column": "part"}
    source = SOURCES["folder"]
    given = {"path": str(tree), "size": 8, "labels": "csv", "csv": table(tmp_path / "a.csv", rows), **options}
    found = source.listing(source.options(**given))
    assert [item.key for item in found.items] == ["1/1_1.JPEG", "2/2_0.JPEG"] and list(found.splits) == [0, 2]


def test_every_wrong_row_is_named(tree, tmp_path):
    rows = [
        ("file", "label", "split"), ("2/2_0.JPEG", "a", "train"), ("2/2_9.JPEG", "a", "train"), ("1/1_0.JPEG", "", ""),
        ("1/1_1.JPEG", "b", "tset"), ("2/2_0.JPEG", "b", "test"),
    ]  # fmt: skip
    path = table(tmp_path / "a.csv", rows)
    assert said("folder", path=str(tree), labels="csv", csv=path, split_column="split") == (
        f"{path}:\n  line 3: no image '2/2_9.JPEG' (did you mean '2/2_3.JPEG'?)\n  line 4: '1/1_0.JPEG' has no label\n"
        "  line 5: 'tset' is no split; allowed: train, validation, test\n  '2/2_0.JPEG' is named twice\n"
        "  -> mend these rows; files are named as seen from `path`"
    )


def test_labels_out_of_range_are_named(tree, tmp_path):
    path = table(tmp_path / "a.csv", [("file", "label"), ("2/2_0.JPEG", "cat"), ("1/1_1.JPEG", "cta")])
    message = said("folder", path=str(tree), labels="csv", csv=path, classes=["cat", "dog"])
    assert "labels that `classes` does not name: 'cta' (did you mean 'cat'?); classes: cat, dog" in message


def test_a_table_of_other_columns_says_which_it_has(tree, tmp_path):
    path = table(tmp_path / "a.csv", [("id", "label"), ("2/2_0.JPEG", "a")])
    assert f"{path}: has no column 'file'; it has 'id', 'label'" in said(
        "folder", path=str(tree), labels="csv", csv=path
    )
    write(tmp_path / "b.csv", b"\xff\xfe\x00")
    assert "b.csv: not a CSV file in UTF-8" in said("folder", path=str(tree), labels="csv", csv=str(tmp_path / "b.csv"))


# --- imagenet611 ----------------------------------------------------------------------------------------------


def test_the_table_is_what_the_rule_gives():
    rows = read_table(TABLE)
    merged = {row["wnid"]: row["merged_id"] for row in rows}
    assert merged == merge(rows, 611) == read_mapping(str(TABLE))
    sizes = Counter(merged.values())
    assert (len(rows), len(sizes), sum(size > 1 for size in sizes.values())) == (1000, 611, 190)
    assert sizes["n02092468"] == 18 and sizes["n02087551"] == 12  # terriers, hounds
    assert len(set(merge(rows, 1).values())) == 556  # every leaf into its first hypernym
    licence = (TABLE.parent / "WORDNET_LICENSE.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence


def test_the_command_makes_mappings_of_other_sizes(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "kind.data.wordnet_merge", "611"], capture_output=True, check=True, cwd=ROOT
    )
    assert made.stdout == TABLE.read_bytes()


# Of the table: tench and goldfish are merged, the great white shark is not.
MERGED, ALONE = "n01439121", "n01484850"
WNIDS = {"n01440764": 3, "n01443537": 2, "n01484850": 4}


def test_an_ilsvrc_tree_and_its_tar_of_tars_are_merged_alike(tmp_path):
    tree = make_tree(tmp_path / "train", WNIDS | {"n99999999": 1})
    tar = tar_of(tars_of_classes(tree, tmp_path / "tars"), tmp_path / "ILSVRC2012_img_train.tar")
    for path in (tree, tar):
        names, label_of = listed("imagenet611", path=str(path), classes=[ALONE, MERGED])
        assert names == (ALONE, MERGED) and Counter(label_of.values()) == {ALONE: 4, MERGED: 5}
        assert {key.split("/")[0] for key, name in label_of.items() if name == MERGED} == {"n01440764", "n01443537"}
        _, capped = listed("imagenet611", path=str(path), classes=[ALONE, MERGED], images_per_class=3)
        assert Counter(capped.values()) == {ALONE: 3, MERGED: 3}


def test_another_mapping_takes_the_tables_place(tmp_path):
    tree = make_tree(tmp_path / "train", WNIDS)
    mapping = tmp_path / "mine.tsv"
    mapping.write_text("wnid\tmerged_id\nn01484850\tfish\nn01440764\tfish\n")
    source = SOURCES["imagenet611"]
    options = source.options(path=str(tree), mapping=str(mapping))
    found = source.listing(options)
    assert found.class_names == source.class_names(options) == ("fish",) and len(found.items) == 7
    assert found.notes["members"] == {"fish": ["n01484850", "n01440764"]}
    assert found.notes["num_outside_the_mapping"] == 2


def test_members_without_images_are_named(tmp_path):
    tree = make_tree(tmp_path / "train", WNIDS)
    assert "no images of n01491361, n01494475" in said("imagenet611", path=str(tree))
    (tree / "n01443537").rename(tree / "fish")
    message = said("imagenet611", path=str(tree), classes=[MERGED])
    assert f"{tree}: no images of n01443537, which {TABLE} names\n  -> complete the images" in message


@pytest.mark.parametrize(
    "content, message",
    [
        ("wnid\tclass\nn1\ta\n", "has no column merged_id; it has wnid, class"),
        ("", "has no column wnid, merged_id; it has nothing"),
        ("wnid\tmerged_id\nn1\ta\nn1\tb\nn2\t\n", "n1 is there twice, line 4: no merged_id"),
    ],
)
def test_wrong_mappings_are_refused(tmp_path, content, message):
    mapping = tmp_path / "mine.tsv"
    mapping.write_text(content)
    assert f"{mapping}: {message}" in said("imagenet611", path=str(tmp_path), mapping=str(mapping))


def test_the_classes_are_known_without_the_images():
    source = SOURCES["imagenet611"]
    names = source.class_names(source.options(path="nowhere"))
    assert len(names) == 611 and names[0] == MERGED


# --- all of them ----------------------------------------------------------------------------------------------

OF_FILES = [name for name, source in SOURCES.items() if source.listing is not None]


def test_the_papers_shifts_are_sources():
    assert {"folder", "imagenet611", "celebahq", "hubble", "mri", "pokemon", "lsun"} == set(OF_FILES)


@pytest.mark.parametrize("name", OF_FILES)
def test_what_is_missing_is_named_with_the_way_to_get_it(name, tmp_path):
    source = SOURCES[name]
    options = source.options(path=str(tmp_path / "none"), size=8)
    (line,) = source.missing(options)
    assert line.startswith(f"{tmp_path / 'none'} does not exist; ") and "`path`" in line
    assert source.channels(options) == (1 if name == "mri" else 3)
    with_csv = {"labels": "csv", "csv": str(tmp_path / "no.csv")}
    if name != "imagenet611":
        assert len(source.missing(source.options(path=str(tmp_path), size=8, **with_csv))) == 1
    assert source.missing(source.options(path=str(tmp_path), size=8)) == []


def test_published_sets_with_a_folder_too_many_say_where_to_begin(tmp_path):
    make_tree(tmp_path / "mri" / "Training", {"glioma": 2, "notumor": 1})
    make_tree(tmp_path / "mri" / "Testing", {"glioma": 1, "notumor": 1})
    for folder, suffix in (("pokemon/pokemon", "png"), ("pokemon_jpg/pokemon_jpg", "jpg")):
        write(tmp_path / "pokemon" / folder / f"1.{suffix}", jpeg(0))
    found = {}
    for name, below in (("mri", "Training"), ("pokemon", "pokemon")):
        (line,) = SOURCES[name].missing(SOURCES[name].options(path=str(tmp_path / "none")))
        assert f"`below: {below}`" in line
        found[name] = listed(name, path=str(tmp_path / name), below=below)
    assert found["mri"][0] == ("glioma", "notumor") and len(found["mri"][1]) == 3
    assert found["pokemon"] == (("pokemon",), {"pokemon/1.png": "pokemon"})


def test_check_says_what_is_missing_and_writes_nothing(tmp_path, monkeypatch, capsys):
    text = (ROOT / "tests" / "tiny.yaml").read_text()
    new = "{source: imagenet611, options: {path: train.tar, size: 8, classes: ['0', '1', '2', '7', '8']},"
    (tmp_path / "tiny.yaml").write_text(text.replace("{source: digits,", new))
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--experiment", "tiny.yaml"]) == 2
    assert (
        "missing on this machine:\n  - data digits: train.tar does not exist; get ILSVRC 2012"
        in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize("name", OF_FILES)
def test_each_source_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "data.md").read_text()

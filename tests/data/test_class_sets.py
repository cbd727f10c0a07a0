"""Sets of classes: exact, stratified, and the same for ever."""

import hashlib
from collections import Counter

import pytest

from kind.data.class_sets import describe, seen_and_novel, select
from kind.data.sources import SOURCES
from kind.data.sources.imagenet611 import TABLE, read_mapping

SIZES = {f"c{index}": size for index, size in enumerate([1] * 40 + [2] * 20 + [3] * 7 + list(range(4, 20)))}


@pytest.mark.parametrize("seed", range(5))
def test_seen_and_novel_part_the_classes_in_their_order(seed):
    sets = seen_and_novel(SIZES, 21, seed)
    assert sets["all"] == tuple(SIZES) and len(sets["seen"]) == 21
    assert sorted(sets["seen"] + sets["novel"]) == sorted(SIZES)
    for names in sets.values():
        assert list(names) == sorted(names, key=list(SIZES).index)


@pytest.mark.parametrize("seed", range(20))
def test_every_group_size_has_its_share(seed):
    """Of n classes of a size n * 21 / 83 are seen, up or down to a whole; of the rare large groups together, too."""
    seen = Counter(SIZES[name] for name in seen_and_novel(SIZES, 21, seed)["seen"])
    for size, count in Counter(SIZES.values()).items():
        assert abs(seen[size] - count * 21 / 83) < 1, size
    assert abs(sum(seen[size] for size in range(4, 20)) - 16 * 21 / 83) < 1


def test_every_class_is_seen_with_some_seed():
    drawn = Counter(name for seed in range(150) for name in seen_and_novel(SIZES, 21, seed)["seen"])
    assert set(drawn) == set(SIZES) and max(drawn.values()) < 75


def test_choices_are_nested_disjoint_and_in_order():
    names = [f"n{index:02d}" for index in range(30)]
    seven, twenty, others = (select(names, count, skip, 3) for count, skip in ((7, 0), (20, 0), (10, 20)))
    assert set(seven) < set(twenty) and sorted(twenty + others) == names
    assert seven == sorted(seven) and seven != names[:7]
    assert select(names, 7, 0, 4) != seven


def test_a_list_is_described_by_the_smallest_set_that_holds_it():
    sets = {"all": "abcdef", "novel": "abc"}
    assert describe("ba", sets) == "2 of the 3 classes of the set novel"
    assert describe("cab", sets) == "all 3 classes of the set novel"
    assert describe("ae", sets) == "2 of the 6 classes of the set all"
    assert describe("ax", sets) is None and describe("a", {}) is None


def test_sets_of_the_glyphs_are_those_that_experiments_were_made_with():
    """Another draw would change every experiment that names a set."""
    source = SOURCES["glyphs611"]
    sets = source.class_sets(source.options())
    assert {name: len(names) for name, names in sets.items()} == {"all": 611, "seen": 150, "novel": 461}
    assert (sets["seen"][:8], select(sets["novel"], 6, 0, 0)) == (tuple("HJMOPQae"), list("ĈźƄɪҘṂ"))
    assert source.class_sets(source.options(split_seed=1))["seen"] != sets["seen"]
    assert source.class_sets(source.options(part="textured")) == {"all": sets["novel"]}


def test_sets_of_imagenet_are_those_that_experiments_were_made_with():
    source = SOURCES["imagenet611"]
    sets = source.class_sets(source.options(path="nowhere"))
    assert {name: len(names) for name, names in sets.items()} == {"all": 611, "seen": 150, "novel": 461}
    assert sets["all"] == source.class_names(source.options(path="nowhere"))
    digest = hashlib.sha256(" ".join(sets["seen"]).encode()).hexdigest()
    assert digest[:16] == "cc2fd618aedad93e"
    assert source.class_sets(source.options(path="nowhere", split_seed=1))["seen"] != sets["seen"]


def test_every_size_of_merged_classes_is_seen_and_novel():
    source = SOURCES["imagenet611"]
    sizes = Counter(read_mapping(str(TABLE)).values())
    seen = Counter(sizes[name] for name in source.class_sets(source.options(path="nowhere"))["seen"])
    for size, count in Counter(sizes.values()).items():
        assert abs(seen[size] - count * 150 / 611) < 1, size


def test_sets_of_chosen_classes_and_of_other_mappings(tmp_path):
    source = SOURCES["imagenet611"]
    sets = source.class_sets(source.options(path="nowhere"))
    taken = [*sets["novel"][:3], sets["seen"][0]]
    assert source.class_sets(source.options(path="nowhere", classes=taken)) == {
        "all": tuple(name for name in sets["all"] if name in taken),
        "seen": sets["seen"][:1],
        "novel": sets["novel"][:3],
    }
    small = tmp_path / "small.tsv"
    small.write_text("wnid\tmerged_id\nn1\ta\nn2\ta\nn3\tb\n")
    assert source.class_sets(source.options(path="nowhere", mapping=str(small))) == {"all": ("a", "b")}
    assert source.class_sets(source.options(path="nowhere", mapping="nowhere.tsv")) == {}

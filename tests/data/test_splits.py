"""Splits and shots: exact, disjoint, covering, seeded, and clear about what cannot be done."""

import numpy as np
import pytest

from kind.data.splits import select_shots, split_sizes, stratified_split
from kind.errors import UserError

FRACTIONS = {"train": 0.5, "validation": 0.15, "test": 0.35}
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 61, 97]))
GOLDEN_SPLIT = {"train": [0, 2, 5, 7, 8], "validation": [1, 3], "test": [4, 6, 9]}


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "fractions", "sizes"),
    [
        (180, (0.5, 0.15, 0.35), (90, 27, 63)),
        (178, (0.5, 0.15, 0.35), (89, 27, 62)),
        (177, (0.5, 0.15, 0.35), (88, 27, 62)),  # 88.5, 26.55, 61.95: the two largest remainders
        (100, (0.29, 0.57, 0.14), (29, 57, 14)),  # 0.29 * 100 is 28.999999999999996 in floats
        (10, (0.35, 0.65), (4, 6)),  # a tie, though the floats 0.35 and 0.65 are a little less and more
        (3, (1 / 3, 1 / 3, 1 / 3), (1, 1, 1)),
        (4, (1 / 3, 1 / 3, 1 / 3), (2, 1, 1)),  # a tie goes to the first
        (0, (0.5, 0.25, 0.25), (0, 0, 0)),
    ],
)
def test_sizes_are_exact_with_the_rest_by_largest_remainder(count, fractions, sizes):
    assert tuple(split_sizes(count, dict(zip("abc", fractions, strict=False))).values()) == sizes


@pytest.mark.parametrize("fractions", [(0.5, 0.3), (0.5, 0.6), (1.0, 0.0), (1.5, -0.5), (float("nan"), 1.0)])
def test_fractions_must_be_positive_and_sum_to_one(fractions):
    with pytest.raises(UserError, match="split: train"):
        split_sizes(10, dict(zip(("train", "test"), fractions, strict=True)))


# --- stratified split -----------------------------------------------------------------------------------------


def test_a_split_is_disjoint_covering_ascending_and_exact_in_every_class():
    split = stratified_split(LABELS, FRACTIONS, seed=3)
    assert list(split) == list(FRACTIONS)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(len(LABELS)))
    for indices in split.values():
        assert (np.diff(indices) > 0).all()
    for label, count in enumerate([40, 61, 97]):
        sizes = {name: int((LABELS[indices] == label).sum()) for name, indices in split.items()}
        assert sizes == split_sizes(count, FRACTIONS)


def test_the_seed_decides():
    first, again, other = (stratified_split(LABELS, FRACTIONS, seed=seed)["train"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(np.intersect1d(first, other)) < 0.7 * len(first)


def test_this_split_stays_what_it_is_over_versions():
    split = stratified_split(np.zeros(10, dtype=int), FRACTIONS, seed=0)
    assert {name: indices.tolist() for name, indices in split.items()} == GOLDEN_SPLIT


def test_images_are_mixed_not_cut_in_order():
    train = stratified_split(np.zeros(1000, dtype=int), FRACTIONS, seed=0)["train"]
    assert 400 < train.mean() < 600 and train.max() > 980 and train.min() < 20


def test_classes_are_mixed_independently():
    labels = np.repeat([0, 1], 200)
    train = stratified_split(labels, FRACTIONS, seed=0)["train"]
    assert len(np.intersect1d(train[:100], train[100:] - 200)) < 75


@pytest.mark.parametrize(("count", "ok"), [(1, False), (2, False), (3, False), (4, True)])
def test_a_class_with_too_few_images_is_named(count, ok):
    labels = np.repeat([0, 1], [50, count])
    if ok:
        assert all((labels[chosen] == 1).any() for chosen in stratified_split(labels, FRACTIONS, 0).values())
        return
    with pytest.raises(UserError, match=rf"'ein \"b\"' has too few images: {count} .* none for .*validation"):
        stratified_split(labels, FRACTIONS, 0, ["a", 'ein "b"'])
    with pytest.raises(UserError, match="class 1 has too few images"):
        stratified_split(labels, FRACTIONS, 0)


def test_a_class_without_any_image_is_named():
    with pytest.raises(UserError, match="'ghost' has too few images: 0"):
        stratified_split(np.zeros(20, dtype=int), FRACTIONS, 0, ["a", "ghost"])


# --- shots ----------------------------------------------------------------------------------------------------

NAMES = ("seven", "eight", "nine")


def test_shots_are_so_many_of_each_class_in_ascending_order():
    chosen = select_shots(LABELS, NAMES, 5, seed=0)
    assert np.bincount(LABELS[chosen]).tolist() == [5, 5, 5]
    assert (np.diff(chosen) > 0).all()


def test_fewer_shots_are_among_more():
    for k in range(1, 40):
        assert set(select_shots(LABELS, NAMES, k, 4)) < set(select_shots(LABELS, NAMES, k + 1, 4))


def test_shots_depend_on_the_seed_and_repeat():
    first, again, other = (select_shots(LABELS, NAMES, 10, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_shots_of_a_class_do_not_depend_on_the_other_classes():
    all_three = select_shots(LABELS, NAMES, 7, seed=2)
    kept = np.flatnonzero(LABELS != 1)
    relabelled = np.where(LABELS[kept] == 2, 0, 1)  # nine first, then seven
    two = kept[select_shots(relabelled, ("nine", "seven"), 7, seed=2)]
    assert set(two) == {index for index in all_three if LABELS[index] != 1}


def test_all_images_of_the_classes_when_no_number_is_given():
    np.testing.assert_array_equal(select_shots(LABELS, NAMES, None, seed=0), np.arange(len(LABELS)))


def test_more_shots_than_images_names_class_asked_and_available():
    assert len(select_shots(LABELS, NAMES, 40, 0)) == 120
    with pytest.raises(UserError, match="41 images of class 'seven' asked, 40 available"):
        select_shots(LABELS, NAMES, 41, seed=0)

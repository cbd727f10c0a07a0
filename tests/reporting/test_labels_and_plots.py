import pytest

from kind.reporting.labels import decimals_for, fixed, in_sentence, matches, method_styles, metric_label, short_count
from kind.reporting.plot_names import _apart
from kind.reporting.plots import Series, averaged
from kind.reporting.runs import number


@pytest.mark.parametrize(
    ("name", "base", "words", "counts"),
    [
        ("fd_digits_500_vs_180", "fd_digits", "Fréchet distance", ("500", "180")),
        ("sfd_digits_2k_vs_1k", "sfd_digits", "Spatial Fréchet distance", ("2k", "1k")),
        ("fid_50k", "fid", "FID", ("50k", None)),
        ("is_digits_500", "is_digits", "Inception-Score analogue", ("500", None)),
        ("is_50k", "is", "Inception Score", ("50k", None)),
        ("accuracy_svc_500", "accuracy_svc", "SVC agreement", ("500", None)),
        ("accuracy_digits_500", "accuracy_digits", "Class accuracy", ("500", None)),
        ("some_new_thing", "some_new_thing", "some_new_thing", (None, None)),
    ],
)
def test_metric_names_have_words(name, base, words, counts):
    label = metric_label(name)
    assert (label.base, label.words, label.counts) == (base, words, counts)


def test_a_headline_entry_means_one_metric():
    assert matches("fd_digits_500_vs_180", "fd")
    assert not matches("sfd_digits_500_vs_180", "fd")
    assert matches("accuracy_svc_500", "accuracy_svc")
    assert not matches("accuracy_digits_500", "accuracy_svc")


def test_numbers_for_people():
    assert [short_count(value) for value in (0, 256, 999, 999.9, 12_345, 251_904, 999_999, 45_400_000)] == [
        "0", "256", "999", "1.00 k", "12.3 k", "252 k", "1.00 M", "45.4 M",
    ]  # fmt: skip
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(-1.5, 1) == "−1.5"
    assert decimals_for([7.2, 11, 84]) == 2
    assert decimals_for([0.00001, 70, 84]) == 2
    assert decimals_for([0, 0]) == 0
    assert [number(value) for value in (None, float("nan"), "", True, "x", "2.5")] == [None] * 5 + [2.5]
    assert [in_sentence(words) for words in ("FID", "sFID", "Fréchet distance", "Recall")] == [
        "FID", "sFID", "Fréchet distance", "recall",
    ]  # fmt: skip


def test_every_method_has_its_own_look():
    names = [f"m{place}" for place in range(20)]
    styles = method_styles([*names, "kind"])
    assert len({(style.colour, style.marker) for style in styles.values()}) == 21
    assert styles["kind"] == method_styles(["full", "kind"])["kind"]


def test_names_beside_lines_do_not_touch():
    placed = _apart([0.1, 0.1, 0.11, 0.9, 0.9], 0.07, 0.0, 1.0)
    assert all(after - before >= 0.07 - 1e-9 for before, after in zip(placed, placed[1:], strict=False))
    assert placed[0] >= 0
    assert placed[-1] <= 1
    assert _apart([0.2, 0.8], 0.07, 0.0, 1.0) == [0.2, 0.8]


def test_a_mean_needs_every_seed():
    series = Series("m", method_styles(["m"])["m"], [[(1, 2.0), (2, 4.0)], [(1, 4.0)]])
    assert series.mean() == [(1, 3.0, 2.0, 4.0)]


def test_long_logs_are_averaged():
    points = averaged(list(range(1, 1001)), [float(step) for step in range(1, 1001)], 10)
    assert len(points) == 10
    assert points[0] == (100, 50.5)
    assert averaged([5, 10], [1.0, 2.0]) == [(5, 1.0), (10, 2.0)]

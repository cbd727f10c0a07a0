"""`python -m kind evaluate SAMPLES REFERENCE` and `python -m kind reference IMAGES`: anyone's images, no experiment."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kind.__main__ import main
from kind.artifacts import read_json
from kind.evaluation.frechet import frechet_distance, gaussian_statistics

CLASSES = (7, 8, 9)


@pytest.fixture(scope="module")
def sets(digits):
    """Training digits as samples, test digits as the reference; both of three classes, labelled 0, 1, 2."""

    def part(split):
        chosen = np.isin(split.labels, CLASSES)
        return split.images[chosen], split.labels[chosen] - CLASSES[0]

    return part(digits.train), part(digits.test)


@pytest.fixture
def files(sets, tmp_path, monkeypatch):
    """Both sets in every form that is read."""
    monkeypatch.setenv("KIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, (images, labels) in zip(("samples", "real"), sets, strict=True):
        np.savez(f"{name}.npz", arr_0=images, arr_1=labels)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / f"{name}_by_class" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / f"{index:04d}.png")
        for start in range(0, len(images), 100):
            (tmp_path / f"{name}_shards").mkdir(exist_ok=True)
            place = tmp_path / f"{name}_shards" / f"shard_{start:05d}.npz"
            np.savez(place, arr_0=images[start : start + 100], arr_1=labels[start : start + 100])
    return tmp_path


@pytest.fixture
def network(extractor_path):
    return ["--extractor", str(extractor_path)]


def evaluated(*arguments):
    assert main(["evaluate", *map(str, arguments), "--output", "found.json"]) == 0
    return read_json("found.json")


def values(found, *prefixes):
    return {name: value for name, value in found["values"].items() if name.startswith(prefixes)}


def test_every_form_of_the_same_images_gives_the_same_numbers(files, network, sets, extractor):
    found = [evaluated(f"samples{form}", f"real{form}", *network) for form in (".npz", "_shards")]
    assert found[0]["values"] == found[1]["values"]
    (samples, labels), (real, real_labels) = sets
    orders = [np.argsort(each, kind="stable") for each in (labels, real_labels)]
    sides = [extractor.extract(images[order], 50).pooled for images, order in zip((samples, real), orders, strict=True)]
    sorted_by_class = evaluated("samples_by_class", "real_by_class", *network)
    (name, value), *_ = values(sorted_by_class, "fd_").items()
    assert value == pytest.approx(frechet_distance(*map(gaussian_statistics, sides)), rel=1e-9)
    assert value == pytest.approx(found[0]["values"][name], rel=1e-4), "the order moves the last digits alone"
    assert list(sorted_by_class["per_class"]) == ["0", "1", "2"]


def test_what_it_writes_and_says(files, network, capsys, sets):
    found = evaluated("samples.npz", "real.npz", *network)
    counts = f"{len(sets[0][0])}_vs_{len(sets[1][0])}"
    assert {f"fd_digits_{counts}", f"sfd_digits_{counts}", f"kd_digits_{counts}", f"class_kd_digits_{counts}",
            f"precision_digits_{counts}", f"recall_digits_{counts}"} <= set(found["values"])  # fmt: skip
    assert found["samples"]["num_images"] == len(sets[0][0])
    assert found["extractor"]["extractor"] == "digits"
    assert found["provenance"]["versions"]["torch"]
    said = capsys.readouterr().out
    assert f"fd_digits_{counts}" in said and "95 % interval" in said and "found.json" in said
    assert [line.split()[0] for line in said.splitlines() if line[:2] in ("0 ", "1 ", "2 ")] == ["0", "1", "2"]


def test_a_reference_file_stands_for_its_images(files, network):
    assert main(["reference", "real.npz", *network, "--set", "test", "--output", "reference.npz"]) == 0
    direct, through = (
        evaluated("samples.npz", "real.npz", *network),
        evaluated("samples.npz", "reference.npz", *network),
    )
    assert direct["values"] == through["values"]
    assert direct["per_class"] == through["per_class"]
    assert through["reference"]["protocol"]["set"] == "test"
    with np.load("reference.npz") as arrays:
        assert {"mu", "sigma", "mu_s", "sigma_s", "arr_0", "protocol"} <= set(arrays.files)


def test_statistics_alone_give_distances_alone(files, network, capsys):
    main(["reference", "real.npz", *network, "--output", "reference.npz"])
    main(["reference", "samples.npz", *network, "--output", "of_samples.npz"])
    for name in ("reference", "of_samples"):
        with np.load(f"{name}.npz") as arrays:
            np.savez(f"{name}_alone.npz", **{key: arrays[key] for key in ("mu", "sigma", "mu_s", "sigma_s")})
    capsys.readouterr()
    whole, alone = (
        evaluated("samples.npz", "real.npz", *network),
        evaluated("of_samples_alone.npz", "reference_alone.npz"),
    )
    assert [*values(whole, "fd_").values()] == [*values(alone, "fid_").values()]
    assert [*values(whole, "sfd_").values()] == [*values(alone, "sfid_").values()]
    assert {name for name, value in alone["values"].items() if value is not None} == {
        "fid_unknown_vs_unknown", "sfid_unknown_vs_unknown",
    }  # fmt: skip
    assert "statistics alone" in capsys.readouterr().out


def test_features_are_kept_and_not_made_again(files, network, monkeypatch):
    first = evaluated("samples.npz", "real.npz", *network)
    assert list((files / "cache").rglob("*.npz"))
    from kind.evaluation.features import Extractor

    monkeypatch.setattr(Extractor, "extract", lambda *_, **__: pytest.fail("an image was seen again"))
    assert evaluated("samples.npz", "real.npz", *network)["values"] == first["values"]


def test_few_images_are_marked(files, network, capsys):
    found = evaluated("samples.npz", "real.npz", *network, "--num-samples", 30)
    assert [name.split("_")[0] for name in found["indicative"]] == ["fd", "sfd", "class"]
    assert capsys.readouterr().out.count("INDICATIVE ONLY") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "evaluate is given neither images nor an experiment"),
        (["evaluate", "samples.npz"], "evaluate is given no REFERENCE"),
        (["evaluate", "samples.npz", "real.npz", "--task", "x"], "images and an experiment"),
        (["evaluate", "--experiment", "smoke", "--size", "8"], "images and an experiment"),
        (["evaluate", "nowhere.npz", "real.npz", "--extractor", "{}"], "nowhere.npz: no such file or folder"),
        (["evaluate", "samples.npz", "real.npz", "--extractor", "dino"], "no file dino"),
        (["evaluate", "samples.npz", "real.npz", "--weights", "w.pth"], "w.pth does not exist"),
        (["evaluate", "samples.npz", "real.npz"], "python -m kind fetch inception"),
        (["evaluate", "samples.npz", "labels.npz", "--extractor", "{}"], "it holds labels"),
        (["evaluate", "samples.npz", "cut.npz", "--extractor", "{}"], "cut.npz: not a whole npz file"),
        (["evaluate", "samples.npz", "reference.npz"], "feature network digits: give its file as --extractor"),
        (["evaluate", "samples.npz", "reference.npz", "--extractor", "{}", "--batch-size", "7"], "batches of 50"),
        (
            ["evaluate", "samples.npz", "real.npz", "--extractor", "{}", "--num-samples", "100000"],
            "100000 images asked",
        ),
        (["reference", "real.npz", "--extractor", "{}"], "reference is given no --output"),
        (["reference", "real.npz", "--extractor", "{}", "--output", "x.json"], "must end in .npz"),
        (["reference", "reference.npz", "--extractor", "{}", "--output", "x.npz"], "holds statistics already"),
    ],
)
def test_a_mistake_is_one_message(files, network, capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("KIND_INCEPTION", raising=False)
    np.savez("labels.npz", labels=np.zeros(3))
    (files / "cut.npz").write_bytes((files / "real.npz").read_bytes()[:-40])
    main(["reference", "real.npz", *network, "--output", "reference.npz"])
    before = sorted(path.name for path in files.iterdir())
    capsys.readouterr()
    assert main([argument.format(network[1]) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("error:") == 1 and "Traceback" not in said.err and said.out == ""
    assert sorted(path.name for path in files.iterdir()) == before

"""`python -m kind evaluate SAMPLES REFERENCE` and `python -m kind reference IMAGES`: anyone's images, no experiment."""

from __future__ import annotations

import shutil

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
    assert [*values(whole, "fd_").values()] == [*values(alone, "fd_").values()]
    assert [*values(whole, "sfd_").values()] == [*values(alone, "sfd_").values()]
    assert set(alone["values"]) == {
        "fd_unknown_unknown_vs_unknown", "sfd_unknown_unknown_vs_unknown",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "statistics alone" in said
    assert said.count("does not say which network made its mu and sigma: unknown") == 2


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


def test_adms_files_are_compared_by_their_statistics_and_their_images(files, inception_path, capsys):
    """mu, sigma, mu_s, sigma_s of all images, and some images for the rest: VIRTUAL_imagenet256_labeled.npz is so."""
    weights = ["--weights", str(inception_path), "--batch-size", "4"]
    rng = np.random.default_rng(0)
    for name in ("all", "samples"):
        np.savez(f"{name}.npz", arr_0=rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))
    assert main(["reference", "all.npz", *weights, "--output", "ours.npz"]) == 0
    with np.load("ours.npz") as arrays:
        np.savez(
            "adm.npz", arr_0=arrays["arr_0"][:6], **{key: arrays[key] for key in ("mu", "sigma", "mu_s", "sigma_s")}
        )
    direct, found = evaluated("samples.npz", "all.npz", *weights), evaluated("samples.npz", "adm.npz", *weights)
    for name in ("fid", "sfid"):
        assert found["values"][f"{name}_12_vs_unknown"] == direct["values"][f"{name}_12_vs_12"]
    assert {"kid_12_vs_6", "precision_12_vs_6", "recall_12_vs_6", "is_12"} <= set(found["values"])
    assert found["reference"]["statistics"].startswith("as the file has them")
    assert "adm.npz does not say which network made its mu and sigma: taken to be Inception" in capsys.readouterr().out


def test_sizes_that_differ_are_said(files, inception_path, capsys):
    weights = ["--weights", str(inception_path), "--batch-size", "4"]
    rng = np.random.default_rng(0)
    for name, shape in (("small", (16, 16, 3)), ("large", (20, 24, 3))):
        (files / name).mkdir()
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(files / name / f"{index}.png")
    found = evaluated("small", "large", *weights)
    assert any("16 x 16 x 3, the reference of 20 x 24 x 3" in warning for warning in found["warnings"])
    found = evaluated("small", "large", *weights, "--size", 16)
    assert not any("the reference of" in warning for warning in found["warnings"])
    assert found["reference"]["decoding"] == "centre crop and resize to 16 x 16"
    capsys.readouterr()


def test_where_it_writes_unasked(files, network, capsys):
    for name in ("cfg-1.5", "cfg-1.25"):
        (files / "samples_shards").rename(files / name) if name == "cfg-1.5" else shutil.copytree("cfg-1.5", name)
        assert main(["evaluate", name, "real.npz", *network]) == 0
        assert read_json(f"{name}.metrics.json")["samples"]["path"] == name
    assert main(["evaluate", "cfg-1.5", "real.npz", *network]) == 0, "the same again may replace it"
    capsys.readouterr()
    assert main(["evaluate", "cfg-1.5", "samples.npz", *network]) == 2
    assert "cfg-1.5.metrics.json: holds another comparison" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "evaluate is given neither images nor an experiment"),
        (["evaluate", "samples.npz"], "evaluate is given no REFERENCE"),
        (["evaluate", "samples.npz", "real.npz", "--task", "x"], "images and an experiment"),
        (["evaluate", "--experiment", "smoke", "--size", "8"], "images and an experiment"),
        (["evaluate", "nowhere.npz", "real.npz", "--extractor", "{}"], "nowhere.npz: no such file or folder"),
        (["evaluate", "samples.npz", "real.npz", "--extractor", "dino"], "no file dino"),
        (["evaluate", "samples.npz", "real.npz", "--weights", "w.pth"], "--weights: w.pth does not exist"),
        (["evaluate", "samples.npz", "alone.npz", "--extractor", "{}"], "does not say which network made"),
        (["evaluate", "alone.npz", "alone.npz", "--size", "8"], "--size: both files hold what is compared"),
        (["evaluate", "samples.npz", "real.npz", "--output", "nowhere.npz/x.json"], "--output"),
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
    with np.load("reference.npz") as arrays:
        np.savez("alone.npz", mu=arrays["mu"], sigma=arrays["sigma"])
    before = sorted(path.name for path in files.iterdir())
    capsys.readouterr()
    assert main([argument.format(network[1]) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("error:") == 1 and "Traceback" not in said.err and said.out == ""
    assert sorted(path.name for path in files.iterdir()) == before

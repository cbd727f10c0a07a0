"""Files in and out: whole or not at all, the same bytes for the same content, and no traceback for a damaged one."""

from __future__ import annotations

import csv
import errno
import json
import math
import os

import numpy as np
import pytest

from kind import artifacts
from kind.errors import UserError

ARRAYS = {
    "images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1),
    "labels": np.array([1, -2], dtype=np.int64),
    "names": np.array(["A", "é"]),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
HEADER = {"format": "x/1", "classes": ["7", "é"], "seed": 3, "nothing": None}


def tensors():
    import torch

    return {
        "weight": torch.arange(12.0).reshape(3, 4),
        "turned": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
        "scalar": torch.tensor(0.5, dtype=torch.bfloat16),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }


# --- atomic writing -------------------------------------------------------------------------------------------


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.bin"
    artifacts.write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), artifacts.atomic_file(path) as handle:
        _write_and_stop(handle)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def _write_and_stop(handle):
    handle.write(b"half of the new")
    raise KeyboardInterrupt


def test_the_name_is_taken_only_at_the_end(tmp_path):
    path = tmp_path / "deep" / "folder" / "x.bin"
    with artifacts.atomic_file(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path):
    """The operating system's error for a write has no file name, which would be a traceback on the command line."""
    path = tmp_path / "x.bin"
    with pytest.raises(OSError) as caught, artifacts.atomic_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(path) and list(tmp_path.iterdir()) == []


# --- JSON and CSV ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(tmp_path / "x.json", {"fd": [value]})
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back(tmp_path):
    content = {"a": [1, 0.1, None, True], "é": {"x": "\n"}}
    artifacts.write_json(tmp_path / "x.json", content)
    assert artifacts.read_json(tmp_path / "x.json") == content
    assert "é" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe{}"])
def test_damaged_json(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"x\.json: not valid JSON .*\n  -> cut off or changed after it was written: delete it"
    ):
        artifacts.read_json(tmp_path / "x.json")


def test_csv_holds_all_columns_in_order_of_appearance(tmp_path):
    path = tmp_path / "x.csv"
    artifacts.write_csv(path, [{"step": 1, "loss": 0.1}, {"step": 2, "note": 'a, "b"'}])
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "loss", "note"], ["1", "0.1", ""], ["2", "", 'a, "b"']]
    artifacts.write_csv(path, [], columns=["a", "b"])
    assert path.read_bytes() == b"a,b\n"


# --- arrays ---------------------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_were(tmp_path):
    artifacts.save_arrays(tmp_path / "x.npz", **ARRAYS)
    found = artifacts.load_arrays(tmp_path / "x.npz", ("images", "labels"))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_same_arrays_give_the_same_bytes(tmp_path, monkeypatch):
    artifacts.save_arrays(tmp_path / "x.npz", **ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    artifacts.save_arrays(tmp_path / "other.npz", **ARRAYS)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_an_absent_array_names_those_that_there_are(tmp_path):
    artifacts.save_arrays(tmp_path / "x.npz", arr_0=np.zeros(1), mu=np.zeros(1))
    with pytest.raises(UserError) as caught:
        artifacts.load_arrays(tmp_path / "x.npz", ("mu", "sigma", "mu_s"))
    message = str(caught.value)
    assert "x.npz: has no array sigma, mu_s; it holds arr_0, mu" in message
    assert "expected the arrays mu, sigma, mu_s" in message


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "x.npz", a=np.array([Trap()], dtype=object))
    np.save(tmp_path / "y.npz", np.array([Trap()], dtype=object))
    (tmp_path / "y.npz.npy").rename(tmp_path / "y.npz")
    for name in ("x.npz", "y.npz"):
        with pytest.raises(UserError, match="not a whole npz file of plain arrays"):
            artifacts.load_arrays(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npy: not a whole npz file"):
        artifacts.load_arrays(tmp_path / "x.npy")


# --- tensors --------------------------------------------------------------------------------------------------


def test_tensors_come_back_as_they_were(tmp_path):
    import torch

    path = tmp_path / "x.safetensors"
    artifacts.save_tensors(path, tensors(), HEADER)
    found, header = artifacts.load_tensors(path)
    assert header == HEADER == artifacts.read_header(path)
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    artifacts.save_tensors(tmp_path / "x", tensors(), HEADER)
    artifacts.save_tensors(tmp_path / "y", dict(reversed(tensors().items())), dict(reversed(HEADER.items())))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_a_safetensors_file_of_others_is_refused(tmp_path):
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"kind": "not json"}, {"kind": "[1]"}):
        save_file(tensors() | {"turned": tensors()["turned"].contiguous()}, tmp_path / "x", metadata=metadata)
        with pytest.raises(UserError, match="none of this project's"):
            artifacts.load_tensors(tmp_path / "x")


# --- damage ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["npz", "safetensors"])
def file(request, tmp_path):
    """(path, how to read it) of a good file of each kind."""
    path = tmp_path / f"x.{request.param}"
    if request.param == "npz":
        artifacts.save_arrays(path, **ARRAYS)
        return path, artifacts.load_arrays
    artifacts.save_tensors(path, tensors(), HEADER)
    return path, artifacts.load_tensors


def test_a_file_cut_anywhere_is_refused(file):
    path, load = file
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_flipped_byte_gives_a_message_or_the_file(file):
    """Bytes of the values themselves are guarded by the checksums of records and manifests, not by the format."""
    path, load = file
    whole, refused = path.read_bytes(), 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load(path)
        except UserError as error:
            refused += str(error).startswith(f"{path}: ")
    assert refused > len(whole) / 4


def test_a_missing_file_says_what_to_do(file):
    path, load = file
    path.unlink()
    for function in (load, artifacts.sha256, artifacts.read_json, artifacts.read_header):
        with pytest.raises(UserError) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: no such file\n  -> run the stage that writes it")


# --- what made a result ---------------------------------------------------------------------------------------


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys():
    assert artifacts.digest({"a": 1, "b": {"c": [1, 2], "d": None}}) == artifacts.digest({"b": {"d": None, "c": [1, 2]}, "a": 1})  # fmt: skip  # noqa: E501
    values = [{}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"b": 1}, [1, 2], [2, 1]]
    digests = {artifacts.digest(value) for value in values}
    assert len(digests) == len(values) and all(len(found) == 12 and int(found, 16) >= 0 for found in digests)


def test_a_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert artifacts.sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_provenance_names_code_and_versions():
    found = artifacts.provenance()
    assert list(found) == ["code", "git", "python", "versions"]
    assert len(found["code"]) == 12 and found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) <= set(artifacts.RECORDED_PACKAGES)
    assert json.loads(json.dumps(found)) == found


def test_the_digest_of_the_code_sees_every_edit(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "PACKAGE", tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text("x = 1")
    first = artifacts._package_digest()
    (tmp_path / "sub" / "b.py").write_text("")
    second = artifacts._package_digest()
    (tmp_path / "sub" / "b.py").rename(tmp_path / "sub" / "c.py")
    assert len({first, second, artifacts._package_digest()}) == 3

"""`python -m kind fetch` against a server of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save
from web import Web, serve

from kind import weights
from kind.__main__ import main

CONFIG = b'{"model_type": "dinov2"}'
MODEL = save({"weight": np.random.default_rng(0).normal(size=(700, 700))})  # 3.9 MB
WHOLE = {"/config.json": CONFIG, "/model.safetensors": MODEL}
PLACE = "weights/dinov2"


@pytest.fixture
def fetch(tmp_path, monkeypatch, capsys):
    """fetch(*arguments) -> (exit code, everything that was said), in an empty working folder without a network."""
    monkeypatch.chdir(tmp_path)
    for name in [*(one.variable for one in weights.WEIGHTS.values()), "http_proxy", "HTTP_PROXY"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers

    def run(*arguments):
        code = main(["fetch", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def web():
    with serve(Web(dict(WHOLE))) as running:
        yield running


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_files_come_whole_and_are_recorded(fetch, web, tmp_path):
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 0 and "dinov2 model.safetensors MB: 3/3" in said and "commit it" in said
    assert files(tmp_path / "weights") == {"config.json": CONFIG, "model.safetensors": MODEL}
    sums = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in (("config.json", CONFIG), ("model.safetensors", MODEL))
    }
    assert json.loads((tmp_path / "weights.lock").read_text()) == {"dinov2": sums}

    web.asked.clear()
    lock = (tmp_path / "weights.lock").read_bytes()
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 0 and "weights/dinov2/model.safetensors is there already" in said and "commit" not in said
    assert web.asked == [] and (tmp_path / "weights.lock").read_bytes() == lock


def test_one_file_alone_and_another_folder(fetch, web, tmp_path):
    code, said = fetch("dinov2", "--from", web.address, "--only", "config.json", "--to", "elsewhere")
    assert code == 0 and "set KIND_DINOV2=elsewhere/dinov2" in said
    assert files(tmp_path / "elsewhere") == {"config.json": CONFIG}
    code, said = fetch("dinov2", "--only", "model")
    assert code == 2 and "--only model: no file of dinov2" in said


def test_the_published_address_is_asked_where_no_other_is_given(fetch, web, tmp_path, monkeypatch):
    """By another register: the real addresses are not for tests."""
    file = weights.File("w.bin", f"{web.address}/w.bin", sha256=hashlib.sha256(b"right").hexdigest()[:8])
    monkeypatch.setitem(weights.WEIGHTS, "other", weights.Weights("other", "", "", "", (file,)))
    web.files["/w.bin"] = b"right"
    assert fetch("other")[0] == 0 and files(tmp_path / "weights/other") == {"w.bin": b"right"}


def test_a_cut_connection_goes_on_where_it_stopped(fetch, web, tmp_path):
    web.cut = 1_500_000
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 0 and "cut off after 1500000 of" in said
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}
    assert [begin for path, begin in web.asked if path == "/model.safetensors"] == [
        None, "bytes=1500000-", "bytes=3000000-"
    ]  # fmt: skip


def test_what_was_cut_off_too_often_is_kept_for_the_next_time(fetch, web, tmp_path):
    web.cut = 100_000
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and "cut off 5 times; 500000 bytes are kept in weights/dinov2/model.safetensors.part" in said
    assert (tmp_path / PLACE / "model.safetensors.part").read_bytes() == MODEL[:500_000]
    assert not (tmp_path / PLACE / "model.safetensors").exists()
    web.cut = None
    web.asked.clear()
    assert fetch("dinov2", "--from", web.address)[0] == 0
    assert web.asked == [("/model.safetensors", "bytes=500000-")]
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}


@pytest.mark.parametrize(
    "before, after",
    [({}, {"etag": '"2"'}), ({}, {"ranges": False}), ({"etag": None}, {}), ({"etag": 'W/"1"'}, {})],
    ids=["has changed", "knows no ranges", "says no tag", "says a weak tag"],
)
def test_a_part_of_what_may_be_another_file_is_not_gone_on_with(fetch, web, tmp_path, before, after):
    web.files["/model.safetensors"] = bytes(reversed(MODEL))
    web.cut = 100_000
    vars(web).update(before)
    assert fetch("dinov2", "--from", web.address)[0] == 2
    web.files, web.cut = dict(WHOLE), None
    vars(web).update(after)
    assert fetch("dinov2", "--from", web.address)[0] == 0
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}


def test_a_part_from_another_address_is_not_gone_on_with(fetch, web, tmp_path):
    web.files["/model.safetensors"], web.cut = bytes(reversed(MODEL)), 100_000
    assert fetch("dinov2", "--from", web.address)[0] == 2
    with serve(Web(dict(WHOLE))) as other:
        assert fetch("dinov2", "--from", other.address)[0] == 0
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}


def test_a_part_that_was_whole_is_not_asked_for_again(fetch, web, tmp_path):
    """Killed between the last byte and the check."""
    web.cut = 100_000
    assert fetch("dinov2", "--from", web.address)[0] == 2
    web.cut = None
    (tmp_path / PLACE / "model.safetensors.part").write_bytes(MODEL)
    assert fetch("dinov2", "--from", web.address)[0] == 0
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}
    assert web.asked[-1] == ("/model.safetensors", f"bytes={len(MODEL)}-")


def test_redirections_are_followed_to_http_alone(fetch, web, tmp_path):
    web.moved["/moved/config.json"] = f"{web.address}/config.json"
    web.moved["/moved/model.safetensors"] = "ftp://127.0.0.1/model.safetensors"
    code, said = fetch("dinov2", "--from", f"{web.address}/moved/")
    assert code == 2 and "/moved/model.safetensors: " in said and "ftp" in said and "Traceback" not in said
    assert files(tmp_path / "weights") == {"config.json": CONFIG}


# --- what is not right ----------------------------------------------------------------------------------------


def test_a_wrong_hash_leaves_nothing_and_says_what_was_expected(fetch, web, tmp_path):
    name = "weights-inception-2015-12-05-6726825d.pth"
    web.files[f"/{name}"] = b"something else"
    code, said = fetch("inception", "--from", web.address)
    found = hashlib.sha256(b"something else").hexdigest()
    assert code == 2 and f"its sha256 is {found}, and the published one begins with 6726825d" in said
    assert files(tmp_path) == {}


def test_what_differs_from_the_lock_is_refused(fetch, web, tmp_path):
    assert fetch("dinov2", "--from", web.address)[0] == 0
    lock = (tmp_path / "weights.lock").read_bytes()
    shutil.rmtree(tmp_path / "weights")
    web.files["/config.json"] = b'{"model_type": "dinov3"}'
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and "weights.lock says 24 bytes and " + hashlib.sha256(CONFIG).hexdigest() in said
    assert files(tmp_path) == {"weights.lock": lock}


def test_a_file_that_was_changed_here_is_named_and_kept(fetch, web, tmp_path):
    assert fetch("dinov2", "--from", web.address)[0] == 0
    (tmp_path / PLACE / "config.json").write_text("{}")
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and "error: weights/dinov2/config.json: it has 2 bytes" in said and "delete it" in said
    assert (tmp_path / PLACE / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("config.json", b"<html>Please log in</html>", "not a whole json file"),
        ("model.safetensors", b"<html>Please log in</html>", "not a whole safetensors file"),
        ("model.safetensors", MODEL[:-100], "not a whole safetensors file"),
    ],
    ids=["page for config", "page for weights", "cut before it was put there"],
)
def test_a_first_fetch_trusts_no_page_and_no_piece(fetch, web, tmp_path, name, content, reason):
    web.files[f"/{name}"] = content
    code, said = fetch("dinov2", "--from", web.address, "--only", name)
    assert code == 2 and f"not the expected {name}: {reason}" in said
    assert files(tmp_path) == {}


def test_a_missing_file_and_a_missing_network_are_one_message_with_the_ways(fetch, web, tmp_path):
    del web.files["/config.json"]
    ways = (
        "\n  -> name a folder with config.json, model.safetensors in the params as evaluation.extractor.weights_path, "
        "or name it in the variable KIND_DINOV2, or run `python -m kind fetch dinov2` where there is a network; "
        "--from takes the files from a folder or a mirror\n"
    )
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and f"error: {web.address}/config.json: the server says 404 Not Found{ways}" in said
    code, said = fetch("dinov2")
    address = "https://huggingface.co/facebook/dinov2-large/resolve/main/config.json"
    assert code == 2 and f"error: {address}: not reached ([Errno 111] Connection refused){ways}" in said
    code, said = fetch("dinov2", "--from", "nowhere")
    assert code == 2 and f"error: nowhere/config.json does not exist{ways}" in said
    assert files(tmp_path) == {}


def test_a_folder_of_this_machine_is_a_source(fetch, tmp_path):
    (tmp_path / "given").mkdir()
    for name, content in WHOLE.items():
        (tmp_path / f"given{name}").write_bytes(content)
    assert fetch("dinov2", "--from", "given")[0] == 0
    assert files(tmp_path / PLACE) == {"config.json": CONFIG, "model.safetensors": MODEL}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "which weights?\n  -> name one or more of inception, dinov2, vae, dit-xl-2"),
        (["incepton"], "no weights 'incepton' (did you mean 'inception'?)\n  -> there are inception, dinov2"),
        (["vae", "dinov2", "--from", "x"], "--from x: is for one NAME, but there are vae, dinov2\n  -> fetch them one"),
        (
            ["vae", "--from", "ftp://x"],
            "--from ftp://x: files come from http:// and https:// addresses and from folders",
        ),
        (["vae", "--from", "file:///x"], "--from file:///x: files come from http:// and https:// addresses and"),
    ],
)
def test_wrong_arguments(fetch, tmp_path, arguments, message):
    code, said = fetch(*arguments)
    assert code == 2 and f"error: {message}" in said and files(tmp_path) == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"dinov2": {"config.json": "x"}}', '{"dinov2": {"a": {"bytes": 1}}}'])
def test_a_damaged_lock_is_one_message(fetch, web, tmp_path, content):
    (tmp_path / "weights.lock").write_text(content)
    code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and "error: weights.lock: expected name -> file -> bytes and sha256" in said and "\n  -> " in said
    assert (tmp_path / "weights.lock").read_text() == content


def test_a_second_process_is_refused(fetch, web, tmp_path):
    (tmp_path / PLACE).mkdir(parents=True)
    with open(tmp_path / PLACE / "config.json.part", "ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code, said = fetch("dinov2", "--from", web.address)
    assert code == 2 and "config.json.part: another process is fetching this file\n  -> wait" in said
    assert web.asked == []


def test_the_list_says_what_there_is_and_where_it_is_found(fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("KIND_VAE", "/nowhere")
    code, said = fetch("--list")
    assert code == 0 and files(tmp_path) == {}
    for one in weights.WEIGHTS.values():
        assert all(file.url in said for file in one.files) and one.licence in said and one.variable in said
    assert "here: KIND_VAE: /nowhere does not exist" in said

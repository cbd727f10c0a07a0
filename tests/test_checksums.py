"""Checksums of large files are computed once, and again when anything says that the file is another."""

import hashlib
import os
import shutil
import time

import pytest

from kind import checksums


@pytest.fixture
def count(monkeypatch, tmp_path):
    """Files count as large, and how often one was read is known."""
    computed, plain = [], checksums._computed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "LARGE", 4)
    monkeypatch.setattr(checksums, "REST", 0.05)
    monkeypatch.setattr(checksums, "_computed", lambda path: computed.append(path) or plain(path))
    return computed


def make(path, content=b"content"):
    path.write_bytes(content)
    return path


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_is_read_once(count, tmp_path):
    path = make(tmp_path / "a")
    assert [checksums.sha256(path) for _ in range(3)] == [digest(b"content")] * 3
    (tmp_path / "link").symlink_to(path)
    assert checksums.sha256(tmp_path / "link") == digest(b"content") and len(count) == 1


def test_a_small_file_is_read_each_time(count, tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "LARGE", 100)
    path = make(tmp_path / "a")
    assert checksums.sha256(path) == checksums.sha256(path) and len(count) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("how", ["written", "one byte", "replaced", "times put back"])
def test_another_content_is_noticed(count, tmp_path, how):
    path = make(tmp_path / "a")
    checksums.sha256(path)
    before = path.stat()
    if how == "written":
        make(path, b"another content")
    elif how == "one byte":
        with open(path, "r+b") as handle:
            handle.write(b"C")
    elif how == "replaced":
        os.replace(shutil.copy2(make(tmp_path / "b", b"CONTENT"), tmp_path / "c"), path)
    else:
        make(path, b"CONTENT")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checksums.sha256(path) == digest(path.read_bytes()) != digest(b"content")


def test_what_was_hashed_under_another_name_can_be_remembered(count, tmp_path):
    path = make(tmp_path / "a")
    found = checksums.sha256(path)
    os.replace(path, tmp_path / "b")
    checksums.remember(tmp_path / "b", found)
    assert checksums.sha256(tmp_path / "b") == found and len(count) == 1


def test_a_file_that_was_just_written_is_not_remembered(count, tmp_path, monkeypatch):
    """A write that follows could fall into the same tick of the clock."""
    monkeypatch.setattr(checksums, "REST", 60.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    path = make(tmp_path / "a")
    assert checksums.sha256(path) == checksums.sha256(path) and len(count) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": 3}'])
def test_a_damaged_or_absent_memory_costs_time_only(count, tmp_path, content, monkeypatch):
    path = make(tmp_path / "a")
    checksums.sha256(path)
    (file,) = (tmp_path / "cache" / "kind" / "checksums").iterdir()
    file.write_text(content)
    assert checksums.sha256(path) == digest(b"content") and len(count) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(make(tmp_path / "no folder")))
    assert checksums.sha256(path) == digest(b"content")

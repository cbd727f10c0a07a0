"""Training state on disk: what is cut off or changed is never used, and the state before it is there instead."""

from __future__ import annotations

import random
import shutil

import pytest
import torch

from kind.errors import UserError
from kind.training_state import StateFiles

CPU = torch.device("cpu")


def files(tmp_path) -> StateFiles:
    return StateFiles(tmp_path / "training.pt", "a run")


def content(step: int) -> dict:
    return {"recipe": "this", "state": {"step": step}, "weights": torch.full((40,), float(step))}


def loaded(tmp_path, recipe: str = "this") -> int | None:
    """The step whose state is used; what it holds is looked at."""
    taken = []
    if not files(tmp_path).load(recipe, CPU, taken.append):
        assert not taken
        return None
    (found,) = taken
    step = found["state"]["step"]
    assert torch.equal(found["weights"], content(step)["weights"])
    return step


@pytest.fixture
def saved(tmp_path):
    """States of the steps 1, 2 and 3, of which the last two are kept."""
    writer = files(tmp_path)
    for step in (1, 2, 3):
        writer.save(content(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["older.training.pt", "training.pt"]
    return tmp_path / "training.pt", tmp_path / "older.training.pt"


def test_the_newest_state_is_used_and_then_the_older(saved, tmp_path, capsys):
    newest, _ = saved
    assert loaded(tmp_path) == 3
    newest.unlink()  # as after a kill between the two renames
    assert loaded(tmp_path) == 2
    assert capsys.readouterr().out == ""


def damaged(whole: bytes):
    """The file cut at every byte of its header and at many after it, and with bits flipped all over."""
    size, random_numbers = len(whole), random.Random(5)
    cuts = {*range(130), *range(130, size, 97), size // 2, *range(size - 30, size)}
    yield from ((f"cut at {end}", whole[:end]) for end in sorted(cuts))
    yield "one byte more", whole + b"\0"
    yield "nothing but zeros", bytes(size)
    for position in [*range(130), *(random_numbers.randrange(size) for _ in range(200)), size - 1]:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << random_numbers.randrange(8)
        yield f"flipped at {position}", bytes(flipped)


def test_a_state_with_any_byte_missing_or_flipped_is_named_and_the_older_is_used(saved, tmp_path, capsys):
    newest, _ = saved
    for what, bad in damaged(newest.read_bytes()):
        newest.write_bytes(bad)
        assert loaded(tmp_path) == 2, what
        said = capsys.readouterr().out
        assert said.startswith(f"a run: note: {newest}: ") and said.endswith(": not used\n"), what


def test_without_a_whole_state_work_starts_over_and_says_so(saved, tmp_path, capsys):
    for path in saved:
        path.write_bytes(path.read_bytes()[:-1])
    assert loaded(tmp_path) is None
    first, second, last = capsys.readouterr().out.splitlines()
    assert f"note: {saved[0]}: cut off" in first and f"note: {saved[1]}: cut off" in second
    assert last == "a run: warning: no whole state of this run is left: starting over"


def test_a_damaged_state_never_takes_the_place_of_the_older_good_one(saved, tmp_path):
    newest, older = saved
    newest.write_bytes(b"half")
    kept = older.read_bytes()
    writer = files(tmp_path)
    assert writer.load("this", CPU, lambda _: None)
    writer.save(content(4))
    assert loaded(tmp_path) == 4 and older.read_bytes() == kept
    writer.save(content(5))
    newest.unlink()
    assert loaded(tmp_path) == 4


def test_state_of_another_recipe_is_left_alone_until_it_is_written_over(saved, tmp_path, capsys):
    assert loaded(tmp_path, "that") is None
    assert capsys.readouterr().out.count("state of another recipe: not used") == 2
    newest, older = saved
    writer = files(tmp_path)
    assert not writer.load("that", CPU, pytest.fail)
    writer.save(content(9) | {"recipe": "that"})
    assert loaded(tmp_path, "that") == 9
    assert loaded(tmp_path) == 2, "what was not of this recipe did not push out what was"


def test_a_full_disk_leaves_both_states(saved, tmp_path):
    class Full:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    before = [path.read_bytes() for path in saved]
    writer = files(tmp_path)
    assert writer.load("this", CPU, lambda _: None)
    with pytest.raises(OSError, match="No space left") as caught:
        writer.save(content(4) | {"last": Full()})
    assert caught.value.filename == str(saved[0])
    assert [path.read_bytes() for path in saved] == before and len(list(tmp_path.iterdir())) == 2


def test_a_pickle_is_never_run(tmp_path, capsys):
    """Neither as it is, nor below a header that describes it."""

    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").mkdir, ()

    torch.save({"recipe": "this", "trap": Trap()}, tmp_path / "training.pt")
    assert not files(tmp_path).load("this", CPU, pytest.fail)
    assert "of another version: not used" in capsys.readouterr().out
    files(tmp_path).save({"recipe": "this", "trap": Trap()})
    with pytest.raises(UserError, match=r"training\.pt: unreadable training state \(UnpicklingError\); [^$]*move it"):
        files(tmp_path).load("this", CPU, pytest.fail)
    assert not (tmp_path / "sprung").exists()


def test_what_does_not_fit_is_named(saved, tmp_path):
    def take(_):
        raise KeyError("routine")

    shutil.copy(saved[1], saved[0])
    with pytest.raises(UserError, match=r"training\.pt: unreadable training state \(KeyError\)"):
        files(tmp_path).load("this", CPU, take)

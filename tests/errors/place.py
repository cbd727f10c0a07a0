"""A finished tiny experiment to break, and the ways to break it."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kind.artifacts import (
    load_arrays,
    load_tensors,
    read_json,
    save_arrays,
    save_tensors,
    sha256,
    write_json,
    write_sealed_json,
)

PARAMS = (Path(__file__).parents[1] / "tiny.yaml").read_text()
FULL = ("--task", "novel", "--method", "full", "--seed", "0")
KIND = ("--task", "novel", "--method", "kind", "--seed", "0")
COMMANDS = (  # in order
    ("prepare", "--data", "digits"),
    ("extractor",),
    ("reference", "--task", "novel"),
    ("pretrain", "--backbone", "dense"),
    ("pretrain", "--backbone", "kind"),
    ("extract", "--backbone", "kind"),
    *((stage, *run) for run in (FULL, KIND) for stage in ("finetune", "sample", "evaluate")),
)


@dataclass(frozen=True)
class Place:
    """A folder with `tiny.yaml` and `results/tiny`.  Paths are given as seen from results/tiny."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    @property
    def sprung(self) -> Path:
        """What a pickle makes that is read by a careless loader."""
        return self.folder / "sprung"

    def contents(self) -> dict[str, str]:
        """Checksum of every file under the folder, by path."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    # --- ways to break it ---------------------------------------------------------------------------------------

    def edit(self, *changes: tuple[str, str]) -> None:
        """Of the params."""
        text = (self.folder / "tiny.yaml").read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self.folder / "tiny.yaml").write_text(text)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.results / name).unlink()

    def write(self, name: str, text: str) -> None:
        (self.results / name).parent.mkdir(parents=True, exist_ok=True)
        (self.results / name).write_text(text)

    def cut(self, name: str) -> None:
        path = self.results / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    def flip(self, name: str, position: int = -9) -> None:
        """One bit; by default near the end, where values lie."""
        content = bytearray((self.results / name).read_bytes())
        content[position] ^= 1
        (self.results / name).write_bytes(content)

    def copy(self, source: str, name: str) -> None:
        (self.results / name).write_bytes((self.results / source).read_bytes())

    def pickle(self, name: str, through: str = "plain") -> None:
        """A file whose unpickling makes `sprung`, in the dress that its loader expects."""
        path, trap = self.results / name, _Trap(str(self.sprung))
        path.parent.mkdir(parents=True, exist_ok=True)
        if through == "npz":
            np.savez(path, images=np.array([trap], dtype=object), labels=np.zeros(1, np.int64))
        elif through == "npy":
            np.save(path, np.array([trap], dtype=object), allow_pickle=True)
        elif through == "torch":
            import torch

            torch.save({"format": 2, "recipe": trap}, path)
        elif through == "state":
            from kind.training_state import StateFiles

            StateFiles(path, "a run").save({"recipe": trap})
        else:
            path.write_bytes(pickle.dumps(trap))

    def arrays(self, name: str, drop: tuple[str, ...] = (), **changes) -> None:
        """Change arrays of an npz file; a callable makes the new one of the old."""
        found = {key: array for key, array in load_arrays(self.results / name).items() if key not in drop}
        found |= {key: new(found[key]) if callable(new) else new for key, new in changes.items()}
        save_arrays(self.results / name, **found)

    def tensors(self, name: str, drop: tuple[str, ...] = (), **changes) -> None:
        """Change the header of a safetensors file, and leave tensors out."""
        tensors, header = load_tensors(self.results / name)
        tensors = {key: tensor for key, tensor in tensors.items() if key not in drop}
        save_tensors(self.results / name, tensors, {**header, **changes})

    def json(self, name: str, **changes) -> None:
        content = read_json(self.results / name)
        content = {key: value for key, value in {**content, **changes}.items() if value is not None}
        self._write(self.results / name, content)

    def seal(self) -> None:
        """Make manifests and records describe the files as they are: only deeper checks are left."""
        for path in self.results.rglob("manifest.json"):
            self._sums(path, "sha256")
        for path in sorted(self.results.rglob("*.json")):
            self._sums(path, "outputs")

    def _sums(self, path: Path, key: str) -> None:
        content = read_json(path)
        if key in content:
            names = [name for name in content[key] if (path.parent / name).is_file()]
            content[key] = {name: sha256(path.parent / name) for name in names}
            self._write(path, content)

    def _write(self, path: Path, content: dict) -> None:
        """With a digest of itself, as it was."""
        write = write_sealed_json if '"sealed": true' in path.read_text() else write_json
        write(path, content)


class _Trap:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)

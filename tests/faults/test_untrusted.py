"""Pickles that pose as files that the project reads: refused, and never run, by every reader of what others made."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import kind
from kind import artifacts, checkpoints
from kind.class_embeddings import file_vectors
from kind.data.prepared import open_images
from kind.errors import UserError
from kind.evaluation.features import load_extractor
from kind.evaluation.image_npz import from_npz
from kind.evaluation.judge import load_judge
from kind.evaluation.reference import load_reference, reference_images
from kind.exports_reader import read_export
from kind.params.data import Latents
from kind.params.file import load_experiment
from kind.reporting.grids import read_shard
from kind.stages.measure_files import arrays_in
from kind.vae import load_vae
from kind.weights import WEIGHTS

PACKAGE = Path(kind.__file__).parent


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def dresses(trap: Trap) -> Iterator[tuple[str, bytes]]:
    """The trap as a plain pickle of each protocol, in torch's two formats, in npy, and in an npz of each name."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"pickle of protocol {protocol}", pickle.dumps(trap, protocol)
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"config": trap, "weight": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=zipped)
        yield f"torch, zipped: {zipped}", buffer.getvalue()
    objects = np.array([trap], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, objects, allow_pickle=True)
    yield "npy", buffer.getvalue()
    arrays = "arr_0 arr_1 images labels splits mu sigma pooled protocol support_vectors classes a"
    names = arrays.split()
    buffer = io.BytesIO()
    np.savez(buffer, **dict.fromkeys(names, objects))
    yield "npz of objects", buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", pickle.dumps(trap))
    yield "npz of pickles", buffer.getvalue()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {  # reader -> the file's name, and how it is read
    "safetensors": ("model.safetensors", artifacts.load_tensors),
    "header of safetensors": ("model.safetensors", artifacts.read_header),
    "npz": ("a.npz", artifacts.load_arrays),
    "replayed images": ("replay.npz", lambda path: artifacts.load_arrays(path, ("arr_0", "arr_1"))),
    "names in an npz": ("a.npz", lambda path: (arrays_in(path), artifacts.load_arrays(path))),
    "JSON": ("metrics.json", artifacts.read_json),
    "params": ("a.yaml", load_experiment),
    "samples": ("shard_000.npz", lambda path: from_npz([path]).read_all()),
    "samples in a report": ("shard_000.npz", read_shard),
    "reference": ("novel.npz", load_reference),
    "images of a reference": ("novel.npz", reference_images),
    "judge": ("novel.judge.npz", load_judge),
    "stored images": ("images.npy", open_images),
    "small extractor": ("extractor.safetensors", load_extractor),
    "Inception": ("inception.pth", load_extractor),
    "class embeddings as npz": ("clip.npz", lambda path: file_vectors(path, "digits", ["0"])),
    "class embeddings as safetensors": ("clip.safetensors", lambda path: file_vectors(path, "digits", ["0"])),
    "backbone": ("model.safetensors", checkpoints.load_backbone),
    "learngenes": ("learngenes.safetensors", checkpoints.load_learngenes),
    "tailors": ("class_0000.safetensors", lambda path: checkpoints.recombine(path, [path])),
    "adapted model": ("step_000003.safetensors", lambda path: checkpoints.load_adapted(path, None)),
    "kind.load of a file": ("model.safetensors", kind.load),
    "kind.load of a folder": ("model.safetensors", lambda path: kind.load(path.parent)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_any_dress_is_refused_and_not_run(tmp_path, name):
    file, read = READERS[name]
    path, trap = tmp_path / file, Trap(tmp_path / "sprung")
    for dress, content in dresses(trap):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(path)
        assert path.name in str(caught.value), (dress, str(caught.value))
        assert not trap.path.exists(), f"{dress}: a pickle was run"


def test_the_trap_springs_where_it_is_read_carelessly(tmp_path):
    trap = Trap(tmp_path / "sprung")
    for dress, content in dresses(trap):
        if dress.startswith("pickle"):
            pickle.loads(content)
            trap.path.rmdir()


def pickles_in(folder: Path, trap: Trap, names: tuple[str, ...]) -> None:
    for name in names:
        folder.joinpath(name).write_bytes(pickle.dumps(trap))


def test_a_folder_of_a_vae_with_pickles_alone_or_posing_is_refused(tmp_path):
    trap, config = Trap(tmp_path / "sprung"), {"_class_name": "AutoencoderKL"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    place = WEIGHTS["vae"].place(str(tmp_path))
    for names in (("diffusion_pytorch_model.bin",), ("diffusion_pytorch_model.safetensors",)):
        pickles_in(tmp_path, trap, names)
        with pytest.raises(UserError):
            load_vae(place, Latents(), torch.device("cpu"))
    assert not trap.path.exists()


def test_a_folder_of_dinov2_with_pickles_alone_or_posing_is_refused(tmp_path):
    trap = Trap(tmp_path / "sprung")
    small = {
        "model_type": "dinov2",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 28,
    }
    (tmp_path / "config.json").write_text(json.dumps(small))
    for names in (("pytorch_model.bin",), ("model.safetensors",)):
        pickles_in(tmp_path, trap, names)
        with pytest.raises(UserError):
            load_extractor(tmp_path)
    assert not trap.path.exists()


def test_an_export_with_pickles_in_the_place_of_weights_is_refused(tmp_path, build):
    from kind.diffusion import Diffusion
    from kind.exports import write_export

    trap = Trap(tmp_path / "sprung")
    folder = tmp_path / "export"
    write_export(folder, build(learngenes=20, tailors=4), list("abcde"), Diffusion())
    read_export(folder)
    for path in sorted(folder.rglob("*.safetensors")):
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(trap))
        with pytest.raises(UserError, match=path.name):
            read_export(folder)
        path.write_bytes(whole)
    assert not trap.path.exists()


# --- the code: readers that could run what they read --------------------------------------------------------------


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(PACKAGE)), ast.unparse(node.func), node


def test_no_reader_in_the_package_can_run_what_it_reads():
    wanted = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}
    refused = ("eval", "exec", "os.system", "os.popen", "joblib.load", "pickle.load", "pickle.loads", "marshal.loads")
    found = 0
    for place, function, node in calls():
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if function in wanted:
            key, value = wanted[function]
            assert said.get(key) == value, f"{place}:{node.lineno}: {function} without {key}={value}"
            found += 1
        assert function not in refused, f"{place}:{node.lineno}: {function}"
        assert said.get("shell") != "True", f"{place}:{node.lineno}: a shell"
        if function == "yaml.load":
            assert ast.unparse(node.args[1]) == "_CarefulLoader", f"{place}:{node.lineno}: {function}"
        if function.endswith("from_pretrained") and "Embedding" not in function:
            assert said.get("use_safetensors") == "True", f"{place}:{node.lineno}: {function} may take a pickle"
    assert found >= 5

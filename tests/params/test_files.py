"""Reading files: what is no YAML, what is no params file, collections, and anything at all."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
import yaml

from kind.errors import UserError
from kind.params import Experiment
from kind.params.file import find_params, load_experiment, load_experiments

ROOT = Path(__file__).parents[2]

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 30)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 8)}]}}\n" for i in range(1, 30)
)


def complaint(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


# --- files that cannot be read --------------------------------------------------------------------------------

UNREADABLE = [
    ("", "the file is empty"),
    ("# nothing but a comment\n", "the file is empty"),
    ("- a\n- b\n", "expected a mapping of sections, found ['a', 'b']"),
    ("just text", "expected a mapping of sections, found 'just text'"),
    ("seeds: [0\nmodel: {}\n", "not valid YAML: line 2, column 6: "),
    ("model:\n\tpreset: tiny/2\n", "not valid YAML: line 2, column 1: a tab where YAML wants spaces"),
    ("seeds: [0]\nseeds: [1]\n", "not valid YAML: line 2, column 1: the key 'seeds' is given twice"),
    ("model: {preset: a, preset: b}\n", "not valid YAML: line 1, column 20: the key 'preset' is given twice"),
    ("a: 1\n---\nb: 2\n", "not valid YAML: line 2, column 1: but found another document"),
    ("a: *b\n", "not valid YAML: line 1, column 4: found undefined alias 'b'"),
    ("a: !!python/object/apply:os.system ['touch /tmp/kind_was_here']\n", "not valid YAML: line 1, column 4: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' (params files hold plain values only)"),
    ("a: 2020-99-99\n", "not valid YAML: a value cannot be read: month must be in 1..12"),
    ("a: !!int many\n", "not valid YAML: a value cannot be read: "),
    ("? [a, b]\n: 1\n", "not valid YAML: line 1, column 3: found unhashable key"),
    ("a: " + "[" * 5000 + "\n", "not valid YAML: nested too deeply"),
    ("a: \x07\n", "not valid YAML: "),
    ("experiments: [a]\n", "a collection of experiments, where one experiment is needed\n  -> name one of a"),
]  # fmt: skip


@pytest.mark.parametrize("text, start", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_file_that_is_no_params_file(write, text, start):
    path = write(text)
    assert complaint(load_experiment, path).startswith(f"{path}: {start}")
    assert not Path("/tmp/kind_was_here").exists()


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_bytes(b"description: caf\xe9\n")
    assert complaint(load_experiment, path) == (
        f"{path}: not UTF-8 text: invalid continuation byte at byte 16; save the file as UTF-8"
    )


def test_a_file_that_is_not_there_names_the_nearest(write, content):
    path = write(content)
    assert complaint(load_experiment, path.with_name("smal.yaml")) == (
        f"{path.with_name('smal.yaml')}: no such params file (did you mean 'small'?)\n"
        f"  -> params files in {path.parent}: small"
    )


def test_a_folder_is_no_params_file(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    assert complaint(load_experiment, tmp_path / "folder.yaml").endswith("folder.yaml: cannot be read: Is a directory")


def test_the_name_of_the_file_is_the_name_of_a_folder(write, content):
    path = write(content, "my params.yaml")
    assert "1. the name of the file: 'my params' cannot be a name" in complaint(load_experiment, path)


@pytest.mark.parametrize(
    "text", [BOMB + "model: *a29\nseeds: *a29\nmethods: {full: *a29, x: {method: *a29}}\n", MERGE_BOMB]
)
def test_a_few_lines_that_unfold_without_end_do_not_hang(write, text):
    started = time.process_time()
    complaint(load_experiment, write(text))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\nseeds: *a\nmodel: *a\n",
        "model: &a {preset: *a}\ndata: {digits: &b {source: *b, options: *b, split: *b}}\n",
        "methods: &m {kind: *m, full: {method: *m}}\ntasks: &t {t: *t}\nevaluation: &e {extractor: *e}\n",
    ],
)
def test_what_refers_to_itself_ends_in_a_message(write, text):
    assert "problems" in complaint(load_experiment, write(text))


def test_a_number_too_long_to_print(write, content):
    text = yaml.safe_dump(content) + "seeds: [0x" + "f" * 5000 + "]\n"
    text = text.replace("seeds:\n- 0\n- 1\n", "")
    assert "found a number of 20000 bits" in complaint(load_experiment, write(text))


def test_anchors_and_merges_work(write, content):
    """An anchored mapping that merges another and overrides one of its keys is no duplicate key."""
    del content["finetune"], content["pretrain"]
    text = yaml.safe_dump(content) + (
        "pretrain: &long\n"
        "  <<: &common {batch_size: 8, learning_rate: 1.0e-3, steps: 5}\n"
        "  steps: 10\n  data: digits\n  classes: [0, 1, 2]\n"
        "finetune: {<<: *common, steps: 7}\n"
    )
    experiment = load_experiment(write(text))
    assert (experiment.pretrain.steps, experiment.finetune.steps, experiment.finetune.batch_size) == (10, 7, 8)


# --- experiments by name, and collections ----------------------------------------------------------------------


def test_the_params_files_of_the_project_are_in_order():
    paths = sorted(path for path in (ROOT / "params").glob("*.yaml") if path.stem != "methods")
    assert {path.stem for path in paths} >= {"smoke", "paper"}
    for path in paths:
        assert all(isinstance(found, Experiment) for found in load_experiments(path).values())


def test_an_experiment_by_name_or_path(tmp_path, monkeypatch, write, content):
    (tmp_path / "params").mkdir()
    path = write(content, "params/small.yaml")
    monkeypatch.chdir(tmp_path)
    assert find_params("small") == Path("params/small.yaml")
    assert find_params("elsewhere/x.yml") == Path("elsewhere/x.yml")
    message = complaint(find_params, "smal")
    assert message.startswith("no experiment 'smal': params/smal.yaml does not exist (did you mean 'small'?)")
    assert f"experiments in {path.parent}: small" in message
    monkeypatch.chdir("/")
    assert "run from the project's root, or give the path" in complaint(find_params, "small")


def test_a_collection_loads_its_members(write, content):
    small, other = write(content), write(content, "other.yaml")
    both = write("experiments: [other, small]", "both.yaml")
    assert {path: found.name for path, found in load_experiments(both).items()} == {other: "other", small: "small"}
    assert list(load_experiments(small)) == [small]


@pytest.mark.parametrize(
    "text, end",
    [
        ("experiments: []", "names of params files beside it; found []"),
        ("experiments: small", "names of params files beside it; found 'small'"),
        ("experiments: [1]", "names of params files beside it; found [1]"),
        ("experiments: [small]\nseeds: [0]", "names of params files beside it; found also 'seeds'"),
        ("experiments: [small, small]", "experiments: 'small' named twice"),
        ("experiments: [small, smal]", "no params file for 'smal' (did you mean 'small'?); beside it are small"),
        ("experiments: [../small]", "no params file for '../small' (did you mean 'small'?); beside it are small"),
    ],
)
def test_a_wrong_collection(write, content, text, end):
    write(content)
    assert complaint(load_experiments, write(text, "both.yaml")).endswith(end)


def test_the_mistakes_of_all_members_come_together(write, content):
    content["seeds"] = [-1]
    paths = [write(content), write(content, "other.yaml")]
    message = complaint(load_experiments, write("experiments: [small, other]", "both.yaml"))
    assert all(f"{path}: 1 problem\n  1. seeds.0: must be at least 0, found -1" in message for path in paths)


# --- anything --------------------------------------------------------------------------------------------------

VALUES = [
    None, True, False, 0, 1, -1, 7, 2**70, 0.5, -0.0, float("nan"), float("inf"), "", "x", "1e-4", "kind", "dense",
    "digits", "é/..", [], {}, [[]], [None], [0, 0], ["A", "A"], {"a": 1}, {1: 2}, {None: None}, {True: {}}, [{}],
    {"form": "kind"}, {"method": []}, {"method": "full"}, {"type": "inception"},
]  # fmt: skip


def spoil(content: dict, rng: random.Random) -> None:
    """One random edit: put a value, remove, rename or double an entry, anywhere in the file."""
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    node, key = rng.choice(places) if places else (content, "x")
    action = rng.randrange(5)
    if action == 0 and places:
        del node[key]
    elif action == 1 and isinstance(node, dict) and places:
        node[rng.choice([f"{key}s", f"{key}"[:-1], 3, None, "name", "method"])] = node.pop(key)
    elif action == 2 and isinstance(node, list):
        node.append(rng.choice(VALUES))
    elif action == 3 and isinstance(node, dict):
        node[f"{key}2"] = node.get(key)
    else:
        node[key] = rng.choice(VALUES)


def test_whatever_the_file_holds_the_answer_is_an_experiment_or_one_message(write, content, tmp_path):
    """Up to four random edits each; no traceback, no library's words."""
    rng, outcomes, text = random.Random(0), {"read": 0, "refused": 0}, yaml.safe_dump(content)
    messages: set[str] = set()
    for _ in range(400):
        spoiled = yaml.load(text, yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader)
        for _ in range(rng.randint(1, 4)):
            spoil(spoiled, rng)
        path = write(yaml.safe_dump(spoiled))
        try:
            experiment = load_experiment(path)
        except UserError as error:
            outcomes["refused"] += 1
            messages.add(str(error).removeprefix(f"{path}: "))
        else:
            outcomes["read"] += 1
            assert len(list(experiment.runs())) >= 1
    assert min(outcomes.values()) > 10, outcomes
    assert not [message for message in messages if str(tmp_path) in message.splitlines()[0]], "no path in front"
    assert not [message for message in messages if "validation error" in message.lower() or "pydantic" in message]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(write, content):
    path = write(content)
    path.chmod(0)
    assert complaint(load_experiment, path) == f"{path}: cannot be read: Permission denied"


def test_random_bytes_and_cut_files(tmp_path):
    rng, text = random.Random(1), (ROOT / "params/smoke.yaml").read_bytes()
    path = tmp_path / "small.yaml"
    for _ in range(150):
        damaged = bytearray(text[: rng.randrange(len(text))])
        for _ in range(rng.randrange(4)):
            damaged.insert(rng.randrange(len(damaged) + 1), rng.randrange(256))
        path.write_bytes(damaged)
        assert complaint(load_experiment, path).startswith(f"{path}: ")
    shutil.copy(ROOT / "params/smoke.yaml", path)
    load_experiment(path)

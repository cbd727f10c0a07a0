"""`extends`: a file over another is what both would be in one; mistakes say which file they are in."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import pytest
import yaml

from kind import recipes
from kind.errors import UserError
from kind.params.extends import files_of
from kind.params.file import load_experiment, load_experiments


@pytest.fixture
def over(write, content):
    """A file over the valid one, `small.yaml`; `name` for chains."""
    write(content)

    def layered(own: dict, name: str = "large.yaml", extends: str = "small.yaml"):
        return write({"extends": extends, **own}, name)

    return layered


@pytest.fixture
def complaint(over):
    def message(own: dict, **how) -> str:
        with pytest.raises(UserError) as caught:
            load_experiment(over(own, **how))
        return str(caught.value)

    return message


def test_an_extended_file_is_the_same_as_one_file(over, load):
    own = {
        "model": {"depth": 3},
        "methods": {"lora": {"rank": 2}, "bitfit": {}},
        "tasks": {"novel": {"classes": [5, 6]}},
        "seeds": [7],
    }
    layered = load_experiment(over(own))
    whole = load(
        **{"model.depth": 3, "methods.lora.rank": 2, "methods.bitfit": {}, "tasks.novel.classes": [5, 6], "seeds": [7]}
    )
    assert layered.name == "large" and layered.model_copy(update={"name": "small"}) == whole
    assert recipes.pretrain(layered, "kind") == recipes.pretrain(whole, "kind")


def test_what_is_left_out_is_gone_and_may_be_given_anew(over):
    own = {"without": ["methods", "tasks.shift"], "methods": {"bitfit": {"learning_rate": 0.5}}}
    layered = load_experiment(over(own))
    assert list(layered.methods) == ["bitfit"] and list(layered.tasks) == ["novel"]
    assert layered.methods["bitfit"] == {"learning_rate": 0.5}


def test_files_may_stand_on_each_other(over, tmp_path):
    over({"seeds": [1], "description": "two"}, "two.yaml")
    over({"seeds": [2]}, "three.yaml", extends="two.yaml")
    experiment = load_experiment(tmp_path / "three.yaml")
    assert (experiment.seeds, experiment.description) == ([2], "two")
    assert [path.name for path in files_of(tmp_path / "three.yaml")] == ["three.yaml", "two.yaml", "small.yaml"]


def test_a_mistake_says_in_which_file_its_value_stands(over, content, write, tmp_path):
    content["pretrain"]["steps"], content["methods"]["lora"] = 0, {"rank": 1000}
    write(content)
    with pytest.raises(UserError) as caught:
        load_experiment(over({"finetune": {"batch_size": 0}, "seeds": [1, 1]}))
    lines = [line.partition(". ")[2] for line in str(caught.value).splitlines()[1:-1]]
    assert lines[:2] == [
        "pretrain.steps: must be at least 1, found 0 (of small.yaml)",
        "finetune.batch_size: must be at least 1, found 0",
    ]
    assert "seeds: 1 is named twice" in lines
    (rank,) = [line for line in lines if line.startswith("methods.lora")]
    assert rank.endswith("(of small.yaml)")


def test_a_collection_may_name_extended_files(over, write):
    over({"seeds": [1]})
    path = write({"experiments": ["small", "large"]}, "both.yaml")
    assert [one.name for one in load_experiments(path).values()] == ["small", "large"]


@pytest.mark.parametrize(
    ("own", "extends", "message"),
    [
        ({}, "smal.yaml", ": extends: no params file 'smal.yaml' beside it (did you mean 'small.yaml'?)"),
        ({}, "large.yaml", ": extends: large.yaml -> large.yaml goes in a circle"),
        ({}, "elsewhere/small.yaml", ": extends: expected the name of a params file beside it, such as smoke.yaml, found 'elsewhere/small.yaml'"),
        ({}, 3, ": extends: expected the name of a params file beside it, such as smoke.yaml, found 3"),
        ({}, "methods.yaml", ": extends: methods.yaml holds the defaults of methods and is no experiment"),
        ({"without": "methods"}, "small.yaml", ": without: expected a list of keys of small.yaml, found 'methods'"),
        ({"without": ["methods.lroa"]}, "small.yaml", ": without: small.yaml has no 'methods.lroa' (did you mean 'lora'?); it has "),
        ({"without": ["seeds.0"]}, "small.yaml", ": without: small.yaml has no 'seeds.0'"),
    ],
)  # fmt: skip
def test_a_mistake_in_extending_is_one_message(complaint, tmp_path, own, extends, message):
    said = complaint(own, extends=extends)
    assert said.startswith(f"{tmp_path / 'large.yaml'}{message}") or message in said.splitlines()[0]


def test_without_is_for_files_that_extend(complain):
    assert "small.yaml: without: is for a file with `extends`" in complain(without=["methods"])


def test_a_collection_is_nothing_to_stand_on(over, write, tmp_path):
    write({"experiments": ["small"]}, "both.yaml")
    with pytest.raises(UserError, match=r"both\.yaml is a collection of experiments, not one"):
        load_experiment(over({}, extends="both.yaml"))


def test_what_becomes_empty_is_a_mistake_of_the_file_itself(complaint):
    said = complaint({"without": ["tasks.novel", "tasks.shift"]})
    assert "tasks: expected a mapping of names to entries, at least one, found an empty mapping\n" in said


def test_a_file_is_read_as_yaml_is(write, tmp_path, content):
    """The extended file's own mistakes of form name that file."""
    (tmp_path / "small.yaml").write_text("seeds: [1\n")
    with pytest.raises(UserError, match=r"small\.yaml: not valid YAML"):
        load_experiment(write(yaml.safe_dump({"extends": "small.yaml"}), "large.yaml"))

"""params/methods.yaml: what stands in it, what it is merged under, and what a mistake in it reads like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kind.errors import UserError
from kind.methods import METHODS
from kind.params import methods as params_methods
from kind.params.file import find_params, load_experiment, load_experiments
from kind.params.methods import METHODS_FILE, method_defaults

ROOT = Path(__file__).parents[2]


def test_every_method_has_its_defaults_in_the_file_of_the_project():
    assert ROOT / "params" / "methods.yaml" == METHODS_FILE
    assert set(method_defaults(METHODS_FILE)) == set(METHODS)
    for name, entry in method_defaults(METHODS_FILE).items():
        idle = METHODS[name].combines or METHODS[name].for_seen
        assert ("learning_rate" in entry) != idle, "what trains has a rate"


def test_every_line_of_defaults_says_where_they_come_from():
    lines = [line for line in METHODS_FILE.read_text().splitlines() if re.match(r"[a-z]", line)]
    bare = [line for line in lines if "#" not in line and not line.startswith("kind:")]
    assert len(lines) == len(METHODS) and bare == []


def test_no_default_stands_in_two_places():
    for name, entry in method_defaults(METHODS_FILE).items():
        fields = METHODS[name].options.model_fields
        assert all(fields[key].is_required() for key in entry if key != "learning_rate"), name


def test_an_entry_stands_over_the_defaults_and_they_over_nothing(load):
    methods = {"loha": {}, "loha-3": {"method": "loha", "rank": 3}, "diffscaler": {"scale": 0.5}}
    experiment = load(methods=methods)
    defaults = method_defaults(METHODS_FILE)
    found = {label: experiment.method_options(label) for label in methods}
    assert (found["loha"].rank, found["loha-3"].rank) == (defaults["loha"]["rank"], 3)
    assert (found["diffscaler"].rank, found["diffscaler"].scale) == (defaults["diffscaler"]["rank"], 0.5)
    assert experiment.methods["loha-3"]["rank"] == 3 and experiment.methods["loha"]["rank"] == defaults["loha"]["rank"]


def test_a_methods_own_rate_is_for_experiments_that_give_none(load):
    assert load().method_options("full").learning_rate is None, "the common rate is the experiment's"
    rates = {"methods": {"full": {}, "lora": {"learning_rate": 0.5}}, "finetune.learning_rate": ...}
    experiment = load(**rates)
    assert experiment.method_options("full").learning_rate == method_defaults(METHODS_FILE)["full"]["learning_rate"]
    assert experiment.method_options("lora").learning_rate == 0.5


def test_the_project_s_file_serves_experiments_elsewhere(write, content, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    content["methods"] = {"lora": {}}
    experiment = load_experiment(write(content))
    assert experiment.method_options("lora").rank == method_defaults(METHODS_FILE)["lora"]["rank"]


MISTAKES = [
    ({"lorra": {}}, "'lorra': no such method (did you mean 'lora'?); methods: "),
    ({"lora": 5}, "lora: expected a mapping of options, found 5"),
    (
        {"lora": {"rnk": 5}},
        "lora.rnk: unknown key (did you mean 'rank'?); allowed: learning_rate, objective, backbone",
    ),
    ({"lora": {"rank": "5"}}, "lora.rank: '5' is text to YAML, not a number; write 5"),
    ({"lora": {"rank": 0}}, "lora.rank: must be at least 1, found 0"),
    ({"lora": {"rank": None}}, "lora.rank: expected a whole number, found nothing"),
    ({"lora": {"learning_rate": "1e-4"}}, "lora.learning_rate: '1e-4' is text to YAML, not a number; write 1.0e-4"),
    ({"lora": {"match": "kind"}}, "lora.match: unknown key; allowed: learning_rate"),
]


@pytest.fixture
def defaults(tmp_path, monkeypatch):
    """Put other defaults in the place of the project's."""

    def replace(content):
        path = tmp_path / "defaults" / "methods.yaml"
        path.parent.mkdir()
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        monkeypatch.setattr(params_methods, "METHODS_FILE", path)
        return path

    return replace


@pytest.mark.parametrize("wrong, line", MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_in_the_defaults_names_their_file(complain, defaults, wrong, line):
    path = defaults(wrong)
    message = complain()
    assert message.startswith(f"{path}: 1 problem\n  1. {line}")
    assert message.endswith(f"\n  -> mend {path}, which holds the defaults of all experiments")


def test_defaults_that_cannot_be_read(complain, defaults):
    path = defaults("lora: {rank: 4\n")
    assert complain().startswith(f"{path}: not valid YAML: line 2")


def test_a_default_that_does_not_fit_the_model_is_said_to_be_one(complain, defaults):
    path = defaults({"oft": {"block_size": 20}})
    line = (
        "methods.oft: block_size 20 does not divide the width 32 (block_size: unless the entry says otherwise, that of "
    )
    assert f"{line}{path})" in complain(methods={"oft": {}})
    assert complain(methods={"oft": {"block_size": 12}}).splitlines()[1].endswith("does not divide the width 32")


def test_the_file_is_no_experiment(write, content):
    for read in (load_experiment, load_experiments):
        with pytest.raises(UserError) as caught:
            read(METHODS_FILE)
        message = str(caught.value)
        assert message.startswith(
            f"{METHODS_FILE}: holds the defaults of methods and is no experiment\n  -> experiments"
        )
        assert "smoke" in message and "methods," not in message
    write(content)
    collection = write({"experiments": ["small", "methods"]}, "both.yaml")
    write("full: {}", "methods.yaml")
    with pytest.raises(UserError, match="is no experiment"):
        load_experiments(collection)


def test_the_file_is_not_listed_among_experiments(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        find_params("method")
    assert "smoke" in str(caught.value) and "methods" not in str(caught.value).partition("->")[2]


def test_a_rate_that_nobody_gives_is_missed(complain, defaults):
    defaults({"lora": {"rank": 2}})
    assert complain(methods={"lora": {}}, **{"finetune.learning_rate": ...}).splitlines()[1] == (
        "  1. methods.lora.learning_rate: missing; give it here, in params/methods.yaml or for all in "
        "finetune.learning_rate, or let `tune` choose it"
    )

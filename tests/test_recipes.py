"""A change of the params changes the recipes of the jobs whose result may depend on it, and of no other."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import yaml

from kind import recipes
from kind.params import Experiment

TOGETHER = {"tasks": ["novel", "shift"], "methods": {"kind": {}, "lora": {}}}
ANALYSES = {"analyses": {"weights": {}, "interference": TOGETHER, "bounds": {}, "components": {}}}


@pytest.fixture
def experiment(valid_params):
    """The valid params with analyses and these changes, as an experiment."""

    def changed(**changes) -> Experiment:
        content = yaml.safe_load(valid_params) | deepcopy(ANALYSES)
        for key, value in changes.items():
            *path, last = key.split(".")
            node = content
            for part in path:
                node = node.setdefault(part, {})
            node[last] = value
        return Experiment.model_validate({"name": "small", **content})

    return changed


def jobs(found: Experiment) -> dict[str, str]:
    """Digest of every job's recipe by the job's name, `stage:names`."""
    made = {
        **{f"prepare:{name}": recipes.prepare(found, name) for name in found.data},
        **{f"encode:{name}": recipes.encode(found, name) for name, data in found.data.items() if data.latents},
        "extractor": recipes.extractor(found),
        **{f"reference:{name}": recipes.reference(found, name) for name in found.all_tasks()},
        **{f"pretrain:{name}": recipes.pretrain(found, name) for name in found.backbones},
        **{f"extract:{name}": recipes.extract(found, name) for name in found.backbones},
        **{f"replay:{name}": recipes.replay(found, name) for name in found.backbones},
        **{f"analyse:weights:{name}": recipes.weights(found, name) for name in found.tasks},
        "analyse:interference": recipes.interference(found),
        **{f"analyse:bounds:{name}": recipes.bounds(found, name) for name in found.tasks},
        "analyse:components": recipes.components(found),
        **({"analyse:guidance": recipes.guidance(found)} if found.analyses and found.analyses.guidance else {}),
        **{f"choose:{name}": recipes.choose(found, name) for name in found.tuned()},
        "report": recipes.report(found),
    }
    for stage in ("finetune", "sample", "evaluate"):
        made |= {f"{stage}:{':'.join(map(str, run))}": getattr(recipes, stage)(found, *run) for run in found.all_runs()}
    return {name: recipes.recipe_digest(recipe) for name, recipe in made.items()}


TUNE = {
    "tasks": {"practice": {"data": "digits", "classes": [5, 6], "images_per_class": 9}},
    "learning_rate": [1.0e-3, 1.0e-2],
    "steps": 5,
    "seed": 9,
}
RUNS = ("finetune:", "sample:", "evaluate:")
ADAPTED = ("analyse:weights:", "analyse:interference")
DRAWN = ("analyse:bounds:", "analyse:components")  # from backbones as they are
STAGES = ("prepare:", "extractor", "reference:", "pretrain:", "extract:", "replay:", *RUNS, "analyse:", "report")

# key, new value, the starts of the names of the jobs whose recipes change.  Jobs that read what those write run again
# because their inputs change; that is no part of a recipe.
CHANGES = [
    ("description", "other", ["report"]),
    ("compute.threads", 7, []),
    ("compute.device", "cpu", []),
    ("compute.checkpoint_seconds", 1.0, []),
    ("compute.precision", "bfloat16", ["pretrain:", "replay:", *RUNS, *DRAWN]),
    ("data.digits.split.seed", 9, ["prepare:digits", "report"]),
    ("data.letters.options.max_rotation", 1.0, ["prepare:letters", "report"]),
    ("model", {"preset": "tiny/2"}, ["pretrain:", "finetune:novel:scratch", "finetune:shift:scratch", "report"]),
    ("data.digits.flips", True, ["pretrain:", "finetune:novel:", "report"]),
    ("data.letters.copies_of_pretraining", "count", ["report"]),
    ("diffusion.schedule", "cosine", ["pretrain:", "finetune:novel:scratch", "finetune:shift:scratch", "report"]),
    ("backbones.kind.num_tailors", 3, ["pretrain:kind", "report"]),
    ("backbones.kind.null_gate", "true_class", ["pretrain:kind", "report"]),
    ("pretrain.steps", 7, ["pretrain:", "report"]),
    ("pretrain.learning_rate", 0.5, ["pretrain:", "report"]),
    ("pretrain.seed", 7, ["pretrain:", "report"]),
    ("pretrain.log_every", 7, ["pretrain:", "report"]),
    ("pretrain.classes", [0], ["pretrain:", "extract:", "replay:", "analyse:components", "report"]),
    ("methods.lora.rank", 5, ["finetune:novel:lora", "finetune:shift:lora", "report"]),
    ("methods.full.learning_rate", 0.5, ["finetune:novel:full", "finetune:shift:full", "report"]),
    ("ablations", {"rates": {"axis": "learning_rate", "entries": ["full", "lora"]}}, ["report"]),
    ("methods.kind.tailor_start", "zero", ["finetune:novel:kind", "finetune:shift:kind", "report"]),
    ("tasks.novel.images_per_class", 5, ["finetune:novel:", "evaluate:novel:", "report"]),
    ("tasks.novel.seed", 5, ["finetune:novel:", "evaluate:novel:", "report"]),
    ("tasks.novel.guidance_scale", 3.0, ["sample:novel:", "evaluate:novel:", "report"]),
    (
        "tasks.novel.classes",
        [7, 8, 9],
        [
            *("extractor", "reference:novel", "finetune:novel:", "sample:novel:", "evaluate:novel:"),
            *("analyse:interference", "analyse:bounds:novel", "report"),
        ],
    ),
    (
        "tasks.novel.classes",
        [8, 7],  # the order of classes is the order of labels
        [
            *("extractor", "reference:novel", "finetune:novel:", "evaluate:novel:"),
            *("analyse:interference", "analyse:bounds:novel", "report"),
        ],
    ),
    ("replay.num_images", 5, ["replay:", "report"]),
    ("replay.guidance_scale", 2.0, ["replay:", "report"]),
    ("replay.weight", 0.5, ["report"]),  # no entry has the objective
    ("methods.full.objective", "diff-tuning", ["finetune:novel:full", "finetune:shift:full", "report"]),
    ("finetune.batch_size", 7, ["finetune:", "report"]),
    ("finetune.learning_rate", 0.5, ["finetune:", "report"]),
    ("finetune.label_table", "null", ["finetune:", "report"]),
    ("finetune.steps", 7, [*RUNS, *ADAPTED, "report"]),
    ("evaluation.curve", [0.1], [*RUNS, "report"]),
    ("sampling.guidance_scale", 9.0, ["sample:", "evaluate:", "report"]),
    ("sampling.num_inference_steps", 9, ["sample:", "evaluate:", *DRAWN, "report"]),
    ("sampling.num_samples", 999, ["sample:", "evaluate:", "analyse:bounds:", "report"]),
    ("sampling.curve_num_samples", 99, ["sample:", "evaluate:", "analyse:bounds:", "report"]),
    ("sampling.weights", "raw", ["sample:", "evaluate:", *ADAPTED, "report"]),
    ("sampling.seed", 9, ["sample:", "evaluate:", *DRAWN, "report"]),
    ("sampling.batch_size", 5, ["sample:", "evaluate:", *DRAWN, "report"]),
    ("sampling.shard_size", 10, ["sample:", "report"]),  # the same images in other files
    ("evaluation.extractor.steps", 9, ["extractor", "report"]),
    ("evaluation.extractor.name", "other", ["extractor", "reference:", "evaluate:", *DRAWN, "report"]),
    ("evaluation.reference", "all", ["reference:", "evaluate:", "analyse:bounds:", "report"]),
    ("evaluation.num_reference", 10, ["reference:", "evaluate:", "analyse:bounds:", "report"]),
    ("evaluation.reference_seed", 9, ["reference:", "evaluate:", "analyse:bounds:", "report"]),
    ("evaluation.batch_size", 9, ["reference:", "evaluate:", "analyse:interference", *DRAWN, "report"]),
    ("evaluation.judge", False, ["reference:", "evaluate:", "analyse:bounds:", "report"]),
    ("evaluation.memorisation", False, ["evaluate:", "report"]),
    ("analyses.weights.num_vectors", 5, ["analyse:weights:", "report"]),
    ("analyses.interference.seed", 5, ["analyse:interference", "report"]),
    ("analyses.components.num_permutations", 5, ["analyse:components", "report"]),
    ("analyses.components.images_per_class", 5, ["analyse:components", "report"]),
    ("analyses.components.seed", 5, ["analyse:components", "report"]),
    ("analyses.interference.methods", {"lora": {}}, ["analyse:interference", "report"]),
]


@pytest.mark.parametrize("key, value, starts", CHANGES, ids=[f"{key}={value}" for key, value, _ in CHANGES])
def test_a_change_reaches_the_jobs_that_depend_on_it(experiment, key, value, starts):
    before, after = jobs(experiment()), jobs(experiment(**{key: value}))
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if name.startswith(tuple(starts))}
    assert all(any(name.startswith(start) for name in changed) for start in starts)


def test_every_field_of_the_params_is_in_some_recipe_or_known_to_move_nothing():
    """A field that is added to the params and forgotten here would leave stale results."""
    moves_nothing = {
        "compute.threads",
        "compute.device",
        "compute.checkpoint_seconds",
        "compute.spare_seconds",
        "compute.slices",
        "compute.recompute",
        "compute.accumulation",
        "compute.processes",
        "compute.compile",
        "compute.deterministic",
        "compute.workers",
        "compute.sampling_jobs",
        "compute.feature_jobs",
    }
    whole = {f"{key}.{field}" for key in ("compute",) for field in Experiment.model_fields[key].annotation.model_fields}
    covered = {key for key, _, _ in CHANGES}
    assert moves_nothing | {"compute.precision"} == whole
    for section in ("sampling", "evaluation"):
        fields = set(Experiment.model_fields[section].annotation.model_fields)
        named = {key.split(".")[1] for key in covered if key.startswith(f"{section}.")}
        # of one effect with others in the table: they go through the same dump of the section
        assert fields - named <= {"sampler", "timestep_spacing", "guided_channels", "clip_sample"}


# of an experiment in latents
LATENT_CHANGES = [
    ("latents.vae", "elsewhere", ["report"]),  # its files are inputs
    ("latents.scale", 2.0, ["encode:", "pretrain:", *RUNS, *DRAWN, "report"]),
    ("latents.precision", "bfloat16", ["encode:", "pretrain:", *RUNS, *DRAWN, "report"]),
    ("flips", True, ["encode:", "pretrain:", "finetune:", "report"]),
]


@pytest.mark.parametrize("key, value, starts", LATENT_CHANGES, ids=[key for key, _, _ in LATENT_CHANGES])
def test_a_change_of_latents_reaches_what_trains_and_samples(experiment, key, value, starts):
    pictures = {"source": "folder", "options": {"path": "x", "size": 16}, "latents": {}}
    latents = dict.fromkeys(("pretrain.data", "tasks.novel.data", "tasks.shift.data"), "pictures")
    latents["data.pictures"] = pictures
    before, after = jobs(experiment(**latents)), jobs(experiment(**latents, **{f"data.pictures.{key}": value}))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith(tuple(starts))}


def test_without_analyses_the_report_is_the_one_that_it_was_before_there_were_any(experiment):
    without = recipes.report(experiment(analyses=None))
    assert "analyses" not in without["experiment"]
    assert recipes.recipe_digest(without) != recipes.recipe_digest(recipes.report(experiment()))


def test_what_is_done_with_copies_is_no_part_of_the_report_by_default(experiment):
    """So that reports of before there was a choice are still good."""
    unsaid, said = (experiment(**{"data.letters.copies_of_pretraining": choice}) for choice in ("fail", "count"))
    assert "copies_of_pretraining" not in recipes.report(unsaid)["experiment"]["data"]["letters"]
    assert recipes.report(said)["experiment"]["data"]["letters"]["copies_of_pretraining"] == "count"


def test_an_analysis_that_is_not_asked_for_is_no_part_of_the_report_if_it_came_later(experiment):
    """So that reports of before are still good; `interference` was there from the beginning."""
    asked = recipes.report(experiment(analyses={"weights": {}}))["experiment"]["analyses"]
    assert asked == {"weights": {"num_vectors": 10, "max_cosine": 0.6}, "interference": None}


def test_bounds_depend_on_the_backbones_that_entries_start_from_and_on_the_first_seed(experiment):
    before = jobs(experiment())
    assert jobs(experiment(methods={"kind": {}}))["analyse:bounds:novel"] != before["analyse:bounds:novel"]
    assert jobs(experiment(seeds=[1, 0]))["analyse:bounds:novel"] != before["analyse:bounds:novel"]
    assert jobs(experiment(seeds=[0, 1, 2]))["analyse:bounds:novel"] == before["analyse:bounds:novel"]


def test_a_method_with_its_own_learning_rate_does_not_depend_on_the_common_one(experiment):
    own = {"methods.full.learning_rate": 0.5}
    before, after = jobs(experiment(**own)), jobs(experiment(**own, **{"finetune.learning_rate": 0.25}))
    assert before["finetune:novel:full:0"] == after["finetune:novel:full:0"]
    assert before["finetune:novel:kind:0"] != after["finetune:novel:kind:0"]


def test_a_new_entry_leaves_the_others_alone(experiment):
    before = jobs(experiment())
    after = jobs(experiment(**{"methods.lora2": {"method": "lora", "rank": 2}, "seeds": [0, 1, 2]}))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"analyse:weights:novel", "analyse:weights:shift", "analyse:interference", "report"}
    assert len({after[f"finetune:novel:lora2:{seed}"] for seed in (0, 1, 2)}) == 3


def test_class_embeddings_reach_the_jobs_that_use_them(experiment):
    soft = {"form": "kind", "gate": "soft", "num_learngenes": 20, "num_tailors": 4}
    near = {"method": "kind", "tailor_start": "nearest"}
    used = {"backbones.kind-soft": soft, "methods.divgate": {}, "methods.near": near}
    used["methods.mean"] = {"method": "kind", "tailor_start": "mean"}
    before = jobs(experiment(**used))
    changed = {
        key: {name for name, digest in jobs(experiment(**used, **{key: value})).items() if digest != before[name]}
        for key, value in {"embedding.side": 4, "backbones.kind-soft.gate_scale": "none"}.items()
    }
    runs = {f"finetune:{task}:{label}:{seed}" for task in ("novel", "shift") for label in ("divgate", "near")
            for seed in (0, 1)}  # fmt: skip
    assert changed["embedding.side"] == {"pretrain:kind-soft", *runs, "report"}
    assert changed["backbones.kind-soft.gate_scale"] == {"pretrain:kind-soft", "report"}


def test_an_own_guidance_scale_is_the_same_as_that_scale_for_all(experiment):
    one = recipes.sample(experiment(**{"tasks.novel.guidance_scale": 4.0}), "novel", "kind", 0)
    all_tasks = recipes.sample(experiment(**{"sampling.guidance_scale": 4.0}), "novel", "kind", 0)
    assert one == all_tasks


def test_the_share_of_replayed_images_is_of_entries_that_replay(experiment):
    replaying = {"methods.full.objective": "diff-tuning"}
    before, after = jobs(experiment(**replaying)), jobs(experiment(**replaying, **{"replay.share": 0.5}))
    changed = {name.rsplit(":", 1)[0] for name in before if before[name] != after[name]}
    assert changed == {"finetune:novel:full", "finetune:shift:full", "report"}


def test_recipes_are_json_and_name_stage_and_version(experiment):
    found = experiment()
    for recipe in (recipes.prepare(found, "digits"), recipes.evaluate(found, "novel", "kind", 0)):
        assert json.loads(json.dumps(recipe)) == recipe
        assert recipe["version"] == recipes.STAGE_VERSIONS[recipe["stage"]]


@pytest.mark.parametrize("stage", recipes.STAGE_VERSIONS)
def test_a_raised_stage_version_changes_the_recipes_of_that_stage_only(experiment, monkeypatch, stage):
    pictures = {"source": "folder", "options": {"path": "x", "size": 16}, "latents": {}}
    every_stage = {"tune": TUNE, "data.pictures": pictures}
    before = jobs(experiment(**every_stage))
    monkeypatch.setitem(recipes.STAGE_VERSIONS, stage, 1000)
    after = jobs(experiment(**every_stage))
    assert {name.split(":")[0] for name in before if before[name] != after[name]} == {stage}


def test_the_protocol_of_a_metric_names_what_can_move_it(experiment):
    protocol = recipes.protocol(experiment(), "novel")
    assert protocol["sampling"]["sampler"] == "ddim" and protocol["reference"]["set"] == "test"
    assert protocol["training_steps"] == experiment().finetune.steps
    assert recipes.protocol(experiment(**{"compute.threads": 9}), "novel") == protocol


# of an experiment whose rates are open but for kind's, of what is tried with lora alone
TUNING_CHANGES = [
    ("tune.steps", 4, ["finetune:practice", "sample:practice", "evaluate:practice", "report"]),
    ("tune.metric", "kd", ["choose:", "report"]),
    ("tune.learning_rate", [1.0e-3, 3.0e-2], ["finetune:practice:full@2", "finetune:practice:scratch@2",
                                              "choose:full", "choose:scratch", "report"]),
    ("methods.lora.learning_rates", [1.0e-4, 5.0e-4], ["finetune:practice:lora@2", "choose:lora", "report"]),
    ("tune.tasks.practice.images_per_class", 8, ["finetune:practice", "evaluate:practice", "report"]),
    ("evaluation.reference", "all", ["reference:novel", "reference:shift", "evaluate:novel", "evaluate:shift",
                                     "analyse:bounds:", "report"]),
    ("evaluation.curve", [0.1], ["finetune:novel", "finetune:shift", "sample:novel", "sample:shift", "evaluate:novel",
                                 "evaluate:shift", "report"]),
]  # fmt: skip


@pytest.mark.parametrize("key, value, starts", TUNING_CHANGES, ids=[f"{k}={v}" for k, v, _ in TUNING_CHANGES])
def test_a_change_of_tuning_reaches_the_trials_and_the_choices(experiment, key, value, starts):
    finetune = {"steps": 8, "batch_size": 8}
    open_rates = {"finetune": finetune, "methods.kind.learning_rate": 0.1,
                  "methods.lora.learning_rates": [1.0e-4, 1.0e-3]}  # fmt: skip
    tune = json.loads(json.dumps(TUNE))  # the change is made in place
    before = jobs(experiment(tune=json.loads(json.dumps(TUNE)), **open_rates))
    after = jobs(experiment(tune=tune, **{**open_rates, key: value}))
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if name.startswith(tuple(starts))}
    assert {"choose:full", "choose:lora", "choose:scratch"} == {name for name in before if name.startswith("choose")}


# of the same, which asks for guidance too
GUIDANCE_CHANGES = {
    "analyses.guidance.scales": [1.0, 1.5],
    "sampling.seed": 9,
    "sampling.num_samples": 999,
    "sampling.weights": "raw",
    "evaluation.judge": False,
    "evaluation.memorisation": False,
    "compute.precision": "bfloat16",
    "tune.steps": 4,
    "tune.seed": 8,
    "tune.tasks.practice.images_per_class": 8,
    "tune.tasks.practice.classes": [6, 5],
    "methods.full.learning_rate": 0.5,  # which is not tuned then
}
NO_GUIDANCE_CHANGES = {
    "sampling.guidance_scale": 3.0,
    "sampling.curve_num_samples": 99,
    "sampling.shard_size": 10,
    "tune.metric": "kd",  # what is chosen then is in the input files
    "tune.learning_rate": [1.0e-3, 1.0e-2, 1.0e-1],
    "tune.tasks.practice.guidance_scale": 3.0,
    "evaluation.reference": "all",
    "tasks.novel.classes": [7],
}


@pytest.mark.parametrize("key", [*GUIDANCE_CHANGES, *NO_GUIDANCE_CHANGES])
def test_guidance_depends_on_what_trials_are_drawn_and_measured_by(experiment, key):
    def digest(**changes):
        finetune = {"steps": 8, "batch_size": 8}
        asked = {"tune": deepcopy(TUNE), "finetune": finetune, "analyses.guidance": {"scales": [1.0, 2.0]}}
        return jobs(experiment(**asked, **changes))["analyse:guidance"]

    moved = digest(**{key: (GUIDANCE_CHANGES | NO_GUIDANCE_CHANGES)[key]}) != digest()
    assert moved == (key in GUIDANCE_CHANGES)


def test_tuning_changes_no_recipe_of_an_entry_with_its_own_rate(experiment):
    own = {"methods.full.learning_rate": 0.5}
    before, after = jobs(experiment(**own)), jobs(experiment(**own, tune=TUNE))
    assert {before[name] == after[name] for name in before if name.startswith("finetune") and ":full:" in name} == {
        True
    }


def test_a_matched_size_is_part_of_the_recipe(experiment):
    """A change of the entry that is matched changes the matching one's runs."""
    methods = {"kind": {"num_tailors": 2}, "lora": {"match": "kind"}}
    more = {"kind": {"num_tailors": 6}, "lora": {"match": "kind"}}
    before, after = jobs(experiment(methods=methods)), jobs(experiment(methods=more))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith(("finetune:", "report"))}

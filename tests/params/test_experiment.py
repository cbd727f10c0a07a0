"""What an experiment says of its methods, steps and runs."""

from __future__ import annotations

from kind.models.factorization import Factorization
from kind.params.backbones import KindBackbone


def test_a_backbone_says_its_factorization():
    options = {"form": "kind", "num_learngenes": 5, "num_tailors": 2}
    assert KindBackbone(**options).factorization(["a", "b"]) == Factorization(5, 2)
    given = KindBackbone(
        **options,
        matrices=["q", "adaln"],
        ranks={"adaln": {"num_tailors": 3}, "q": {"num_learngenes": 4}},
        class_tailors={"b": 0},
        groups={"pair": {"classes": ["c", "a"], "num_tailors": 1}},
        overcomplete=True,
        null_gate="true_class",
    )
    assert given.factorization(["a", "b", "c"]) == Factorization(
        {"q": 4, "adaln": 5}, {"q": (2, 0, 2), "adaln": (3, 0, 3)}, "true_class", ("q", "adaln"), (((2, 0), 1),),
        overcomplete=True,
    )  # fmt: skip
    assert given.most_learngenes == 5


def test_a_method_has_its_own_options_and_defaults(load):
    experiment = load(**{"methods.lora": {"rank": 8, "learning_rate": 5.0e-3}})
    lora, kind = experiment.method_options("lora"), experiment.method_options("kind")
    assert (lora.rank, lora.learning_rate, lora.alpha, lora.backbone) == (8, 5.0e-3, None, "dense")
    assert (kind.learning_rate, kind.backbone, kind.tailor_start, kind.num_tailors) == (None, "kind", "random", None)
    assert [experiment.backbone_of(label) for label in experiment.methods] == ["dense", "kind", "dense", None]


def test_one_method_may_stand_under_several_names(load):
    experiment = load(
        **{
            "methods.lora-8": {"method": "lora", "rank": 8},
            "backbones.second": {"form": "dense"},
            "methods.full2": {"method": "full", "backbone": "second"},
        }
    )
    assert (experiment.method_name("lora-8"), experiment.method_options("lora-8").rank) == ("lora", 8)
    assert (experiment.method_name("lora"), experiment.method_options("lora").rank) == ("lora", 4)
    assert (experiment.method_name("full2"), experiment.backbone_of("full2")) == ("full", "second")


def test_the_curve_ends_with_the_last_step(load):
    def steps(curve, total=100):
        return load(**{"finetune.steps": total, "evaluation.curve": curve}).curve_steps()

    assert steps([]) == [100]
    assert steps([0.5, 0.25]) == [25, 50, 100]
    assert steps([0.001, 0.5, 0.501, 0.999]) == [1, 50, 100]
    assert steps([0.5], total=1) == [1]


def test_runs_are_every_task_method_and_seed_in_order(load):
    runs = list(load(seeds=[3, 1]).runs())
    assert len(runs) == 2 * 4 * 2 and runs[:3] == [("novel", "full", 3), ("novel", "full", 1), ("novel", "kind", 3)]


def test_class_names_that_are_digits_are_text(load):
    assert load().pretrain.classes == ["0", "1", "2"]


def test_overrides_of_a_preset(load):
    shape = load(**{"model": {"preset": "micro/2", "width": 64, "num_heads": 4}}).model.shape()
    assert shape._asdict() == {"depth": 2, "width": 64, "num_heads": 4, "patch_size": 2}


def test_defaults_stand_where_a_section_is_left_out(load):
    experiment = load()
    assert (experiment.diffusion.schedule, experiment.compute.threads) == ("linear", 1)
    assert experiment.data["letters"].split.model_dump() == {"train": 0.5, "validation": 0.15, "test": 0.35, "seed": 0}

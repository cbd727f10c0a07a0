"""Methods that draw classes of pre-training: the sizes they cut to, and what they draw, by independent ways."""

from __future__ import annotations

import pytest
import torch
from every_method import SEED, SEEN, outputs, start_of

import kind
from kind.__main__ import main
from kind.adaptation import adapt
from kind.checkpoints import load_backbone, load_start
from kind.errors import UserError
from kind.evaluation.complexity import count_parameters
from kind.methods import METHODS
from kind.models.factorized import factorized_layers

COMPONENTS = dict.fromkeys(("q", "k", "v", "o", "in", "out"), 12 + 4 * len(SEEN))


def drawn_by(name, starts, **given):
    method = METHODS[name]
    options = method.options.model_validate(given)
    return adapt(start_of(name, starts), method, options, len(SEEN), SEED, "random").eval()


def numbers_in_components(model):
    return sum(sum(p.numel() for p in layer.parameters()) - layer.out_features for _, layer in factorized_layers(model))


def test_all_of_a_recombined_model_is_the_untouched_backbone(starts):
    whole, model = load_backbone(starts.whole).model.eval(), drawn_by("recombined", starts, share=1.0)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, times = torch.tensor([0, 1, 2, 3] * 2), torch.arange(8) * 120
    theirs = torch.tensor([*("abcde".index(name) for name in SEEN), 5] * 2)  # 3 and 5 are the null classes
    with torch.no_grad():
        torch.testing.assert_close(model(images, times, labels), whole(images, times, theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_a_recombined_model_is_what_the_command_gives_for_its_classes_and_size(starts, tmp_path, share, relative):
    kept, model = (
        drawn_by("recombined", starts, share=1.0),
        drawn_by("recombined", starts, share=share, relative=relative),
    )
    components = numbers_in_components(kept)
    assert 0 <= share * components - numbers_in_components(model) < 5 * 32 + 1, "less than a component is left over"
    size = count_parameters(kept) - components + int(share * components)
    command = ["recombine", str(starts.whole), "--classes", *SEEN, "--parameters", str(size)]
    command += [] if relative else ["--raw-energies"]
    assert main([*command, "--output", str(tmp_path / "cut")]) == 0
    by_command = kind.load(tmp_path / "cut").model
    assert count_parameters(by_command) == count_parameters(model) <= size
    found, wanted = model.state_dict(), by_command.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in found)
    assert torch.equal(outputs(model), outputs(by_command))


def test_a_pruned_model_has_the_size_of_the_recombined_one(starts):
    """The backbone has 12 learngenes and 4 tailors a class; the dense one takes the thin form alone, without s."""
    for share in (0.5, 0.25):
        recombined = numbers_in_components(drawn_by("recombined", starts, share=share))
        dense = count_parameters(start_of("svd-pruned", starts).model)
        pruned = drawn_by("svd-pruned", starts, share=share, components=COMPONENTS)
        matrices = 2 * (4 * 32 * 32 + 2 * 4 * 32 * 32)
        assert abs(count_parameters(pruned) - dense + matrices - recombined) < 5 * 32 + 1, share


@pytest.mark.parametrize("name, given", [
    ("recombined", {"share": 0.5}), ("svd-pruned", {"share": 0.5, "components": COMPONENTS})
])  # fmt: skip
def test_labels_are_the_rows_of_pre_training(starts, name, given):
    path = starts.of(METHODS[name].start)
    table, model = load_backbone(path).model.label_table, drawn_by(name, starts, **given)
    assert torch.equal(model.label_table, table[[3, 0, 2, 5]])
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_classes_that_the_backbone_does_not_know_are_refused(starts):
    start = load_start("whole", starts.whole)
    with pytest.raises(UserError, match="'x': not among the backbone's classes, a, b, c, d, e"):
        start.of_classes(["a", "x"])


@pytest.mark.parametrize("file", ["dense", "soft"])
def test_a_backbone_whose_classes_own_nothing_is_refused(starts, file):
    with pytest.raises(UserError, match="whose classes own no tailors, where a factorized one is needed"):
        load_start("whole", getattr(starts, file))

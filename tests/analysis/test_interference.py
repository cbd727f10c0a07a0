"""Models put together: what the parts are added up to, what held-out losses are, and where nothing interferes."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from kind.analysis.interference import add_differences, cost_of_company, open_all, side_by_side
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.evaluation.held_out_loss import held_out_losses
from kind.models.dit import LABEL_TABLE, renew_label_table
from kind.models.learngene import add_fresh_tailors
from kind.models.recombine import keep

DIFFUSION = Diffusion(num_train_timesteps=50)


def held_out(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(6) % classes


def losses(model, data, offset=0):
    images, labels = data
    return held_out_losses(model, DIFFUSION, images, labels + offset, num_draws=2, seed=0, batch_size=4)


def moved(start, classes: int, seed: int, share: float = 0.05):
    """A model adapted to so many classes: every tensor moved, rows of its own."""
    model = renew_label_table(deepcopy(start), classes, seed, "random")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(share * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def shared(build):
    """Learngenes alone."""
    return keep(build(learngenes=10, tailors=2), [])


def adapted(shared, classes: int, seed: int):
    model = renew_label_table(deepcopy(shared), classes, seed, "random")
    return add_fresh_tailors(model, classes, 2, "random", seed).eval()


def test_differences_are_added_and_label_rows_put_in_a_row(build):
    start = build(num_classes=4)
    one, two = moved(start, 2, 1), moved(start, 3, 2)
    found = {name: tensor.double() for name, tensor in add_differences(start, [one, two]).state_dict().items()}
    states = [{name: t.double() for name, t in m.state_dict().items()} for m in (start, one, two)]
    for name in found.keys() - {LABEL_TABLE}:
        wanted = states[1][name] + states[2][name] - states[0][name]
        assert torch.allclose(found[name], wanted, atol=1e-6), name
    tables = [state[LABEL_TABLE] for state in states]
    assert torch.equal(found[LABEL_TABLE][:5], torch.cat([tables[1][:2], tables[2][:3]]))
    assert torch.allclose(found[LABEL_TABLE][5], tables[1][2] + tables[2][3] - tables[0][4], atol=1e-6)


def test_models_that_are_not_plain_are_refused(build, shared):
    with pytest.raises(UserError, match="cannot be added to others"):
        add_differences(build(), [_bottleneck(build())])


def _bottleneck(model):
    from kind.adaptation import Start, adapt
    from kind.methods import METHODS

    method = METHODS["diffscaler"]
    return adapt(Start(model), method, method.options(rank=2, scale=1.0), 2, 0, "random")


def test_behind_the_gate_nothing_interferes(shared):
    models, data = [adapted(shared, 2, 1), adapted(shared, 3, 2)], [held_out(2), held_out(3, seed=1)]
    joint = side_by_side(models)
    assert torch.equal(losses(models[0], data[0]), losses(joint, data[0]))
    assert torch.allclose(losses(models[1], data[1]), losses(joint, data[1], offset=2), rtol=1e-6)
    assert not torch.allclose(losses(models[1], data[1]), losses(joint, data[1], offset=0), rtol=1e-3)


def test_with_all_tailors_open_every_sample_meets_all(shared):
    joint = side_by_side([adapted(shared, 2, 1), adapted(shared, 3, 2)])
    layer = joint.transformer_blocks[1].attn1.to_q
    names = ("learngene_u", "learngene_s", "learngene_v", "tailor_u", "tailor_s", "tailor_v")
    parts = {name: getattr(layer, name).detach().double().numpy() for name in names}
    wanted = sum(
        np.einsum("ko,k,ki->oi", *(parts[f"{kind}_{one}"] for one in "usv")) for kind in ("learngene", "tailor")
    )
    data, behind = held_out(2), losses(joint, held_out(2))
    opened = open_all(joint)
    assert opened.gate is None
    assert np.allclose(opened.transformer_blocks[1].attn1.to_q.weight.detach().numpy(), wanted, atol=1e-5)
    assert cost_of_company(behind, losses(opened, data)).difference != 0


def test_differences_in_directions_that_no_input_has_do_not_interfere(build):
    """What leaves LayerNorm has mean zero: rows of equal numbers give nothing there, others do."""
    start = build(num_classes=4)
    with torch.no_grad():
        for block in start.transformer_blocks:
            block.norm1.linear.weight.zero_()
            block.norm1.linear.bias.zero_()
            block.norm1.linear.bias[2 * 32 : 3 * 32] = 1.0  # the gate of attention
    one, orthogonal, other = (renew_label_table(deepcopy(start), 2, seed, "random") for seed in (1, 2, 2))
    change = torch.randn(32, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in range(2):
            values = [model.transformer_blocks[block].attn1.to_v.weight for model in (one, orthogonal, other)]
            values[0].add_(0.3 * torch.randn(32, 32, generator=torch.Generator().manual_seed(block)))
            values[1].add_(change.expand(-1, 32))
            values[2].add_(change @ torch.tensor([[1.0, -1.0] * 16]))
    alone = losses(one, held_out(2))
    none, some = (losses(add_differences(start, [one, model]), held_out(2)) for model in (orthogonal, other))
    assert cost_of_company(alone, none).difference == pytest.approx(0, abs=1e-6)
    assert abs(cost_of_company(alone, some).difference) > 1e-4


def test_the_difference_is_paired():
    alone, together = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 5.0])
    cost = cost_of_company(torch.from_numpy(alone), torch.from_numpy(together))
    each = together - alone
    assert cost[:3] == pytest.approx((7 / 3, 8.5 / 3, 0.5))
    assert cost.standard_error == pytest.approx(each.std(ddof=1) / 3**0.5)
    assert cost_of_company(torch.ones(1), torch.ones(1)).standard_error is None

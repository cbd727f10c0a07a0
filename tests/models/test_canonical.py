"""The canonical form and its energies against dense matrices and numpy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.models.canonical import Components, canonical_energy, canonical_form, inner_product, kept_energy


def drawn(count, outputs=12, inputs=20, seed=0, dtype=torch.float32):
    """Components that overlap, of any length and sign, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    u, s, v = (torch.randn(shape, generator=generator) for shape in ((count, outputs), (count,), (count, inputs)))
    return Components((u + 0.7).to(dtype), s.to(dtype), (v - 0.3).to(dtype))


def dense(group):
    return np.einsum("ko,k,ki->oi", *(tensor.double().numpy() for tensor in group))


@pytest.mark.parametrize("count, outputs, inputs", [(5, 12, 20), (5, 20, 12), (12, 12, 20), (30, 12, 20), (1, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_canonical_form_is_the_svd_of_the_same_product(count, outputs, inputs, dtype):
    group = drawn(count, outputs, inputs, dtype=dtype)
    form = canonical_form(group)
    kept = min(count, outputs, inputs)
    assert [list(tensor.shape) for tensor in form] == [[kept, outputs], [kept], [kept, inputs]]
    assert {tensor.dtype for tensor in form} == {dtype}
    precise = 1e-5 if dtype == torch.float32 else 1e-12
    scale = np.abs(dense(group)).max()
    np.testing.assert_allclose(dense(form), dense(group), atol=precise * scale)
    np.testing.assert_allclose(form.s, np.linalg.svd(dense(group), compute_uv=False)[:kept], rtol=20 * precise)
    for directions in (form.u, form.v):
        torch.testing.assert_close(directions @ directions.T, torch.eye(kept, dtype=dtype), atol=precise, rtol=0)
    assert (form.u.gather(1, form.u.abs().argmax(1, keepdim=True)) > 0).all()


def test_no_components_stay_no_components():
    form = canonical_form(drawn(0))
    assert form.count == 0 and form.u.shape == (0, 12)


def test_dependent_components_get_no_energy():
    """Twice the same direction is one component of canonical form; the other is left with nothing."""
    twice = Components(*(torch.cat([tensor, tensor]) for tensor in drawn(1)))
    form = canonical_form(twice)
    assert form.count == 2 and form.s[1] < 1e-6 * form.s[0]
    np.testing.assert_allclose(dense(form), 2 * dense(drawn(1)), atol=1e-5)


def test_a_form_of_a_form_is_itself():
    form = canonical_form(drawn(6))
    for once, again in zip(form, canonical_form(form), strict=True):
        torch.testing.assert_close(again, once, atol=1e-5, rtol=1e-5)


def test_energies_are_those_of_the_dense_matrices():
    shared, own = drawn(6), drawn(3, seed=1)
    matrix, part = dense(shared) + dense(own), dense(own)
    groups = [canonical_form(Components(*(tensor.double() for tensor in group))) for group in (shared, own)]
    np.testing.assert_allclose(canonical_energy(groups), (matrix**2).sum(), rtol=1e-10)
    np.testing.assert_allclose(inner_product(shared, own), (dense(shared) * part).sum(), rtol=1e-10)
    assert abs(inner_product(shared, own)) > 0.01 * (dense(shared) ** 2).sum(), (
        "the groups overlap, or cross terms are not tested"
    )


@pytest.mark.parametrize("counts", [(4, 2, 2), (6, 0, 1), (0, 3, 2), (6, 3, 2), (0, 0, 0)])
def test_kept_and_lost_energy_are_those_of_the_dense_matrices(counts):
    groups = [canonical_form(drawn(count, seed=seed)) for seed, count in enumerate((6, 3, 2))]
    whole = sum(dense(group) for group in groups)
    kept = sum(dense(group.first(count)) for group, count in zip(groups, counts, strict=True))
    found, total = kept_energy(groups, counts), (whole**2).sum()
    np.testing.assert_allclose(canonical_energy(groups), total, rtol=1e-6)
    np.testing.assert_allclose(found.kept, (kept**2).sum() / total, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.lost, ((whole - kept) ** 2).sum() / total, rtol=1e-6, atol=1e-12)


def test_what_a_zero_matrix_keeps():
    nothing = canonical_form(Components(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 4)))
    assert kept_energy([nothing], [1]) == (1, 0)

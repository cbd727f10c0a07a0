"""Each method's changed matrix against its authors' formula, computed here in float64, and against published sizes."""

from __future__ import annotations

import pytest
import torch

from kind.adaptation import adapt, trained_parameters
from kind.checkpoints import load_start
from kind.methods import METHODS, Adaptation
from kind.models.dit import DiT, DiTConfig, build_dit
from kind.models.factorized import FACTORIZED, factorized_layers
from kind.models.presets import PRESETS
from kind.params.methods import METHODS_FILE, method_defaults

SEED = 7


def method(name, **options):
    """With its defaults, where no option is given."""
    return METHODS[name], METHODS[name].options(**method_defaults(METHODS_FILE)[name] | options)


@pytest.fixture
def layers(starts):
    """layers(method, options) -> every adapted layer, its parameters moved at random, with the backbone's linear."""

    def layers(method, options):
        model = adapt(load_start("dense", starts.dense), method, options, 3, SEED, "random").double()
        plain = load_start("dense", starts.dense).model.double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in trained_parameters(model).values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for blocks in zip(model.transformer_blocks, plain.transformer_blocks, strict=True):
            for path in FACTORIZED.values():
                yield path, *(block.get_submodule(path) for block in blocks)

    return layers


def given(layer):
    return torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_computes(layer, before, weight, bias=None):
    x = given(before)
    torch.testing.assert_close(layer(x), x @ weight.T + (before.bias if bias is None else bias))


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_lora(layers, alpha):
    for _, layer, before in layers(*method("lora", rank=3, alpha=alpha)):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert (a.shape, b.shape) == ((3, before.in_features), (before.out_features, 3))
        assert_computes(layer, before, before.weight + (1.0 if alpha is None else alpha / 3) * b @ a)


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_dora(layers, alpha):
    for _, layer, before in layers(*method("dora", rank=3, alpha=alpha)):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        magnitude = layer.lora_magnitude_vector["default"].weight
        moved = before.weight + (1.0 if alpha is None else alpha / 3) * b @ a
        assert_computes(layer, before, magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True))


def test_dora_starts_with_the_norms_of_rows_and_detaches_the_norm(starts):
    model = adapt(load_start("dense", starts.dense), *method("dora", rank=3), 3, SEED, "random").double()
    layer = model.transformer_blocks[0].attn1.to_q
    weight = layer.get_base_layer().weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude, weight.norm(dim=1), rtol=1e-6, atol=0)
    x, target = given(layer), torch.randn(layer.out_features, dtype=torch.float64)
    (layer(x) * target).sum().backward()
    a = layer.lora_A["default"].weight
    by_hand = torch.zeros(layer.out_features, 3, dtype=torch.float64, requires_grad=True)
    norm = weight.norm(dim=1)  # at b = 0, and constant to the gradient
    moved = (magnitude.detach() / norm)[:, None] * (weight + by_hand @ a.detach())
    (x @ moved.T * target).sum().backward()
    torch.testing.assert_close(layer.lora_B["default"].weight.grad, by_hand.grad, rtol=1e-6, atol=1e-9)


def test_pissa_moves_the_principal_components(starts):
    model = adapt(load_start("dense", starts.dense), *method("pissa", rank=4), 3, SEED, "random").double()
    plain = load_start("dense", starts.dense).model.double()
    for block, before in zip(model.transformer_blocks, plain.transformer_blocks, strict=True):
        for path in FACTORIZED.values():
            layer, weight = block.get_submodule(path), before.get_submodule(path).weight
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
            principal = (u[:, :4] * s[:4]) @ v[:4]
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            close = {"rtol": 1e-5, "atol": 1e-5}  # peft factorizes in float32
            torch.testing.assert_close(b @ a, principal, **close)
            torch.testing.assert_close(layer.get_base_layer().weight, weight - principal, **close)
            torch.testing.assert_close(b.T @ b, torch.diag(s[:4]), **close)
            torch.testing.assert_close(a @ a.T, torch.diag(s[:4]), **close)


def test_loha(layers):
    for _, layer, before in layers(*method("loha", rank=3, alpha=6.0)):
        w1a, w1b, w2a, w2b = (getattr(layer, f"hada_w{name}")["default"] for name in ("1_a", "1_b", "2_a", "2_b"))
        assert_computes(layer, before, before.weight + 2.0 * (w1a @ w1b) * (w2a @ w2b))


def test_oft(layers):
    size, fits = 8, []
    for _, layer, before in layers(*method("oft", block_size=size)):
        blocks, upper = layer.oft_R["default"].weight, torch.triu_indices(size, size, 1)
        turns = []
        for entries in blocks:
            skew = torch.zeros(size, size, dtype=torch.float64)
            skew[upper[0], upper[1]] = entries
            skew = skew - skew.T
            eye = torch.eye(size, dtype=torch.float64)
            turns.append((eye + skew) @ torch.linalg.inv(eye - skew))
        turn = torch.block_diag(*turns)
        torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn), dtype=torch.float64))
        x = given(before)
        found = layer(x) - before.bias
        either = [x @ t @ before.weight.T for t in (turn, turn.T)]  # which of the two is a matter of Q's sign
        fits.append([torch.allclose(found, wanted, rtol=1e-5, atol=1e-6) for wanted in either])
    assert any(all(column) for column in zip(*fits, strict=True)), "one sign in all layers"


def test_svdiff(layers):
    cut = 0
    for _, layer, before in layers(*method("svdiff", vectors=False)):
        u, s, v = torch.linalg.svd(before.weight.float(), full_matrices=False)
        shift = layer.shift
        cut += int((s + shift < 0).sum())
        assert_computes(layer, before, (u.double() * (s.double() + shift).clamp(min=0)) @ v.double())
    assert cut > 0, "relu matters"


def test_difffit(starts, layers):
    depth = PRESETS["micro/2"].depth
    for position, (path, layer, before) in enumerate(layers(*method("difffit"))):
        block = position // len(FACTORIZED)
        gammas = [parameter for name, parameter in layer.named_parameters() if name.endswith("gamma")]
        expected = 0 if block >= (depth + 1) // 2 or path == FACTORIZED["in"] else 2 if path == FACTORIZED["o"] else 1
        assert len(gammas) == expected, (block, path)
        scale = torch.stack(gammas).prod(0) if gammas else torch.ones(before.out_features, dtype=torch.float64)
        bias = next(parameter for name, parameter in layer.named_parameters() if name.endswith("bias"))
        assert_computes(layer, before, scale[:, None] * before.weight, scale * bias)


def test_diffscaler(layers):
    for _, layer, before in layers(*method("diffscaler", rank=3, scale=0.5)):
        x, w = given(before), before.weight
        by_hand = (1 + layer.gain) * (x @ w.T) + layer.shift + before.bias
        by_hand = by_hand + 0.5 * (x @ layer.down.weight.T).clamp(min=0) @ layer.up.weight.T
        torch.testing.assert_close(layer(x), by_hand)


def test_ortho_lora(layers):
    for _, layer, before in layers(*method("ortho-lora", rank=3, slot=2)):
        assert layer.up.shape == (before.out_features, 3)
        torch.testing.assert_close(layer.basis @ layer.basis.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
        assert_computes(layer, before, before.weight + layer.up @ layer.basis)


def test_ortho_lora_of_other_slots_adds_up_without_interference(starts):
    """Whatever two runs of different seeds learn, their changes of a matrix have orthogonal rows."""
    found = []
    for slot, seed in ((0, 1), (1, 2)):
        start = load_start("dense", starts.dense)
        model = adapt(start, *method("ortho-lora", rank=3, slot=slot), 3, seed, "random")
        found.append([layer.basis for layer in model.modules() if hasattr(layer, "basis")])
    assert len(found[0]) == 12
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first @ second.T, torch.zeros(3, 3), rtol=0, atol=1e-5)
    assert not torch.equal(found[0][0], found[0][1]), "each matrix has a basis of its own"


def test_r_amt_masks_weights(layers):
    dropped = 0
    for _, layer, before in layers(*method("r-amt")):
        keep = (layer.score >= 0.005).double()
        dropped += int((keep == 0).sum())
        assert_computes(layer, before, keep * before.weight)
    assert dropped > 0


def test_r_amt_learns_by_the_straight_through_gradient(starts):
    model = adapt(load_start("dense", starts.dense), *method("r-amt"), 3, SEED, "random").double()
    layer = model.transformer_blocks[0].attn1.to_q
    x, target = given(layer), torch.randn(2, 5, layer.out_features, dtype=torch.float64)
    (layer(x) * target).sum().backward()
    by_hand = torch.einsum("bno,bni->oi", target, x) * layer.frozen
    torch.testing.assert_close(layer.score.grad, by_hand)


@pytest.mark.parametrize("name, least_dim", [("sara", 2), ("lt-sft", 1)])
def test_sparse_deltas_are_added_to_single_entries(starts, name, least_dim):
    """Entry p of all weights, laid end to end, is W_p + delta_k where positions_k = p; SaRA takes the smallest."""
    chosen, options = method(name, share=0.2)
    model = adapt(load_start("dense", starts.dense), chosen, options, 3, SEED, "random").double()
    plain = load_start("dense", starts.dense).model.double()
    names = [key for key, p in plain.named_parameters() if p.dim() >= least_dim and "embedding_table" not in key]
    flat = torch.cat([plain.get_parameter(key).detach().flatten() for key in names])
    deltas, generator = model.deltas, torch.Generator().manual_seed(0)
    count = round(0.2 * len(flat))
    if name == "sara":
        assert torch.equal(deltas.positions, flat.abs().argsort(stable=True)[:count].sort().values)
    else:
        deltas.put(torch.randperm(len(flat), generator=generator)[:count].sort().values)
    values = torch.randn(count, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        deltas.values.copy_(values)
    for position, value in zip(deltas.positions.tolist(), values.tolist(), strict=True):
        flat[position] += value
    for key, wanted in zip(names, flat.split([plain.get_parameter(key).numel() for key in names]), strict=True):
        owner, _, last = key.rpartition(".")
        found = getattr(model.get_submodule(owner), last)
        torch.testing.assert_close(found, wanted.view_as(found), rtol=0, atol=1e-15)


def test_kind_dense_keeps_the_largest_components(starts):
    """The null label sees them alone, which is the best approximation of each matrix of that rank."""
    model = adapt(load_start("dense", starts.dense), *method("kind-dense", num_learngenes=10), 3, SEED, "random")
    plain = load_start("dense", starts.dense).model
    for block, before in zip(model.transformer_blocks, plain.transformer_blocks, strict=True):
        for path in FACTORIZED.values():
            layer, linear = block.get_submodule(path), before.get_submodule(path)
            u, s, v = torch.linalg.svd(linear.weight.double(), full_matrices=False)
            kept = layer.dense_weight(None).double()
            torch.testing.assert_close(kept, (u[:, :10] * s[:10]) @ v[:10], rtol=0, atol=1e-5)
            assert torch.equal(layer.bias, linear.bias)
            assert not layer.learngene_u.requires_grad and layer.tailor_u.requires_grad


def test_kind_nogate_keeps_the_components_of_largest_energy_of_the_product(starts):
    model = adapt(load_start("kind", starts.kind), *method("kind-nogate", num_learngenes=8), 3, SEED, "random")
    whole = load_start("kind", starts.kind).model
    for (_, layer), (_, before) in zip(factorized_layers(model), factorized_layers(whole), strict=True):
        u, s, v = torch.linalg.svd(before.dense_weight(None).double(), full_matrices=False)
        torch.testing.assert_close(layer.dense_weight(None).double(), (u[:, :8] * s[:8]) @ v[:8], rtol=0, atol=1e-5)
        assert torch.equal(layer.bias, before.bias)
        assert not layer.learngene_u.requires_grad and layer.tailor_u.requires_grad


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_gated_lora(layers, alpha):
    for _, layer, before in layers(*method("gated-lora", rank=3, alpha=alpha)):
        adapters, x = layer.adapters, given(before).repeat(2, 1, 1)
        adapters.gate.open(torch.tensor([0, 2, 2, 3]))
        found = layer(x)
        for sample, label in enumerate((0, 2, 2, 3)):
            weight = before.weight
            if label < 3:
                rows = slice(3 * label, 3 * label + 3)
                b, a = adapters.tailor_u[rows].T, adapters.tailor_v[rows]
                weight = weight + (1.0 if alpha is None else alpha / 3) * b @ a
            torch.testing.assert_close(found[sample], x[sample] @ weight.T + before.bias)


@pytest.mark.parametrize("name, kept", [("heur-lg", {3}), ("auto-lg", {0, 1})])
def test_learngenes_of_whole_blocks(name, kept):
    config = DiTConfig(*PRESETS["tiny/2"], image_size=8, channels=3, num_classes=3)
    backbone, model = build_dit(config, seed=1), build_dit(config, seed=1)
    chosen, options = method(name)
    chosen.attach(model, options, Adaptation(3, seed=2))
    fresh = build_dit(config, seed=2)
    for index in range(4):
        source = backbone if index in kept else fresh
        wanted = source.transformer_blocks[index].state_dict()
        found = model.transformer_blocks[index].state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), index
    for part in ("embedder", "pos_embed", "proj_out_1", "proj_out_2"):
        wanted = backbone.get_submodule(part).state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in model.get_submodule(part).state_dict().items())


@pytest.mark.parametrize("depth, heuristic, automatic", [(12, 3, 6), (24, 6, 12), (28, 7, 14), (2, 1, 1)])
def test_how_many_blocks_are_inherited(depth, heuristic, automatic):
    from kind.methods.heur_lg import num_inherited

    assert (num_inherited(0.25, depth), num_inherited(0.5, depth)) == (heuristic, automatic)


# Millions of trainable parameters; a fused q, k, v counts its inputs once.
@pytest.mark.parametrize("name, options, b, l, xl", [
    ("lora", {"rank": 16}, 2.65, 7.08, 9.29),
    ("lora", {"rank": 64}, 10.62, 28.31, 37.16),
    ("pissa", {"rank": 16}, 2.65, 7.08, 9.29),
    ("svdiff", {"vectors": False}, 0.055, 0.147, 0.194),
    ("bitfit", {}, 0.142, 0.374, 0.490),
    ("difffit", {}, 0.170, 0.448, 0.586),
])  # fmt: skip
def test_published_sizes(name, options, b, l, xl):  # noqa: E741
    chosen, options = method(name, **options)
    digits = 3 if b < 1 else 2
    for preset, millions in {"B/2": b, "L/2": l, "XL/2": xl}.items():
        assert round(count(chosen, options, preset) / 1e6, digits) == millions, preset


def test_dora_adds_a_number_for_each_output():
    added = {"B/2": 0.083, "L/2": 0.221, "XL/2": 0.290}
    for preset, millions in added.items():
        counts = [count(*method(name, rank=16), preset) for name in ("dora", "lora")]
        assert round((counts[0] - counts[1]) / 1e6, 3) == millions


# Published for DiT with q, k and v in one matrix: two input sides fewer in each block, `fewer` numbers a unit of width.
@pytest.mark.parametrize("name, options, fewer, b, l, xl", [
    ("lora", {"rank": 16}, 2 * 16, 2.36, 6.29, 8.26),
    ("lora", {"rank": 64}, 2 * 64, 9.44, 25.17, 33.03),
    ("loha", {"rank": 8}, 2 * 2 * 8, 2.36, 6.29, 8.26),
    ("loha", {"rank": 32}, 2 * 2 * 32, 9.44, 25.17, 33.03),
    ("oft", {"block_size": 32}, 32 - 1, 1.00, 2.67, 3.50),
    ("oft", {"block_size": 64}, 64 - 1, 2.03, 5.42, 7.11),
    ("oft", {"block_size": 128}, 128 - 1, 4.10, 10.92, 14.34),
    ("svdiff", {"vectors": False, "vector_rate": 1.0}, 2, 0.037, 0.098, 0.129),
])  # fmt: skip
def test_sizes_that_are_published_fused(name, options, fewer, b, l, xl):  # noqa: E741
    chosen, options = method(name, **options)
    for preset, millions in {"B/2": b, "L/2": l, "XL/2": xl}.items():
        shape = PRESETS[preset]
        fused = count(chosen, options, preset) - shape.depth * shape.width * fewer
        assert fused / 1e6 == pytest.approx(millions, abs=0.0051 if b > 1 else 0.00051 if b < 0.1 else 0.0051), preset


def count(method, options, preset):
    with torch.device("meta"):
        model = DiT(DiTConfig(*PRESETS[preset], image_size=32, channels=4, num_classes=3, learned_variance=True))
    return method.trainable_parameters(model, options, Adaptation(3, 0))

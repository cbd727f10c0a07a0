"""The DiT is diffusers' function, the paper's network, and starts as DiT does."""

from __future__ import annotations

import math

import pytest
import torch

from kind.evaluation.complexity import count_parameters
from kind.models.dit import DiT, DiTConfig, build_dit, renew_label_table, to_diffusers
from kind.models.presets import PRESETS

TINY = DiTConfig(*PRESETS["tiny/2"], image_size=8, channels=3, num_classes=7, learned_variance=True)


# --- the function ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned_variance", [False, True])
@torch.no_grad()
def test_equals_the_stock_diffusers_class(build, model_inputs, learned_variance):
    model = build(learned_variance=learned_variance)
    images, timesteps, labels = model_inputs(model)
    ours = model(images, timesteps, labels)
    stock = to_diffusers(model)(images, timestep=timesteps, class_labels=labels).sample
    assert ours.shape == (12, 6 if learned_variance else 3, 8, 8)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_equals_an_independent_float64_dit(build, model_inputs):
    model = build(learned_variance=True, seed=3).double()
    images, timesteps, labels = model_inputs(model)
    images, few = images.double(), timesteps % 8
    # diffusers forms the timestep features in float32: an argument of 1000 is off by 1e-4, one of 8 by 1e-6
    ours, expected = model(images, few, labels), reference_dit(model, images, few, labels)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)
    ours, expected = model(images, timesteps, labels), reference_dit(model, images, timesteps, labels)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)


def reference_dit(model, images, timesteps, labels):
    """DiT (Peebles & Xie 2023) from its paper, one head at a time, in float64.  Weights are read by name."""
    weight = {name: tensor.double() for name, tensor in model.state_dict().items()}
    config, width = model.config, model.config.width
    side, patch = config.image_size // config.patch_size, config.patch_size

    def linear(name, x):
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    def norm(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def silu(x):
        return x / (1 + torch.exp(-x))

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def wave(positions, size):
        """[sin, cos] of positions at `size` / 2 frequencies 10000^(-2 i / size)."""
        frequencies = 10000.0 ** (-torch.arange(size // 2, dtype=torch.float64) / (size // 2))
        angles = positions[:, None].double() * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    # patchify: rows of patches, each flattened channel first
    patches = torch.stack(
        [
            images[:, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].flatten(1)
            for y in range(side)
            for x in range(side)
        ],
        dim=1,
    )
    columns, rows = torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)
    position = torch.cat([wave(columns, width // 2), wave(rows, width // 2)], dim=1)
    hidden = patches @ weight["pos_embed.proj.weight"].flatten(1).T + weight["pos_embed.proj.bias"] + position.float()

    # timestep frequencies as diffusers has them: the last is exactly 1 / 10000
    frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 127)
    angles = timesteps[:, None].double() * frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=1)
    time = linear("embedder.timestep_embedder.linear_2", silu(linear("embedder.timestep_embedder.linear_1", features)))
    conditioning = time + weight["embedder.class_embedder.embedding_table.weight"][labels]

    for index in range(config.depth):
        block = f"transformer_blocks.{index}."
        modulation = linear(block + "norm1.linear", silu(conditioning))[:, None].chunk(6, dim=-1)
        shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp = modulation
        x = norm(hidden) * (1 + scale_attention) + shift_attention
        q, k, v = (linear(block + f"attn1.to_{name}", x) for name in "qkv")
        heads = []
        for head in range(config.num_heads):
            own = slice(head * width // config.num_heads, (head + 1) * width // config.num_heads)
            scores = q[..., own] @ k[..., own].mT / math.sqrt(width // config.num_heads)
            heads.append(torch.softmax(scores, dim=-1) @ v[..., own])
        hidden = hidden + gate_attention * linear(block + "attn1.to_out.0", torch.cat(heads, dim=-1))
        x = norm(hidden) * (1 + scale_mlp) + shift_mlp
        hidden = hidden + gate_mlp * linear(block + "ff.net.2", gelu(linear(block + "ff.net.0.proj", x)))

    shift, scale = linear("proj_out_1", silu(conditioning))[:, None].chunk(2, dim=-1)
    tokens = linear("proj_out_2", norm(hidden) * (1 + scale) + shift)
    # unpatchify: a token holds its patch as [P, P, C]
    output = images.new_zeros(len(images), config.out_channels, config.image_size, config.image_size)
    for token in range(side * side):
        y, x = divmod(token, side)
        patch_values = tokens[:, token].reshape(-1, patch, patch, config.out_channels).permute(0, 3, 1, 2)
        output[:, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch] = patch_values
    return output


@torch.no_grad()
def test_labels_are_not_dropped_inside_the_model(build, model_inputs):
    model = build()
    images, timesteps, labels = model_inputs(model, batch=64)
    expected = model.eval()(images, timesteps, labels)
    assert torch.equal(model.train()(images, timesteps, labels), expected)


def test_norms_have_dits_epsilon(build):
    model = build()
    for block in model.transformer_blocks:
        assert block.norm1.norm.eps == block.norm3.eps == 1e-6
    assert model.norm_out.eps == 1e-6
    assert to_diffusers(model).config.norm_eps == 1e-6


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preset, published",
    [("S/2", 32.96), ("B/2", 130.51), ("L/2", 458.10), ("XL/2", 675.13)],
    ids=lambda value: str(value),
)
def test_parameter_count_is_the_published_one(preset, published):
    """DiT's own count holds the fixed position table too, one row of `width` for each of the 256 tokens."""
    config = DiTConfig(*PRESETS[preset], image_size=32, channels=4, num_classes=1000, learned_variance=True)
    with torch.device("meta"):
        model = DiT(config)
    depth, width = config.depth, config.width
    attention, mlp, modulation = 4 * width * (width + 1), 8 * width * width + 5 * width, 6 * width * (width + 1)
    embedders = (256 + 1) * width + width * (width + 1) + 1001 * width + (4 * 4 + 1) * width
    head = 2 * width * (width + 1) + 32 * (width + 1)
    assert count_parameters(model) == depth * (attention + mlp + modulation) + embedders + head
    assert round((count_parameters(model) + 256 * width) / 1e6, 2) == published


def test_one_embedder_serves_all_blocks(build):
    names = [name for name, _ in build().named_parameters()]
    assert sum(name.endswith("embedding_table.weight") for name in names) == 1
    assert sum("timestep_embedder" in name for name in names) == 4


# --- initialisation -------------------------------------------------------------------------------------------


def test_initialisation_is_dits():
    model = build_dit(TINY, seed=5)
    width, found = TINY.width, dict(model.named_parameters())
    xavier = {"pos_embed.proj.weight": math.sqrt(6 / (3 * 2 * 2 + width))}
    zeros = {"proj_out_1.weight", "proj_out_2.weight"}
    for index in range(TINY.depth):
        block = f"transformer_blocks.{index}."
        for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v"):  # DiT's qkv is one matrix, [3 width, width]
            xavier[f"{block}{name}.weight"] = math.sqrt(6 / (width + 3 * width))
        xavier[f"{block}attn1.to_out.0.weight"] = math.sqrt(6 / (width + width))
        xavier[f"{block}ff.net.0.proj.weight"] = xavier[f"{block}ff.net.2.weight"] = math.sqrt(6 / (width + 4 * width))
        zeros.add(f"{block}norm1.linear.weight")
    normal = {name for name in found if name.startswith("embedder.") and name.endswith("weight")}
    biases = {name for name in found if name.endswith("bias")}
    assert len(normal) == 3
    assert found.keys() == xavier.keys() | zeros | normal | biases

    for name, bound in xavier.items():
        values = found[name].detach()
        assert 0.97 * bound < values.abs().max() <= bound, name
        torch.testing.assert_close(values.std().item(), bound / math.sqrt(3), rtol=0.06, atol=0, msg=name)
    for name in normal:
        values = found[name].detach()
        torch.testing.assert_close(values.std().item(), 0.02, rtol=0.06, atol=0, msg=name)
        assert values.abs().max() > 0.05, name  # a uniform draw of this spread ends at 0.035
    for name in zeros | biases:
        assert not found[name].any(), name


def test_a_seed_fixes_the_weights_and_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = build_dit(TINY, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(17)
    again, other = build_dit(TINY, seed=1).state_dict(), build_dit(TINY, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["transformer_blocks.0.attn1.to_q.weight"], other["transformer_blocks.0.attn1.to_q.weight"]
    )


# --- label table ----------------------------------------------------------------------------------------------


def test_the_null_row_is_the_last_whatever_the_number_of_classes(build, model_inputs):
    model = build(num_classes=5)
    assert model.label_table.shape == (6, 32)
    images, timesteps, _ = model_inputs(model, batch=4)
    null = torch.full((4,), 5)
    expected = model(images, timesteps, null)
    with torch.no_grad():
        model.label_table[:5] += 1  # classes move, the null label does not
    assert torch.equal(model(images, timesteps, null), expected)


@pytest.mark.parametrize("start", ["random", "null"])
@torch.no_grad()
def test_a_renewed_label_table_keeps_the_null_row(build, model_inputs, start):
    model = build(num_classes=5)
    old = model.label_table.clone()
    images, timesteps, _ = model_inputs(model, batch=4)
    expected = model(images, timesteps, torch.full((4,), 5))
    renew_label_table(model, 2, seed=3, start=start)
    assert model.config.num_classes == 2
    assert model.label_table.shape == (3, 32)
    assert torch.equal(model.label_table[-1], old[-1])
    assert torch.equal(model(images, timesteps, torch.full((4,), 2)), expected)
    if start == "null":
        assert torch.equal(model.label_table[:2], old[-1:].expand(2, -1))
    else:
        assert 0.01 < model.label_table[:2].std() < 0.03
    exported = to_diffusers(model)(images, timestep=timesteps, class_labels=torch.tensor([0, 1, 2, 2])).sample
    ours = model(images, timesteps, torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(exported, ours, rtol=1e-5, atol=1e-5)


def test_random_label_rows_depend_on_the_seed_alone(build):
    def rows(seed):
        torch.rand(seed + 1)
        return renew_label_table(build(), 3, seed, "random").label_table[:3]

    assert torch.equal(rows(0), rows(0))
    assert not torch.equal(rows(0), rows(1))


def test_a_gated_model_has_no_plain_dense_form(build):
    with pytest.raises(ValueError, match="class gate"):
        to_diffusers(build(learngenes=8, tailors=2))

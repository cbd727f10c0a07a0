"""Pictures that stock diffusers draws of an export, by its pipeline and by the code in the model card."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from kind.diffusion import Diffusion, make_sampler
from kind.exports import write_export
from kind.models.recombine import keep

CLASSES = ["cat", "dog", "a b/c", "owl", "A_b.c"]
DIFFUSION = Diffusion(schedule="cosine", prediction="v")


class TinyVAE(AutoencoderKL):
    """A decoder with few weights; what it shows depends on every latent."""

    def __init__(self):
        super().__init__(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8,), norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",),
        )  # fmt: skip


def our_latents(model, labels, null_gate, steps=3, scale=2.0, channels=4):
    """Guided DDIM by its formula, with the whole model's own forward."""
    sampler = make_sampler("ddim", DIFFUSION, steps, "trailing", False)
    latents = torch.randn(len(labels), channels, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.tensor(labels)
    null = torch.full_like(labels, model.config.num_classes)
    for time in sampler.timesteps:
        times = time.expand(len(labels))
        conditional = model(latents, times, labels)
        rest = model(latents, times, null, labels if null_gate == "true_class" else None)
        latents = sampler.step(rest + scale * (conditional - rest), time, latents).prev_sample
    return latents


def pictures(pipeline, labels):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        labels, guidance_scale=2.0, num_inference_steps=3, generator=torch.Generator().manual_seed(5), output_type="pt"
    ).images


def decoded(vae, latents):
    return (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def test_the_stock_pipeline_samples_dense_weights(build, tmp_path):
    model = keep(build(learngenes=8, tailors=3, channels=4, null_gate="true_class"), [3])
    write_export(tmp_path / "x", model, ["owl"], DIFFUSION)
    torch.manual_seed(0)
    vae = TinyVAE().eval()
    pipeline = DiTPipeline(
        DiTTransformer2DModel.from_pretrained(tmp_path / "x"), vae, DDIMScheduler.from_pretrained(tmp_path / "x")
    )
    expected = decoded(vae, our_latents(model, [0, 0], "true_class"))
    torch.testing.assert_close(pictures(pipeline, [0, 0]), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.05


def run_card(folder, monkeypatch, vae=None, steps=50):
    """The code in the model card, as a reader would paste it in the folder; gives back its names."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert ("VAE" in code.replace("the VAE that it asks for", "")) == (vae is not None)
    code = code.replace('AutoencoderKL.from_pretrained("VAE")', "VAE")
    code = code.replace("num_inference_steps=50", f"num_inference_steps={steps}")
    code = code.replace("num_steps=50", f"num_steps={steps}")
    names = {"VAE": vae}
    with monkeypatch.context() as patched:
        patched.chdir(folder)
        exec(code, names)
    return names


@torch.no_grad()
@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["adapters", "dense", "alone", "none"])
def test_the_model_card_of_pixels_samples_without_a_vae(build, tmp_path, monkeypatch, policy, channels, form):
    labels = {"adapters": [0, 1, 2, 3, 4], "dense": [3], "alone": [], "none": [3]}[form]
    model = keep(build(learngenes=8, tailors=3, channels=channels, null_gate=policy), labels)
    classes = [CLASSES[label] for label in labels]
    content = write_export(tmp_path / "x", model, classes, DIFFUSION, form="dense" if form == "none" else "auto")
    assert content["space"] == "pixels"
    names = run_card(tmp_path / "x", monkeypatch, steps=3)
    known = bool(classes) and content["guidance"] != "none"
    assert names["guidance_scale"] == (4 if known else 1)
    drawn = [len(classes) - 1] * 2 if classes else [0, 0]
    found = names["sample"](drawn if classes else [1000, 1000], num_steps=3, seed=5)
    expected = our_latents(model, drawn, policy, scale=names["guidance_scale"], channels=channels)
    torch.testing.assert_close(found, (expected / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)
    assert names["images"].shape == (1, channels, 8, 8)
    card = (tmp_path / "x" / "README.md").read_text()
    assert ("pipeline_tag: unconditional-image-generation" in card) == (not classes)
    assert "taken for pixels" in card and "`guidance_scale`: 1" in card


@torch.no_grad()
@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
def test_the_code_in_the_model_card_samples_with_adapters_where_guidance_needs_them(
    build, tmp_path, monkeypatch, policy
):
    """Through DiTPipeline and peft's `adapter_names`: under `learngenes` in the conditional half only."""
    model = build(learngenes=8, tailors=3, channels=4, null_gate=policy)
    folder = tmp_path / "x"
    content = write_export(folder, model, CLASSES, DIFFUSION)
    torch.manual_seed(0)
    vae = TinyVAE().eval()
    names = run_card(folder, monkeypatch, vae, steps=2)
    assert names["guidance_scale"] == 4 and len(names["images"]) == 1
    asked = []
    names["transformer"].register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(kwargs["adapter_names"]), with_kwargs=True
    )
    found = pictures(names["pipeline"], [2, 0, 4])
    expected = decoded(vae, our_latents(model, [2, 0, 4], policy))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    other = decoded(vae, our_latents(model, [2, 0, 4], "true_class" if policy == "learngenes" else "learngenes"))
    assert (found - other).abs().max() > 1e-2, "the policies differ, or nothing is tested"
    halves = ["a_b_c", "cat", "A_b_c_2"]
    null = ["__base__"] * 3 if policy == "learngenes" else halves
    assert asked == [halves + null] * 3
    assert content["guidance"] == ("conditional" if policy == "learngenes" else "adapter")

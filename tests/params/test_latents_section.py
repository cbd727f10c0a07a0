"""Latents in a params file: sizes that fit a VAE, one space for all data sets, and what is left out by default."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import pytest

from kind import recipes

PICTURES = {"source": "folder", "options": {"path": "x", "size": 64}, "latents": {}}
IN_LATENTS = {
    "data.pictures": PICTURES,
    "pretrain.data": "pictures",
    "tasks": {"novel": {"data": "pictures", "classes": ["d", "e"]}},
}


def other(**changes) -> dict:
    return {**PICTURES, **changes}


CASES = [
    ({"data.pictures": other(options={"path": "x", "size": 60})}, "data.pictures.latents: images of 60 x 60 pixels are no multiple of downsampling 8; write size: 56 or 64"),
    ({"data.pictures": other(options={"path": "x", "size": 4})}, "data.pictures.latents: images of 4 x 4 pixels are no multiple of downsampling 8; write size: 8"),
    ({"data.pictures": other(options={"path": "x", "size": 72})}, "data.pictures.latents: 72 x 72 pixels become latents of 9 x 9, no multiple of model.patch_size 2"),
    ({"data.pictures": other(options={"path": "x", "size": 64, "channels": 1})}, "data.pictures.latents: images of folder have 1 channel here, and a VAE takes 3; give a source of colours (`channels: 3` of image files), or leave latents out"),
    ({"data.digits.latents": {}, "data.digits.options": {"size": 16}}, "data.digits.latents: images of digits have 1 channel here, and a VAE takes 3; give a source of colours (`channels: 3` of image files), or leave latents out"),
    ({"data.pictures": other(latents={"scale": 0})}, "data.pictures.latents.scale: must be greater than 0, found 0"),
    ({"data.pictures": other(latents={"downsampling": 7})}, "data.pictures.latents.downsampling: 7 is not allowed; allowed: 1, 2, 4, 8, 16 or 32"),
    ({"data.pictures": other(latents={"flips": True})}, "data.pictures.latents.flips: unknown key; allowed: vae, scale, downsampling, channels, batch_size, precision"),
    ({"tasks": {"novel": {"data": "digits", "classes": [7, 8]}}}, "tasks.novel.data: digits gives pixels, but pretrain.data pictures latents of downsampling 8; give both the same `latents`"),
    ({"data.more": other(latents={"scale": 1.0}), "tasks": {"novel": {"data": "more", "classes": ["d", "e"]}}}, "tasks.novel.data: more gives latents of scale 1.0, but pretrain.data pictures latents of scale 0.18215; give both the same `latents`"),
    ({"data.more": other(options={"path": "x", "size": 32}), "tasks": {"novel": {"data": "more", "classes": ["d", "e"]}}}, "tasks.novel.data: images of more are 32 x 32, but those of pretrain.data pictures 64 x 64; give both one size"),
    ({"sampling.clip_sample": True}, "sampling.clip_sample: clips to [-1, 1], which latents exceed; leave it out"),
]  # fmt: skip


@pytest.mark.parametrize("changes, line", CASES, ids=range(len(CASES)))
def test_a_mistake_in_latents_is_one_line(complain, changes, line):
    said = complain(**IN_LATENTS | changes)
    assert f" 1 problem\n  1. {line}\n  -> " in said


def test_what_costs_too_much_at_the_size_of_latents_is_left_out_unless_asked_for(load):
    assert (load().is_judged, load().looks_for_copies) == (True, True)
    assert not load(**{"evaluation.judge": False}).is_judged
    latents = load(**IN_LATENTS)
    assert (latents.is_judged, latents.looks_for_copies) == (False, False)
    latents = load(**IN_LATENTS, **{"evaluation.judge": True, "evaluation.memorisation": True})
    assert (latents.is_judged, latents.looks_for_copies) == (True, True)


def test_judging_pixels_in_so_many_words_is_what_is_done_anyway(load):
    unsaid, said = load(), load(**{"evaluation.judge": True, "evaluation.memorisation": True})
    assert recipes.reference(unsaid, "novel") == recipes.reference(said, "novel")
    assert recipes.evaluate(unsaid, "novel", "kind", 0) == recipes.evaluate(said, "novel", "kind", 0)


def test_a_matched_size_counts_the_channels_of_latents(load):
    """One more for a final layer of four channels; grey pixels have one."""
    methods = {"bitfit": {}, "lora": {"match": "bitfit"}}
    found = load(**IN_LATENTS, methods=methods).match("lora", "novel")
    colours = {"data.pictures": other(latents=None)}
    assert found.target != load(**IN_LATENTS | colours, methods=methods).match("lora", "novel").target

"""The shares of several jobs are together the whole, and how many there are is a plan that outlives a change."""

from __future__ import annotations

import json
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from kind.artifacts import write_json
from kind.params.protocol import Sampling
from kind.parts import Part, feature_jobs, finished_parts, pieces, planned_jobs, reference_jobs, sampling_jobs


@pytest.mark.parametrize(("count", "of"), [(10, 3), (3, 3), (7, 1), (100, 8), (2, 5)])
def test_parts_are_together_all_and_of_about_one_size(count, of):
    shares = [list(Part(number, of).take(range(count))) for number in range(1, of + 1)]
    assert sum(shares, []) == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("batch", "shard", "counts"), [(20, 40, {5: 40, 10: 60}), (8, 1000, {3: 250}), (300, 300, {1: 650})]
)
def test_pieces_begin_at_batches_and_hold_every_sample_once(batch, shard, counts):
    sampling = Sampling(sampler="ddim", num_inference_steps=1, num_samples=1, batch_size=batch, shard_size=shard)
    found = pieces(sampling, counts)
    assert all(piece.first % batch == 0 for piece in found)
    assert all(piece.first // shard == (piece.first + piece.count - 1) // shard == piece.shard for piece in found)
    for step, count in counts.items():
        own = [piece for piece in found if piece.step == step]
        assert own[0].first == 0 and sum(piece.count for piece in own) == count
        assert all(one.first + one.count == other.first for one, other in pairwise(own))


@pytest.fixture
def experiment(tmp_path, valid_params):
    """made(text of the compute section, other text by what it replaces) -> Experiment"""
    from kind.params.file import load_experiment

    def made(compute, **changes):
        text = valid_params
        for old, new in changes.get("edit", {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "small.yaml").write_text(f"{text}compute: {compute}\n")
        return load_experiment(tmp_path / "small.yaml")

    return made


def test_there_are_as_many_jobs_as_asked_but_none_without_work(experiment):
    assert sampling_jobs(experiment("{}"), "novel") == feature_jobs(experiment("{}"), "novel") == 1
    found = experiment("{sampling_jobs: 9, feature_jobs: 9}")  # 20 samples at each of two steps, batches of 10
    assert sampling_jobs(found, "novel") == 2, "a piece of 20 images a step"
    assert feature_jobs(found, "novel") == 2, "a block a step"
    assert reference_jobs(found, "novel") == 1, "a block of 30 images"
    more = experiment("{sampling_jobs: 9, feature_jobs: 9}", edit={"num_samples: 20": "num_samples: 10000"})
    assert sampling_jobs(more, "novel") == feature_jobs(more, "novel") == 9


def test_what_is_done_is_planned_as_it_was_made_and_anew_as_asked(tmp_path):
    own, before = tmp_path / "sample.json", tmp_path / "finetune.json"
    markers = tmp_path / "parts" / "{part}_of_{parts}.json"
    assert planned_jobs(4, {own: "a", before: "b"}, markers) == 4, "nothing is there"
    own.write_text(json.dumps({"recipe_digest": "a", "jobs": 3}))
    before.write_text(json.dumps({"recipe_digest": "b"}))
    assert planned_jobs(4, {own: "a", before: "b"}, markers) == 3
    assert planned_jobs(1, {own: "a", before: "b"}, markers) == 3
    assert planned_jobs(4, {own: "other", before: "b"}, markers) == 4
    assert planned_jobs(4, {own: "a", before: "other"}, markers) == 4
    own.write_text(json.dumps({"recipe_digest": "a"}))
    assert planned_jobs(4, {own: "a", before: "b"}, markers) == 1, "made by one job"
    own.write_text("{")
    assert planned_jobs(4, {own: "a", before: "b"}, markers) == 4
    for part in (1, 2):
        write_json(tmp_path / "parts" / f"{part}_of_2.json", {"recipe_digest": "a"})
    assert planned_jobs(1, {own: "a", before: "b"}, markers) == 2, "left by a run that was stopped"
    assert planned_jobs(4, {own: "other", before: "b"}, markers) == 4, "of another recipe"


def test_only_whole_sets_of_parts_count(tmp_path):
    markers = tmp_path / "t.m@2.0.{part}_of_{parts}.json"

    def leave(part, parts):
        write_json(tmp_path / f"t.m@2.0.{part}_of_{parts}.json", {"recipe_digest": "this"})

    assert finished_parts(markers, 3, "this") == 1
    leave(1, 3)
    leave(3, 3)
    assert finished_parts(markers, 3, "this") == 1
    leave(1, 2)
    leave(2, 2)
    assert finished_parts(markers, 3, "this") == 2, "the number was changed after the parts were planned"
    leave(2, 3)
    assert finished_parts(markers, 3, "this") == 3
    assert finished_parts(markers, 2, "this") == 2
    assert finished_parts(markers, 3, "another") == 1


@pytest.mark.parametrize("ago", [0, 10**11])  # ns
def test_each_change_of_the_folder_that_all_parts_share_is_seen(tmp_path, ago):
    moment = time.time_ns() - ago

    def leave(job, part, parts):
        write_json(tmp_path / f"{job}.{part}_of_{parts}.json", {"recipe_digest": "a"})

    def found():
        return finished_parts(tmp_path / "t.lora.1.{part}_of_{parts}.json", 2, "a")

    for job in ("t.lora.11", "at.lora.1"):  # neither is taken for the other
        leave(job, 1, 2)
        leave(job, 2, 2)
    leave("t.lora.1", 1, 2)
    os.utime(tmp_path, ns=(moment, moment))
    assert found() == 1
    leave("t.lora.1", 2, 2)
    later = moment + bool(ago)  # what changes twice at once has one time
    os.utime(tmp_path, ns=(later, later))
    assert found() == 2


def test_many_stale_jobs_list_the_folder_of_parts_once(tmp_path, monkeypatch):
    for job in range(50):
        for part in range(1, 5):
            write_json(tmp_path / f"t.lora.{job}.{part}_of_4.json", {"recipe_digest": "a"})
    os.utime(tmp_path, (1, 1))
    listed, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: listed.append(folder) or glob(folder, pattern))
    own = {tmp_path / "there is none.json": "a"}
    found = [planned_jobs(3, own, tmp_path / f"t.lora.{job}.{{part}}_of_{{parts}}.json") for job in range(50)]
    assert found == [4] * 50
    assert len(listed) == 1

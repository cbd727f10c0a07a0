"""Draw class-balanced images from an adapted model at each evaluated step, as lossless ADM-format npz shards.

A shard holds `arr_0` (uint8 [N, H, W, C]) and `arr_1` (labels, positions in the task's classes).  They are drawn in
pieces, which lie in the state folder until all are there, so that a killed job keeps what it has, and several jobs can
share them (--part).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind import recipes
from kind.errors import UserError
from kind.locks import only_process
from kind.parts import Part, Piece, finished_parts, pieces, sampling_jobs
from kind.stages.job import LOCK, Job, read_record
from kind.stages.run_arguments import Run, add_part_argument, add_run_arguments, read_run

if TYPE_CHECKING:
    import numpy as np

EXAMPLE = "python -m kind sample --experiment smoke --task novel --method kind --seed 0"
PRECISION = "precision"  # of the arrays in a piece, beside those that go into a shard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    add_part_argument(parser, "draw a part of the samples alone")


def run(arguments: argparse.Namespace) -> None:
    this = read_run(arguments)
    job = whole_job(this)
    if arguments.part is None:
        job.run(lambda: put_together(this, job))
    else:
        draw_part(this, job, arguments.part)


def whole_job(this: Run) -> Job:
    context = this.context
    layout, steps = context.layout, this.steps
    raw = [layout.raw_adapted(this.folder)] if context.experiment.sampling.weights == "raw" else []
    adapted = [layout.adapted(this.folder, step) for step in steps]
    return Job(
        recipe=recipes.sample(context.experiment, *this.name),
        inputs=[
            *adapted,
            *raw,
            *([this.start] if this.start else []),
            *context.vae_files(context.experiment.task(this.task).data),
        ],
        outputs=[path for paths in this.shards().values() for path in paths],
        record=layout.record(this.folder, "sample"),
        state=this.state("sample"),
        planned=context.planned,
        records=[layout.record(this.folder, "finetune")],
    )


def draw_part(this: Run, whole: Job, part: Part) -> None:
    """Pieces where the job of the whole looks for them, and a record that says they are there."""
    own = part.take(pieces_of(this))
    layout, number = this.context.layout, {"part": part.number, "parts": part.of}
    Job(
        recipe=whole.recipe,
        inputs=whole.inputs,
        outputs=[_piece_file(whole, piece) for piece in own],
        record=layout.part("sample", *this.name, **number),
        state=part.state(whole.state),
        planned=whole.planned,
        records=whole.records,
    ).run(lambda: _timed(lambda: draw(this, whole, own)))


def put_together(this: Run, whole: Job) -> dict[str, Any]:
    """Shards of pieces; draws what no part has left."""
    from kind.artifacts import save_arrays

    def work() -> str:
        precision = draw(this, whole, pieces_of(this))
        for (step, shard), group in groupby(pieces_of(this), key=lambda piece: (piece.step, piece.shard)):
            read = [_read(this, whole, piece, precision) for piece in group]
            if None in read:
                return work()
            save_arrays(this.shards()[step][shard], **_joined(read))
        return precision

    for lock in whole.state.glob(f"parts/*/{LOCK}"):  # Snakemake waits for parts; a person may not
        with only_process(lock, "drawing a part of these samples"):
            pass
    layout, asked = this.context.layout, sampling_jobs(this.context.experiment, this.task)
    jobs = finished_parts(layout.part("sample", *this.name), asked, whole.digest)
    done = _timed(work)
    if jobs > 1:
        records = [layout.part("sample", *this.name, part=number, parts=jobs) for number in range(1, jobs + 1)]
        done["seconds"] = round(done["seconds"] + sum(read_record(path, "seconds")["seconds"] for path in records), 3)
        done["jobs"] = jobs
    return done | {"num_samples": this.sample_counts()[this.steps[-1]]}


def pieces_of(this: Run) -> list[Piece]:
    return pieces(this.context.experiment.sampling, this.sample_counts())


def draw(this: Run, whole: Job, wanted: Sequence[Piece]) -> str:
    """Those of the pieces that are not there; returns the precision of all of them.

    Where all are there and of one precision no device is needed, and no model.
    """
    found = {piece: _precision_of(_piece_file(whole, piece)) for piece in wanted}
    if len(set(found.values())) == 1 and None not in found.values():
        return found[wanted[0]]

    from kind.stages.expected import check_adapted

    device = this.context.ready_device()
    precision = this.context.precision_on(device)
    missing = [piece for piece in wanted if found[piece] != precision]
    others = sum(found[piece] is not None for piece in missing)
    if others:
        print(f"drawing {others} pieces again that were drawn in another precision than {precision}")
    for step in dict.fromkeys(piece.step for piece in missing):  # all of them before the first is drawn
        check_adapted(this, _weights(this, step))
    for step, group in groupby(missing, key=lambda piece: piece.step):
        draw_pieces(this, whole, step, list(group), device, precision)
    return precision


def draw_pieces(this: Run, whole: Job, step: int, wanted: Sequence[Piece], device: Any, precision: str) -> None:
    """Of one step."""
    import numpy as np

    from kind.artifacts import save_arrays
    from kind.progress import Progress
    from kind.sampling import balanced_labels

    experiment = this.context.experiment
    task, scale = experiment.task(this.task), experiment.guidance_scale(this.label, this.task)
    sampler = sampler_of(this, _weights(this, step), device, precision)
    labels = balanced_labels(this.sample_counts()[step], len(task.classes))
    label = f"sample {this.task} {this.label} seed {this.seed} step {step}"
    progress = Progress(label, sum(piece.count for piece in wanted))
    for piece in wanted:
        path, chosen = _piece_file(whole, piece), labels[piece.first : piece.first + piece.count]
        with only_process(path.with_suffix(".lock"), "drawing these samples"):
            images = sampler(chosen, first=piece.first, guidance_scale=scale, progress=progress)
            save_arrays(path, arr_0=images, arr_1=chosen.numpy(), **{PRECISION: np.array(precision)})
    progress.close()


def sampler_of(this: Run, weights: Path, device: Any, precision: str) -> Callable[..., np.ndarray]:
    """`kind.sampling.sample_images` of the run's model with these weights: of labels, the rest by keyword."""
    from kind.checkpoints import load_adapted
    from kind.random_streams import derive_seed
    from kind.sampling import sample_images
    from kind.stages.decoder import decoder_of

    context, protocol = this.context, this.context.experiment.sampling
    loaded = load_adapted(weights, this.start)
    model = this.method.merged(loaded.model).to(device)
    return partial(
        sample_images,
        model,
        loaded.diffusion,
        protocol,
        seed=derive_seed(protocol.seed, this.seed),
        null_gate=loaded.header["null_gate"],
        precision=precision,
        decode=decoder_of(context, context.experiment.task(this.task).data, model.config, device),
    )


def _weights(this: Run, step: int) -> Path:
    return this.final_weights if step == this.steps[-1] else this.context.layout.adapted(this.folder, step)


def _timed(work: Callable[[], str]) -> dict[str, Any]:
    started = time.monotonic()
    return {"precision": work(), "seconds": round(time.monotonic() - started, 3)}


# --- pieces -----------------------------------------------------------------------------------------------------


def _piece_file(whole: Job, piece: Piece) -> Path:
    return whole.state / whole.identity / f"step_{piece.step:06d}" / f"piece_{piece.first:06d}.npz"


def _precision_of(path: Path) -> str | None:
    """None where there is no piece, or none that can be opened."""
    from kind.artifacts import load_arrays

    try:
        found = load_arrays(path, [PRECISION], without=("arr_0", "arr_1")) if path.is_file() else {}
    except UserError:
        return None
    return str(found[PRECISION]) if found else None


def _read(this: Run, whole: Job, piece: Piece, precision: str) -> dict[str, np.ndarray] | None:
    """A damaged piece is drawn again; None where that can only be in another precision here than the others have."""
    from kind.artifacts import load_arrays

    path = _piece_file(whole, piece)
    try:
        return load_arrays(path, ("arr_0", "arr_1"), without=(PRECISION,))
    except UserError as error:
        print(f"drawing samples {piece.first} to {piece.first + piece.count - 1} again: {error}")
    path.unlink(missing_ok=True)
    if draw(this, whole, [piece]) != precision:
        return None
    return load_arrays(path, ("arr_0", "arr_1"), without=(PRECISION,))


def _joined(read: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    import numpy as np

    return {name: np.concatenate([arrays[name] for arrays in read]) for name in read[0]}

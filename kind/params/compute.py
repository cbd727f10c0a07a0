"""The section `compute`: where and how jobs run.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kind.params.types import PositiveFloat, PositiveInt, Section

MOST_JOBS = 1000  # of a run's samples: more is a slip of the pen


class Processes(Section):
    """In how many processes of one machine one model is trained: each has a GPU of its own, or `compute.threads`."""

    pretrain: PositiveInt = 1
    finetune: PositiveInt = 1


class Compute(Section):
    """Where and how jobs run.  Only `precision` is part of a recipe: the others move the last bits at most.

    checkpoint_seconds: between two states of a training.  spare_seconds: of a job's wall time, left for saving a state
    and ending when the time is up.  slices: jobs, one after another, that a training is planned to take; Snakemake
    tries two more.
    precision: of products: `bfloat16` (autocast), `tf32` (float32 with products of TF32 where there is a GPU),
    `float32`, or bfloat16 on a GPU and float32 on a CPU (`auto`).
    recompute: what training computes again in the backward pass to save memory: the hidden activations of factorized
    matrices (`hidden`: no more memory than a dense model; nothing behind a soft gate), or all inside a block (`blocks`:
    gradient checkpointing).  accumulation: in how many parts, one after the other, a training step computes its batch.
    processes: of pretrain and finetune.  compile: whether the model that is trained is compiled (torch.compile).
    deterministic: whether GPUs, too, give the same bits each time.
    workers: processes that decode image files; None: as many as the job may use cores.
    sampling_jobs, feature_jobs: jobs that draw a run's samples, and that extract features of them or of a reference.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("workers",)
    threads: PositiveInt = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    checkpoint_seconds: PositiveFloat = 60.0
    spare_seconds: PositiveFloat = 120.0
    slices: PositiveInt = 1
    recompute: Literal["nothing", "hidden", "blocks"] = "nothing"
    accumulation: PositiveInt = 1
    processes: Processes = Processes()
    compile: bool = False
    deterministic: bool = False
    workers: PositiveInt | None = None
    sampling_jobs: Annotated[int, Field(ge=1, le=MOST_JOBS)] = 1
    feature_jobs: Annotated[int, Field(ge=1, le=MOST_JOBS)] = 1


def batch_problems(valid: Mapping[str, Any]) -> Iterator[str]:
    """A line for each training section whose batch has fewer images than there are parts of it."""
    compute = valid.get("compute")
    for name in ("pretrain", "finetune"):
        section = valid.get(name)
        if compute is None or section is None or None in (section.batch_size, compute.accumulation, compute.processes):
            continue
        processes = getattr(compute.processes, name)
        if processes is not None and section.batch_size < processes * compute.accumulation:
            yield (
                f"{name}.batch_size: {section.batch_size} images are fewer than the parts they are divided into, "
                f"compute.processes.{name} {processes} x compute.accumulation {compute.accumulation}"
            )

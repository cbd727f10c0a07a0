"""The arguments that name one run, (task, method, seed), for the stages that work on one."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from kind.errors import UserError
from kind.methods import METHODS, Method, MethodOptions
from kind.parts import Part, sample_counts
from kind.stages.context import Context, add_shared_arguments, read_context


@dataclass(frozen=True)
class Run:
    """One (task, method, seed) and where its files lie.  `start`: the file that its method begins with, or None."""

    context: Context
    task: str
    label: str
    seed: int

    @property
    def name(self) -> tuple[str, str, int]:
        return self.task, self.label, self.seed

    @property
    def folder(self) -> Path:
        return self.context.layout.run(*self.name)

    @property
    def method(self) -> Method:
        return METHODS[self.context.experiment.method_name(self.label)]

    @property
    def options(self) -> MethodOptions:
        return self.context.experiment.method_options(self.label, self.task)

    @property
    def tuned(self) -> Path | None:
        """The file that holds the learning rate, where tuning chooses it."""
        chosen = self.label in self.context.experiment.tuned()
        return self.context.layout.tuned_rate(self.label) if chosen else None

    @property
    def steps(self) -> list[int]:
        """Evaluated steps; the last is the end."""
        return self.context.experiment.curve_steps(self.task)

    @property
    def start(self) -> Path | None:
        return self.context.layout.start(self.method.start, getattr(self.options, "backbone", None))

    @property
    def replay(self) -> Path | None:
        """Samples of the source model, where the entry's objective trains on them."""
        source = self.context.experiment.replay_of(self.label)
        return self.context.layout.replay(source) if source else None

    @property
    def members(self) -> list[Run]:
        """The runs that this one is made of; none for most."""
        return [replace(self, label=label) for label in self.context.experiment.members_of(self.label)]

    @property
    def final_weights(self) -> Path:
        """What the method trained, after the last step: averaged or raw, as the protocol's samples have it."""
        layout, experiment = self.context.layout, self.context.experiment
        if experiment.sampling.weights == "raw":
            return layout.raw_adapted(self.folder)
        return layout.adapted(self.folder, self.steps[-1])

    @property
    def needs(self) -> frozenset[str]:
        return self.context.experiment.needs(self.label, self.task)

    def state(self, stage: str) -> Path:
        return self.context.layout.state(stage, *self.name)

    def sample_counts(self) -> dict[int, int]:
        """How many images are drawn after each evaluated step; the last is the full number."""
        return sample_counts(self.context.experiment, self.task)

    def shards(self) -> dict[int, list[Path]]:
        """Sample files by step."""
        layout, size = self.context.layout, self.context.experiment.sampling.shard_size
        return {step: layout.samples(self.folder, step, n, size) for step, n in self.sample_counts().items()}


def add_run_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    add_shared_arguments(parser, required=required)
    parser.add_argument("--task", required=required, metavar="NAME", help="an entry of the params' tasks section")
    parser.add_argument("--method", required=required, metavar="NAME", help="an entry of the params' methods section")
    parser.add_argument("--seed", required=required, type=int, metavar="N", help="one of the params' seeds")


def add_part_argument(parser: argparse.ArgumentParser, does: str) -> None:
    """does: what of the stage's work can be shared."""
    parser.add_argument(
        "--part",
        type=_part,
        metavar="N/OF",
        help=f"{does}, the N-th of OF equal parts; the stage without this option then makes the whole of them",
    )


def _part(text: str) -> Part:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"expected N/OF with N from 1 to OF, as 2/8; found {text!r}")
    return Part(int(number), int(of))


def read_run(arguments: argparse.Namespace) -> Run:
    context = read_context(arguments)
    name = arguments.task, arguments.method, arguments.seed
    if name not in context.experiment.all_runs():  # then one of these says why
        context.choose("tasks", arguments.task)
        context.choose("methods", arguments.method)
        context.choose_seed(arguments.seed)
        seen = "classes of pre-training" if context.experiment.task(arguments.task).seen else "new classes"
        fitting = context.experiment.entries_on(arguments.task)
        raise UserError(
            f"{context.params_path}: {arguments.method} does not run on the task {arguments.task}, which has {seen}",
            hint=f"entries that do: {', '.join(fitting)}",
        )
    return Run(context, *name)

"""Parameters and multiply-accumulates of an experiment's backbones and adapted models, without building any."""

from __future__ import annotations

from dataclasses import dataclass

from kind.costs import Cost, Network, adapted_cost, backbone_cost
from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.methods import METHODS, Adaptation, Unknown
from kind.models.factorization import Factorization
from kind.params import Experiment
from kind.params.match import channels_of


@dataclass(frozen=True)
class ModelCost:
    """A backbone (no tasks), or what an entry leaves on some tasks of equally many classes.

    form: of models that train and draw at one speed: `dense`, `factorized` (backbones) or `adapted` (of the task's few
    classes, behind a gate).  trained: without the label table; None where only weights could tell.
    """

    name: str
    tasks: tuple[str, ...]
    num_classes: int
    form: str
    trained: int | None
    cost: Cost


class Models:
    """Costs of all models of an experiment."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.network = network_of(experiment)
        self.backbones = {name: self._backbone(name) for name in experiment.backbones}
        self._adapted: dict[tuple[str, int | tuple[int, ...]], ModelCost] = {}

    def adapted(self, label: str, task: str) -> ModelCost:
        """Of an entry, or of a trial, which costs the same, on a task."""
        experiment, count = self.experiment, len(self.experiment.task(task).classes)
        entry = label.partition("@")[0]
        method = METHODS[experiment.method_name(entry)]
        kept = self._positions(task) if method.for_seen else None  # what they hold may differ from class to class
        if (entry, kept or count) not in self._adapted:
            options = experiment.method_options(entry, task)
            tasks = tuple(
                name
                for name in experiment.tasks_of(entry)
                if (self._positions(name) == kept if kept else len(experiment.tasks[name].classes) == count)
            )
            learned = self.learned(experiment.backbone_of(entry))
            if kept and learned is not None:
                learned = learned.select(kept)
            try:
                outline = self.network.outline(learned)
                trained = method.trainable_parameters(outline, options, Adaptation(count, seed=0))
            except Unknown:
                trained = None
            cost = adapted_cost(self.network, learned, method, options, count)
            form = "adapted" if method.deployed else "dense"
            self._adapted[entry, kept or count] = ModelCost(entry, tasks, count, form, trained, cost)
        return self._adapted[entry, kept or count]

    def _positions(self, task: str) -> tuple[int, ...]:
        """Of a task's classes among those of pre-training."""
        return tuple(self.experiment.pretrain.classes.index(name) for name in self.experiment.tasks[task].classes)

    def table(self) -> list[ModelCost]:
        """Backbones, then every entry on every number of classes that tasks have."""
        entries = [self.adapted(one, task) for one in self.experiment.methods for task in self.experiment.tasks_of(one)]
        return [*self.backbones.values(), *dict.fromkeys(entries)]

    def _backbone(self, name: str) -> ModelCost:
        count, learned = len(self.experiment.pretrain.classes), self.learned(name)
        cost = backbone_cost(self.network, learned, count)
        table = (count + 1) * self.network.shape.width
        form = "dense" if learned is None else "factorized"
        return ModelCost(name, (), count, form, cost.parameters - table, cost)

    def learned(self, backbone: str | None) -> Factorization | None:
        """The components of a backbone; None for a dense one, and for none."""
        if backbone is None or self.experiment.backbones[backbone].form == "dense":
            return None
        side = min(self.experiment.embedding.side, self.network.side)
        known = self.experiment.embedding.path is None
        size = self.network.channels * side**2 if known else None
        return self.experiment.backbones[backbone].factorization(self.experiment.pretrain.classes, size)


def network_of(experiment: Experiment) -> Network:
    """Raises UserError where only the data can tell how large its images are."""
    name = experiment.pretrain.data
    data = experiment.data[name]
    side, channels = side_of(experiment, name), channels_of(data)
    if None in (side, channels):
        raise UserError(
            f"data.{name}: only the data can tell how large its images are, so that nothing can be planned",
            hint=f"give size and channels in data.{name}.options, if {data.source} has them",
        )
    if data.latents is not None:
        side //= data.latents.downsampling
    return Network(experiment.model.shape(), side, channels, experiment.diffusion.learned_variance)


def side_of(experiment: Experiment, data: str) -> int | None:
    """Of the stored square images, in pixels."""
    source = SOURCES[experiment.data[data].source]
    return getattr(source.options.model_validate(experiment.data[data].options), "size", None)

"""KIND models in Python, without experiments: load, keep classes, cut, combine, sample, save, export.

    import kind

    model = kind.load("results/smoke/backbones/kind")
    small = model.keep(["3", "5"]).budget(parameters=0.5)
    images = small.sample(16)
    small.save("small.safetensors")
    small.export("small")

Every method gives a new model and leaves its own as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from kind import checkpoints
from kind.budget import Budget, Kept, canonicalised, cut
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.evaluation.complexity import describe_cost
from kind.exports import write_export
from kind.model_files import read_model, read_parts, write_parts
from kind.models import recombine
from kind.models.dit import DiT
from kind.models.plain import require_plain
from kind.params.messages import describe_errors, nearest, some
from kind.params.protocol import DEFAULT_SPACING, Sampling, spacing_problem
from kind.sampling import balanced_labels, sample_images, sample_latents

Place = str | Path


@dataclass(frozen=True)
class KindModel:
    """A diffusion transformer with the names of its classes, in the order of its labels, and its diffusion.

    kept: what the last cut to a budget left of each matrix for each class; None where nothing was cut.
    """

    model: DiT
    classes: tuple[str, ...]
    diffusion: Diffusion
    kept: tuple[Kept, ...] | None = None

    # --- smaller and larger ---------------------------------------------------------------------------------

    def keep(self, classes: Iterable[str | int]) -> KindModel:
        """The learngenes and these classes' tailors; labels are the order of `classes`, which are names."""
        model, names = require_plain(self.model, "taken apart"), [str(name) for name in classes]
        for name in names:
            if name not in self.classes:
                raise UserError(
                    f"the model has no class {name!r}{nearest(name, self.classes)}; it has "
                    f"{some(self.classes, '') or 'none'}"
                )
        if len(set(names)) < len(names):
            raise UserError(f"classes {', '.join(names)}: each may be named once")
        small = recombine.keep(model, [self.classes.index(name) for name in names])
        return replace(self, model=small, classes=tuple(names), kept=None)

    def learngenes(self) -> KindModel:
        """What all classes share, without tailors: it knows the null label only."""
        return self.keep([])

    def budget(
        self,
        *,
        parameters: int | float | None = None,
        macs: int | float | None = None,
        rank: int | None = None,
        relative: bool = True,
    ) -> KindModel:
        """Without the components of least energy, so that one of the three holds (see `kind.budget` for what they
        count).  A float is a share of the model's own.  relative: compare energies as shares of their matrix's."""
        given = {"parameters": parameters, "macs": macs, "rank": rank}
        chosen = {kind: amount for kind, amount in given.items() if amount is not None}
        if len(chosen) != 1:
            raise UserError(f"give one of parameters, macs and rank; got {', '.join(chosen) or 'none'}")
        result = cut(require_plain(self.model, "cut"), Budget(*chosen.popitem()), relative=relative)
        return replace(self, model=result.model, kept=tuple(result.kept))

    def canonical(self) -> KindModel:
        """The same function with orthonormal components by falling energy."""
        return replace(self, model=canonicalised(require_plain(self.model, "brought to canonical form")), kept=None)

    def combine(self, *others: KindModel, null_row_of: int | None = None) -> KindModel:
        """One model of the classes of several that share learngenes.  null_row_of: see `kind.models.recombine`."""
        models = (self, *others)
        classes = [name for one in models for name in one.classes]
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise UserError(
                f"class {', '.join(map(repr, twice))} is in more than one of the models",
                hint="keep it in one of them, and combine then",
            )
        diffusions = {one.diffusion for one in models}
        if len(diffusions) > 1:
            raise UserError(f"the models were trained for different diffusions: {'; '.join(map(str, diffusions))}")
        model = recombine.combine([require_plain(one.model, "combined") for one in models], null_row_of)
        return replace(self, model=model, classes=tuple(classes), kept=None)

    # --- use ------------------------------------------------------------------------------------------------

    @property
    def null_gate(self) -> str | None:
        """What the gate does with the null label; None for a dense model."""
        return None if self.model.gate is None else self.model.factorization.null_gate

    @property
    def cost(self) -> dict[str, int]:
        """deployed and active parameters, and MACs of one conditional forward pass."""
        return describe_cost(self.model)

    def to(self, device: str | torch.device) -> KindModel:
        """Moves the model itself."""
        self.model.to(device)
        return self

    def labels(self, num_samples: int) -> torch.Tensor:
        """Label of sample i of `sample`: i modulo the number of classes; the null label where there is none."""
        return balanced_labels(num_samples, max(1, len(self.classes)))

    def sample(
        self,
        num_samples: int = 16,
        *,
        guidance_scale: float = 1.5,
        num_steps: int = 50,
        sampler: str = "dpm",
        timestep_spacing: str | None = None,
        clip_sample: bool = False,
        seed: int = 0,
        batch_size: int = 64,
        precision: str = "float32",
        vae: Place | None = None,
        latents: bool = False,
    ) -> np.ndarray:
        """Images of all classes in turn (see `labels`), uint8 [N, H, W, C]; learngenes alone are not guided.

        timestep_spacing: linspace, leading or trailing; None is what suits the sampler.  Of a model of latents: vae is
        the folder of the VAE that decodes them (None: see kind/weights.py), or, with latents=True, they are given back
        as they are, float32 [N, h, w, C].
        """
        protocol = _protocol(
            sampler=sampler,
            num_inference_steps=num_steps,
            timestep_spacing=timestep_spacing or DEFAULT_SPACING.get(sampler, "leading"),
            clip_sample=clip_sample,
            guidance_scale=guidance_scale if self.classes else 1.0,
            num_samples=num_samples,
            batch_size=batch_size,
        )
        trained = self.diffusion.num_train_timesteps
        if num_steps > trained:
            raise UserError(f"num_steps: {num_steps} asked, but the model was trained with {trained} timesteps")
        draw, how = self._what_to_draw(vae, latents)
        return draw(
            self.model,
            self.diffusion,
            protocol,
            self.labels(num_samples),
            seed,
            null_gate=self.null_gate or "learngenes",
            precision=precision,
            **how,
        )

    def _what_to_draw(self, vae: Place | None, latents: bool) -> tuple[Callable[..., np.ndarray], dict[str, Any]]:
        """Images or latents, and what is needed besides.  Raises UserError for arguments that do not fit the model."""
        own = self.model.config.latents
        if own is None and (vae is not None or latents):
            raise UserError("the model is one of pixels", hint="leave vae and latents out")
        if vae is not None and latents:
            raise UserError("vae and latents: samples are decoded or not", hint="give one of the two")
        if own is None or latents:
            return (sample_latents if latents else sample_images), {}
        from kind.vae import load_vae_of

        return sample_images, {"decode": load_vae_of(own, vae, next(self.model.parameters()).device).decode}

    # --- files ----------------------------------------------------------------------------------------------

    def save(self, path: Place) -> None:
        """One file that `load` reads and that describes itself."""
        checkpoints.save_backbone(Path(path), self.model, list(self.classes), self.diffusion)

    def save_parts(self, folder: Place, *, overwrite: bool = False) -> None:
        """learngenes.safetensors, tailors/class_0000.safetensors, ...: the form in which parts are handed on."""
        model = require_plain(self.model, "taken apart")
        loaded = checkpoints.Loaded(model, list(self.classes), self.diffusion, {})
        write_parts(Path(folder), loaded, overwrite=overwrite)

    def export(self, folder: Place, *, form: str = "auto", overwrite: bool = False) -> dict[str, Any]:
        """A folder that stock diffusers (and peft) load; gives back what its kind.json holds.  See `kind.exports`."""
        model = require_plain(self.model, "exported")
        return write_export(Path(folder), model, self.classes, self.diffusion, form=form, overwrite=overwrite)


def _protocol(**given: Any) -> Sampling:
    """Raises UserError for what no params file may say either, in the words of `KindModel.sample`."""
    try:
        protocol = Sampling(**given)
    except ValidationError as error:
        mistakes = "; ".join(describe_errors(error, (), Sampling)).replace("num_inference_steps", "num_steps")
        raise UserError(f"these samples cannot be drawn: {mistakes}")
    if problem := spacing_problem(protocol.sampler, protocol.timestep_spacing):
        raise UserError(f"timestep_spacing: {problem}")
    return protocol


def load(path: Place, start: Place | None = None) -> KindModel:
    """A model of this project from whatever holds it.

    path: a model file; a folder of a backbone, of parts (what `extract` writes) or of an export; a file of learngenes;
    or an adapted model (of a run's folder, the last step), for which `start` names what it was trained from: a file, or
    the folder that holds it.  Raises UserError for anything else.
    """
    return _wrap(read_model(Path(path), None if start is None else Path(start)))


def load_parts(learngenes: Place, tailors: Sequence[Place]) -> KindModel:
    """Learngenes and any classes' tailors, labels in the order of the files."""
    return _wrap(read_parts(Path(learngenes), [Path(path) for path in tailors]))


def combine(*models: KindModel, null_row_of: int | None = None) -> KindModel:
    """See `KindModel.combine`."""
    if not models:
        raise UserError("there is nothing to combine", hint="give at least one model")
    return models[0].combine(*models[1:], null_row_of=null_row_of)


def _wrap(loaded: checkpoints.Loaded) -> KindModel:
    return KindModel(loaded.model.eval(), tuple(loaded.classes), loaded.diffusion)

"""How long work takes: by one given throughput, or by what this machine was measured to do.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kind.planning.work import Kind, Work


@dataclass(frozen=True)
class Rates:
    """macs: multiply-accumulates a second, by kind of work; of what is not in there, `otherwise`.

    startup: seconds of a job before its work, 0 where nothing was measured.  notes: what this rests on, for people.
    """

    otherwise: float
    macs: dict[Kind, float] = field(default_factory=dict)
    startup: float = 0.0
    device: str = "device"
    notes: tuple[str, ...] = ()

    def seconds(self, work: Work) -> float:
        return work.jobs * self.startup + sum(
            amount / self.macs.get(kind, self.otherwise) for kind, amount in work.macs.items()
        )

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        rates = {**self.macs, ("other",): self.otherwise}
        return {
            "device": self.device,
            "tflops": {" ".join(kind): 2e-12 * rate for kind, rate in rates.items()},
            "startup_seconds": self.startup,
            "notes": list(self.notes),
        }


def given_rates(tflops: float) -> Rates:
    """tflops: 10^12 floating-point operations a second that a device keeps up, two for a multiply-accumulate."""
    return Rates(
        otherwise=tflops * 1e12 / 2,
        notes=(
            f"{tflops:g} TFLOP/s, as given, for all work alike; what a device keeps up is often a third to a half of "
            "its data sheet's figure",
            "reading, start of jobs and distances between sets of features are not counted",
        ),
    )

"""What 1,920 runs cost before and after the work: planning, the report, and MLflow.

    python benchmarks/scale.py                      # params/scale.yaml; minutes
    python benchmarks/scale.py --experiment scale_b --skip report

Nothing is trained: every output is a placeholder, and Snakemake itself writes its record of each job, as if it had run.
A row a step: seconds by the clock, CPU seconds, and the peak of memory of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "reporting"), str(ROOT / "tests" / "tracking")]

STEPS = ("plan", "fill", "filled", "pulled", "report", "track")


@dataclass(frozen=True)
class Step:
    name: str
    wall: float
    cpu: float
    peak: float  # MiB
    said: str

    def __str__(self) -> str:
        return f"{self.name:<44}{self.wall:>8.1f} s{self.cpu:>8.1f} s{self.peak:>8.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="scale", help="a name in params/, or the path of a params file")
    parser.add_argument("--folder", type=Path, help="to work in, and to keep; default: a temporary one")
    parser.add_argument("--skip", nargs="*", default=[], choices=STEPS, help="steps to leave out")
    arguments = parser.parse_args()
    given = arguments.experiment
    params = Path(given).resolve() if given.endswith((".yaml", ".yml")) else ROOT / "params" / f"{given}.yaml"
    with tempfile.TemporaryDirectory() as temporary:
        place = (arguments.folder or Path(temporary)).resolve()
        measure(place, params, [step for step in STEPS if step not in arguments.skip])


def measure(place: Path, params: Path, steps: list[str]) -> None:
    print(f"{'':<44}{'clock':>10}{'CPU':>10}{'memory':>12}")
    place.mkdir(parents=True, exist_ok=True)
    if "plan" in steps:
        print(timed("python -m kind plan", ["-m", "kind", "plan", str(params), "--tflops", "100"], place))
        print(timed("snakemake -n, nothing there", dry_run(params), place))
    if "fill" in steps:
        print(timed("(placeholders and Snakemake's records)", [__file__, "--fill", str(params)], place))
    if "filled" in steps:
        print(expect_nothing(timed("snakemake -n, all there", dry_run(params), place)))
    if "pulled" in steps:
        as_pulled(place)
        print(expect_nothing(timed("snakemake -n, all there with new times", dry_run(params), place)))
    if "report" in steps:
        for name in names(params):
            step = timed(f"synthetic runs of {name} and their report", [__file__, "--report", str(params), name], place)
            print(f"{step}\n  of it the report: {step.said.strip().splitlines()[-1]}")
            page = place / "reports" / name / "report" / "index.html"
            print(f"  its page: {page.stat().st_size / 1e6:.1f} MB")
    if "track" in steps:
        timed("results to track", [__file__, "--results", str(params)], place)
        command = ["-m", "kind", "track", "--experiment", str(params), "--results", "tracked/results"]
        print(timed("python -m kind track, the first time", command, place))
        print(timed("python -m kind track, nothing new", command, place))


def dry_run(params: Path) -> list[str]:
    return ["-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "local"), "--dry-run",
            "--quiet", "rules", "host", "--config", f"experiment={params}"]  # fmt: skip


def timed(name: str, command: list[str], place: Path) -> Step:
    """Run Python with these arguments; ends everything where it fails."""
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KIND_TRACKING": "off"}
    process = subprocess.Popen([sys.executable, *command], cwd=place, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed:\n{said}")
    return Step(name, time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said)


def expect_nothing(step: Step) -> Step:
    if "Nothing to be done" not in step.said:
        sys.exit(f"{step.name}: Snakemake would run something:\n{step.said[-3000:]}")
    return step


def names(params: Path) -> list[str]:
    from kind.params.file import load_experiments

    return [found.name for found in load_experiments(params).values()]


# --- placeholders ---------------------------------------------------------------------------------------------------


def fill(params: str) -> None:
    """Plan as `snakemake -n` does, make what is planned, and have Snakemake note it as done."""
    from snakemake.cli import main as snakemake
    from snakemake.workflow import Workflow

    build = Workflow._build_dag

    async def all_jobs(workflow: Workflow) -> None:
        jobs = [job for level in workflow.dag.toposorted() for job in level]
        for job in jobs:
            for output in job.output:
                placeholder(Path(str(output)), output.is_directory)
            if hasattr(job.output, "record"):
                record(Path(str(job.output.record)), job.params.recipe)
        workflow.iocache.clear()
        for job in jobs:
            await workflow.persistence.finished(job)

    def build_and_fill(workflow: Workflow) -> None:
        build(workflow)
        workflow.async_run(all_jobs(workflow))

    Workflow._build_dag = build_and_fill
    sys.exit(snakemake(dry_run(Path(params))[2:]))


def placeholder(path: Path, is_folder: bool) -> None:
    if is_folder:
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"placeholder of {path}\n")


def record(path: Path, recipe: str) -> None:
    """As jobs leave it, of forty files; plans read it."""
    from kind.artifacts import digest, write_sealed_json

    files = {f"folder/file_{number:03d}": digest([str(path), number]) for number in range(20)}
    write_sealed_json(path, {"format": 1, "recipe": {}, "recipe_digest": recipe, "inputs": files, "outputs": files})


def as_pulled(place: Path) -> None:
    """New times in no order, as a clone and `dvc pull` leave them; Snakemake's records come along."""
    now = time.time()
    for number, path in enumerate(sorted((place / "results").rglob("*"))):
        moment = now - number * 7919 % 61
        os.utime(path, (moment, moment))


# --- the report -----------------------------------------------------------------------------------------------------


def report(params: str, name: str) -> None:
    """Of synthetic runs."""
    from synthetic_experiment import write_experiment

    from kind.layout import Layout
    from kind.params.file import load_experiments
    from kind.reporting.report import write_report

    experiment = next(one for one in load_experiments(Path(params)).values() if one.name == name)
    plain, layout = experiment.model_dump(), Layout(Path("reports") / name)
    write_experiment(layout.root, plain["tasks"], plain["methods"], experiment.seeds, size=32)
    used = resource.getrusage(resource.RUSAGE_SELF)
    before, start = used.ru_utime + used.ru_stime, time.monotonic()
    write_report(
        experiment=name, params=plain, folder=layout.root, output=layout.report, seeds=experiment.seeds,
        tasks=plain["tasks"], methods=plain["methods"], command="none",
    )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{time.monotonic() - start:.1f} s, {used.ru_utime + used.ru_stime - before:.1f} CPU s without the making")


def results(params: str) -> None:
    """As MLflow is told of them."""
    from tiny_results import TinyResults

    for name in names(Path(params)):
        TinyResults(Path("tracked"), Path(params).with_name(f"{name}.yaml")).write_all()


if __name__ == "__main__":
    inner = {"--fill": fill, "--report": report, "--results": results}
    if len(sys.argv) > 1 and sys.argv[1] in inner:  # a step, in a process of its own
        inner[sys.argv[1]](*sys.argv[2:])
    else:
        main()

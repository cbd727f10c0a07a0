"""Training by two processes ends where training by one does: real torchrun, gloo, DistributedDataParallel."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import trained
from beside import run_beside

ROOT = Path(__file__).resolve().parents[2]
FAST = ("dense", "kind", "kind, float32", "sara")


ONE_AGENT = (("--standalone", "--nproc-per-node=2"),)


def by_two(folder: Path, names: list[str], agents=ONE_AGENT) -> dict:
    """agents: the arguments of each torchrun, one a machine."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    commands = [[*torchrun, *agent, Path(trained.__file__), folder, *names] for agent in agents]
    run_beside(commands, folder, env=environment)
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return by_two(tmp_path_factory.mktemp("few"), list(FAST))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return by_two(tmp_path_factory.mktemp("others"), [name for name in trained.cases() if name not in FAST])


@pytest.fixture(scope="module")
def by_agents(tmp_path_factory):
    """Of two torchruns with a process each, as on two machines."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    agent = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}")
    agents = [(*agent, f"--node-rank={rank}", "--rdzv-id=7") for rank in range(2)]
    return by_two(tmp_path_factory.mktemp("agents"), list(FAST), agents)


def check(found: dict, name: str) -> None:
    torch.set_num_threads(1)
    expected = trained.trained(trained.cases()[name])
    exact = "float32" not in name
    torch.testing.assert_close(found["output"], expected["output"], rtol=0, atol=1e-9 if exact else 1e-5)
    assert list(found["weights"]) == list(expected["weights"]), "names of parameters, in their order"
    for key, tensor in expected["weights"].items() if exact else ():
        torch.testing.assert_close(found["weights"][key], tensor, rtol=0, atol=1e-9, msg=key)
    for row, other in zip(found["log"], expected["log"], strict=True):
        assert row == pytest.approx(other, rel=1e-9 if exact else 1e-4)
    assert (found["cost"]["processes"], expected["cost"]["processes"]) == (2, 1)


@pytest.mark.parametrize("name", FAST)
def test_two_processes_train_as_one(few, name):
    """20 steps on batches of 7: all weights to 1e-9 in float64, what the model says to 1e-5 in float32."""
    check(few[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_two_machines_train_as_one_process(by_agents, name):
    check(by_agents[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in trained.cases() if name not in FAST])
def test_two_processes_train_as_one_whatever_is_trained(others, name):
    check(others[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kind, replay", "lt-sft"])
def test_a_compiled_model_trains_as_it_is(name):
    """What torch.compile traces, run without generated code, which needs a compiler: forward and backward passes.
    lt-sft goes on with other parameters after half of its steps."""
    torch.set_num_threads(1)
    aot_eager, graphs = torch._dynamo.lookup_backend("aot_eager"), []

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    plain = trained.trained(trained.cases()[name])
    torch.compiler.reset()
    with torch.compiler.set_stance("default", force_backend=backend):
        found = trained.trained(trained.cases()[name], compiled=True)
    assert graphs, "something was compiled"
    assert list(found["weights"]) == list(plain["weights"])
    for key, tensor in plain["weights"].items():
        torch.testing.assert_close(found["weights"][key], tensor, rtol=0, atol=1e-9, msg=key)
    assert [row["loss"] for row in found["log"]] == pytest.approx([row["loss"] for row in plain["log"]], rel=1e-9)


@pytest.mark.parametrize("name", ["kind, replay", "sara"])
def test_a_batch_in_parts_trains_as_the_whole(name):
    torch.set_num_threads(1)
    whole, found = (trained.trained(trained.cases()[name], accumulation=parts) for parts in (1, 3))
    for key, tensor in whole["weights"].items():
        torch.testing.assert_close(found["weights"][key], tensor, rtol=0, atol=1e-9, msg=key)
    assert [row["loss"] for row in found["log"]] == pytest.approx([row["loss"] for row in whole["log"]], rel=1e-9)

"""What a run lacks on a cluster: one line a thing, and never a wait without end."""

# ruff: noqa: E501  messages

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from pathlib import Path

import pytest
import yaml

from kind.__main__ import main
from kind.cluster import preflight, slurm
from kind.cluster.preflight import Request, lacking_on_cluster, lacking_server

ROOT = Path(__file__).parents[2]
TRAINING = Request("pretrain", gpus=1, minutes=1440, memory_mb=32000)
UNKNOWN = "; set slurm_partition in slurm/config.yaml"


def test_a_cluster_that_has_all_of_it_lacks_nothing(programs):
    programs()
    asked = [TRAINING, Request("finetune", partition="gpu", account="Physics", gpus=8, minutes=1440)]
    assert lacking_on_cluster(asked, "squeue") == []


@pytest.mark.parametrize(
    ("says", "request_", "line"),
    [
        ({"sbatch": None}, TRAINING, "sbatch: the executor slurm submits jobs with it; run this where Slurm is, or with --profile local"),
        ({"sinfo": 1}, TRAINING, "slurmctld: sinfo failed: slurm_load_partitions: Unable to contact slurm controller; ask `sinfo` by hand, and whoever runs the cluster"),
        ({"sinfo": None}, TRAINING, "slurmctld: sinfo not found; ask `sinfo` by hand, and whoever runs the cluster"),
        ({"sinfo": "nonsense"}, TRAINING, "slurmctld: sinfo printed 'nonsense', which is not what was asked for; ask `sinfo` by hand, and whoever runs the cluster"),
        ({"sinfo": "main*|up|infinite|(null)|64000|idle\n"}, TRAINING, "GPUs: pretrain ask for 1, partition main has none; set slurm_partition or gpu in slurm/config.yaml (gpu: 0 on a cluster without)"),
        ({}, Request("pretrain", gpus=4), "GPUs: pretrain ask for 4, partition main has at most 2 a node; set slurm_partition or gpu in slurm/config.yaml (gpu: 0 on a cluster without)"),
        ({}, Request("sample", partition="gpus"), f"partition gpus (for sample): the cluster has main, gpu{UNKNOWN}"),
        ({"sinfo": "main|up|infinite|(null)|64000|idle\n"}, Request("report"), "partition: the cluster has no default one; set slurm_partition in slurm/config.yaml to one of main"),
        ({"sinfo": "main*|up|infinite|gpu:1|64000|down*\n"}, TRAINING, "partition main (for pretrain): none of its nodes is up"),
        ({}, Request("pretrain", partition="gpu", minutes=1441), "time: pretrain ask for up to 1441 minutes, partition gpu allows 1440; set runtime in slurm/config.yaml"),
        ({}, Request("pretrain", memory_mb=96001), "memory: pretrain ask for up to 96001 MB, nodes of partition main have 96000; set mem_mb in slurm/config.yaml"),
        ({}, Request("a group of 6 jobs (finetune, sample)", partition="gpu", minutes=1500, jobs=6), "time: a group of 6 jobs (finetune, sample) ask for up to 1500 minutes, partition gpu allows 1440; set runtime in slurm/config.yaml, or fewer runs in a group (group-components)"),
        ({"scontrol": "MinJobAge = 60 sec\n"}, TRAINING, "MinJobAge: squeue forgets a job 60 s after its end, and Snakemake looks at most every 180 s; set `slurm-status-command: sacct` in slurm/config.yaml"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_missing(programs, says, request_, line):
    programs(**says)
    assert lacking_on_cluster([request_, request_], "squeue") == [line]


def test_an_account_is_looked_up_where_one_is_named(programs, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    programs()
    (line,) = lacking_on_cluster([Request("pretrain", account="biology")])
    assert (
        line == "account biology: not one of those that ada may use (physics); set slurm_account in slurm/config.yaml"
    )
    programs(sacctmgr=1)
    (line,) = lacking_on_cluster([Request("pretrain", account="biology")])
    assert line.startswith("account biology: the cluster does not say which there are (sacctmgr failed: ")
    assert line.endswith("leave slurm_account out of slurm/config.yaml")


def test_a_controller_that_does_not_answer_holds_nothing_up(programs, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    programs(sinfo="hang")
    (line,) = lacking_on_cluster([TRAINING])
    assert line.startswith("slurmctld: sinfo got no answer within 0.2 s")


def test_several_things_are_said_together(programs):
    programs(sinfo="main*|up|60:00|(null)|8000|idle\n")
    lines = lacking_on_cluster([TRAINING, Request("finetune", gpus=1)])
    assert [line.partition(":")[0] for line in lines] == ["GPUs", "time", "memory"]
    assert lines[0].startswith("GPUs: pretrain, finetune ask for 1, ")


@pytest.mark.parametrize(
    ("printed", "expected"), [("infinite", None), ("30:00", 30), ("2:00:00", 120), ("1-12:00:00", 2160), ("n/a", None)]
)
def test_times_of_sinfo(printed, expected):
    assert slurm.minutes(printed) == expected


# --- the tracking server ------------------------------------------------------------------------------------------


def test_no_server_is_asked_where_none_is_named():
    assert lacking_server(None) == lacking_server("") == lacking_server("sqlite:///mlflow.db") == []


def test_a_server_that_is_down_or_silent_is_one_line(monkeypatch):
    monkeypatch.setattr(preflight, "SERVER_PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (line,) = lacking_server(closed)
        assert line.startswith(f"tracking server: {closed}, which MLFLOW_TRACKING_URI names, does not answer (")
        assert "python -m kind server" in line and "KIND_TRACKING=off" in line
        silent.listen()  # connects, and says nothing
        (line,) = lacking_server(closed)
        assert "does not answer (timed out)" in line


def test_an_address_that_is_looked_up_for_ever_holds_nothing_up(monkeypatch):
    looked_up, ended = [], threading.Event()

    def search(host, *_, **__):
        looked_up.append(host)
        ended.wait()
        raise OSError

    monkeypatch.setattr(preflight, "ANSWER_PATIENCE", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", search)
    try:
        (line,) = lacking_server("http://tracking.example:5000")
    finally:
        ended.set()
    assert looked_up == ["tracking.example"]
    start = "tracking server: http://tracking.example:5000, which MLFLOW_TRACKING_URI names, does not answer "
    assert line.startswith(f"{start}(no whole answer within 0.2 s); start it")


def test_an_answer_that_comes_letter_by_letter_holds_nothing_up(monkeypatch):
    """The patience for the next letter never ends here, however late a busy machine sends it."""
    monkeypatch.setattr(preflight, "SERVER_PATIENCE", 600)
    monkeypatch.setattr(preflight, "ANSWER_PATIENCE", 0.2)
    ended = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(500):  # not for ever: without a patience for all of it this fails
                if ended.wait(0.02):
                    return
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, daemon=True).start()
        (line,) = lacking_server(f"http://127.0.0.1:{server.getsockname()[1]}")
        ended.set()
    assert "does not answer (no whole answer within 0.2 s)" in line


def test_an_answer_that_is_no_http_and_addresses_that_are_none_are_one_line_without_a_password():
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=greet, args=(other,), daemon=True).start()
        answered = lacking_server(f"http://ada:secret@127.0.0.1:{other.getsockname()[1]}")
    for line in (
        *answered,
        *lacking_server("https://ada:secret@there:port"),
        *lacking_server("http://ada:secret@x/y z"),
    ):
        assert "does not answer as a server does (" in line and "secret" not in line and "ada" not in line
    assert len(answered) == 1


def greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_the_name_and_password_in_an_address_are_not_sent():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"], self.headers["Authorization"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert lacking_server(f"http://ada:secret@127.0.0.1:{server.server_port}") == []
        server.shutdown()
    assert asked == [("/health", f"127.0.0.1:{server.server_port}", None)]


@pytest.mark.parametrize(("code", "is_up"), [(200, True), (401, True), (503, False)])
def test_a_server_that_answers_is_there(code, is_up):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lines = lacking_server(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert lines == [] if is_up else "answers 503" in lines[0]


# --- by hand ------------------------------------------------------------------------------------------------------


@pytest.fixture
def check(tmp_path, monkeypatch, capsys, valid_params):
    """check(profile text, *arguments) -> (exit code, what it says)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIND_TRACKING", raising=False)
    (tmp_path / "small.yaml").write_text(valid_params)
    (tmp_path / "slurm").mkdir()

    def run(profile: str, *arguments: str) -> tuple[int, str]:
        (tmp_path / "slurm" / "config.yaml").write_text(profile)
        code = main(["check", "--experiment", "small.yaml", "--profile", *(arguments or ["slurm"])])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_profile_of_the_project_is_understood(programs, check, monkeypatch):
    programs()
    text = (ROOT / "slurm" / "config.yaml").read_text()
    code, said = check(text)
    assert code == 0 and "slurm/config.yaml: in order (executor slurm)" in said
    programs(sinfo="main*|up|infinite|gpu:1|95999|idle\n")
    assert "  - memory: sample, sample_part, evaluate, evaluate_part, reference, reference_without_judge, reference_part, " \
           "replay, analyse_bounds, analyse_guidance, analyse_components, analyse_interference ask for up to 96000 MB" in check(text)[1], \
           "at the last attempt"  # fmt: skip
    programs(sinfo="main*|up|infinite|(null)|96000|idle\n")
    code, said = check(text)
    assert code == 2
    (line,) = [line for line in said.splitlines() if line.startswith("  - ")]
    assert line.startswith("  - GPUs: encode, pretrain, finetune, sample")
    assert check(text.replace("gpu: 1", "gpu: 0"))[0] == 0


def test_check_says_what_the_cluster_and_the_server_lack(programs, check, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    programs(sinfo="main*|up|30:00|(null)|64000|idle\n")
    profile = """
executor: slurm
default-resources: {slurm_partition: cpus, runtime: 60}
set-resources:
  pretrain: {slurm_partition: main, gpu: 1, runtime: 20 * attempt}
retries: 1
"""
    before = time.monotonic()
    code, said = check(profile)
    assert code == 2 and time.monotonic() - before < 60
    starts = (
        "  - GPUs: pretrain",
        "  - time: pretrain ask for up to 40 minutes",
        "  - partition cpus (for other rules)",
        "  - tracking server",
    )
    assert all(any(line.startswith(start) for line in said.splitlines()) for start in starts), said
    assert sum(line.startswith("  - ") for line in said.splitlines()) == 4
    monkeypatch.setenv("KIND_TRACKING", "off")
    assert "tracking server" not in check(profile)[1]
    code, said = check("executor: local\n")
    assert code == 0 and "(executor local)" in said


def test_trainings_in_more_processes_than_they_get_gpus(programs, check, tmp_path, valid_params):
    programs(sinfo="main*|up|infinite|gpu:8|96000|idle\n")
    profile = "executor: slurm\nset-resources: {pretrain: {gpu: 2}, finetune: {gpu: 2}}\n"
    params, processes = tmp_path / "small.yaml", "compute: {device: auto, processes: {pretrain: 4, finetune: 2}}"
    params.write_text(with_compute(valid_params, processes))
    code, said = check(profile)
    assert code == 2
    assert [line for line in said.splitlines() if line.startswith("  - ")] == [
        "  - GPUs: pretrain ask for 2, but compute.processes.pretrain is 4; set `gpu: 4, nodes: 1` in slurm/config.yaml"
    ]
    assert check(profile.replace("pretrain: {gpu: 2}", "pretrain: {gpu: 4}"))[0] == 0
    assert check(profile.replace("gpu: 2", "gpu: 0"))[0] == 0, "on the CPU"
    params.write_text(with_compute(valid_params, processes.replace("auto", "cpu")))
    assert check(profile)[0] == 0


def with_compute(params: str, section: str) -> str:
    content = yaml.safe_load(params)
    return yaml.safe_dump({**content, **yaml.safe_load(section)})


def test_names_that_snakemake_takes_for_pythons(programs, check):
    programs(sinfo="all*|up|infinite|gpu:1|96000|idle\n")
    profile = "executor: slurm\ndefault-resources: {slurm_partition: all}\nset-resources: {pretrain: {qos: max}}\n"
    code, said = check(profile)
    assert code == 2
    means = "is a name of Python's, and Snakemake takes it for that; write two quotes in slurm/config.yaml:"
    assert [line for line in said.splitlines() if line.startswith("  - ")] == [
        f"  - slurm_partition: all {means} slurm_partition: \"'all'\"",
        f"  - qos: max {means} qos: \"'max'\"",
    ]
    assert check(profile.replace("all", "\"'all'\"").replace("max", "\"'max'\""))[0] == 0


def test_profiles_that_cannot_be_read_are_one_message(check):
    assert (
        check("a: [", "nowhere")[1]
        .rstrip()
        .endswith("error: --profile nowhere: nowhere/config.yaml does not exist\n  -> profiles here: slurm")
    )
    assert "error: slurm/config.yaml: not valid YAML" in check("a: [")[1]
    assert "expected `key: value`, found list" in check("- a")[1]

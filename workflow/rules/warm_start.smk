# On one machine, jobs are forks of a process that has imported PyTorch; see kind/warm_start.py.
#   --config warm_start=off, or KIND_WARM_START=off in the environment, does without

import tempfile

WARM_STARTERS = []


def start_warm():
    threads = {experiment.compute.threads for _, experiment in EXPERIMENTS.values()}
    here = workflow.is_main_process and workflow.executor_plugin.name == "local"
    # Libraries ask for their threads when imported; and diffusers' import starts CUDA, after which no fork may use it.
    if not here or not is_on("warm_start") or len(threads) > 1 or GPUS:
        return
    folder = tempfile.mkdtemp(prefix="kind-")  # nobody else's
    sets_threads = {f"{library}_NUM_THREADS": str(*threads) for library in ("OMP", "OPENBLAS", "MKL")}
    server = subprocess.Popen([sys.executable, "-m", "kind.warm_start", f"{folder}/socket"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, env=os.environ | sets_threads, start_new_session=True)  # fmt: skip
    WARM_STARTERS.append((server, folder))
    os.environ[SOCKET] = f"{folder}/socket"


def stop_warm():
    while WARM_STARTERS:
        server, folder = WARM_STARTERS.pop()
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

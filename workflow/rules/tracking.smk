# MLflow beside the run: one process follows the files of all jobs.  No job waits for it, and none fails with it.
#   --config tracking=off, or KIND_TRACKING=off in the environment, does without

TRACK_LOG = Layout(Path(RESULTS) / Path(EXPERIMENT).stem).track_log
TRACK = [sys.executable, "-m", "kind", "track", "--experiment", EXPERIMENT, "--results", RESULTS]
LAST_LOOK = 60  # seconds that it has for what is new when the last job has ended
FOLLOWERS = []


def start_tracking():
    if workflow.is_main_process and is_on("tracking"):
        try:
            TRACK_LOG.parent.mkdir(parents=True, exist_ok=True)
            with open(TRACK_LOG, "w") as log:
                FOLLOWERS.append(
                    subprocess.Popen([*TRACK, "--follow"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     start_new_session=True)  # a Ctrl-C is for Snakemake; it then ends this
                )  # fmt: skip
        except OSError as error:
            tell_tracking_failed(str(error))


def stop_tracking():
    while FOLLOWERS:
        follower = FOLLOWERS.pop()
        follower.terminate()
        try:
            if follower.wait(LAST_LOOK):
                lines = TRACK_LOG.read_text().strip().splitlines()
                errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
                tell_tracking_failed((errors or lines or ["no reason given"])[-1])
        except subprocess.TimeoutExpired:
            follower.kill()
            tell_tracking_failed(f"it took longer than {LAST_LOOK} s")


def tell_tracking_failed(reason):
    again = shlex.join(["python", *TRACK[1:]])
    print(f"note: MLflow has not got everything ({reason}; {TRACK_LOG}); the results are whole.  To bring it in: {again}",
          file=sys.stderr)  # fmt: skip

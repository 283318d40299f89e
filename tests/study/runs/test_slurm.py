"""Sweeps on a real Slurm: from a notebook, through a restart of its controller, a requeue, a kill.

Uses a Slurm that answers (where the working directory is shared with its nodes), else starts one.
"""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import slurm_node
from waiting import within_minutes

from emastudy.study import Record, SweepError, run, run_one, survey
from emastudy.study.runs import Status

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Our own node, or None where a Slurm runs already."""
    if slurm_node.runs():
        yield None
        return
    if slurm_node.obstacle():
        pytest.skip(f"no Slurm answers, and none can be started: {slurm_node.obstacle()}")
    with (
        slurm_node.Node(tmp_path_factory.mktemp("slurm")) as node,
        pytest.MonkeyPatch.context() as p,
    ):
        for name, value in node.environment.items():
            p.setenv(name, value)
        yield node


def test_a_notebook_sends_its_sweep_through_a_restart_of_the_controller(node, root, tmp_path):
    experiments = tmp_path / "experiments"
    (experiments / "records").mkdir(parents=True)
    command = [sys.executable, "-m", "papermill", "--cwd", experiments, "--no-progress-bar"]
    profile = root / "experiments" / "profiles" / "smoke.yaml"
    notebook = root / "experiments" / "21_bases_normalization.ipynb"
    command += ["-f", profile, "-p", "executor", "slurm", "-p", "max_iterations", "1"]
    command += [notebook, tmp_path / "out.ipynb"]
    records = experiments / "records" / "smoke"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sweep:
        within_minutes(lambda: sweep.poll() is not None or list(records.glob("*.json")))
        if node:
            node.stop_controller()
            assert not slurm_node.runs()
            time.sleep(1)
            node.start_controller()
        assert sweep.communicate()[1].count("Error") == 0
    assert sweep.returncode == 0
    made = [Record.read(path) for path in records.glob("*.json")]
    assert len(made) == 4
    logs = [path.read_text() for path in (tmp_path / "runs").glob("scenes-ema-*/log")]
    assert len(logs) == 4
    assert sum("is done" in log for log in logs) >= 2  # the others' newest job has measured them


def test_requeued_runs_end_as_undisturbed_ones_and_a_cancelled_one_is_reported(
    node, tiny, runtime, tmp_path
):
    killed, stopped, cancelled = (
        dataclasses.replace(tiny, iterations=iterations, seed=seed)
        for seed, iterations in enumerate((300, 300, 10**6))
    )
    folder, elsewhere = tmp_path / "records", dataclasses.replace(runtime, runs_dir=f"{tmp_path}/u")
    undisturbed = [run_one(c, tmp_path / "undisturbed", elsewhere) for c in (killed, stopped)]
    runtime = dataclasses.replace(runtime, checkpoint_seconds=0.0)  # at every look at the loss
    failures = []

    def sweep():
        try:
            run([killed, stopped, cancelled], folder, runtime, executor="slurm")
        except SweepError as error:
            failures.append(str(error))

    thread = threading.Thread(target=sweep)
    thread.start()
    for config, command in (
        (killed, ["scontrol", "requeue"]),  # SIGTERM, then SIGKILL; the job is put back in line
        (stopped, ["scancel", "--signal=USR2"]),  # what Slurm says before the time is up
        (cancelled, ["scancel"]),
    ):
        run_dir = runtime.run_dir(config)
        while not list(run_dir.glob("checkpoint-??????")):
            assert thread.is_alive()
            time.sleep(0.05)
        job = Status.read(run_dir).job
        subprocess.run([*command, job], check=True)
        if config is not cancelled:  # Slurm lets requeued jobs wait for two minutes
            resume_now(job, run_dir)
    thread.join()
    (failure,) = failures
    assert failure.startswith("1 of 3 runs failed")
    assert f"{cancelled.id}: ended without a record, Slurm says CANCELLED" in failure
    for config, one in zip((killed, stopped), undisturbed, strict=True):
        other = Record.read(folder / f"{config.id}.json")
        assert (other.metrics, other.confusion, other.curves) == (
            one.metrics,
            one.confusion,
            one.curves,
        )
        log = (runtime.run_dir(config) / "log").read_text()
        assert log.count(f"{config.id} starts") == 2
        assert "resumes from iteration" in log
    frame = survey(tmp_path, Path(runtime.runs_dir))
    row = frame[frame["id"] == cancelled.id].iloc[0]
    assert row["state"] == "interrupted"


def resume_now(job, run_dir):
    """Wait until a requeued job is back in line, and let it begin at once."""
    while True:
        done = subprocess.run(
            ["squeue", "--array", "--noheader", "--format=%T", "--jobs", job],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        if done.stdout.strip() == "PENDING":
            break
        time.sleep(0.1)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)


LONG = """
import dataclasses, sys; sys.path.insert(0, sys.argv[1])
from study.tiny import TINY
from emastudy.engine import Runtime
from emastudy.study import run
runtime = Runtime(runs_dir=sys.argv[3], device="cpu")
run([dataclasses.replace(TINY, iterations=10**6)], sys.argv[2], runtime, executor="slurm")
"""


def test_ctrl_c_cancels_the_jobs(node, script, states):
    with script(LONG, stderr=subprocess.DEVNULL, env=os.environ) as process:
        within_minutes(lambda: "running" in states().values() or process.poll() is not None)
        process.send_signal(2)
    within_minutes(lambda: "running" not in states().values())
    assert list(states().values()) == ["interrupted"]


def test_a_partition_that_does_not_exist_is_named(node, tiny, runtime, tmp_path):
    with pytest.raises(SweepError, match=r"Slurm does not take the jobs(.|\n)*partition=NAME"):
        run([tiny], tmp_path, runtime, executor="slurm partition=nowhere")

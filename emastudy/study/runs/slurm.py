"""Sweeps on a Slurm cluster."""

import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

from emastudy.engine import RunConfig, Runtime
from emastudy.errors import SweepError
from emastudy.study.runs.executors import ENDED, Job, Submitted, share, submitit_executor
from emastudy.study.runs.job import RunJob

logger = logging.getLogger(__name__)

# Slurm's time limit: this long before it a run stops, writes a checkpoint and goes back in line.
_REQUEUE_SECONDS = 120
# States of Slurm that a job does not come back from; GONE is off the queue.
_OVER = (
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED GONE NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT"
)


class Slurm:
    """A Slurm cluster; its controller may be away for a while. Parameters are submitit's."""

    #: A login node's courtesy: every question is a squeue.
    poll_seconds = 2.0
    #: Jobs of one request, an array; Slurm itself decides how many run side by side. Its
    #: MaxArraySize is 1001 where nobody has changed it.
    free = 1000

    def __init__(self, runtime: Runtime, parameters: Mapping[str, Any]) -> None:
        cores = parameters.get("cpus_per_task", max(1, runtime.threads) + runtime.workers)
        parameters = {
            "cpus_per_task": cores,
            # Since Slurm 22.05 a step does not inherit the job's number of cores.
            "srun_args": [f"--cpus-per-task={cores}"],
            "signal_delay_s": _REQUEUE_SECONDS,
            **parameters,
        }
        gpu = any("gpu" in f"{k}={v}" for k, v in parameters.items() if k != "partition")
        self.runtime = share(runtime, cores, gpu=gpu)
        try:
            self._executor = submitit_executor(
                "slurm", runtime, parameters, slurm_max_num_timeout=1000
            )
        except RuntimeError as error:
            raise SweepError(
                f"executor=slurm: {error} Run this on a machine of the cluster, or use "
                "executor=local"
            ) from error
        if _states() is None:
            raise SweepError(
                "executor=slurm: Slurm's controller does not answer (`squeue` fails); ask `sinfo`, "
                "set SLURM_CONF where the configuration is not in its usual place, or use "
                "executor=local"
            )
        self._last: dict[str, str] = {}

    def submit(self, job: Job, configs: Sequence[RunConfig], folder: Path) -> list[Submitted]:
        """Hand a job for each config over to Slurm; none where its controller is away."""
        if _states() is None:
            return []  # next time
        try:
            with self._executor.batch():  # one request for all, an array of jobs
                return [
                    self._executor.submit(RunJob(), job, config, folder, self.runtime)
                    for config in configs
                ]
        except submitit.core.utils.FailedJobError as error:
            if _states() is None:
                return []
            raise SweepError(
                f"Slurm does not take the jobs: {error} Change the parameters that follow slurm "
                'in the executor, e.g. "slurm partition=NAME" with a name that sinfo shows'
            ) from error

    def look(self, jobs: Sequence[Submitted]) -> dict[str, str]:
        """Job id → "queued", "running" or how it ended.

        Slurm is asked by ``squeue``, since ``sacct`` wants a database that small clusters lack. A
        job is over where its result lies, or where it is off the queue twice running: between
        being stopped and being back in line a requeued one may look so once.
        """
        seen = _states() if jobs else {}
        before, over = self._last if seen is not None else {}, _OVER.split()
        if seen is not None:
            self._last = {job.job_id: seen.get(job.job_id, "GONE") for job in jobs}
        states = {}
        for job in jobs:
            state = self._last.get(job.job_id, "PENDING")
            if job.paths.result_pickle.exists():
                states[job.job_id] = ENDED
            elif state in over and before.get(job.job_id) in over:
                states[job.job_id] = f"{ENDED}, Slurm says {state}"
            else:
                states[job.job_id] = "running" if state == "RUNNING" else "queued"
        return states

    def stop(self, jobs: Sequence[Submitted]) -> None:
        """Cancel the jobs; those at work get SIGTERM, and time to write a checkpoint."""
        for job in jobs:
            job.cancel(check=False)


def _states() -> dict[str, str] | None:
    """State of every job of this user by its id; None where the controller does not answer."""
    command = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        logger.debug("squeue: %s", done.stderr.strip())
        return None
    return dict(line.split() for line in done.stdout.splitlines())

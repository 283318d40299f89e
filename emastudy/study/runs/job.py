"""A job of a sweep: one run, in a process of its own with a log of its own, through submitit."""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core.submission import process_job

from emastudy.engine import RunConfig, Runtime

logger = logging.getLogger(__name__)

#: What a server of forks calls where submitit would start Python for a job.
JOB = f"{__name__}:process"


def process(arguments: Sequence[str]) -> None:
    """Do a job of submitit's, whose command ends with the job's folder."""
    process_job(arguments[-1])


class RunJob:
    """One run as a job of submitit's, in a process of its own.

    SIGTERM ends it: at once, or while it trains with a checkpoint after the current iteration.
    SIGUSR2, which is Slurm's word for "your time is up", does the same, and then puts the job back
    in line as submitit would have done in mid-iteration; started again, it resumes.
    """

    def __call__(
        self,
        job: Callable[[RunConfig, Path, Runtime], object],
        config: RunConfig,
        records: Path,
        runtime: Runtime,
        gpu: str | None = None,
    ) -> None:
        """Do the job, on the CPU or, where torch finds one, the GPU of that name."""
        place = submitit.JobEnvironment()
        _log_to_stderr()
        if gpu is not None:  # before torch looks for GPUs
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if place.num_tasks > 1:
            exported = submitit.helpers.TorchDistributedEnvironment()
            exported.export(overwrite=True, set_cuda_visible_devices=False)
        if place.global_rank == 0:
            _link(runtime.run_dir(config) / "log", place.paths.stderr)
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        asked = []

        def stop(number: int, _: object) -> None:
            raise SystemExit(128 + number)

        def time_is_up(number: int, _: object) -> None:
            asked.append(number)
            signal.raise_signal(signal.SIGTERM)  # whoever handles it now knows how to stop

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGUSR2, time_is_up)
        process = f"process {os.getpid()}, job {place.job_id}"
        logger.info(f"{config.id} starts: {process}, {'CPU' if gpu is None else f'GPU {gpu}'}")
        try:
            job(config, records, runtime)
        except BaseException:
            if asked:
                requeue(asked[0], None)  # does not return
            raise
        logger.info("%s is done", config.id)

    def checkpoint(self, *arguments: Any) -> submitit.helpers.DelayedSubmission:
        """What a requeued job does: the same; the run finds its checkpoint itself."""
        return submitit.helpers.DelayedSubmission(self, *arguments)


def _log_to_stderr() -> None:
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, force=True)
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    logging.getLogger("submitit").propagate = False  # it has a handler of its own


def _link(link: Path, target: Path) -> None:
    """Let ``runs/ID/log`` lead to the log of the run's latest job."""
    with suppress(OSError):  # a convenience
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))

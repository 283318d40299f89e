"""The queue of a sweep: which run starts when, what became of it, and what is said of it."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from emastudy.engine import RunConfig
from emastudy.engine.training.signals import exiting_on_sigterm
from emastudy.errors import NonFiniteLossError, SweepError
from emastudy.study.runs.executors import Job, Local, Submitted
from emastudy.study.runs.locks import is_locked, lock_owner
from emastudy.study.runs.slurm import Slurm

logger = logging.getLogger(__name__)

_LOG_LINES = 15


@dataclass
class Queue:
    """The jobs of a sweep: those that wait, those at work by job id, those that failed by run id.

    ``done`` says whether a run has its result, which ``job`` makes; see ``sweep.complete``.
    """

    waiting: list[RunConfig]
    done: Callable[[RunConfig], bool]
    job: Job
    folder: Path
    executor: Local | Slurm
    active: dict[str, tuple[RunConfig, Submitted]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _deferred: set[str] = field(default_factory=set)

    def work(self) -> list[str]:
        """Do all jobs. However this ends, no job is left at work.

        Returns:
            Ids of the runs that diverged, and so have no result.

        Raises:
            SweepError: Runs failed otherwise; it has the end of every failed run's log.
        """
        total = len(self.waiting)
        # miniters=0 lets update(0) redraw, so that the counts are live while no run ends;
        # smoothing=0 reckons what is left from the mean since the start, where the default would
        # take the second since the last redrawing for the time of a run.
        bar = tqdm(total=total, desc="runs", unit="run", miniters=0, mininterval=1.0, smoothing=0)
        with exiting_on_sigterm():
            try:
                while self.waiting or self.active:
                    self.start(self.ready())
                    bar.set_postfix(self.collect(), refresh=False)
                    bar.update(total - len(self.waiting) - len(self.active) - bar.n)
                    time.sleep(self.executor.poll_seconds)
            finally:
                if self.active:  # interrupted: checkpoints and finished records stay
                    self.executor.stop([job for _, job in self.active.values()])
                bar.close()
        return self._report_failures(total)

    def ready(self) -> list[RunConfig]:
        """The runs that may start now: there is room for them, and no other sweep runs them."""
        ready: list[RunConfig] = []
        for config in self.waiting[:]:
            if len(ready) == self.executor.free:
                break
            run_dir = self.executor.runtime.run_dir(config)
            if is_locked(run_dir):
                if config.id not in self._deferred:
                    logger.info("%s is being run by %s", config.id, lock_owner(run_dir))
                self._deferred.add(config.id)
            elif config.id in self._deferred and self.done(config):
                self.waiting.remove(config)
            else:
                ready.append(config)
        return ready

    def start(self, configs: Sequence[RunConfig]) -> None:
        """Hand runs over to the executor, which may take fewer than it is given."""
        jobs = self.executor.submit(self.job, configs, self.folder) if configs else []
        for config, job in zip(configs, jobs, strict=False):
            self.waiting.remove(config)
            self.active[job.job_id] = config, job

    def collect(self) -> dict[str, int]:
        """Take the jobs that ended off the list, note those without a result; returns counts."""
        states = self.executor.look([job for _, job in self.active.values()])
        for name, state in states.items():
            if state in ("queued", "running"):
                continue
            config, job = self.active.pop(name)
            if not self.done(config):
                self.failures[config.id] = _report(job, state)
                logger.error("run %s failed: %s", config.id, self.failures[config.id])
        counts = Counter(states.values())
        queued = {"queued": counts["queued"]} if counts["queued"] else {}
        return {"running": counts["running"], "failed": len(self.failures), **queued}

    def _report_failures(self, total: int) -> list[str]:
        name, failed = NonFiniteLossError.__name__, len(self.failures)
        diverged = [run_id for run_id, text in self.failures.items() if name in text]
        if diverged:
            logger.warning(
                f"{len(diverged)} of {total} runs diverged, which is their result: they have no "
                f"record, and tables are without them: {', '.join(diverged)}"
            )
        if failed > len(diverged):
            raise SweepError(
                f"{failed} of {total} runs failed; the others are recorded, run again to retry."
                + "".join(f"\n\n{run_id}: {text}" for run_id, text in self.failures.items())
            )
        return diverged


def _report(job: Submitted, state: str) -> str:
    """How a job ended, with the tail of its log."""
    path = job.paths.stderr
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{state}; it left no log at {path}"
    # Of a progress bar, which is one long line of carriage returns, what was drawn last.
    lines = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")]
    tail = "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
    return f"{state}; the end of its log {path}:\n{tail}"

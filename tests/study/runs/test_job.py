"""A job stops when it is told to, and its run goes on from there."""

import os
import signal
import subprocess

import pytest
from study.tiny import make_record
from waiting import within_minutes

from emastudy.study.runs import Status

# Two long runs side by side, as a terminal or a notebook's kernel would start them.
LONG = """
import dataclasses, sys; sys.path.insert(0, sys.argv[1])
from study.tiny import TINY
from emastudy.engine import Runtime
from emastudy.study import run
configs = [TINY, *(dataclasses.replace(TINY, iterations=10**6, seed=s) for s in (1, 2))]
runtime = Runtime(runs_dir=sys.argv[3], device="cpu", threads=1)
run(configs, sys.argv[2], runtime, executor="local cores=2")
"""


@pytest.mark.parametrize(
    ("kill", "received", "status"),
    # A terminal's Ctrl-C, which every process gets; and kill, timeout or a job that is cancelled.
    [(os.killpg, signal.SIGINT, -signal.SIGINT), (os.kill, signal.SIGTERM, 128 + signal.SIGTERM)],
)
def test_a_sweep_that_is_stopped_stops_its_runs_and_keeps_what_is_done(
    tiny, folders, script, states, kill, received, status
):
    make_record(tiny).write(folders[0])
    with script(LONG, start_new_session=True, stderr=subprocess.PIPE) as process:
        going = ["finished", "running", "running"]
        within_minutes(lambda: sorted(states().values()) == going or process.poll() is not None)
        assert process.poll() is None
        kill(process.pid, received)
        said = process.communicate()[1]
    assert ("KeyboardInterrupt" in said) == (received == signal.SIGINT)
    assert process.returncode == status
    # The sweep returned only when its runs had: no lock is held, each noted how it ended.
    assert sorted(states().values()) == ["finished", "interrupted", "interrupted"]
    stopped = [Status.read(path) for path in folders[1].glob("scenes-*")]
    assert [status.state for status in stopped] == ["interrupted"] * 2

"""The queue: one failure stops no other run, and what another sweep runs is waited for."""

import dataclasses
import logging
import re
import threading

import pytest
from study.tiny import make_record

from emastudy.study import SweepError, run
from emastudy.study.runs import executors, lock_run, queue

pytestmark = pytest.mark.usefixtures("one_fork_server")


def test_a_run_that_diverges_is_left_out_and_reported(tiny, runtime, tmp_path, caplog):
    wild = dataclasses.replace(tiny, learning_rate=1e6, iterations=5)
    with caplog.at_level(logging.WARNING):
        assert run([tiny, wild], tmp_path, runtime).index.tolist() == [tiny.id]
    assert "1 of 2 runs diverged, which is their result" in caplog.text
    assert f"without them: {wild.id}" in caplog.text
    with pytest.raises(SweepError, match="all 1 runs diverged; lower the learning rate"):
        run([wild], tmp_path, runtime)


def test_a_sweep_runs_in_processes_and_one_failure_stops_no_other(tiny, runtime, tmp_path):
    """Each in its own process, with a GPU of its own and its own log."""
    runtime = dataclasses.replace(runtime, device="auto")
    good = [dataclasses.replace(tiny, seed=seed) for seed in (0, 1)]
    bad = dataclasses.replace(tiny, dataset_options={"noise": -1.0})
    # Where there are no such GPUs, the CPU is used.
    with pytest.raises(SweepError, match=r"1 of 3 runs failed(.|\n)*noise is -1.0") as error:
        run([good[0], bad, good[1]], tmp_path, runtime, executor="local gpus=[6,7] cores=2")
    assert bad.id in str(error.value)
    logs = [(runtime.run_dir(config) / "log").read_text() for config in (*good, bad)]
    assert all(re.search(r"starts: process \d+, job \d+, GPU [67]", text) for text in logs)
    assert all("is done" in text for text in logs[:2])
    assert logs[2].splitlines()[-1] in str(error.value)
    assert {p.stem for p in tmp_path.glob("*.json")} == {c.id for c in good}
    frame = run(good, tmp_path, runtime)
    assert frame.index.tolist() == [c.id for c in good]
    assert frame["seed"].tolist() == [0, 1]


def test_a_sweep_waits_for_what_another_process_runs(tiny, runtime, folders, monkeypatch):
    monkeypatch.setattr(executors.Local, "submit", lambda *_: pytest.fail("it was submitted"))
    entered, leave = threading.Event(), threading.Event()

    def other():
        with lock_run(tiny, folders[0], runtime):
            entered.set()
            leave.wait()
            make_record(tiny, miou=12.5).write(folders[0])

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    monkeypatch.setattr(queue.time, "sleep", lambda _: leave.set())
    assert run([tiny], folders[0], runtime)["miou"].tolist() == [12.5]
    thread.join()

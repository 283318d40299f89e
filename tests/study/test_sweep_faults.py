"""What goes wrong around records and sweeps: nothing finished is lost, every message says the fix.

The book's table of faults (book/faults.md) names these tests.
"""

import dataclasses
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
from study.made_up import make_record
from study.test_records import damage

from emastudy.engine import NUMBERS_VERSION
from emastudy.study import Record, RecordError, SweepError, run, run_one, survey
from emastudy.study.runs import Status, hold, is_held, sweep
from emastudy.study.runs import executors as pools
from emastudy.study.runs import record as records

TESTS = str(Path(__file__).parents[1])
# A process that works on TINY and stands still in the middle of its evaluation.
STANDS_STILL = """
import sys; sys.path.insert(0, sys.argv[1])
from study.made_up import TINY
from emastudy.engine import Runtime
from emastudy.study import run_one, sweep
evaluate = sweep.evaluate
def slowly(*arguments, **options):
    print("evaluating", flush=True)
    sys.stdin.readline()
    return evaluate(*arguments, **options)
sweep.evaluate = slowly
run_one(TINY, sys.argv[2], Runtime(runs_dir=sys.argv[3], device="cpu", threads=1))
"""


@pytest.fixture
def folders(tmp_path, runtime):
    return tmp_path / "records" / "some", Path(runtime.runs_dir)


@pytest.fixture
def evaluating(folders):
    """A process that has trained the tiny run and is scoring it."""
    command = [sys.executable, "-c", STANDS_STILL, TESTS, *map(str, folders)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "evaluating\n"
        yield process
        process.kill()


@pytest.fixture
def trainings(monkeypatch):
    """The trainings that this process does, as they come back."""
    real, seen = sweep.train, []

    def spy(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(sweep, "train", spy)
    return seen


def states(folders):
    frame = survey(folders[0].parent, folders[1])
    return dict(zip(frame["id"], frame["state"], strict=True))


def test_two_processes_on_one_run_train_it_once(
    tiny, runtime, folders, evaluating, trainings, caplog
):
    assert states(folders) == {tiny.id: "running"}
    found = []
    caplog.set_level(logging.INFO)
    waiting = threading.Thread(target=lambda: found.append(run_one(tiny, folders[0], runtime)))
    waiting.start()
    while "waiting for it" not in caplog.text:
        time.sleep(0.01)
    assert f"is being run by process {evaluating.pid} on " in caplog.text
    evaluating.stdin.write("\n")
    evaluating.stdin.flush()
    waiting.join()
    assert found == [Record.read(folders[0] / f"{tiny.id}.json")]
    assert trainings == []
    assert states(folders) == {tiny.id: "finished"}


def test_kill_9_in_evaluation_keeps_the_training(tiny, runtime, folders, evaluating, trainings):
    evaluating.kill()
    evaluating.wait()
    assert states(folders) == {tiny.id: "interrupted"}
    assert not list(folders[0].iterdir())
    record = run_one(tiny, folders[0], runtime)  # takes the dead one's place at once
    assert trainings[0].resumed_from == tiny.iterations
    assert Record.read(folders[0] / f"{tiny.id}.json") == record
    assert states(folders) == {tiny.id: "finished"}


def test_a_sweep_waits_for_what_another_process_runs(tiny, runtime, folders, monkeypatch):
    monkeypatch.setattr(pools.Local, "submit", None)  # calling it would fail
    entered, leave = threading.Event(), threading.Event()

    def other():
        with hold(tiny, folders[0], runtime):
            entered.set()
            leave.wait()
            make_record(tiny, miou=12.5).write(folders[0])

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    monkeypatch.setattr(sweep.time, "sleep", lambda _: leave.set())
    assert run([tiny], folders[0], runtime)["miou"].tolist() == [12.5]
    thread.join()


def test_a_full_disk_when_the_record_is_written_keeps_the_training(
    tiny, runtime, folders, trainings, monkeypatch
):
    write, limits = Record.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(record, folder):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
        try:
            return write(record, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(Record, "write", on_a_full_disk)
    with pytest.raises(RecordError, match="cannot be written .*Free space there"):
        run_one(tiny, folders[0], runtime)
    assert list(folders[0].iterdir()) == []
    assert states(folders) == {tiny.id: "failed"}
    monkeypatch.setattr(Record, "write", write)
    run_one(tiny, folders[0], runtime)
    assert [training.resumed_from for training in trainings] == [0, tiny.iterations]
    assert states(folders) == {tiny.id: "finished"}


@pytest.mark.parametrize("how", ["truncated", "another's", "older schema"])
def test_a_record_that_cannot_be_trusted_is_made_again_from_the_checkpoint(
    tiny, runtime, folders, trainings, caplog, how
):
    good = run_one(tiny, folders[0], runtime)
    damage(folders[0] / f"{tiny.id}.json", how)
    assert states(folders) == {tiny.id: "damaged"}
    with pytest.raises(SweepError, match="none of the 1 runs is recorded"):
        run([tiny], folders[0], runtime, executor="none")
    again = run_one(tiny, folders[0], runtime)
    assert "The run is made again" in caplog.text
    assert trainings[1].resumed_from == tiny.iterations
    assert (again.metrics, again.confusion, again.curves) == (
        good.metrics,
        good.confusion,
        good.curves,
    )


def test_a_clock_that_goes_backwards_changes_nothing(
    tiny, runtime, folders, trainings, monkeypatch
):
    other = dataclasses.replace(tiny, seed=1)
    first = run_one(tiny, folders[0], runtime)

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=tz)

    backwards = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(backwards)))
    monkeypatch.setattr(records, "datetime", Past)
    for path in Path(runtime.runs_dir).rglob("*"):
        os.utime(path, (4e9, 4e9))  # what is there seems to come from the future
    second = run_one(other, folders[0], runtime)
    assert second.created < first.created
    assert min(second.seconds.values()) >= 0
    assert run([tiny, other], folders[0], runtime)["seed"].tolist() == [0, 1]
    (folders[0] / f"{tiny.id}.json").unlink()
    assert run_one(tiny, folders[0], runtime).metrics == first.metrics
    assert [training.resumed_from for training in trainings] == [0, 0, tiny.iterations]
    assert set(states(folders).values()) == {"finished"}


@pytest.fixture
def read_only():
    """Makes a folder read-only, for root too."""
    mounted = []

    def make(folder):
        if os.getuid():
            folder.chmod(0o555)
            return
        for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
            done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
            if done.returncode:
                pytest.skip("root may write anywhere, and may not mount here")
            mounted.append(folder)

    yield make
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_results_folder_is_said_before_any_training(
    tiny, runtime, folders, read_only, monkeypatch
):
    monkeypatch.setattr(sweep, "train", None)  # calling it would fail
    other = dataclasses.replace(tiny, seed=1)
    make_record(tiny, miou=12.5).write(folders[0])
    read_only(folders[0])
    for make in (run_one, lambda config, *where: run([config], *where)):
        with pytest.raises(RecordError, match="cannot be written .*choose another folder of rec"):
            make(other, folders[0], runtime)
    assert run([tiny], folders[0], runtime)["miou"].tolist() == [12.5]  # reading goes on


def test_a_read_only_runs_folder_is_said_before_any_training(
    tiny, runtime, folders, read_only, monkeypatch
):
    monkeypatch.setattr(sweep, "train", None)
    run_dir = runtime.run_dir(tiny)
    run_dir.mkdir(parents=True)
    (run_dir / "lock").touch()
    read_only(run_dir)
    with pytest.raises(RecordError, match="choose another with runs_dir"):
        run_one(tiny, folders[0], runtime)
    assert not is_held(run_dir)


def test_a_failure_is_noted_and_forgotten_when_mended(tiny, runtime, folders, monkeypatch):
    real = sweep.evaluate
    monkeypatch.setattr(sweep, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_one(tiny, folders[0], runtime)
    (row,) = survey(folders[0].parent, folders[1]).to_dict("records")
    assert (row["profile"], row["state"], row["progress"]) == ("some", "failed", "3/3")
    assert row["note"] == "ZeroDivisionError: division by zero"
    monkeypatch.setattr(sweep, "evaluate", real)
    run_one(tiny, folders[0], runtime)
    assert states(folders) == {tiny.id: "finished"}
    assert Status.read(runtime.run_dir(tiny)) is None


def test_records_of_an_earlier_version_of_the_numbers_are_outdated(tiny, folders):
    dataclasses.replace(make_record(tiny), numbers=NUMBERS_VERSION - 1).write(folders[0])
    assert states(folders) == {tiny.id: "outdated"}


# Two long runs side by side, as a terminal or a notebook's kernel would start them.
LONG = """
import dataclasses, sys; sys.path.insert(0, sys.argv[1])
from study.made_up import TINY
from emastudy.engine import Runtime
from emastudy.study import pools, run
pools._cores = lambda: 2
configs = [TINY, *(dataclasses.replace(TINY, iterations=10**6, seed=s) for s in (1, 2))]
run(configs, sys.argv[2], Runtime(runs_dir=sys.argv[3], device="cpu", threads=1))
"""


def test_ctrl_c_stops_the_runs_and_keeps_what_is_done(tiny, folders):
    make_record(tiny).write(folders[0])
    command = [sys.executable, "-c", LONG, TESTS, *map(str, folders)]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        while sorted(states(folders).values()) != ["finished", "running", "running"]:
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C: every process gets it
        assert "KeyboardInterrupt" in process.communicate()[1]
    # The sweep returned only when its runs had: no lock is held, each noted how it ended.
    assert sorted(states(folders).values()) == ["finished", "interrupted", "interrupted"]
    stopped = [Status.read(path) for path in folders[1].glob("scenes-*")]
    assert [status.state for status in stopped] == ["interrupted"] * 2


# The two processes of one distributed run, which hold its lock together.
RANK = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from study.made_up import TINY
from emastudy.engine import Runtime
from emastudy.study.runs.status import hold, of_main
runtime = Runtime(runs_dir=sys.argv[2], device="cpu")
with hold(TINY, None, runtime):
    print("inside", of_main(lambda: "from main", runtime), flush=True)
    sys.stdin.readline()
"""


def test_the_processes_of_one_distributed_run_do_not_block_each_other(tiny, runtime, folders):
    ranks = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    pipe = subprocess.PIPE
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", RANK, TESTS, runtime.runs_dir],
                env={**os.environ, **shared, **own}, stdin=pipe, stdout=pipe, text=True,
            )
        )  # fmt: skip
    assert [process.stdout.readline() for process in ranks] == ["inside from main\n"] * 2
    assert is_held(runtime.run_dir(tiny))
    for process in ranks:
        process.communicate("\n")
    assert [process.returncode for process in ranks] == [0, 0]
    assert not is_held(runtime.run_dir(tiny))

"""A run is worked on by one process, or one group of them, at a time."""

import logging
import os
import socket
import subprocess
import threading

import pytest
from waiting import within_minutes

from emastudy.errors import WriteError
from emastudy.study import Record, run_one
from emastudy.study.runs import is_locked, sweep


def test_two_processes_on_one_run_train_it_once(
    tiny, runtime, folders, evaluating, trainings, states, caplog
):
    assert states() == {tiny.id: "running"}
    found = []
    caplog.set_level(logging.INFO)
    waiting = threading.Thread(target=lambda: found.append(run_one(tiny, folders[0], runtime)))
    waiting.start()
    within_minutes(lambda: "waiting for it" in caplog.text or not waiting.is_alive())
    assert f"is being run by process {evaluating.pid} on " in caplog.text
    evaluating.stdin.write("\n")
    evaluating.stdin.flush()
    waiting.join()
    assert found == [Record.read(folders[0] / f"{tiny.id}.json")]
    assert trainings == []
    assert states() == {tiny.id: "finished"}


def test_kill_9_in_evaluation_keeps_the_training(
    tiny, runtime, folders, evaluating, trainings, states
):
    evaluating.kill()
    evaluating.wait()
    assert states() == {tiny.id: "interrupted"}
    assert not list(folders[0].iterdir())
    record = run_one(tiny, folders[0], runtime)  # takes the dead one's place at once
    assert trainings[0].resumed_from == tiny.iterations
    assert Record.read(folders[0] / f"{tiny.id}.json") == record
    assert states() == {tiny.id: "finished"}


def test_a_read_only_runs_folder_is_said_before_any_training(
    tiny, runtime, folders, read_only, monkeypatch
):
    monkeypatch.setattr(sweep, "train", None)
    run_dir = runtime.run_dir(tiny)
    run_dir.mkdir(parents=True)
    (run_dir / "lock").touch()
    read_only(run_dir)
    with pytest.raises(WriteError, match="choose another with runs_dir"):
        run_one(tiny, folders[0], runtime)
    assert not is_locked(run_dir)


# The two processes of one distributed run, which lock it together.
RANK = """
import sys; sys.path.insert(0, sys.argv[1])
import torch
from study.tiny import TINY
from emastudy.engine import Runtime
from emastudy.study.runs.locks import lock_run, on_main_process
runtime = Runtime(runs_dir=sys.argv[3], device="cpu")
with lock_run(TINY, None, runtime):
    print("inside", on_main_process(lambda: "from main", runtime), flush=True)
    sys.stdin.readline()
if torch.distributed.is_initialized():  # or its threads may abort the process as it ends
    torch.distributed.destroy_process_group()
"""


def test_the_processes_of_one_distributed_run_do_not_block_each_other(tiny, runtime, script):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        script(
            RANK,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    assert [process.stdout.readline() for process in ranks] == ["inside from main\n"] * 2
    assert is_locked(runtime.run_dir(tiny))
    for process in ranks:  # both, before one is waited for: the first holds what connects them
        process.stdin.write("\n")
        process.stdin.flush()
    for process in ranks:
        process.communicate()
    assert [process.returncode for process in ranks] == [0, 0]
    assert not is_locked(runtime.run_dir(tiny))

"""Whatever kills a run, it resumes as if nothing had been: weights, optimiser, random states."""

import dataclasses
import multiprocessing
import os
import random
import signal
import socket
import sys
import time

import pytest
import torch
from engine.tiny import TINY, at_loss, end, runtime

from emastudy.engine import checkpoints, train
from emastudy.engine.training import Trainer, parallel
from emastudy.engine.training.loss import segmentation_loss

# Children are forked from a server that has imported everything once.
FORK = multiprocessing.get_context("forkserver")


FORK.set_forkserver_preload(
    ["emastudy.engine", "torch.utils.tensorboard", "torch._dynamo", "pytest"]
)


def child(config, place, begun=None, environment=None):
    """A training process that says when it trains; checkpoints come every other iteration."""
    os.environ.update(environment or {})
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - as long as the process
    torch.set_num_threads(1)
    Trainer.look_every = 2
    if begun:

        def loss(*inputs):
            begun.set()
            return segmentation_loss(*inputs)

        parallel.segmentation_loss = loss
    train(config, place)


def test_kill_9_at_twenty_moments(tmp_path, monkeypatch):
    """Most of them hit the writing of a checkpoint: here that takes most of the time."""
    config = dataclasses.replace(TINY, iterations=200)
    place = runtime(tmp_path / "killed")
    moments = random.Random(0)
    reached = []
    for _ in range(20):
        begun = FORK.Event()
        process = FORK.Process(target=child, args=(config, place, begun))
        process.start()
        assert begun.wait(120)
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        found = checkpoints.newest(place.run_dir(config))
        reached.append(found[1].iteration if found else 0)
    assert reached == sorted(reached)  # nothing that was kept is lost
    assert len(set(reached)) > 3
    monkeypatch.setattr(Trainer, "look_every", 2)
    assert train(config, place).resumed_from == reached[-1]
    assert not list(place.run_dir(config).glob("*.partial"))
    whole = runtime(tmp_path / "whole")
    train(config, whole)
    assert end(place, config) == end(whole, config)


def test_several_processes_stop_together_and_resume_exactly(tmp_path):
    """A signal to one of two processes; dropout is on, and each has its own random state."""

    def run(place, stop=False, processes=2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        begun, started = FORK.Event(), []
        for rank in map(str, range(processes)):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(processes),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
            arguments = (TINY, place, begun if rank == "1" else None, world)
            started.append(FORK.Process(target=child, args=arguments))
            started[-1].start()
        if stop:
            assert begun.wait(120)
            os.kill(started[1].pid, signal.SIGTERM)
        for process in started:
            process.join(120)
        return [process.exitcode for process in started]

    whole, stopped = runtime(tmp_path / "whole"), runtime(tmp_path / "stopped")
    assert run(whole) == [0, 0]
    assert run(stopped, stop=True) == [143, 143]
    found = checkpoints.newest(stopped.run_dir(TINY))
    assert found is not None
    assert 0 < found[1].iteration < 24
    assert run(stopped) == [0, 0]
    assert end(stopped) == end(whole)
    assert "random_states_1.pkl" in end(whole)[0]


def test_a_clock_that_runs_backwards_changes_nothing(undisturbed, tmp_path, monkeypatch):
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    place = runtime(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", backwards)
        at_loss(patch, 15, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            train(TINY, place)
    for age, folder in enumerate(sorted(place.run_dir(TINY).glob("checkpoint-*"))):
        for file in (folder, *folder.iterdir()):
            os.utime(file, (1e9 - age, 1e9 - age))  # the newest looks oldest
    again = train(TINY, place)
    assert again.resumed_from == 15
    assert again.seconds > 0
    assert end(place) == undisturbed

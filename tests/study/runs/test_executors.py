"""A machine is shared out to the runs of a sweep."""

import dataclasses

import pytest
import submitit
import torch

from emastudy.engine import Runtime
from emastudy.study import run_one
from emastudy.study.runs.executors import ENDED, Local


class FakeJob(submitit.Job):
    """A job that is over when the test says so."""

    def __init__(self, number):
        self._job_id, self._cancel_at_deletion, self.over = str(number), False, False

    def done(self):
        return self.over


@pytest.fixture
def given(monkeypatch):
    """What submitit is given instead of starting it: (seed, GPU, runtime) each."""
    given = []

    def submit(self, function, job, config, folder, runtime, gpu):
        given.append((config.seed, gpu, runtime))
        return FakeJob(len(given))

    monkeypatch.setattr(submitit.AutoExecutor, "submit", submit)
    return given


def test_gpus_are_shared_out_one_run_each_at_a_time(tiny, tmp_path, given):
    local = Local(Runtime(runs_dir=str(tmp_path)), {"gpus": [2, 5], "cores": 8})
    configs = [dataclasses.replace(tiny, seed=seed) for seed in range(3)]
    assert local.free == 2
    jobs = local.submit(run_one, configs[:2], tmp_path)
    assert local.free == 0
    assert {gpu for _, gpu, _ in given} == {"2", "5"}
    jobs[1].over = True
    assert local.look(jobs) == {jobs[0].job_id: "running", jobs[1].job_id: ENDED}
    assert local.free == 1
    local.submit(run_one, configs[2:], tmp_path)
    assert given[2][1] == given[1][1]  # the one that became free
    assert {(r.threads, r.workers) for _, _, r in given} == {(4, 3)}  # half the machine


@pytest.mark.parametrize(
    ("threads", "workers", "side_by_side", "share"), [(0, 0, 6, 1), (2, 0, 3, 2), (8, 0, 1, 8)]
)
def test_cores_are_shared_out_where_there_is_no_gpu(
    tmp_path, threads, workers, side_by_side, share
):
    runtime = Runtime(runs_dir=str(tmp_path), device="cpu", threads=threads, workers=workers)
    local = Local(runtime, {"cores": 6})
    assert (local.free, local.runtime.threads) == (side_by_side, share)


def test_the_users_choice_of_gpus_is_kept(tiny, tmp_path, given, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for choice, expected in ((None, {"0", "1"}), ("3,GPU-5ebe9f43", {"3", "GPU-5ebe9f43"})):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if choice:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", choice)
        given.clear()
        Local(Runtime(runs_dir=str(tmp_path)), {}).submit(run_one, [tiny, tiny], tmp_path)
        assert {gpu for _, gpu, _ in given} == expected

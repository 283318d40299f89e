"""Sweeps: what is recorded is loaded, the rest is trained, one failure does not stop the others."""

import dataclasses
import logging
import re

import pytest
import submitit
from study.made_up import make_record

from emastudy.engine import Runtime
from emastudy.engine.build import build_network
from emastudy.study import Record, SweepError, run, run_one
from emastudy.study.runs import executors as pools
from emastudy.study.runs import sweep


def test_a_run_that_diverges_is_left_out_and_reported(tiny, runtime, tmp_path, caplog):
    wild = dataclasses.replace(tiny, learning_rate=1e30, iterations=5)
    with caplog.at_level(logging.WARNING):
        assert run([tiny, wild], tmp_path, runtime).index.tolist() == [tiny.id]
    assert "1 of 2 runs diverged, which is their result" in caplog.text
    assert f"without them: {wild.id}" in caplog.text
    with pytest.raises(SweepError, match="all 1 runs diverged; lower the learning rate"):
        run([wild], tmp_path, runtime)


def test_a_recorded_run_is_loaded_not_trained(tiny, runtime, tmp_path, monkeypatch):
    make_record(tiny, miou=12.5).write(tmp_path)
    monkeypatch.setattr(sweep, "train", None)  # calling it would fail
    assert run_one(tiny, tmp_path, runtime).metrics["miou"] == 12.5
    assert run([tiny, tiny], tmp_path, runtime)["miou"].tolist() == [12.5]


def test_run_one_trains_scores_and_records(tiny, runtime, tmp_path):
    record = run_one(tiny, tmp_path, runtime)
    stored = Record.read(tmp_path / f"{tiny.id}.json")
    assert stored.metrics == record.metrics
    assert 0 <= record.metrics["miou"] <= 100
    assert sum(map(sum, record.confusion)) == 2 * 64 * 64
    assert record.parameters == sum(p.numel() for p in build_network(tiny, 8).parameters())


def test_a_damaged_record_is_made_again(tiny, runtime, tmp_path, caplog):
    path = make_record(tiny).write(tmp_path)
    path.write_text("{")
    with caplog.at_level(logging.WARNING):
        run_one(tiny, tmp_path, runtime)
    assert "made again" in caplog.text
    Record.read(path)


def test_a_sweep_runs_in_processes_and_one_failure_stops_no_other(
    tiny, runtime, tmp_path, monkeypatch
):
    """Each in its own process, with a GPU of its own and its own log."""
    monkeypatch.setattr(pools, "_gpus", lambda: ["6", "7"])  # where there is none, the CPU is used
    monkeypatch.setattr(pools, "_cores", lambda: 2)
    runtime = dataclasses.replace(runtime, device="auto")
    good = [dataclasses.replace(tiny, seed=seed) for seed in (0, 1)]
    bad = dataclasses.replace(tiny, dataset_options={"noise": -1.0})
    with pytest.raises(SweepError, match=r"1 of 3 runs failed(.|\n)*noise is -1.0") as error:
        run([good[0], bad, good[1]], tmp_path, runtime)
    assert bad.id in str(error.value)
    logs = [(runtime.run_dir(config) / "log").read_text() for config in (*good, bad)]
    assert all(re.search(r"starts: process \d+, job \d+, GPU [67]", text) for text in logs)
    assert all("is done" in text for text in logs[:2])
    assert logs[2].splitlines()[-1] in str(error.value)
    assert {p.stem for p in tmp_path.glob("*.json")} == {c.id for c in good}
    frame = run(good, tmp_path, runtime)
    assert frame.index.tolist() == [c.id for c in good]
    assert frame["seed"].tolist() == [0, 1]


def test_none_trains_nothing(tiny, runtime, tmp_path, caplog):
    other = dataclasses.replace(tiny, seed=1)
    with pytest.raises(SweepError, match="none of the 2 runs is recorded"):
        run([tiny, other], tmp_path, runtime, executor="none")
    make_record(tiny).write(tmp_path)
    with caplog.at_level(logging.WARNING):
        frame = run([tiny, other], tmp_path, runtime, executor="none")
    assert frame.index.tolist() == [tiny.id]
    assert "1 of 2 runs are not recorded" in caplog.text


class FakeJob(submitit.Job):
    """A job that is over when the test says so."""

    def __init__(self, number):
        self._job_id, self._cancel_at_deletion, self.over = str(number), False, False

    def done(self):
        return self.over


class FakePool:
    """What ``_Local`` needs of submitit; remembers which GPU was given to whom."""

    def __init__(self):
        self.given = []

    def submit(self, function, job, config, folder, runtime, gpu):
        self.given.append((config.seed, gpu, runtime))
        return FakeJob(len(self.given))


@pytest.fixture
def pool(monkeypatch):
    pool = FakePool()
    monkeypatch.setattr(pools, "_executor", lambda *_: pool)
    return pool


def test_gpus_are_shared_out_one_run_each_at_a_time(tiny, tmp_path, pool, monkeypatch):
    monkeypatch.setattr(pools, "_gpus", lambda: ["2", "5"])
    monkeypatch.setattr(pools, "_cores", lambda: 8)
    local = pools.Local(Runtime(runs_dir=str(tmp_path)), {})
    configs = [dataclasses.replace(tiny, seed=seed) for seed in range(3)]
    assert local.free == 2
    jobs = local.submit(run_one, configs[:2], tmp_path)
    assert local.free == 0
    assert {gpu for _, gpu, _ in pool.given} == {"2", "5"}
    jobs[1].over = True
    assert list(local.ended(jobs)) == [jobs[1].job_id]
    assert local.free == 1
    local.submit(run_one, configs[2:], tmp_path)
    assert pool.given[2][1] == pool.given[1][1]  # the one that became free
    assert {(r.threads, r.workers) for _, _, r in pool.given} == {(4, 3)}  # half the machine


@pytest.mark.parametrize(
    ("threads", "workers", "side_by_side", "share"), [(0, 0, 6, 1), (2, 0, 3, 2), (8, 0, 1, 8)]
)
def test_cores_are_shared_out_where_there_is_no_gpu(
    tmp_path, pool, monkeypatch, threads, workers, side_by_side, share
):
    monkeypatch.setattr(pools, "_cores", lambda: 6)
    runtime = Runtime(runs_dir=str(tmp_path), device="cpu", threads=threads, workers=workers)
    local = pools.Local(runtime, {})
    assert (local.free, local.runtime.threads) == (side_by_side, share)


def test_the_users_choice_of_gpus_is_kept(monkeypatch):
    monkeypatch.setattr(pools.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert pools._gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5ebe9f43")
    assert pools._gpus() == ["3", "GPU-5ebe9f43"]


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("cloud", "executor is 'cloud'; expected one of local, slurm, none"),
        ("", "executor is ''"),
        ("slurm gpu", "'gpu' is not of the form NAME=VALUE"),
        ("none partition=gpu", "none takes no parameters"),
        ("local partition=gpu", "partition"),
        ("local timeout_min=long", "timeout_min"),
    ],
)
def test_a_wrong_executor_is_named(tiny, runtime, tmp_path, executor, message):
    with pytest.raises(ValueError, match=message):
        run([tiny], tmp_path, runtime, executor=executor)


def test_an_executors_parameters_are_read_as_yaml():
    assert pools.parse_executor('slurm gpus_per_node=1 "setup=[module load cuda]" mem_gb=3.5') == (
        "slurm",
        {"gpus_per_node": 1, "setup": ["module load cuda"], "mem_gb": 3.5},
    )


def test_without_slurm_the_message_says_what_to_do(tiny, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SweepError, match='"srun".*executor=local'):
        run([tiny], tmp_path / "records", runtime, executor="slurm")

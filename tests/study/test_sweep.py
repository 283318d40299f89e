"""Sweeps: what is recorded is loaded, the rest is trained, one failure does not stop the others."""

import dataclasses
import logging

import pytest
from study.conftest import make_record

from emastudy.study import Record, SweepError, run, run_one
from emastudy.study import sweep as module


def test_a_recorded_run_is_loaded_not_trained(tiny, runtime, tmp_path, monkeypatch):
    make_record(tiny, miou=12.5).write(tmp_path)
    monkeypatch.setattr(module, "train", None)  # calling it would fail
    assert run_one(tiny, tmp_path, runtime).metrics["miou"] == 12.5
    assert run([tiny, tiny], tmp_path, runtime)["miou"].tolist() == [12.5]


def test_run_one_trains_scores_and_records(tiny, runtime, tmp_path):
    record = run_one(tiny, tmp_path, runtime)
    stored = Record.read(tmp_path / f"{tiny.id}.json")
    assert stored.metrics == record.metrics
    assert 0 <= record.metrics["miou"] <= 100
    assert sum(map(sum, record.confusion)) == 2 * 64 * 64
    assert record.parameters == sum(p.numel() for p in tiny.build_network(8).parameters())


def test_a_damaged_record_is_made_again(tiny, runtime, tmp_path, caplog):
    path = make_record(tiny).write(tmp_path)
    path.write_text("{")
    with caplog.at_level(logging.WARNING):
        run_one(tiny, tmp_path, runtime)
    assert "made again" in caplog.text
    Record.read(path)


def test_a_sweep_runs_in_processes_and_one_failure_stops_no_other(tiny, runtime, tmp_path):
    good = [dataclasses.replace(tiny, seed=seed) for seed in (0, 1)]
    bad = dataclasses.replace(tiny, dataset_options={"noise": -1.0})
    with pytest.raises(SweepError, match=r"1 of 3 runs failed(.|\n)*noise is -1.0") as error:
        run([good[0], bad, good[1]], tmp_path, runtime)
    assert bad.id in str(error.value)
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


@pytest.mark.unchecked
def test_an_unknown_executor_is_named(tiny, runtime, tmp_path):
    with pytest.raises(ValueError, match="executor is 'cloud'"):
        run([tiny], tmp_path, runtime, executor="cloud")

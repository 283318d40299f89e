"""Sweeps: what is recorded is loaded, the rest is trained, and nothing finished is lost."""

import dataclasses
import logging
import os
import resource
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from layouts import make_folder
from study.tiny import damage, make_record

from emastudy.engine.build import build_network
from emastudy.errors import InputError, MissingFileError, WriteError
from emastudy.study import Record, RecordError, SweepError, run, run_one
from emastudy.study.runs import parse_executor, provenance, sweep


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
    assert record.matrices.shape[0] == 2
    assert record.matrices.sum(0).tolist() == record.confusion
    assert record.parameters == sum(p.numel() for p in build_network(tiny, 8).parameters())


def test_a_damaged_record_is_made_again(tiny, runtime, tmp_path, caplog):
    path = make_record(tiny).write(tmp_path)
    path.write_text("{")
    with caplog.at_level(logging.WARNING):
        run_one(tiny, tmp_path, runtime)
    assert "made again" in caplog.text
    Record.read(path)


@pytest.mark.parametrize("how", ["truncated", "another's", "older schema"])
def test_a_record_that_cannot_be_trusted_is_made_again_from_the_checkpoint(
    tiny, runtime, folders, trainings, states, caplog, how
):
    good = run_one(tiny, folders[0], runtime)
    damage(folders[0] / f"{tiny.id}.json", how)
    assert states() == {tiny.id: "damaged"}
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


def test_a_full_disk_when_the_record_is_written_keeps_the_training(
    tiny, runtime, folders, trainings, states, monkeypatch
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
    assert states() == {tiny.id: "failed"}
    monkeypatch.setattr(Record, "write", write)
    run_one(tiny, folders[0], runtime)
    assert [training.resumed_from for training in trainings] == [0, tiny.iterations]
    assert states() == {tiny.id: "finished"}


def test_a_clock_that_goes_backwards_changes_nothing(
    tiny, runtime, folders, trainings, states, monkeypatch
):
    other = dataclasses.replace(tiny, seed=1)
    first = run_one(tiny, folders[0], runtime)

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=tz)

    backwards = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(backwards)))
    monkeypatch.setattr(provenance, "datetime", Past)
    for path in Path(runtime.runs_dir).rglob("*"):
        os.utime(path, (4e9, 4e9))  # what is there seems to come from the future
    second = run_one(other, folders[0], runtime)
    assert second.created < first.created
    assert min(second.seconds.values()) >= 0
    assert run([tiny, other], folders[0], runtime)["seed"].tolist() == [0, 1]
    (folders[0] / f"{tiny.id}.json").unlink()
    assert run_one(tiny, folders[0], runtime).metrics == first.metrics
    assert [training.resumed_from for training in trainings] == [0, 0, tiny.iterations]
    assert set(states().values()) == {"finished"}


def test_a_read_only_results_folder_is_said_before_any_training(
    tiny, runtime, folders, read_only, monkeypatch
):
    monkeypatch.setattr(sweep, "train", None)  # calling it would fail
    other = dataclasses.replace(tiny, seed=1)
    make_record(tiny, miou=12.5).write(folders[0])
    read_only(folders[0])
    for make in (run_one, lambda config, *where: run([config], *where)):
        with pytest.raises(WriteError, match="cannot be written .*choose another folder of rec"):
            make(other, folders[0], runtime)
    assert run([tiny], folders[0], runtime)["miou"].tolist() == [12.5]  # reading goes on


def test_none_trains_nothing(tiny, runtime, tmp_path, caplog):
    other = dataclasses.replace(tiny, seed=1)
    with pytest.raises(SweepError, match="none of the 2 runs is recorded"):
        run([tiny, other], tmp_path, runtime, executor="none")
    make_record(tiny).write(tmp_path)
    with caplog.at_level(logging.WARNING):
        frame = run([tiny, other], tmp_path, runtime, executor="none")
    assert frame.index.tolist() == [tiny.id]
    assert "1 of 2 runs are not recorded" in caplog.text


def test_a_loading_process_that_dies_in_scoring_is_explained_as_in_training(
    tiny, runtime, tmp_path, monkeypatch
):
    def dies(*_, **__):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")

    monkeypatch.setattr(sweep, "score", dies)
    with pytest.raises(RuntimeError, match="Use fewer workers"):
        run_one(tiny, tmp_path, runtime)


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("cloud", "executor is 'cloud'; expected one of local, slurm, none"),
        ("", "executor is ''"),
        ("slurm gpu", "'gpu' is not of the form NAME=VALUE"),
        ("none partition=gpu", "none takes no parameters"),
        ("local partition=gpu", "partition"),
        ("local timeout_min=long", "timeout_min"),
        ("local cores=0", "cores is 0; expected a number of at least 1"),
        ("local gpus=0", r"gpus is 0; expected a list, e.g. \[0,1\]"),
    ],
)
def test_a_wrong_executor_is_named(tiny, runtime, tmp_path, executor, message):
    with pytest.raises(ValueError, match=message):
        run([tiny], tmp_path, runtime, executor=executor)


def test_an_executors_parameters_are_read_as_yaml():
    assert parse_executor('slurm gpus_per_node=1 "setup=[module load cuda]" mem_gb=3.5') == (
        "slurm",
        {"gpus_per_node": 1, "setup": ["module load cuda"], "mem_gb": 3.5},
    )


def test_without_slurm_the_message_says_what_to_do(tiny, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SweepError, match='"srun".*executor=local'):
        run([tiny], tmp_path / "records", runtime, executor="slurm")


# A base install: single runs work, and what wants an executor says which extra has it.
WITHOUT_SUBMITIT = """
import sys; sys.path.insert(0, sys.argv[1])
sys.modules["submitit"] = None
from study.tiny import TINY
from emastudy.engine import Runtime
from emastudy.study import SweepError, run
try:
    run([TINY], sys.argv[2], Runtime(runs_dir=sys.argv[3], device="cpu"))
except SweepError as error:
    sys.exit(str(error))
"""


def test_without_submitit_the_message_names_the_extra(script):
    with script(WITHOUT_SUBMITIT, stderr=subprocess.PIPE) as process:
        assert "pip install 'emastudy[slurm]'" in process.communicate()[1]


def test_a_record_of_other_data_is_refused_by_name(tiny, runtime, tmp_path, trainings, caplog):
    root, records = make_folder(tmp_path / "data"), tmp_path / "records"
    config = dataclasses.replace(
        tiny, dataset="folder", dataset_options={}, eval_images=0, batch_size=2, iterations=1
    )
    runtime = dataclasses.replace(runtime, data_root=str(root))
    record = run_one(config, records, runtime)
    assert record.data["val"]["classes"] == ("sound", "crack")
    assert Record.read(records / f"{config.id}.json").data["train"]["images"] == 2
    run([config], records, dataclasses.replace(runtime, data_root=""), executor="none")
    (root / "dataset.yaml").write_text("classes: [crack, sound]\n")
    for look_up in (
        lambda: run_one(config, records, runtime),
        lambda: run([config], records, runtime),
    ):
        with pytest.raises(InputError, match=r"saw other data(.|\n)*classes: crack, sound instead"):
            look_up()
    next((root / "masks" / "train").iterdir()).unlink()
    with pytest.raises(MissingFileError, match="every image needs a mask"):
        run_one(config, records, runtime)  # what is left are other data too
    assert len(trainings) == 1
    shutil.rmtree(root)  # gone: nothing to compare, the record stands
    assert run([config], records, runtime, executor="none")["miou"].notna().all()
    assert f"there is no data_root {root}" in caplog.text

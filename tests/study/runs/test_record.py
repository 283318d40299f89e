"""Records: whole or not there, and what they say they are."""

import dataclasses
import json
import os
import signal
import subprocess
import time

import pytest
from study.tiny import damage, make_record
from waiting import within_minutes

from emastudy.engine import NUMBERS_VERSION
from emastudy.study import Record, RecordError, load_records


def test_a_record_survives_writing_and_reading(tiny, tmp_path):
    record = make_record(tiny)
    path = record.write(tmp_path)
    assert path.name == f"{tiny.id}.json"
    assert Record.read(path) == record
    assert "[10, 1.5]" in path.read_text()  # a point a line, not a number a line


def test_the_table_is_tidy(tiny, tmp_path):
    for seed in (0, 1):
        make_record(dataclasses.replace(tiny, seed=seed), miou=50.0 + seed).write(tmp_path)
    ema = dataclasses.replace(tiny, head="ema", head_options={"num_iterations": 5})
    make_record(ema).write(tmp_path)
    frame = load_records(tmp_path)
    assert len(frame) == 3
    assert frame.loc[ema.id, "head.num_iterations"] == 5
    assert frame.loc[ema.id, "head.normalization"] == "l2"  # a default, filled in
    assert sorted(frame[frame["head"] == "fcn"]["miou"]) == [50.0, 51.0]
    assert load_records(tmp_path / "nothing").empty


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is not JSON"),
        ("empty", "is not JSON"),
        ("older schema", "does not use schema 1"),
        ("another's", "says it is run"),
        ("unknown field", "no field 'colour'"),
        ("lacking field", "wrong fields"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_named(tiny, tmp_path, how, message):
    path = make_record(tiny).write(tmp_path)
    damage(path, how)
    with pytest.raises(RecordError, match=message) as error:
        Record.read(path)
    assert str(path) in str(error.value)
    assert "delete it" in str(error.value)


def test_a_renamed_record_is_refused(tiny, tmp_path):
    path = make_record(tiny).write(tmp_path)
    with pytest.raises(RecordError, match="all three names must agree"):
        Record.read(path.rename(tmp_path / "scenes-fcn-0000000000.json"))


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tiny, tmp_path, monkeypatch):
    path = make_record(tiny, miou=1.0).write(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space.*Free space there"):
        make_record(tiny, miou=2.0).write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert Record.read(path).metrics["miou"] == 1.0


WRITES = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])
from study.tiny import TINY, make_record
record = make_record(TINY)
print("ready", flush=True)
while True: record.write(Path(sys.argv[2]))
"""


def test_kill_9_in_mid_write_leaves_whole_records_only(script, folders):
    with script(WRITES, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        within_minutes(lambda: list(folders[0].glob("*.json")) or process.poll() is not None)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
    written = list(folders[0].glob("*.json"))
    assert len(written) == 1
    Record.read(written[0])
    assert len(load_records(folders[0])) == 1  # leftovers of the killed write are not read


def test_records_from_before_the_version_existed_are_of_version_1(tiny, tmp_path):
    path = make_record(tiny).write(tmp_path)
    values = json.loads(path.read_text())
    del values["numbers"]
    path.write_text(json.dumps({**values, "source": "0" * 12}))
    assert Record.read(path).numbers == 1


def test_every_committed_record_is_current(root):
    paths = sorted((root / "experiments/records").glob("*/*.json"))
    assert len(paths) > 1000
    assert {Record.read(path).numbers for path in paths} == {NUMBERS_VERSION}

"""How runs stand is seen without asking them."""

import dataclasses
import json

import pytest
from study.tiny import make_record

from emastudy.engine import NUMBERS_VERSION
from emastudy.study import run_one, survey
from emastudy.study.runs import Status, lock_run, sweep


def rows(folders):
    return survey(folders[0].parent, folders[1]).to_dict("records")


def test_a_failure_is_noted_and_forgotten_when_mended(tiny, runtime, folders, states, monkeypatch):
    real = sweep.score
    monkeypatch.setattr(sweep, "score", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_one(tiny, folders[0], runtime)
    (row,) = rows(folders)
    assert (row["profile"], row["state"], row["progress"]) == ("some", "failed", "3/3")
    assert row["note"] == "ZeroDivisionError: division by zero"
    monkeypatch.setattr(sweep, "score", real)
    run_one(tiny, folders[0], runtime)
    assert states() == {tiny.id: "finished"}
    assert Status.read(runtime.run_dir(tiny)) is None


def test_records_of_an_earlier_version_of_the_numbers_are_outdated(tiny, folders, states):
    dataclasses.replace(make_record(tiny), numbers=NUMBERS_VERSION - 1).write(folders[0])
    assert states() == {tiny.id: "outdated"}


def test_a_recorded_run_that_is_measured_has_one_row(tiny, runtime, folders):
    make_record(tiny).write(folders[0])
    with lock_run(tiny, folders[0], runtime):
        (row,) = rows(folders)
        assert (row["id"], row["state"]) == (tiny.id, "running")


def test_options_are_those_that_tell_a_profiles_runs_apart(tiny, folders):
    changed = dataclasses.replace(tiny, learning_rate=0.5, head_options={"channels": 8}, seed=3)
    for config in (tiny, changed):
        make_record(config).write(folders[0])
    found = {row["seed"]: row["options"] for row in rows(folders)}
    assert found == {0: "", 3: "learning_rate=0.5"}


def test_a_status_of_another_version_of_the_package_is_shown_with_its_fault(tiny, runtime, folders):
    with pytest.raises(KeyboardInterrupt), lock_run(tiny, folders[0], runtime):
        raise KeyboardInterrupt
    path = runtime.run_dir(tiny) / "status.json"
    status = json.loads(path.read_text())
    path.write_text(json.dumps({**status, "config": {**status["config"], "colour": "red"}}))
    (row,) = rows(folders)
    assert row["state"] == "damaged"
    assert str(path) in row["note"]
    assert "no field 'colour'" in row["note"]

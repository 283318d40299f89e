"""Measurements: the files that keep the numbers, and who is asked again."""

import dataclasses
import json

import pytest

from emastudy.study import RecordError, SweepError
from emastudy.study.measures import Measurement, load_measurements, measure, store
from emastudy.study.measures.store import measure_one

pytestmark = pytest.mark.usefixtures("one_fork_server")


def test_a_measurement_is_made_once_and_then_read(unit_run, runtime, tmp_path, monkeypatch):
    frame = measure([unit_run], "rank", tmp_path, runtime, images=2)
    assert frame["id"].tolist() == [unit_run.id]
    assert frame["head.num_iterations"].tolist() == [2]
    monkeypatch.setattr(store, "train", None)  # calling it would fail
    again = measure([unit_run], "rank", tmp_path, runtime, images=2)
    assert again.equals(frame)
    assert load_measurements(tmp_path, "rank").equals(frame)
    assert load_measurements(tmp_path, "objective").empty
    # Stating a default is no other measurement; another option is.
    assert not list(tmp_path.glob("measurements/*.objective-*"))
    with pytest.raises(SweepError, match="none of the 1 runs"):
        measure([unit_run], "rank", tmp_path, runtime, executor="none", images=3)


def test_defaults_may_be_stated(unit_run, runtime, tmp_path):
    path = measure_one(unit_run, tmp_path, runtime, name="rank", options={})
    frame = measure([unit_run], "rank", tmp_path, runtime, executor="none", images=64)
    assert len(frame) == 1
    assert path.name.startswith(f"{unit_run.id}.rank-")


@pytest.mark.parametrize("damage", ["truncated", "other run", "schema"])
def test_a_damaged_measurement_is_refused_by_name(unit_run, tmp_path, damage):
    path = Measurement(unit_run, "rank", {"images": 1}, [{"rank_x": 8.0}], {}).write(tmp_path)
    assert Measurement.read(path).rows == [{"rank_x": 8.0}]
    values = json.loads(path.read_text())
    if damage == "truncated":
        path.write_text(path.read_text()[:100])
    elif damage == "other run":
        values["config"] = dataclasses.replace(unit_run, seed=7).to_dict()
        path.write_text(json.dumps(values))
    else:
        path.write_text(json.dumps({**values, "schema": 0}))
    with pytest.raises(RecordError, match="delete it and run the notebook again"):
        Measurement.read(path)


def test_unknown_measures_and_options_are_named(unit_run, runtime, tmp_path):
    with pytest.raises(ValueError, match="measure is 'speed'; there are concepts, distinct, maps"):
        measure([unit_run], "speed", tmp_path, runtime)
    with pytest.raises(ValueError, match="'rank' has no option 'pictures'; it has images"):
        measure([unit_run], "rank", tmp_path, runtime, pictures=3)
    with pytest.raises(ValueError, match="'rank': images is -2; expected a whole number ≥ 0"):
        measure([unit_run], "rank", tmp_path, runtime, images=-2)

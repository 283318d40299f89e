"""Records are held against the same runs, trained anew."""

import dataclasses
import json

import pandas as pd
import pytest

from emastudy.study import load_records, run_one
from emastudy.study.runs import TOLERANCE, audit, compare, draw


@pytest.fixture
def recorded(tiny, tmp_path, runtime):
    run_one(tiny, tmp_path / "records", runtime)
    return tmp_path / "records"


def test_a_run_made_again_holds_and_leaves_no_checkpoint(recorded, tiny, runtime, tmp_path):
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "audit"))
    found = audit(recorded, place, sample=5).iloc[0]
    assert found["id"] == tiny.id
    assert found["holds"]
    assert (found["difference"], found["loss"]) == (0, 0)  # same machine, same numbers
    assert not place.run_dir(tiny).exists()
    assert len(load_records(recorded)) == 1  # an audit is no evidence of its own


@pytest.mark.parametrize("what", ["miou", "loss"])
def test_a_record_beyond_the_tolerance_does_not_hold(recorded, tiny, runtime, tmp_path, what):
    path = recorded / f"{tiny.id}.json"
    values = json.loads(path.read_text())
    if what == "miou":
        values["metrics"]["miou"] += 1.1 * TOLERANCE["miou"]
    else:
        values["curves"]["loss"][-1][1] -= 1.1 * TOLERANCE["loss"]
    path.write_text(json.dumps(values))
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "audit"))
    assert not audit(recorded, place, ids=[tiny.id])["holds"].any()


def test_the_draw_takes_turns_between_kinds_of_runs(recorded):
    record = load_records(recorded)["record"].iloc[0]
    kinds = [("a", 6), ("b", 1), ("c", 1)]
    records = pd.DataFrame(
        {
            "record": {
                f"{commit}{number}": dataclasses.replace(record, commit=commit)
                for commit, count in kinds
                for number in range(count)
            }
        }
    )
    drawn = draw(records, known=[], count=4, seed=0)
    assert {id[0] for id in drawn} == {"a", "b", "c"}
    assert drawn == draw(records, known=[], count=4, seed=0)
    assert any(set(drawn) != set(draw(records, known=[], count=4, seed=n)) for n in range(1, 5))
    assert not set(drawn) & set(draw(records, known=drawn, count=4, seed=0))


def test_what_no_record_has_is_named(recorded, runtime):
    with pytest.raises(ValueError, match="no record of scenes-x"):
        audit(recorded, runtime, ids=["scenes-x"])
    assert compare(recorded).empty

"""Records are held against the same runs, trained anew."""

import dataclasses
import itertools
import json
import logging
import statistics

import pandas as pd
import pytest
from study.tiny import make_record

from emastudy.engine import NUMBERS_VERSION
from emastudy.errors import InputError
from emastudy.study import load_records, run_one
from emastudy.study.runs import TOLERANCE, audit
from emastudy.study.runs.audit import compare, draw

pytestmark = pytest.mark.usefixtures("one_fork_server")


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


def test_a_run_that_starts_from_another_is_trained_after_it(recorded, tiny, runtime, tmp_path):
    second = dataclasses.replace(tiny, start_from=tiny.id, seed=1)
    third = dataclasses.replace(tiny, start_from=second.id, seed=2)
    for config in (second, third):
        run_one(config, recorded, runtime)
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "audit"))
    found = audit(recorded, place, ids=[third.id]).iloc[0]
    assert (found["id"], found["difference"], found["loss"]) == (third.id, 0, 0)
    assert not place.run_dir(third).exists()


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
    # Interrupted after two of them, the same draw goes on with the others.
    assert draw(records, known=drawn[:2], count=2, seed=0) == drawn[2:]


def test_what_no_record_has_is_named(recorded, runtime):
    with pytest.raises(ValueError, match="no record of scenes-x"):
        audit(recorded, runtime, ids=["scenes-x"])
    assert compare(recorded).empty


@pytest.mark.parametrize(("name", "value"), [("sample", -3), ("seed", -1), ("seed", 2**32)])
def test_a_negative_sample_is_not_nearly_all_runs(recorded, runtime, name, value):
    with pytest.raises(InputError, match=f"^{name} is {value}; expected a whole number ≥ 0"):
        audit(recorded, runtime, **{"sample": 0, name: value})


def test_a_run_that_diverges_now_does_not_hold_and_stops_no_other(
    recorded, tiny, runtime, tmp_path, caplog
):
    wild = dataclasses.replace(tiny, learning_rate=1e6, iterations=5)
    make_record(wild).write(recorded)
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "audit"))
    with caplog.at_level(logging.INFO):
        found = audit(recorded, place, sample=5, ids=[tiny.id, tiny.id]).set_index("id")
    assert "2 runs are trained anew; 0.2 minutes of training by their records" in caplog.text
    assert found["holds"].to_dict() == {tiny.id: True, wild.id: False}
    assert pd.isna(found.loc[wild.id, "again"])
    assert not place.run_dir(wild).exists()
    assert compare(recorded)["id"].tolist() == [tiny.id]


def test_an_audit_of_an_earlier_version_of_the_numbers_is_made_again(
    recorded, tiny, runtime, tmp_path
):
    stale = dataclasses.replace(make_record(tiny, miou=0.0), numbers=NUMBERS_VERSION - 1)
    stale.write(recorded / "audit")
    assert compare(recorded).empty
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "audit"))
    assert audit(recorded, place, sample=1)["difference"].tolist() == [0]


def test_a_record_of_an_earlier_version_of_the_numbers_is_not_audited(tiny, runtime, tmp_path):
    dataclasses.replace(make_record(tiny), numbers=NUMBERS_VERSION - 1).write(tmp_path)
    with pytest.raises(ValueError, match=f"no record of {tiny.id} with the numbers of this ver"):
        audit(tmp_path, runtime, ids=[tiny.id])


def test_the_tolerance_is_below_what_another_seed_changes(root):
    for profile in ("scenes", "animals", "animals_frozen", "camvid", "camvid_frozen"):
        records = load_records(root / "experiments" / "records" / profile)
        kinds = [dataclasses.replace(r.config, seed=0).id for r in records["record"]]
        # By kind: pairs grow with the square of the seeds, and eight would outvote three.
        differences = [
            statistics.median(abs(one - other) for one, other in itertools.combinations(scores, 2))
            for _, scores in records["miou"].groupby(kinds)
            if len(scores) > 1
        ]
        assert statistics.median(differences) > 1.5 * TOLERANCE["miou"], profile

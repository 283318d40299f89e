"""What findings ask of records and measurements."""

import dataclasses

import pytest
from study.made_up import SEEDS, ema, evidence, measured, plain, record, scored
from study.made_up import scores as made_scores

from emastudy.errors import InputError
from emastudy.study.recipes import scenes
from emastudy.study.report.findings import Best, Comparison, Count
from emastudy.study.runs import to_frame


def test_lists_are_picked_from():
    rows = [(scenes("ema", seed=seed), {"course": [1.0, 2.0 + seed, 9.0]}) for seed in SEEDS]
    source = evidence(concepts=measured(rows))
    for pick, expected in {"first": 1, "1": 4, "last": 9, "median": 4}.items():
        asked = Comparison("scenes", measure="concepts", value=f"course.{pick}")
        (number,) = asked.ask(source)
        assert number.value == pytest.approx(expected)
    fall = Comparison(
        "scenes", {"value": "course.last"}, {"value": "course.first"}, measure="concepts"
    )
    (number,) = fall.ask(source)
    assert (number.value, number.p) == (8, 0)


def test_scores_are_those_made_as_is_asked():
    rows = [
        ("ema", {"num_iterations": count}, [50.0 + count + 0.1 * seed for seed in SEEDS])
        for count in (1, 2, 3)
    ]
    rows += [("ema", {"num_iterations": 3, "split": "test"}, [10.0] * 5)]
    rows += [("ema", {"num_iterations": 3, "multi_scale": True}, [90.0] * 5)]
    source = evidence(scores=made_scores(rows))
    scores = Comparison(
        "scenes",
        {"num_iterations": 3},
        {"num_iterations": 3, "at.num_iterations": "=num_iterations"},
        each={"at.num_iterations": [1, 2, 3], "num_iterations": [3]},
        measure="scores",
    )
    # Trained with three: two less than the score tested as trained, one less, and the same twice.
    assert [round(one.value, 6) for one in scores.ask(source)] == [-2, -1]
    test = Comparison("scenes", at={"num_iterations": 3, "split": "test"}, measure="scores")
    assert next(test.ask(source)).value == 10
    many = Comparison("scenes", at={"num_iterations": 3, "multi_scale": True}, measure="scores")
    assert next(many.ask(source)).value == 90
    with pytest.raises(InputError, match="no scores of scenes is of a run with the usual options"):
        next(Comparison("scenes", measure="scores", images=7).ask(source))


def test_another_learning_rate_is_another_run():
    slow = [scenes("fcn", seed=seed) for seed in SEEDS]
    slow = [dataclasses.replace(one, learning_rate=one.learning_rate / 2) for one in slow]
    usual = scored({plain("fcn"): 0.0})["record"]
    frame = to_frame([*usual, *(record(config, 30 + config.seed) for config in slow)])
    asked = Comparison("scenes", {"head": "fcn", "learning_rate": 0.5})
    assert next(asked.ask(evidence(frame))).value == 32


def test_the_best_value_of_an_option_is_counted_over_runs():
    gains = {ema(num_iterations=1): 1.0, ema(num_iterations=2): 1.3, ema(num_iterations=4): 0.0}
    asked = Best("scenes", {"num_iterations": [1, 2, 4]})
    found = list(asked.ask(evidence(scored(gains))))
    # Noise is of alternating sign: 1.0 + n against 1.3 - n, n of 0.3, -0.2, 0.1, -0.3 and 0.1.
    assert [(one.value, one.unit, one.case) for one in found] == [
        (1, "of 5 runs", "T = 1"),
        (4, "of 5 runs", "T = 2"),
    ]
    with pytest.raises(InputError, match="5 seeds are there of 6"):
        list(dataclasses.replace(asked, seeds=6).ask(evidence(scored(gains))))


def test_entries_of_lists_are_counted_over_all_runs():
    rows = [
        (scenes("ema", seed=seed), {"members": [2, 2, 1], "growth": [0.5, 1.0 + seed, 0.1]})
        for seed in SEEDS
    ]
    source = evidence(start=measured(rows))
    asked = Count("scenes", "start", count="growth > 1", among="members > 1")
    (number,) = asked.ask(source)
    assert (number.value, number.unit, number.seeds) == (4, "of 10", 5)
    assert not number.test
    with pytest.raises(InputError, match="'growth' is no condition; write one as 'growth < 1'"):
        list(dataclasses.replace(asked, count="growth").ask(source))
    with pytest.raises(InputError, match="the measurement has no value 'size'"):
        list(dataclasses.replace(asked, among="size > 1").ask(source))
    with pytest.raises(InputError, match="5 seeds are there of 6"):
        list(dataclasses.replace(asked, seeds=6).ask(source))

"""The rule: a difference paired by seed, and a claim's parts taken together."""

import dataclasses

import pytest
from scipy import stats
from study.made_up import NOISE, ema, evidence, find, plain, scored

from emastudy.study.claims import Finding, Part
from emastudy.study.claims.verdict import side
from emastudy.study.runs import to_frame


@pytest.mark.parametrize(
    ("gain", "noise", "seeds", "verdict"),
    [
        (2.0, NOISE, 5, "supported"),
        (-2.0, NOISE, 5, "contradicted"),
        (0.0, NOISE, 5, "undecided"),
        (2.0, 10 * NOISE, 5, "undecided"),
        (2.0, NOISE, 4, "not run"),
    ],
)
def test_the_paired_rule(gain, noise, seeds, verdict):
    key = ema(gradient="unrolled")
    frame = scored({key: gain, plain("non_local"): 0, plain("a2"): -1e-9}, noise, seeds)
    found = find("C17", evidence(frame), "unrolled")
    if verdict == "not run":
        assert found.verdict == "not run"
        assert found.missing.count("4 of 5 seeds") == 3
        assert find("C17", evidence(frame, needed=3), "unrolled").verdict == "supported"
        return
    against = found.parts[0]
    assert against.verdict == verdict
    ours, theirs = (frame[frame["head"] == head]["miou"] for head in ("ema", "non_local"))
    interval = stats.ttest_rel(ours.to_numpy(), theirs.to_numpy()).confidence_interval(0.95)
    assert against.interval == pytest.approx((interval.low, interval.high))
    assert against.seeds == 5


def test_seeds_that_do_not_match_are_named():
    frame = scored({ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0})
    late = [
        dataclasses.replace(r, config=dataclasses.replace(r.config, seed=r.config.seed + 3))
        for r in frame[frame["head"] == "a2"]["record"]
    ]
    found = find("C17", evidence(to_frame([*frame[frame["head"] != "a2"]["record"], *late])))
    assert found.missing == "only 2 of 5 seeds in common"


def test_the_weakest_support_is_shown():
    frame = scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0})
    assert find("C17", evidence(frame)).decisive.what == "EMA less A²"


def parts(*verdicts):
    return tuple(Part("", verdict) for verdict in verdicts)


def test_all_parts_must_hold_and_one_can_refute():
    assert Finding(parts("supported", "supported")).verdict == "supported"
    assert Finding(parts("supported", "undecided")).verdict == "undecided"
    assert Finding(parts("undecided", "not run")).verdict == "not run"
    assert Finding(parts("not run", "contradicted")).verdict == "contradicted"
    # Where one is enough, the order is turned round.
    assert Finding(parts("not run", "supported"), any_of=True).verdict == "supported"
    assert Finding(parts("contradicted", "undecided"), any_of=True).verdict == "undecided"


def test_what_is_shown_beside_does_not_decide():
    beside = Part("", "contradicted", decides=False)
    assert Finding((*parts("supported"), beside)).verdict == "supported"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.1, 2.0), "supported"), ((0.0, 0.9), "contradicted"), ((0.9, 1.1), "undecided")],
)
def test_the_whole_interval_must_lie_on_one_side(interval, verdict):
    assert side(interval, 1.0) == verdict
    assert side((float("nan"), float("nan"))) == "undecided"


def test_numbers_are_written_with_sign_unit_and_interval():
    assert Part("", "supported", 1.2, (0.41, 1.99)).number == "+1.20 mIoU [+0.41, +1.99]"
    assert Part("", "supported", 3.0, unit="of 5 runs", signed=False).number == "3 of 5 runs"
    assert Part("", "not run", missing="ema: 2 of 5 seeds").number == "ema: 2 of 5 seeds"

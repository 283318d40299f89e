"""The rule: a difference paired by seed, and a claim's parts taken together."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study.made_up import NOISE, ema, evidence, find, plain, scored

from emastudy.study.claims import Judgement, Part
from emastudy.study.claims.verdict import about_zero, above, side
from emastudy.study.runs import to_frame
from emastudy.study.statistics import holm


@pytest.mark.parametrize(
    ("gain", "noise", "seeds", "verdict"),
    [
        (2.0, NOISE, 5, "supported"),
        (-2.0, NOISE, 5, "contradicted"),
        (0.0, NOISE, 5, "inconclusive"),
        (2.0, 10 * NOISE, 5, "inconclusive"),
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
    assert Judgement(parts("supported", "supported")).verdict == "supported"
    assert Judgement(parts("supported", "inconclusive")).verdict == "inconclusive"
    assert Judgement(parts("inconclusive", "not run")).verdict == "not run"
    assert Judgement(parts("not run", "contradicted")).verdict == "contradicted"
    # Where one is enough, the order is turned round.
    assert Judgement(parts("not run", "supported"), any_of=True).verdict == "supported"
    assert Judgement(parts("contradicted", "inconclusive"), any_of=True).verdict == "inconclusive"


def test_what_is_shown_beside_does_not_decide():
    beside = Part("", "contradicted", decides=False)
    assert Judgement((*parts("supported"), beside)).verdict == "supported"


def made(**p):
    """Parts of one letter each (supported, contradicted, inconclusive) and number, with p."""
    words = {"s": "supported", "c": "contradicted", "i": "inconclusive"}
    return tuple(Part(name, words[name[0]], p=value) for name, value in p.items())


def test_the_p_value_of_a_finding_is_that_of_an_intersection_or_a_union():
    nan = float("nan")
    assert Judgement(made(s1=0.01, s2=0.04)).p == 0.04  # both are needed
    assert Judgement(made(s1=0.01, s2=nan)).p == 0.01  # a count beside
    assert Judgement(made(s1=0.01, c1=0.02, c2=0.01)).p == pytest.approx(0.03)  # one is enough
    assert Judgement(made(c1=0.6, c2=0.7)).p == 1.0
    assert Judgement(made(i1=0.3, s1=0.01)).p == 1.0
    assert np.isnan(Judgement(made(c1=nan, s1=0.01)).p)  # a count decides
    assert np.isnan(Judgement(made(s1=nan)).p)
    assert np.isnan(Judgement((*made(s1=0.01), *parts("not run"))).p)
    beside = dataclasses.replace(made(c1=0.001)[0], decides=False)
    assert Judgement((*made(s1=0.01), beside)).p == 0.01
    # Where one part is enough to support, the two change places.
    assert Judgement(made(s1=0.01, i1=0.4), any_of=True).p == 0.02
    assert Judgement(made(c1=0.01, c2=0.02), any_of=True).p == 0.02


def test_a_count_that_decides_alone_is_shown_and_leaves_tests_beside_it_uncorrected():
    count, test = (
        Part("count", "contradicted"),
        Part("test", "contradicted", -1.0, (-2.0, -0.1), p=0.04),
    )
    found = Judgement((test, count))
    assert np.isnan(found.p)
    assert found.decisive is count
    wanted = dataclasses.replace(count, verdict="supported")
    both = Judgement((dataclasses.replace(test, verdict="supported"), wanted))
    assert (both.p, both.decisive.what) == (0.04, "test")  # the test is needed as well


def test_about_zero_is_wrong_in_at_most_one_of_twenty_wherever_the_mean_lies():
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 4.0):  # on the margin both words are wrong, or nearly
        samples = rng.normal(0.25, spread, (1500, 3))
        found = [about_zero("", pd.Series(sample), 0.25, "") for sample in samples]
        beyond = sum(part.verdict == "contradicted" for part in found)
        assert stats.binomtest(beyond, 1500, 0.05, alternative="greater").pvalue > 0.01
        decided = [part for part in found if part.verdict != "inconclusive"]
        assert all(part.p < 0.05 for part in decided)


def test_the_correction_takes_back_what_it_must_and_keeps_both():
    found = Judgement(made(c1=0.02, s1=0.01), adjusted=0.2)
    assert (found.verdict, found.uncorrected) == ("inconclusive", "contradicted")
    assert found.decisive.what == "c1"
    assert dataclasses.replace(found, adjusted=0.04).verdict == "contradicted"


def test_a_column_of_null_effects_has_a_false_verdict_in_at_most_one_of_twenty():
    rng = np.random.default_rng(0)
    alone = together = 0
    for _ in range(150):
        column = [
            Judgement(tuple(above("", pd.Series(rng.normal(size=4))) for _ in range(3)))
            for _ in range(4)
        ]
        alone += any(found.uncorrected != "inconclusive" for found in column)
        together += bool((holm(found.p for found in column) < 0.05).any())
    assert stats.binomtest(together, 150, 0.05, alternative="greater").pvalue > 0.01
    assert stats.binomtest(alone, 150, 0.05, alternative="greater").pvalue < 0.01


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.1, 2.0), "supported"), ((0.0, 0.9), "contradicted"), ((0.9, 1.1), "inconclusive")],
)
def test_the_whole_interval_must_lie_on_one_side(interval, verdict):
    assert side(interval, 1.0) == verdict
    assert side((float("nan"), float("nan"))) == "inconclusive"


def test_numbers_are_written_with_sign_unit_and_interval():
    assert Part("", "supported", 1.2, (0.41, 1.99)).number == "+1.20 mIoU [+0.41, +1.99]"
    assert Part("", "supported", 3.0, unit="of 5 runs", signed=False).number == "3 of 5 runs"
    assert Part("", "not run", missing="ema: 2 of 5 seeds").number == "ema: 2 of 5 seeds"

"""Every verdict on the unit's settings, on made-up records and measurements."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study.made_up import (
    NOISE,
    SEEDS,
    SHARED_BY_SEED,
    ema,
    evidence,
    find,
    record,
    scored,
    scores,
)

from emastudy.study import claims
from emastudy.study.recipes import scenes
from emastudy.study.runs import to_frame


@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_the_moving_average_must_beat_both_where_both_have_one_gradient(gradient):
    def regime(options):
        return {} if gradient == "detached" else {"gradient": gradient, **options}

    average = ema(**regime({}))
    fixed = ema(**regime({}), maintenance="fixed")
    back = ema(gradient="unrolled", maintenance="learned")

    def found(gains):
        return find("C9", evidence(scored(gains)), gradient)

    both = {average: 2.0, fixed: 0.0}
    apart = gradient == "detached"
    assert found(both).original == "not run"
    assert found(both).verdict == ("supported" if apart else "not run")
    assert found({**both, back: 0.0}).verdict == "supported"
    refuted = found({**both, back: 4.0})
    # By the rule as first written, another gradient's score refuted it.
    assert refuted.original == "contradicted"
    assert refuted.verdict == ("supported" if apart else "contradicted")
    assert refuted.parts[1].decides != apart
    # One refuted part decides, whatever else is missing.
    assert found({average: 0.0, fixed: 2.0}).verdict == "contradicted"


@pytest.mark.parametrize(
    ("learned", "loss", "verdict"),
    [
        ([50, 51, 52, 53, 20], 1.0, "supported"),  # one below half of the average's mean
        ([50, 51, 52, 53, 54], float("nan"), "supported"),
        ([30, 70, 31, 69, 50], 1.0, "supported"),  # a spread some thirty times as large
        ([50.0, 50.0, 50.0, 50.0, 50.001], 1.0, "contradicted"),
        ([50, 51, 49, 50, 51], 1.0, "inconclusive"),
    ],
)
def test_back_propagation_is_unstable(learned, loss, verdict):
    average = [50.0, 51.0, 49.0, 50.5, 49.5]
    made = [record(scenes("ema", seed=s, gradient="unrolled"), average[s]) for s in SEEDS]
    made += [
        record(
            scenes("ema", seed=s, gradient="unrolled", maintenance="learned"),
            learned[s],
            {"loss": [(10, 1.0), (20, loss)], "bases_gradient": [(10, 1.0), (20, 3.0)]},
        )
        for s in SEEDS
    ]
    found = find("C10", evidence(to_frame(made)), "unrolled")
    assert found.verdict == verdict
    assert found.parts[2].effect == pytest.approx(1.5)
    few = find("C10", evidence(to_frame(made[:9])), "unrolled")
    assert few.verdict == "not run"
    assert few.missing == "ema gradient=unrolled maintenance=learned: 4 of 5 seeds"


def by_iterations(courses, counts):
    return {
        ema(normalization=name, num_iterations=t): course[t]
        for name, course in courses.items()
        for t in counts
    }


def test_l2_beats_both_at_three_and_four():
    better = dict.fromkeys((3, 4), 2.0)
    flat = dict.fromkeys((3, 4), 0.0)
    frame = scored(by_iterations({"l2": better, "none": flat, "layer": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "supported"
    tie = {3: 2.0, 4: 0.0}
    frame = scored(by_iterations({"l2": tie, "none": flat, "layer": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "inconclusive"
    frame = scored(by_iterations({"l2": better, "none": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "not run"


@pytest.mark.parametrize(
    ("layer", "verdict"), [(-2.0, "supported"), (2.0, "contradicted"), (0.0, "inconclusive")]
)
def test_layer_norm_is_worse_on_the_mean_over_iterations(layer, verdict):
    counts = (1, 2, 3, 4)
    courses = {"none": dict.fromkeys(counts, 0.0), "layer": dict.fromkeys(counts, layer)}
    rng = np.random.default_rng(0)
    frame = scored(by_iterations(courses, counts))
    frame["miou"] += rng.normal(0, 0.5, len(frame))
    assert find("C12", evidence(frame)).verdict == verdict
    part = frame[~((frame["head.num_iterations"] == 2) & (frame["seed"] == 3))]
    assert find("C12", evidence(part)).verdict == "not run"


@pytest.mark.parametrize(
    ("l2", "none", "verdict"),
    [
        (1.0, 0.0, "supported"),
        (-1.0, 0.0, "contradicted"),
        (1.0, -1.0, "contradicted"),
        (0.0, 0.0, "inconclusive"),
    ],
)
def test_slopes_over_iterations(l2, none, verdict):
    counts = (1, 2, 3, 4)
    slopes = {"l2": l2, "none": none, "layer": 0.0}
    courses = {name: {t: slope * t for t in counts} for name, slope in slopes.items()}
    # Noise that tilts every seed by another amount, around zero.
    frame = scored(by_iterations(courses, counts), np.zeros(5))
    frame["miou"] += NOISE[frame["seed"]] * frame["head.num_iterations"]
    found = find("C13", evidence(frame))
    assert found.verdict == verdict
    one = frame[(frame["head.normalization"] == "l2") & (frame["seed"] == 2)]
    fitted = stats.linregress(one["head.num_iterations"], one["miou"]).slope
    assert fitted == pytest.approx(l2 + NOISE[2])
    assert found.parts[0].effect == pytest.approx(l2 + NOISE.mean())
    assert find("C13", evidence(frame[frame["seed"] > 0])).verdict == "not run"


@pytest.mark.parametrize(
    ("none", "noise", "first", "verdict"),
    [
        (0.0, 3.0, "supported", "inconclusive"),  # nobody knows
        (0.15, 0.1, "contradicted", "supported"),  # a slope, but hardly any
        (0.6, 0.1, "contradicted", "contradicted"),
    ],
)
def test_no_slope_must_be_shown(none, noise, first, verdict):
    slopes = {"l2": 2.0, "none": none, "layer": 0.0}
    courses = {name: {t: slope * t for t in (1, 2, 3, 4)} for name, slope in slopes.items()}
    frame = scored(by_iterations(courses, (1, 2, 3, 4)), np.zeros(5))
    frame["miou"] += noise * NOISE[frame["seed"]] * frame["head.num_iterations"]
    found = find("C13", evidence(frame))
    assert (found.original, found.verdict) == (first, verdict)
    slope = none + noise * NOISE
    interval = stats.ttest_1samp(slope, 0).confidence_interval(0.9)
    assert found.parts[1].interval == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("best", "step", "verdict", "first"),
    [
        (3, 2.0, "supported", "supported"),
        (1, 2.0, "contradicted", "contradicted"),
        (5, 2.0, "contradicted", "contradicted"),
        # What no test tells apart a count contradicted.
        (5, 0.01, "inconclusive", "contradicted"),
    ],
)
def test_the_peak_over_training_iterations(best, step, verdict, first):
    course = {t: -abs(t - best) * step for t in range(1, 9)}
    frame = scored(by_iterations({"l2": course}, range(1, 9)))
    if step < 1:
        frame["miou"] += 0.3 * np.random.default_rng(0).normal(size=len(frame))
    found, *_ = claims.judge([evidence(frame)], ["C14"])
    assert (found.verdict, found.original) == (verdict, first)
    if step > 1:
        assert found.parts[-1].effect == (5 if best == 3 else 0)
    assert [part.what for part in found.parts if part.decides] == [
        f"T = 3 less T = {t}" for t in (1, 2, 4, 5, 6, 7, 8)
    ]
    short = find("C14", evidence(frame[frame["head.num_iterations"] < 8]))
    assert [part.verdict for part in short.parts[-2:]] == ["not run"] * 2


@pytest.mark.parametrize(
    ("course", "verdict"),
    [
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 7.82], "supported"),
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 9.0], "contradicted"),  # still rising at the end
        ([0, 4, 6, 3, 3.5, 3.7, 3.8, 3.8], "contradicted"),  # falls after 3
        ([0, 4, 6, 7, 7.5, 7.7, 7.65, 7.65], "inconclusive"),  # a fall within the noise
    ],
)
def test_more_iterations_at_test(course, verdict):
    wobble = 0.03 * np.array([1, -1, 1, -1, 0])
    table = [
        ("ema", {"num_iterations": t}, 50 + SHARED_BY_SEED + value + (-1) ** t * wobble)
        for t, value in enumerate(course, 1)
    ]
    assert find("C15", evidence(scores=scores(table))).verdict == verdict
    assert find("C15", evidence(scores=scores(table[:-1]))).verdict == "not run"
    elsewhere = pd.concat([scores(table[:-1]), scores(table[-1:], images=64)])
    assert find("C15", evidence(scores=elsewhere)).verdict == "not run"


def test_a_step_that_falls_by_less_than_counts_as_saturated_does_not_contradict():
    course = [0, 4, 6, 7, 7.5, 7.7, 7.65, 7.6]
    wobble = 0.003 * np.array([1, -1, 1, -1, 0])
    table = [
        ("ema", {"num_iterations": t}, 50 + SHARED_BY_SEED + value + (-1) ** t * wobble)
        for t, value in enumerate(course, 1)
    ]
    found = find("C15", evidence(scores=scores(table)))
    assert (found.original, found.verdict) == ("contradicted", "supported")
    total = found.parts[-1]
    assert total.what == "T_eval = 8 less 3"
    assert total.effect == pytest.approx(1.6, abs=1e-2)
    assert not total.decides

"""Intervals against scipy's own."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emastudy.study.statistics import mean_interval, paired_differences, summarize


def test_the_interval_is_students():
    values = [1.0, 2.5, 3.0, 7.0]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((np.mean(values), interval.low, interval.high))


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([3.0])
    assert mean == 3.0
    assert np.isnan([low, high]).all()


def frame():
    rng = np.random.default_rng(0)
    seed_effect = 10 * rng.standard_normal(5)
    return pd.DataFrame(
        [
            {"method": method, "seed": s, "miou": 50 + seed_effect[s] + gain + 0.1 * rng.normal()}
            for method, gain in (("a", 0.0), ("b", 1.0))
            for s in range(5)
        ]
    )


def test_pairing_takes_out_what_seeds_share():
    table = paired_differences(frame(), "method", "miou", baseline="a")
    row = table.loc["b"]
    assert row["low"] < 1.0 < row["high"]
    assert row["decided"]
    assert row["seeds"] == 5
    wide = frame().pivot(index="seed", columns="method", values="miou")
    interval = stats.ttest_rel(wide["b"], wide["a"]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    # Unpaired, the spread over seeds hides it.
    summary = summarize(frame(), "method", "miou")
    assert summary.loc["b", "low"] < summary.loc["a", "high"]


def test_two_runs_of_one_seed_cannot_be_paired():
    double = pd.concat([frame(), frame()])
    with pytest.raises(ValueError, match="pairing by seed"):
        paired_differences(double, "method", "miou", baseline="a")


def test_a_seed_that_one_side_lacks_is_left_out():
    part = frame().query("not (method == 'b' and seed == 3)")
    assert paired_differences(part, "method", "miou", baseline="a").loc["b", "seeds"] == 4

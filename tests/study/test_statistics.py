"""Intervals against scipy's own, and against what they promise."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from emastudy.engine.scoring import metrics
from emastudy.errors import InputError
from emastudy.study.statistics import (
    additive_model,
    benjamini_hochberg,
    equivalence,
    fit_exponent,
    holm,
    image_deviation,
    mean_interval,
    mean_test,
    over_images,
    paired_differences,
    readable,
    spread_ratio_interval,
    standing,
    summarize,
    summarize_columns,
)


def test_the_interval_is_students():
    values = [1.0, 2.5, 3.0, 7.0]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((np.mean(values), interval.low, interval.high))


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([3.0])
    assert mean == 3.0
    assert np.isnan([low, high]).all()


def test_values_that_agree_have_an_interval_without_width():
    assert mean_interval([4.0, 4.0, 4.0]) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_a_mean_covers_and_its_test_says_the_same(seeds):
    covered = 0
    for sample in np.random.default_rng(0).normal(2.0, 1.0, (400, seeds)):
        _, low, high = mean_interval(sample)
        covered += low < 2 < high
        assert (mean_test(sample, 2.0) < 0.05) == (not low < 2 < high)
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01
    assert np.isnan(mean_test([1.0]))
    assert mean_test([2.0, 2.0], 2.0) == 1.0


@pytest.mark.parametrize(("seeds", "deviations"), [(3, 3.3), (5, 1.7), (8, 1.2)])
def test_few_seeds_find_large_differences_only(seeds, deviations):
    samples = np.random.default_rng(0).normal(deviations, 1.0, (1000, seeds))
    found = np.mean([mean_test(sample) < 0.05 for sample in samples])
    assert found == pytest.approx(0.8, abs=0.05)


def test_holm_gives_the_textbooks_numbers():
    # The worked example of Wikipedia's "Holm-Bonferroni method".
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # What was not tested counts for nothing.
    assert holm([0.03, np.nan, 0.02]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_benjamini_and_hochbergs_own_example():
    """Section 3.1 of their paper: of 15 comparisons their rule keeps 4, Bonferroni's 3."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (benjamini_hochberg(p) < 0.05).sum() == 4
    assert (holm(p) < 0.05).sum() == 3
    assert benjamini_hochberg([np.nan, *p])[1:].tolist() == benjamini_hochberg(p).tolist()
    assert np.isnan(benjamini_hochberg([np.nan])).all()


def test_holm_keeps_false_alarms_of_a_family_at_their_level():
    """Under the global null, where tests by themselves raise one in two families of 14."""
    samples = np.random.default_rng(0).normal(size=(1000, 14, 4))
    families = stats.ttest_1samp(samples, 0, axis=-1).pvalue
    alarms = sum((holm(p) < 0.05).any() for p in families)
    assert stats.binomtest(int(alarms), 1000, 0.05).pvalue > 0.01
    assert (families < 0.05).any(axis=1).mean() > 0.4


def test_equivalence_is_decided_at_the_tables_quantile():
    # Three values, standard error 1/√3: Student's 95 % quantile with 2 degrees of freedom, 2.920.
    half = 2.920 / np.sqrt(3)
    assert equivalence([-1.0, 0.0, 1.0], half).p == pytest.approx(0.05, abs=1e-4)
    assert equivalence([-1.0, 0.0, 1.0], half + 0.01).equivalent
    found = equivalence([-1.0, 0.0, 1.0], half - 0.01)
    assert not found.equivalent
    assert (found.low, found.high) == pytest.approx((-half, half), abs=1e-3)
    assert not equivalence([0.0]).equivalent


def test_an_effect_at_the_margin_is_rarely_called_equivalent():
    samples = np.random.default_rng(0).normal(0.5, 0.1, (400, 5))
    alarms = sum(equivalence(sample).equivalent for sample in samples)
    assert stats.binomtest(alarms, 400, 0.05).pvalue > 0.01


def test_a_reader_gets_intervals_in_one_column_and_no_verdict_of_two_seeds():
    runs = pd.DataFrame(
        {"method": list("AB") * 3, "seed": [0, 0, 1, 1, 2, 2], "miou": [1.0, 4, 2, 6, 3, 7.5]}
    )
    table = readable(paired_differences(runs, "method", "miou", baseline="A"))
    assert list(table.columns) == ["difference [95 % interval]", "p", "q", "seeds", "decided"]
    interval = "+3.83\xa0[+1.94,\xa0+5.73]"  # in one line
    assert list(table.loc["B"]) == [interval, "0.013", "0.013", 3, "yes"]
    table = readable(paired_differences(runs[:4], "method", "miou", baseline="A"))
    assert list(table.columns) == ["difference [95 % interval]", "p", "seeds"]


def test_summaries_are_those_of_each_combination():
    runs = pd.DataFrame(
        {"regime": list("aabb"), "T": 3, "seed": [0, 1, 0, 1], "miou": [50.0, 52, 60, 60]}
    )
    found = summarize(runs, "T", "miou", within=["regime"])
    assert found["mean"].to_dict() == {("a", 3): 51.0, ("b", 3): 60.0}
    assert list(found.index.names) == ["regime", "T"]


def test_of_two_seeds_nothing_is_said():
    scores = {"seed": [0, 0, 1, 1], "miou": [1, 1.02, 2, 2.03]}
    runs = pd.DataFrame({"method": list("AB") * 2, **scores})
    (row,) = paired_differences(runs, "method", "miou", baseline="A").to_dict("records")
    assert standing(pd.Series(row)) == "inconclusive"


def test_a_baseline_that_is_not_there_is_named():
    runs = pd.DataFrame({"method": ["A", "B"], "seed": 0, "miou": 1.0})
    with pytest.raises(InputError, match="no run has method = FCN, the baseline; there are A, B"):
        paired_differences(runs, "method", "miou", baseline="FCN")


def blocks():
    """Yields of penicillin by four processes on five blends.

    Box, Hunter and Hunter, Statistics for Experimenters, 1978, table 7.1.
    """
    yields = {
        "A": [89, 84, 81, 87, 79],
        "B": [88, 77, 87, 92, 81],
        "C": [97, 92, 87, 89, 80],
        "D": [94, 79, 85, 84, 88],
    }
    return (
        pd.DataFrame(yields).melt(ignore_index=False, var_name="method").reset_index(names="seed")
    )


def test_the_additive_model_of_a_published_experiment():
    found = additive_model(blocks(), "method", "value")
    # Their analysis of variance: residuals have a sum of squares of 226 and 12 degrees of freedom.
    assert found.freedom == 12
    assert found.deviation**2 * 12 == pytest.approx(226)
    assert found.differences.loc[("A", "C"), "difference"] == pytest.approx(84 - 89)
    row = found.differences.loc[("A", "B")]
    # The 95 % quantile of the studentized range of 4 and 12, from tables: 4.20.
    assert row["high"] - row["difference"] == pytest.approx(4.20 * np.sqrt(226 / 60), rel=1e-3)
    assert not found.differences["decided"].any()
    assert found.residuals.to_numpy().sum(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert found.residuals.to_numpy().sum(axis=1) == pytest.approx(np.zeros(5), abs=1e-9)


def test_tukeys_intervals_cover_all_differences_at_once():
    rng = np.random.default_rng(0)
    gains, covered = np.array([0.0, 0.5, 3.0, 3.1]), 0
    pairs = [(b, a) for a in range(4) for b in range(a)]
    truth = pd.Series({(a, b): gains[a] - gains[b] for a, b in pairs})
    for _ in range(200):
        scores = gains + 9 * rng.normal(size=(3, 1)) + rng.normal(size=(3, 4))
        runs = pd.DataFrame(scores).melt(ignore_index=False).reset_index(names="seed")
        table = additive_model(runs, "variable", "value").differences
        true = truth.loc[list(table.index)].to_numpy()
        covered += ((table["low"] < true) & (true < table["high"])).all()
    assert stats.binomtest(int(covered), 200, 0.95).pvalue > 0.01


def test_a_model_needs_two_of_each_and_one_run_for_each():
    with pytest.raises(ValueError, match=r"of 1 method all have 5 in common"):
        additive_model(blocks().query("method == 'A'"), "method", "value")
    with pytest.raises(ValueError, match="pairing by seed"):
        additive_model(pd.concat([blocks(), blocks()]), "method", "value")
    part = blocks().query("not (method == 'B' and seed == 3)")
    assert additive_model(part, "method", "value").freedom == 9


def test_the_interval_of_a_ratio_of_spreads_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        ratio, low, high, p = spread_ratio_interval(3 * rng.normal(size=5), rng.normal(size=5))
        assert low < ratio < high
        covered += low < 3 < high
        assert (p < 0.05) == (not low < 1 < high)
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01
    assert np.isnan(spread_ratio_interval([1.0, 2.0], [1.0, 1.0])).all()


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
    assert row["p"] == pytest.approx(stats.ttest_rel(wide["b"], wide["a"]).pvalue)
    # Unpaired, the spread over seeds hides it.
    summary = summarize(frame(), "method", "miou")
    assert summary.loc["b", "low"] < summary.loc["a", "high"]


def test_pairs_are_compared_within_every_combination_that_has_the_baseline():
    parts = [frame().assign(gradient=g, T=t) for g, t in (("unrolled", 2), ("detached", 1))]
    alone = frame().query("method == 'a'").assign(gradient="one_step", T=1)
    without = frame().query("method == 'b'").assign(gradient="one_step", T=2)
    every = pd.concat([*parts, alone, without])
    table = paired_differences(every, "method", "miou", baseline="a", within=["gradient", "T"])
    assert list(table.index) == [("unrolled", 2, "b"), ("detached", 1, "b")]
    assert table.index.names == ["gradient", "T", "method"]
    expected = paired_differences(frame(), "method", "miou", baseline="a")
    same = ["difference", "low", "high", "p", "seeds", "decided"]
    assert table.loc[("detached", 1, "b"), same].tolist() == expected.loc["b", same].tolist()
    assert table["q"].tolist() == benjamini_hochberg(table["p"]).tolist()
    by_one = paired_differences(pd.concat(parts), "method", "miou", baseline="a", within=["T"])
    assert list(by_one.index) == [(2, "b"), (1, "b")]
    assert paired_differences(alone, "method", "miou", baseline="a", within=["T"]).empty


def test_two_runs_of_one_seed_cannot_be_paired():
    double = pd.concat([frame(), frame()])
    with pytest.raises(ValueError, match="pairing by seed"):
        paired_differences(double, "method", "miou", baseline="a")


def test_a_difference_is_decided_or_equivalent_or_neither():
    def said(differences, margin=0.5):
        runs = [("a", s, 0.0) for s in range(3)] + [("b", s, d) for s, d in enumerate(differences)]
        runs = pd.DataFrame(runs, columns=["method", "seed", "miou"])
        row = paired_differences(runs, "method", "miou", baseline="a").loc["b"]
        return standing(row, margin), equivalence(differences, margin or 1e-9).equivalent

    assert said([1.0, 1.1, 1.2]) == ("decided", False)
    assert said([-0.1, 0.0, 0.15]) == ("equivalent within 0.5", True)
    assert said([-0.1, 0.0, 0.15], 0.2) == ("inconclusive", False)
    assert said([-0.1, 0.0, 0.15], 0.0) == ("inconclusive", False)
    assert said([-0.5, 0.0, 0.6]) == ("inconclusive", False)
    assert said([0.0]) == ("inconclusive", False)


def test_a_seed_that_one_side_lacks_is_left_out():
    part = frame().query("not (method == 'b' and seed == 3)")
    assert paired_differences(part, "method", "miou", baseline="a").loc["b", "seeds"] == 4


def test_several_quantities_are_summarised_group_by_group():
    runs = frame().assign(double=lambda runs: 2 * runs["miou"])
    found = summarize_columns(runs, "method", {"double": "twice", "miou": "once"})
    assert list(found.index) == [("a", "twice"), ("a", "once"), ("b", "twice"), ("b", "once")]
    alone = summarize(runs, "method", "miou")
    assert found.loc[("b", "once")].tolist() == alone.loc["b"].tolist()
    assert found.loc[("a", "twice"), "low"] == pytest.approx(2 * alone.loc["a", "low"])
    assert found["seeds"].tolist() == [5] * 4


def test_exponents_of_known_laws():
    n = np.array([10.0, 20.0, 50.0, 100.0])
    fit = fit_exponent(n, 3 * n**2)
    assert (fit.exponent, fit.low, fit.high) == pytest.approx((2, 2, 2))
    assert np.isnan(fit_exponent(n[:2], n[:2]).low)
    noisy = 3 * n**2 * [1.0, 1.1, 0.9, 1.0]
    line = stats.linregress(np.log(n), np.log(noisy))
    fit = fit_exponent(n, noisy)
    assert fit.exponent == pytest.approx(line.slope)
    # Student's 97.5 % quantile with two degrees of freedom, from tables.
    assert fit.high - fit.exponent == pytest.approx(4.3027 * line.stderr, rel=1e-4)


def counted(rng, seeds, images, skill):
    """Confusion matrices of two classes: images differ in difficulty, seeds in skill."""
    easy = rng.normal(0, 0.1, images)
    lucky = rng.normal(0, 0.02, seeds)
    share = np.clip(skill + lucky[:, None] + easy + rng.normal(0, 0.1, (seeds, images)), 0, 1)
    right = rng.binomial(1000, share)
    wrong = 1000 - right
    cells = np.stack([right, wrong, wrong, right], axis=-1)
    return cells.reshape(seeds, images, 2, 2)


def score(images):
    return metrics.miou(torch.tensor(images.sum(0)))


def test_the_deviation_of_images_is_that_of_drawing_them_by_hand():
    rng = np.random.default_rng(1)
    first, second = counted(rng, 3, 40, 0.8), counted(rng, 3, 40, 0.75)
    drawn = []
    for _ in range(1000):
        images = rng.integers(0, 40, 40)
        scores = [np.mean([score(run[images]) for run in method]) for method in (first, second)]
        drawn.append(scores[0] - scores[1])
    assert image_deviation(first, second) == pytest.approx(np.std(drawn, ddof=1), rel=0.1)
    assert image_deviation(first, first) == 0
    assert image_deviation(first, second) == image_deviation(first, second)


def test_an_interval_over_images_holds_what_other_seeds_and_images_give():
    rng = np.random.default_rng(0)
    truth = np.subtract(
        *(np.mean([score(run) for run in counted(rng, 40, 20_000, skill)]) for skill in (0.8, 0.75))
    )
    wide = narrow = 0
    for _ in range(200):
        first, second = counted(rng, 5, 60, 0.8), counted(rng, 5, 60, 0.75)
        differences = [score(a) - score(b) for a, b in zip(first, second, strict=True)]
        deviation = image_deviation(first, second, samples=200)
        low, high = over_images(differences, deviation)[1:]
        wide += low <= truth <= high
        low, high = mean_interval(differences)[1:]
        narrow += low <= truth <= high
    assert narrow < 0.9 * 200  # seeds alone say nothing of other images
    assert wide >= 0.93 * 200
    assert over_images([1.0, 2.0], 0.0) == pytest.approx(mean_interval([1.0, 2.0]))

"""Sentences of pages: they say what the intervals decide, and no more."""

import pandas as pd
import pytest
from study.made_up import GAPS, compared

from emastudy.study import report
from emastudy.study.statistics import paired_differences


def test_the_best_other_value_of_an_option_and_whether_it_is_decided():
    rows = [
        {"seed": seed, "K": k, "miou": 50.0 + gain + 0.1 * seed * (k == 4)}
        for seed in range(3)
        for k, gain in ((4, 2.0), (8, 1.0), (16, 0.0))
    ]
    said = report.best_other(pd.DataFrame(rows), "K", baseline=16.0)
    assert said.startswith("the best of the others is 4, +2.10 [+1.85, +2.35] mIoU against 16 (3 ")
    assert said.endswith(", decided.")
    assert "nothing to compare" in report.best_other(pd.DataFrame(rows[:1]), "K", baseline=4.0)


def test_in_short_says_every_difference_its_interval_and_whether_it_decides():
    runs = pd.DataFrame(
        [
            {
                "gradient": regime,
                "T": f"T = {t}",
                "seed": seed,
                "miou": 50 + gain * t + seed % 2 * t,
            }
            for regime, gain in (("detached", 4.0), ("unrolled", 0.0))
            for t in (0, 1)
            for seed in range(4)
        ]
    )
    differences = paired_differences(runs, "T", "miou", baseline="T = 0", within=["gradient"])
    said = report.in_short(differences, "T = 0", "scenes").splitlines()
    assert said[0] == (
        "**In short.** mIoU on scenes, less that of T = 0 (4 seeds, paired, 95 % intervals):"
    )
    # 4.5 ± t(0.975, 3) · sqrt(1/3) / 2, tables: 3.1824
    assert said[2] == "- gradients detached: T = 1 +4.50 [+3.58, +5.42]"
    assert said[3] == "- gradients unrolled: T = 1 +0.50 [-0.42, +1.42] (inconclusive)"
    one = paired_differences(runs[:8].query("seed == 0"), "T", "miou", baseline="T = 0")
    assert report.in_short(one, "T = 0", "x", "Nats").endswith(": T = 1 +4.00 (inconclusive).")
    assert "Nothing" in report.in_short(differences.iloc[:0], "T = 0", "scenes")


@pytest.fixture
def runs():
    return compared()


@pytest.mark.parametrize(
    ("ema", "words"),
    [(9.0, ": yes. "), (-9.0, "no, it lies below each"), (1.5, "some, but not all")],
)
def test_the_answer_follows_the_intervals(runs, ema, words):
    runs.loc[runs["method"] == "EMA, detached", "miou"] += ema - GAPS["EMA, detached"]
    text = report.table1_answer(runs, "made-up data")
    assert words in text
    assert f"{ema - 2:+.2f} [{ema - 2:+.2f}, {ema - 2:+.2f}] against PSANet" in text
    assert "3 seeds" in text


def test_an_interval_that_holds_zero_decides_nothing(runs):
    assert "not decided for every one of them" in report.table1_answer(runs, "made-up data")


def test_what_was_not_run_is_said_and_decides_nothing(runs):
    text = report.table1_answer(runs[runs["method"] != "PSANet"], "made-up data")
    assert "not run: PSANet" in text
    assert "not decided" in text


def test_one_seed_decides_nothing(runs):
    assert "not decided" in report.table1_answer(runs[runs["seed"] == 0], "made-up data")


def test_duels_say_what_they_decide_after_the_correction(runs):
    text = report.duels(runs, "EMA, detached", "made-up data")
    assert "scores 64.00 mIoU and PSANet 62.00: a difference of +2.00 [+2.00, +2.00]" in text
    assert "paired over 3 seeds, decided)" in text
    text = report.duels(runs, "DeepLabV3+", "made-up data")
    assert "paired over 3 seeds, equivalent within 0.5)" in text
    text = report.duels(runs[runs["seed"] == 0], "FCN", "made-up data")
    assert "one seed has no interval" in text
    # p = 0.037 by itself, and one of three tests that decide nothing else.
    ours = {
        "mine": [10.0, 10.0, 10.0],
        "A": [9.0, 8.0, 8.5],
        "B": [9.0, 11.0, 10.1],
        "C": [8, 13, 9],
    }
    rows = [(m, s, float(v)) for m, values in ours.items() for s, v in enumerate(values)]
    first = report.duels(pd.DataFrame(rows, columns=["method", "seed", "miou"]), "mine", "x")
    assert "A 8.50: a difference of +1.50 [+0.26, +2.74]" in first
    assert "decided)" not in first.replace("not decided)", "")


def test_margins_compare_like_with_like():
    # DeepLabV3+ and Exfuse score higher on other backbones; recalled numbers do not count.
    assert report.margin("Table 2") == (
        "Table 2: EMANet (ResNet-101) 87.7 % mIoU, +0.9 against the best other ResNet-101 "
        "(DIS, 86.8)."
    )
    assert "+0.5 against the best other ResNet-101 (DANet, 52.6)" in report.margin("Table 3")
    assert "+0.2 against the best other ResNet-101 (DANet, 39.7)" in report.margin("Table 4")

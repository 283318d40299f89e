"""Every verdict on what a trained unit computes, on made-up measurements."""

import pytest
from study.made_up import NOISE, SEEDS, evidence, find, measured

from emastudy.study.recipes import scenes


def test_falls_of_the_likelihood_per_normalisation():
    def rows(name, falls, iterations=8, seeds=SEEDS):
        return [
            (
                scenes("ema", seed=seed, normalization=name),
                {"at.iterations": iterations, "images": 20, "falls": falls * (seed == 1)},
            )
            for seed in seeds
        ]

    table = measured([*rows("l2", 0), *rows("none", 3), *rows("layer", 0, seeds=range(4))])
    one = evidence(objective=table)
    assert find("C1", one, variant="l2").verdict == "supported"
    against = find("C1", one, variant="none")
    assert against.verdict == "contradicted"
    assert against.decisive.number == "3 of 100 images"
    assert find("C1", one, variant="layer").missing == "objective: 4 of 5 seeds"
    # Followed further, it falls: the longest course counts.
    longer = measured([*rows("l2", 1, 12), *rows("l2", 0, 4)])
    assert find("C1", evidence(objective=longer), variant="l2").verdict == "contradicted"


@pytest.mark.parametrize(
    ("largest", "effective", "verdict"),
    [
        (16, 5.0, "supported"),
        (17, 5.0, "contradicted"),
        (16, 15.0, "contradicted"),
        (16, 10.0, "inconclusive"),
    ],
)
def test_low_rank(largest, effective, verdict):
    table = measured(
        [
            (
                scenes("ema", seed=seed),
                {
                    "largest_rank_estimate": largest,
                    "num_bases": 16,
                    "effective_rank_x": 10.0 + NOISE[seed],
                    "effective_rank_estimate": effective,
                },
            )
            for seed in SEEDS
        ]
    )
    assert find("C5", evidence(rank=table)).verdict == verdict
    assert find("C5", evidence(rank=table.iloc[:4])).missing == "rank: 4 of 5 seeds"


@pytest.mark.parametrize(
    ("course", "random", "shuffled", "verdict"),
    [
        ([0.2, 0.5, 0.9], 0.3, 0.1, "supported"),
        ([0.9, 0.5, 0.2], 0.1, 0.1, "contradicted"),
        ([0.2, 0.5, 0.9], 1.5, 0.1, "contradicted"),
        ([0.2, 0.5, 0.9], 0.3, 0.9, "inconclusive"),
    ],
)
def test_concepts(course, random, shuffled, verdict):
    table = measured(
        [
            (
                scenes("ema", seed=seed),
                {
                    "information": [v + 0.01 * NOISE[seed] * (n + 1) for n, v in enumerate(course)],
                    "random_bases": [0.0, 0.0, random],
                    "matched": course[-1] + 0.1 * NOISE[seed],
                    "shuffled": shuffled,
                },
            )
            for seed in SEEDS
        ]
    )
    assert find("C18", evidence(concepts=table)).verdict == verdict
    assert find("C18", evidence(concepts=table.iloc[1:])).verdict == "not run"

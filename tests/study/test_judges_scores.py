"""Every verdict on scores, on made-up records and measurements."""

import dataclasses
import itertools

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
    measured,
    plain,
    record,
    scored,
)

from emastudy.engine import RunConfig
from emastudy.study.claims import CLAIMS
from emastudy.study.recipes import scenes
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
    assert against.interval[0] < against.bootstrap[0] < against.effect < against.bootstrap[1]
    assert against.seeds == 5


def test_only_runs_of_the_very_recipe_are_evidence():
    right = {ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0}
    assert find("C17", evidence(scored(right))).verdict == "supported"
    for changed in ({"learning_rate": 0.01}, {"iterations": 299}, {"head_options": {}}):
        frame = scored(right)
        frame = to_frame(
            dataclasses.replace(r, config=dataclasses.replace(r.config, **changed))
            if r.config.head == "ema"
            else r
            for r in frame["record"]
        )
        found = find("C17", evidence(frame))
        assert found.verdict == "not run", changed
        assert "ema gradient=detached: 0 of 5 seeds" in found.missing


def test_seeds_that_do_not_match_are_named():
    frame = scored({ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0})
    late = [
        dataclasses.replace(r, config=dataclasses.replace(r.config, seed=r.config.seed + 3))
        for r in frame[frame["head"] == "a2"]["record"]
    ]
    found = find("C17", evidence(to_frame([*frame[frame["head"] != "a2"]["record"], *late])))
    assert found.missing == "only 2 of 5 seeds in common"


def test_all_parts_must_hold_and_one_can_refute():
    both = {ema(): 2.0, ema(maintenance="fixed"): 0.0}
    back = ema(gradient="unrolled", maintenance="learned")
    assert find("C9", evidence(scored(both))).verdict == "not run"
    assert find("C9", evidence(scored({**both, back: 0.0}))).verdict == "supported"
    found = find("C9", evidence(scored({**both, back: 4.0})))
    assert found.verdict == "contradicted"
    assert found.decisive.what == "moving average less back-propagation (unrolled)"
    # One refuted part decides, whatever else is missing.
    worse = {ema(): 0.0, ema(maintenance="fixed"): 2.0}
    assert find("C9", evidence(scored(worse))).verdict == "contradicted"


def test_the_weakest_support_is_shown():
    frame = scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0})
    assert find("C17", evidence(frame)).decisive.what == "EMA less A²"


@pytest.mark.parametrize(
    ("learned", "loss", "verdict"),
    [
        ([50, 51, 52, 53, 20], 1.0, "supported"),  # one below half of the average's mean
        ([50, 51, 52, 53, 54], float("nan"), "supported"),
        ([30, 70, 31, 69, 50], 1.0, "supported"),  # a spread some thirty times as large
        ([50.0, 50.0, 50.0, 50.0, 50.001], 1.0, "contradicted"),
        ([50, 51, 49, 50, 51], 1.0, "undecided"),
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
    assert find("C11", evidence(frame)).verdict == "undecided"
    frame = scored(by_iterations({"l2": better, "none": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "not run"


@pytest.mark.parametrize(
    ("layer", "verdict"), [(-2.0, "supported"), (2.0, "contradicted"), (0.0, "undecided")]
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
        (0.0, 0.0, "undecided"),
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
    ("best", "verdict"), [(3, "supported"), (1, "contradicted"), (5, "contradicted")]
)
def test_the_peak_over_training_iterations(best, verdict):
    course = {t: -abs(t - best) * 2.0 for t in range(1, 9)}
    frame = scored(by_iterations({"l2": course}, range(1, 9)))
    found = find("C14", evidence(frame))
    assert found.verdict == verdict
    assert found.parts[0].effect == (5 if best == 3 else 0)
    short = find("C14", evidence(frame[frame["head.num_iterations"] < 8]))
    assert short.parts[0].verdict == "not run"


def scores(rows, images=200):
    """[(head, options, at, mIoU a seed)] as a table of scores."""
    usual = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": False}
    usual["split"] = "val"
    return measured(
        [
            (
                scenes(head, seed=seed, **options),
                {
                    **{f"at.{k}": v for k, v in {**usual, **at}.items()},
                    "images": images,
                    "miou": float(value),
                },
            )
            for head, options, at, column in rows
            for seed, value in enumerate(column)
        ]
    )


@pytest.mark.parametrize(
    ("course", "verdict"),
    [
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 7.82], "supported"),
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 9.0], "contradicted"),  # still rising at the end
        ([0, 4, 6, 3, 3.5, 3.7, 3.8, 3.8], "contradicted"),  # falls after 3
        ([0, 4, 6, 7, 7.5, 7.7, 7.65, 7.65], "undecided"),  # a fall within the noise
    ],
)
def test_more_iterations_at_test(course, verdict):
    wobble = 0.03 * np.array([1, -1, 1, -1, 0])
    table = [
        ("ema", {}, {"num_iterations": t}, 50 + SHARED_BY_SEED + value + (-1) ** t * wobble)
        for t, value in enumerate(course, 1)
    ]
    assert find("C15", evidence(scores=scores(table))).verdict == verdict
    assert find("C15", evidence(scores=scores(table[:-1]))).verdict == "not run"
    elsewhere = pd.concat([scores(table[:-1]), scores(table[-1:], images=64)])
    assert find("C15", evidence(scores=elsewhere)).verdict == "not run"


@pytest.mark.parametrize(
    ("ema_falls", "verdict"), [(5.0, "supported"), (15.0, "contradicted"), (10.0, "undecided")]
)
def test_robustness_is_the_smaller_fall(ema_falls, verdict):
    falls = {"ema": ema_falls, "fcn": 10.0, "non_local": 0.0}
    table = []
    for n, (head, fall) in enumerate(falls.items()):
        clean = 50 + SHARED_BY_SEED + (-1) ** n * NOISE
        table.append((head, {}, {}, clean))
        for kind, severity in itertools.product(("noise", "blur", "contrast", "jpeg"), range(1, 6)):
            at = {"corruption": kind, "severity": severity}
            table.append((head, {}, at, 50 + SHARED_BY_SEED - fall * severity / 3))
    found = find("C6", evidence(scores=scores(table)))
    assert found.verdict == verdict  # non-local falls least and does not decide
    assert found.parts[1].verdict == "contradicted"
    assert found.parts[0].effect == pytest.approx(10.0 - ema_falls - 2 * NOISE.mean())
    if verdict == "supported":
        part = evidence(scores=scores(table[:-21] + table[-20:]))  # non-local's clean score
        assert [p.verdict for p in find("C6", part).parts] == ["supported", "not run"]


def test_falls_are_compared_on_the_same_images():
    """Some runs were scored on all images as well, where nothing compares with them."""

    def table(head, fall):
        corrupted = itertools.product(("noise", "blur", "contrast", "jpeg"), range(1, 6))
        clean = 50 + SHARED_BY_SEED
        yield head, {}, {}, clean
        for kind, severity in corrupted:
            yield head, {}, {"corruption": kind, "severity": severity}, clean - fall - NOISE

    some = scores([*table("ema", 5.0), *table("fcn", 10.0), *table("non_local", 7.0)], images=64)
    every = scores([(h, o, at, v[:2]) for h, o, at, v in table("ema", 20.0)])
    found = find("C6", evidence(scores=pd.concat([some, every])))
    assert [part.effect for part in found.parts] == pytest.approx([5.0, 2.0])
    whole = scores([*table("ema", 20.0), *table("fcn", 10.0)])
    found = find("C6", evidence(scores=pd.concat([some, whole])))
    assert found.parts[0].effect == pytest.approx(-10.0)
    assert found.parts[1].effect == pytest.approx(2.0)  # non-local has scores on some alone


def test_both_ways_of_scoring_must_agree():
    rivals = ("deeplabv3", "deeplabv3plus", "psanet")
    frame = scored({ema(): 2.0, **{plain(head): 0.0 for head in rivals}})
    many = {"multi_scale": True}

    def table(gain, images=200):
        return scores(
            [("ema", {}, many, 50 + SHARED_BY_SEED + gain + NOISE)]
            + [(head, {}, many, 50 + SHARED_BY_SEED) for head in rivals],
            images,
        )

    assert find("C16", evidence(frame)).verdict == "not run"
    assert find("C16", evidence(frame, scores=table(2.0))).verdict == "supported"
    assert find("C16", evidence(frame, scores=table(-2.0))).verdict == "contradicted"
    assert find("C16", evidence(frame, scores=table(0.0))).verdict == "undecided"
    # Of EMA alone there are scores on more images: they compare with nothing.
    more = table(-2.0)[lambda rows: rows["head"] == "ema"]
    both = evidence(frame, scores=pd.concat([more, table(2.0, images=64)]))
    assert find("C16", both).verdict == "supported"


@pytest.mark.parametrize(("off", "verdict"), [(0.4, "supported"), (-0.6, "contradicted")])
def test_published_tables(off, verdict):
    table = []
    for dataset, split, miou in (
        ("voc2012", "test", 87.7),
        ("pascal_context", "val", 53.1),
        ("coco_stuff", "val", 39.9),
    ):
        config = RunConfig(dataset=dataset, head="emanet_released", backbone="resnet101")
        at = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": True}
        at["split"] = split
        table.append((config, {**{f"at.{k}": v for k, v in at.items()}, "miou": miou + off}))
    (found,) = CLAIMS["C19"].findings([evidence(scores=measured(table))])
    assert found.verdict == verdict
    assert CLAIMS["C19"].findings([evidence(scores=measured(table[1:]))])[0].verdict == (
        "not run" if off == 0.4 else "contradicted"
    )

"""Every verdict on EMA against other methods, on made-up records and measurements."""

import itertools

import pandas as pd
import pytest
from study.made_up import (
    NOISE,
    SHARED_BY_SEED,
    at,
    ema,
    evidence,
    find,
    plain,
    scored,
    scores,
)

from emastudy.study.claims import CLAIMS, comparisons
from emastudy.study.measures import Measurement
from emastudy.study.recipes import RECIPES
from emastudy.study.runs import circumstances

CORRUPTED = [
    {"corruption": kind, "severity": severity}
    for kind, severity in itertools.product(("noise", "blur", "contrast", "jpeg"), range(1, 6))
]


@pytest.mark.parametrize(
    ("ema_falls", "verdict"), [(5.0, "supported"), (15.0, "contradicted"), (10.0, "inconclusive")]
)
def test_robustness_is_the_smaller_fall(ema_falls, verdict):
    falls = {"ema": ema_falls, "fcn": 10.0, "non_local": 0.0}
    table = []
    for n, (head, fall) in enumerate(falls.items()):
        clean = 50 + SHARED_BY_SEED + (-1) ** n * NOISE
        table.append((head, {}, clean))
        for how in CORRUPTED:
            table.append((head, how, 50 + SHARED_BY_SEED - fall * how["severity"] / 3))
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
        clean = 50 + SHARED_BY_SEED
        yield head, {}, clean
        for how in CORRUPTED:
            yield head, how, clean - fall - NOISE

    some = scores([*table("ema", 5.0), *table("fcn", 10.0), *table("non_local", 7.0)], images=64)
    every = scores([(head, how, column[:2]) for head, how, column in table("ema", 20.0)])
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
            [("ema", many, 50 + SHARED_BY_SEED + gain + NOISE)]
            + [(head, many, 50 + SHARED_BY_SEED) for head in rivals],
            images,
        )

    assert find("C16", evidence(frame)).verdict == "not run"
    assert find("C16", evidence(frame, scores=table(2.0))).verdict == "supported"
    assert find("C16", evidence(frame, scores=table(-2.0))).verdict == "contradicted"
    assert find("C16", evidence(frame, scores=table(0.0))).verdict == "inconclusive"
    # Of EMA alone there are scores on more images: they compare with nothing.
    more = table(-2.0)[lambda rows: rows["head"] == "ema"]
    both = evidence(frame, scores=pd.concat([more, table(2.0, images=64)]))
    assert find("C16", both).verdict == "supported"


@pytest.mark.parametrize(("off", "verdict"), [(0.4, "not run"), (-0.6, "contradicted")])
def test_published_tables(off, verdict, tmp_path, monkeypatch):
    """VOC's server alone scores its test split, so that all three cannot be supported here."""
    monkeypatch.setattr(comparisons, "records_folder", lambda _: tmp_path)
    for recipe, miou in (("pascal_context", 53.1), ("coco_stuff", 39.9)):
        row = {**at(multi_scale=True), "images": 5105, "miou": miou + off}
        config = RECIPES[recipe](seed=0)
        Measurement(config, "scores", {}, [row], circumstances("float32")).write(tmp_path)
    (found,) = CLAIMS["C19"].judge([])
    assert found.verdict == verdict
    assert [part.verdict for part in found.parts[1:]] == 2 * [
        "supported" if off == 0.4 else "contradicted"
    ]
    assert found.parts[0].missing == "VOC's server alone has its masks"

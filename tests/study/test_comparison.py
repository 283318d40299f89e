"""The accuracy half of Table 1: who is compared, and what follows from made-up scores."""

import dataclasses

import pandas as pd
import pytest
from study.tiny import make_record

from emastudy import networks
from emastudy.engine import cost
from emastudy.study import published
from emastudy.study.recipes import animals, scenes
from emastudy.study.runs import to_frame
from emastudy.study.tables import accuracy

# Seeds differ a lot, the methods within a seed by exactly this much and a little noise.
GAPS = {"EMA, detached": 4.0, "DeepLabV3": 1.0, "DeepLabV3+": 4.0, "PSANet": 2.0, "FCN": 0.0}
NOISE = (0.1, -0.1, 0.0)


@pytest.fixture
def methods():
    return accuracy.configs(scenes, seeds=3)


@pytest.fixture
def runs(methods):
    records = [
        make_record(
            methods[method][seed], miou=50 + 10 * seed + gap + (method == "DeepLabV3+") * noise
        )
        for method, gap in reversed(GAPS.items())
        for seed, noise in enumerate(NOISE)
    ]
    return accuracy.name_methods(to_frame(records), methods)


def test_the_runs_are_the_recipes_own(methods):
    assert methods["DeepLabV3"][2].id == scenes("deeplabv3", seed=2).id
    assert methods["EMA, detached"][0].id == scenes("ema").id
    ids = [config.id for group in methods.values() for config in group]
    assert len(set(ids)) == len(ids) == 36


@pytest.mark.parametrize(("recipe", "channels"), [(scenes, 64), (animals, 256)])
def test_half_is_half_of_the_recipes_width(recipe, channels):
    methods = accuracy.configs(recipe, seeds=1)
    assert accuracy.width(methods["EMA, unrolled"][0]) == channels
    assert accuracy.width(methods["EMA (half), unrolled"][0]) == channels // 2


def test_methods_stand_in_the_order_of_the_comparison(runs, methods):
    assert list(runs["method"].unique()) == [m for m in methods if m in GAPS]
    assert list(runs["seed"])[:3] == [0, 1, 2]


def test_leads_are_paired_and_positive_where_ema_is_better(runs):
    leads = accuracy.leads(runs).set_index("rival")
    assert leads["difference"].to_dict() == pytest.approx(
        {"FCN": 4, "PSANet": 2, "DeepLabV3": 3, "DeepLabV3+": 0}, abs=1e-9
    )
    assert leads["decided"].to_dict() == {
        "FCN": True,
        "PSANet": True,
        "DeepLabV3": True,
        "DeepLabV3+": False,
    }


@pytest.mark.parametrize(
    ("ema", "words"),
    [(9.0, ": yes. "), (-9.0, "no, it lies below each"), (1.5, "some, but not all")],
)
def test_the_answer_follows_the_intervals(runs, ema, words):
    runs.loc[runs["method"] == "EMA, detached", "miou"] += ema - GAPS["EMA, detached"]
    text = accuracy.answer(runs, "made-up data")
    assert words in text
    assert f"{ema - 2:+.2f} [{ema - 2:+.2f}, {ema - 2:+.2f}] against PSANet" in text
    assert "3 seeds" in text


def test_an_interval_that_holds_zero_decides_nothing(runs):
    assert "not decided for every one of them" in accuracy.answer(runs, "made-up data")


def test_what_was_not_run_is_said_and_decides_nothing(runs):
    text = accuracy.answer(runs[runs["method"] != "PSANet"], "made-up data")
    assert "not run: PSANet" in text
    assert "not decided" in text


def test_methods_can_be_chosen_by_name(methods):
    chosen = accuracy.configs(scenes, seeds=3, only="EMA, detached; FCN")
    assert chosen == {name: methods[name] for name in ("FCN", "EMA, detached")}
    with pytest.raises(ValueError, match=r"no method 'EMA'; there are FCN; Non-local; .*EMA, det"):
        accuracy.configs(scenes, seeds=3, only="EMA")


def test_one_seed_decides_nothing(runs):
    assert "not decided" in accuracy.answer(runs[runs["seed"] == 0], "made-up data")


def test_published_gaps_are_those_of_the_table():
    gaps = accuracy.published_leads().set_index(["method", "rival"])
    table = published.table1()
    wide = gaps.loc[("EMANet (512)", "DeepLabV3+")]
    assert wide["difference"] == pytest.approx(80.05 - 79.35)
    assert wide["difference_ms"] == pytest.approx(81.32 - 80.57)
    assert set(gaps.index.get_level_values("rival")) <= set(table.index)


def test_ours_stand_beside_the_published_rows(runs):
    table = accuracy.beside_published(runs, runs.assign(miou=runs["miou"] + 1))
    assert table.loc["EMA, detached", "SS"] == pytest.approx(64)
    assert table.loc["EMA, detached", "MS + flip"] == pytest.approx(65)
    assert table.loc["EMA, detached", "published SS"] == 80.05
    assert table.loc["PSANet", "published MS + flip"] == 79.77
    assert table.loc[["FCN"], "published SS"].isna().all()


def test_iou_per_class_comes_from_records_and_from_measurements_alike(runs):
    ours = accuracy.per_class(runs)
    assert ours.loc["FCN", "a"] == 50
    assert ours["b"].isna().all()
    measured = runs.assign(iou=[{"a": 0.5, "b": float("nan")}] * len(runs))
    assert accuracy.per_class(measured).equals(ours)


def test_the_head_is_counted_at_the_recipes_size_and_stride():
    config = dataclasses.replace(animals("non_local"), crop_size=65)  # trains at stride 16
    counted = accuracy.head_costs({"Non-local": [config]}, 7).loc["Non-local"]
    network = networks.build("non_local", num_classes=7, output_stride=8, channels=256)
    expected = cost.measure(network, (65, 65)).parts["head"]
    assert counted["mmacs"] == expected.macs / 1e6
    assert counted["kparams"] == expected.params / 1e3


def test_a_duel_says_what_it_decides(runs):
    text = accuracy.duel(runs, "EMA, detached", "PSANet", "made-up data")
    assert "scores 64.00 mIoU and PSANet 62.00: a difference of +2.00 [+2.00, +2.00]" in text
    assert "which decides it" in text
    text = accuracy.duel(runs, "DeepLabV3+", "EMA, detached", "made-up data")
    assert "decides nothing" in text
    text = accuracy.duel(runs[runs["seed"] == 0], "FCN", "PSANet", "made-up data")
    assert "one seed has no interval" in text


def test_confusion_shares_are_of_the_true_class_and_averaged_over_seeds():
    counts = ([[1, 3, 0], [0, 2, 0], [0, 0, 0]], [[30, 10, 0], [0, 5, 0], [0, 0, 0]])
    rows = pd.DataFrame({"confusion": counts, "iou": [dict.fromkeys("abc", 0.0)] * 2})
    shares = accuracy.confusion(rows)
    assert shares.loc["a"].tolist() == [50, 50, 0]  # seeds count alike, not by their pixels
    assert shares.loc["b", "b"] == 100
    assert shares.loc["c"].isna().all()

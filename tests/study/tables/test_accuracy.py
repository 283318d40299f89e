"""The accuracy half of Table 1: who is compared, and what follows from made-up scores."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from study.made_up import compared
from study.tiny import make_record

from emastudy import networks
from emastudy.engine import RunConfig, cost
from emastudy.engine.scoring import metrics
from emastudy.study import published
from emastudy.study.recipes import REGIMES, animals, scenes
from emastudy.study.runs import to_frame
from emastudy.study.statistics import paired_differences
from emastudy.study.tables import accuracy


@pytest.fixture
def methods():
    return accuracy.table1_runs(scenes, seeds=3)


@pytest.fixture
def runs():
    return compared()


def test_the_runs_are_the_recipes_own(methods):
    assert methods["DeepLabV3"][2].id == scenes("deeplabv3", seed=2).id
    assert methods["EMA, detached"][0].id == scenes("ema").id
    ids = [config.id for group in methods.values() for config in group]
    assert len(set(ids)) == len(ids) == 36


def test_runs_tell_where_their_batch_norm_began():
    asked = accuracy.both_starts(scenes, seeds=1)
    records = to_frame(make_record(config) for (config,) in asked.values())
    found = accuracy.by_start(records.assign(method=list(asked)))
    zero, one = ("from 0", "from 1"), ("from 1", "from 0")  # as usual first
    assert found.groupby("block", sort=False)["start"].agg(tuple).to_dict() == {
        **dict.fromkeys(["Non-local", "A²", "Efficient attention", "Nyström"], zero),
        **dict.fromkeys([f"EMA, {words}" for words in REGIMES.values()], one),
        "1×1 convs alone": one,
    }


def test_gaps_are_paired_and_positive_where_ema_is_better(runs):
    gaps = accuracy.gaps(runs).set_index("rival")
    assert gaps["difference"].to_dict() == pytest.approx(
        {"FCN": 4, "PSANet": 2, "DeepLabV3": 3, "DeepLabV3+": 0}, abs=1e-9
    )
    assert gaps["decided"].to_dict() == {
        "FCN": True,
        "PSANet": True,
        "DeepLabV3": True,
        "DeepLabV3+": False,
    }


def test_successors_and_units_of_ones_own_join_by_name(methods, my_module):
    chosen = accuracy.table1_runs(scenes, seeds=3, only="FCN; Hamburger; my_module:Mean")
    assert chosen["FCN"] == methods["FCN"]
    assert [group[2].head for group in chosen.values()] == ["fcn", "hamburger", "my_module:Mean"]
    assert chosen["Hamburger"][1] == scenes("hamburger", seed=1, channels=64)
    costs = accuracy.head_costs(chosen, num_classes=8)["mmacs"]
    assert costs["FCN"] < costs["my_module:Mean"] < costs["Hamburger"]
    with pytest.raises(ValueError, match="method is 'my_module', which .* has my_module:Mean, "):
        accuracy.table1_runs(scenes, seeds=3, only="FCN; my_module")


def test_methods_can_be_chosen_by_name(methods):
    chosen = accuracy.table1_runs(scenes, seeds=3, only="EMA, detached; FCN")
    assert chosen == {name: methods[name] for name in ("FCN", "EMA, detached")}
    with pytest.raises(ValueError, match=r"no method 'EMA'; there are FCN; Non-local; .*EMA, det"):
        accuracy.table1_runs(scenes, seeds=3, only="EMA")


def test_published_gaps_are_those_of_the_table():
    gaps = accuracy.published_gaps().set_index(["method", "rival"])
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


def test_confusion_shares_are_of_the_true_class_and_averaged_over_seeds():
    counts = ([[1, 3, 0], [0, 2, 0], [0, 0, 0]], [[30, 10, 0], [0, 5, 0], [0, 0, 0]])
    rows = pd.DataFrame({"confusion": counts, "iou": [dict.fromkeys("abc", 0.0)] * 2})
    shares = accuracy.confusion(rows)
    assert shares.loc["a"].tolist() == [50, 50, 0]  # seeds count alike, not by their pixels
    assert shares.loc["b", "b"] == 100
    assert shares.loc["c"].isna().all()


def test_intervals_over_images_need_counts_by_image(runs):
    blank = make_record(RunConfig())

    def record(method, seed):
        if seed == 2:
            return blank
        rng = np.random.default_rng(seed)
        right = rng.integers(0, 99, (20, 4)) + 40 * (method == "EMA, detached")
        entries = [[i, cell, int(right[i, cell])] for i in range(20) for cell in range(4)]
        return dataclasses.replace(blank, by_image=metrics.pack(torch.tensor(entries)))

    runs = runs[runs["method"].isin(["FCN", "EMA, detached"])]
    both = zip(runs["method"], runs["seed"], strict=True)
    runs = runs.assign(record=[record(*pair) for pair in both])
    found = accuracy.over_images(runs, "FCN").loc["EMA, detached"]
    alone = paired_differences(runs, "method", "miou", baseline="FCN").loc["EMA, detached"]
    assert found[["difference", "low", "high", "seeds"]].tolist() == pytest.approx(
        alone[["difference", "low", "high", "seeds"]].tolist()
    )
    assert found["image deviation"] > 0
    assert found["low, images"] < found["low"] <= found["high"] < found["high, images"]
    assert accuracy.over_images(runs[runs["seed"] == 2], "FCN").empty

"""The tables of photographs: the right runs, and differences with the right sign."""

import dataclasses

import pandas as pd

from emastudy.study.recipes import animals_frozen
from emastudy.study.tables import accuracy, photographs


def scored(scores):
    """{method: one mIoU a seed} as a table of runs."""
    rows = [(m, n, float(v)) for m, values in scores.items() for n, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["method", "seed", "miou"])
    return table.assign(head=table["method"].str.startswith("EMA").map({True: "ema", False: "x"}))


def test_the_decoder_is_all_that_differs_between_without_and_with():
    methods = accuracy.table1_runs(animals_frozen, seeds=2)
    groups = photographs.decoder_groups(animals_frozen, methods, seeds=2)
    assert list(groups["without"]) == list(groups["with"])
    for module in photographs.MODULES:
        pairs = zip(groups["without"][module.label], groups["with"][module.label], strict=True)
        for plain, decoded in pairs:
            options = dict(decoded.head_options)
            assert options.pop("detail_channels") == 48
            assert dataclasses.replace(decoded, head_options=options) == plain
    assert groups["with"][photographs.ASPP] == methods["DeepLabV3+"]


def test_classes_are_listed_by_run():
    scores = scored({"FCN": [1], "EMA": [1]}).assign(iou=[{"a": 0.5, "b": None}] * 2)
    found = photographs.class_scores(scores)
    assert found.set_index(["method", "class"]).loc[("EMA", "a"), "IoU"] == 50
    assert found["IoU"].isna().sum() == 2


def test_gains_of_scales_are_several_less_one():
    one, several = scored({"FCN": [50, 60]}), scored({"FCN": [51, 63]})
    assert photographs.scale_gains(one, several).loc["FCN", "difference"] == 2


def test_methods_run_both_ways_are_matched_by_name():
    end_to_end = pd.Series({"FCN": 50.0, "EMA, unrolled": 55.0, "A²": 51.0})
    frozen = pd.Series({"FCN": 40.0, "EMA, unrolled": 41.0, "PSPNet": 45.0})
    both = photographs.both_ways(end_to_end, frozen)
    assert both.loc["EMA, unrolled"].tolist() == [55.0, 41.0]
    assert set(both.index) == {"FCN", "EMA, unrolled"}


def test_regimes_are_compared_within_each_way():
    end_to_end = scored({"EMA, detached": [50, 51], "EMA, unrolled": [48, 49]})
    frozen = scored({"EMA, detached": [40, 41], "EMA, unrolled": [43, 44], "FCN": [1, 2]})
    found = photographs.regimes_both_ways(end_to_end, frozen)["difference"].to_dict()
    assert found == {("end to end", "EMA, unrolled"): -2, ("frozen backbone", "EMA, unrolled"): 3}

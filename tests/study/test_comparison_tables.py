"""The tables of the comparisons: the right runs, and differences with the right sign."""

import dataclasses

import pandas as pd
import pytest
from study.made_up import record

from emastudy.study.recipes import animals_frozen, grid, scenes
from emastudy.study.report import remarks
from emastudy.study.runs import to_frame
from emastudy.study.tables import accuracy, curves, photographs, variants


def scored(scores):
    """{method: one mIoU a seed} as a table of runs."""
    rows = [(m, n, float(v)) for m, values in scores.items() for n, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["method", "seed", "miou"])
    return table.assign(head=table["method"].str.startswith("EMA").map({True: "ema", False: "x"}))


def test_losses_are_smoothed_run_by_run():
    courses = ([(10, 4.0), (20, 2.0), (30, 0.0)], [(10, 1.0), (20, 1.0), (30, 1.0)])
    runs = to_frame(
        record(scenes("fcn", seed=seed), 50, {"loss": course})
        for seed, course in enumerate(courses)
    ).assign(method="FCN")
    plain = curves.losses(runs)
    assert plain.loc[plain["seed"] == 0, "loss"].tolist() == [4, 2, 0]
    smooth = curves.losses(runs, smooth=2)
    assert smooth.loc[smooth["seed"] == 0, "loss"].tolist() == [4, 3, 1]
    assert smooth.loc[smooth["seed"] == 1, "loss"].tolist() == [1, 1, 1]
    assert set(smooth.columns) == {"iteration", "loss", "method", "seed"}


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


def test_the_sentence_on_scales_has_the_rivals_of_table_1_alone():
    one = scored({"FCN": [50, 51], "PSANet": [52, 53], "EMA, detached": [60, 61]})
    text = remarks.many_scales(one, one.assign(miou=one["miou"] + 2))
    assert "add 2.0 to 2.0 mIoU" in text
    assert "at one scale and at six is 1.00" in text
    assert "EMA has over PSANet +8.00 [+8.00, +8.00] (detached)." in text
    assert "FCN" not in text


def test_the_sentence_on_the_decoder_compares_like_with_like():
    whole = scored({"FCN": [50, 51], "DeepLabV3+": [60, 61]})
    decoded = scored({"FCN": [58, 59], photographs.ASPP: [60, 61]}).assign(decoder="with")
    text = remarks.decoder(whole, decoded)
    assert "FCN -10.00 [-10.00, -10.00], with the decoder -2.00 [-2.00, -2.00]." in text


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


def make_grid(head="ema", **axes):
    return grid("scenes", head, seeds=2, **axes)


def test_one_setting_is_changed_at_a_time():
    changed = variants.settings(make_grid, ["detached"])
    assert len(changed) == len(variants.SETTINGS)
    assert changed["EMA, detached, K = 8"] == [
        scenes(seed=seed, gradient="detached", num_bases=8) for seed in (0, 1)
    ]


def test_the_best_setting_stands_against_the_rivals_alone():
    runs = scored({"FCN": [50, 52], "EMA, detached": [55, 56]})
    changed = scored({"EMA, detached, K = 8": [57, 58], "EMA, detached, T = 1": [51, 52]})
    table = variants.best_against_rivals(runs, changed)
    assert table["difference"].to_dict() == {"FCN": 6.5}
    text = remarks.best_setting(runs, changed)
    assert "The best of 2 changed settings is EMA, detached, K = 8: 57.50" in text
    assert "has 55.50." in text


def test_paces_are_multiples_of_the_recipes_rate():
    methods = accuracy.table1_runs(scenes, seeds=1, only="FCN; PSPNet")
    paced = variants.paces(methods, [2.0, 0.5])
    assert list(paced) == ["FCN"]
    assert [config.learning_rate for config in paced["FCN"]] == [0.025, 0.05, 0.1]
    assert methods["FCN"][0] in paced["FCN"]


def test_places_are_counted_within_one_code_base():
    table = pd.DataFrame(
        {
            "code": ["a", "a", "a", "b"],
            "dataset": "VOC val",
            "backbone": "R50",
            "method": ["EMANet", "PSPNet", "FCN", "EMANet"],
            "miou": [77.0, 78.0, 70.0, 80.0],
        }
    )
    assert remarks.places(table) == "a, VOC val, R50: EMANet is number 2 of 3 heads."


def test_commands_are_grouped_by_table_and_say_how_to_score():
    plan = pd.DataFrame(
        {"command": ["emastudy train x", "emastudy train y"]},
        index=pd.MultiIndex.from_tuples([("Table 2", "x"), ("Table 3", "y")], names=["table", "r"]),
    )
    lines = remarks.commands(plan).splitlines()
    assert lines[1:5] == ["# Table 2", "emastudy train x", "# Table 3", "emastudy train y"]
    assert lines[-1] == "```"


def test_what_was_not_run_says_what_it_would_take():
    scores = pd.DataFrame({"table": ["Table 2"]})
    hours = pd.Series({"Table 2": 100.0, "Table 3": 9.0, "Table 4": 1234.0})
    text = remarks.published_tables(scores, hours)
    assert "**Not run here:** Table 3, Table 4." in text
    assert "Table 3 about 9 h, Table 4 about 1,234 h" in text
    assert text.count("\n- ") == 3


def test_settings_name_the_best_other_value_and_the_bases_left():
    rows = [(8, 0, 50.0), (8, 1, 51.0), (16, 0, 52.0), (16, 1, 52.5), (1, 0, 40.0), (1, 1, 40.0)]
    runs = pd.DataFrame(rows, columns=["head.num_bases", "seed", "miou"]).assign(
        gradient="detached"
    )
    different = pd.DataFrame({"num_bases": [16, 8], "gradient": "detached", "different": [3.0, 2]})
    panels = {"head.num_bases": ("number of bases K", runs)}
    lines = remarks.settings(panels, {"head.num_bases": 16.0}, different).splitlines()
    assert lines[0].startswith(
        "- number of bases K, gradients detached: the best of the others is 8"
    )
    assert lines[1].startswith("- attention against global average pooling (K = 1)")
    assert "the best of the others is 16, +12.25" in lines[1]
    assert lines[2].startswith("- of K = 16 bases, gradients detached, 3.0 are different ones")


def test_attention_is_summed_up_from_its_counts():
    concepts = pd.Series({"counts": [[6, 0], [1, 1]]})
    maps = pd.DataFrame({"entropy": [[1.0, 0.0]]})
    text = remarks.attention(concepts, maps, ["sky", "sea"], "scenes", 64)
    assert "In 64 unseen images of scenes, 88% of the pixels" in text
    assert "The purest basis in use holds 100% sky, of which the images have 88%." in text
    assert "shared by 2.7 bases after the first iteration and 1.0 after the last" in text


def test_overhead_is_the_units_share_and_its_growth():
    spent = pd.Series(
        {
            "network_seconds": 2.0,
            "unit_seconds": 0.1,
            "pixels": [100, 1_000, 10_000],
            "seconds": [0.1, 1.0, 10.0],
        }
    )
    assert remarks.overhead(spent).startswith("Network 2.00 s, unit 0.100 s: 5.0%. The unit alone")
    assert "grows as N^1.00" in remarks.overhead(spent)


def test_critical_concentrations_are_those_of_all_images():
    measured = pd.DataFrame({"critical": [[1.0, 2.0], [3.0]], "head.concentration": 1.0})
    text = remarks.critical_concentration(measured, "scenes")
    assert text.startswith("scenes: λ_c is 2.00 in the median image and from 1.10 to 2.90")
    assert text.endswith("λ is 1.")


@pytest.mark.parametrize(("held", "word"), [(3, "yes"), (2, "not all of them")])
def test_audits_say_how_many_hold_and_what_is_missing(held, word):
    summary = pd.DataFrame(
        {
            "records": [10, 5],
            "trained anew": [3, 0],
            "hold": [held, 0],
            "largest difference": [0.05, float("nan")],
            "standard deviation over seeds": [0.8, 0.4],
            "largest distance of losses": [0.01, float("nan")],
        },
        index=["scenes", "camvid"],
    )
    text = remarks.audits(summary, {"miou": 0.3, "loss": 0.02})
    assert f"trained anew: {word}." in text
    assert f"scenes: of 10 records 3 were trained anew, and {held} hold." in text
    assert "Not audited yet: camvid." in text
    nothing = remarks.audits(summary.iloc[1:], {"miou": 0.3, "loss": 0.02})
    assert nothing.startswith("**Answer.** Nothing is audited yet. `emastudy audit scenes")

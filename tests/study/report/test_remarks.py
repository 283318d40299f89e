"""What pages say of their numbers is what the numbers are."""

import dataclasses

import pandas as pd
import pytest
from study.made_up import walked

from emastudy.study.report import remarks
from emastudy.study.tables import photographs, sustained


def scored(scores):
    """{method: one mIoU a seed} as a table of runs."""
    rows = [(m, n, float(v)) for m, values in scores.items() for n, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["method", "seed", "miou"])
    return table.assign(head=table["method"].str.startswith("EMA").map({True: "ema", False: "x"}))


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
    compile("\n".join(lines[lines.index("```python") + 1 : -1]), "scores", "exec")


def test_what_was_not_run_says_what_it_would_take():
    scores = pd.DataFrame({"table": ["Table 2"]})
    hours = pd.Series({"Table 2": 100.0, "Table 3": 9.0, "Table 4": 1234.0})
    text = remarks.published_tables(scores, hours)
    assert "**Not run here:** Table 3, Table 4." in text
    assert "Table 3 about 9 h, Table 4 about 1,234 h, on one GPU that sustains " in text
    assert sustained().words in text
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


@pytest.mark.parametrize("held", [3, 2])
def test_audits_say_how_many_hold_and_what_is_missing(held):
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
    assert text.startswith(f"{held} of 3 runs that were trained anew hold.")
    assert f"10 records, 3 of them trained anew, of which {held} came out" in text
    assert "Not audited yet: camvid." in text
    nothing = remarks.audits(summary.iloc[1:], {"miou": 0.3, "loss": 0.02})
    assert nothing.startswith("Nothing is audited yet. `emastudy audit scenes")


def test_the_places_of_a_photographs_bases_are_counted():
    walk = walked()
    text = remarks.on_a_photograph(walk)
    assert text.startswith("On this photograph the 5 bases lie in 3 places: 3 in the fullest,")
    together = dataclasses.replace(walk, group=0 * walk.group)
    assert "the 5 bases lie in one place, after 2 iterations" in remarks.on_a_photograph(together)


def test_what_noise_moves_is_said_of_the_features_and_of_what_is_rebuilt():
    clean = walked()
    little = dataclasses.replace(clean, features=1.5 * clean.features)
    much = dataclasses.replace(clean, features=2 * clean.features, estimate=4 * clean.estimate)
    text = remarks.moved({"clean": clean, "little": little, "much": much})
    assert "moves the features by 50 %, 100 % of their length" in text
    assert "what is rebuilt of them by 0 %, 300 %: the rebuilt map moves less in 1 of 2" in text


def test_a_unit_for_all_data_is_named_or_it_is_said_that_there_is_none():
    index = pd.MultiIndex.from_tuples(
        [("scenes", "A"), ("scenes", "B"), ("CamVid", "A")], names=["data", "method"]
    )
    tests = pd.DataFrame({"not below": [True, False, False], "p": [0.01, 0.5, 0.2]}, index=index)
    text = remarks.nowhere_below(tests)
    assert text.startswith("No method is shown")
    assert "- A: scenes (of 2 that it was run on)" in text
    assert "- B: none (of 1 that it was run on)" in text
    # The larger p-value counts, corrected for the methods that were run on all data.
    tests["p"] = [0.01, 0.001, 0.04]
    assert remarks.nowhere_below(tests).startswith("Nowhere below, on all data sets: A.")
    second = tests.loc[[("scenes", "B")]].rename(index={"scenes": "CamVid"}).assign(p=0.3)
    assert remarks.nowhere_below(pd.concat([tests, second])).startswith("No method")
    # What was not run everywhere is not recommended.
    both = pd.concat([tests.drop(("CamVid", "A")), tests.iloc[[2]].rename(index={"A": "C"})])
    assert remarks.nowhere_below(both).startswith("No method")

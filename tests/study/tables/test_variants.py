"""The comparison with one thing changed: which runs, and the best of them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from study.tiny import make_record

from emastudy.datasets import IGNORE, Scenes, misalignment, training_transform
from emastudy.study.recipes import animals, grid, scenes
from emastudy.study.report import remarks
from emastudy.study.tables import accuracy, variants


def scored(scores):
    """{method: one mIoU a seed} as a table of runs."""
    rows = [(m, n, float(v)) for m, values in scores.items() for n, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["method", "seed", "miou"])
    return table.assign(head=table["method"].str.startswith("EMA").map({True: "ema", False: "x"}))


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


def test_crops_a_pixel_short_drift_and_the_recipes_do_not():
    methods = {"EMA": [scenes("ema")], "photographs": [animals("ema")]}
    short = variants.a_pixel_short(methods)
    assert short["EMA"][0] == dataclasses.replace(scenes("ema"), crop_size=64)
    assert all(misalignment(c.crop_size, c.output_stride) for (c,) in short.values())
    assert not any(misalignment(c.crop_size, c.output_stride) for (c,) in methods.values())


def test_what_padding_changes_is_paired_within_a_method():
    usual = scored({"FCN": [50, 52], "EMA": [55, 57]})
    padded = usual.assign(padded=[51.0, 52.0, 58.0, 61.0])
    whole = scored({"FCN": [50, 52], "EMA": [56, 59]})
    table = variants.by_padding(usual, padded, whole)
    assert table["difference"].to_dict() == {
        ("FCN", "learnt and scored"): 0.5,
        ("FCN", "none"): 0.0,
        ("EMA", "learnt and scored"): 3.5,
        ("EMA", "none"): 1.5,
    }


def test_without_padding_nothing_else_is_changed():
    methods = variants.mixing(
        lambda head="ema", **axes: grid("camvid_frozen", head, seeds=1, **axes)
    )
    whole = variants.whole_images(methods)
    assert list(whole) == list(methods)
    for method, (config,) in whole.items():
        assert config.crop_size == 0
        assert dataclasses.replace(config, crop_size=481) == methods[method][0]


def test_the_share_of_padding_is_that_of_the_training_crops():
    scenes_of_64 = Scenes("train", num_images=1)
    scales = (0.5, 1.0, 1.5)
    crops = training_transform(scenes_of_64, scales=scales, crop_size=80)
    torch.manual_seed(0)
    ignored = [float((crops(*scenes_of_64[0])[1] == IGNORE).float().mean()) for _ in range(300)]
    config = dataclasses.replace(scenes(), crop_size=80, scales=scales)
    expected = variants.padding_share((64, 64), config)
    assert expected == pytest.approx(100 * (1 - ((32 / 80) ** 2 + (64 / 80) ** 2 + 1) / 3))
    assert 100 * np.mean(ignored) == pytest.approx(expected, abs=6)


def test_heads_are_compared_at_one_cost_and_less():
    methods = variants.several_heads(make_grid)
    assert next(iter(methods)) == "FCN"
    assert methods["EMA, one head"] == make_grid(gradient=["unrolled"])
    quarter = methods["8 heads of K/4 bases"][1]
    assert (quarter.head_options["num_bases"], quarter.seed) == (4, 1)
    assert [config.head_options["concentration"] for config in methods["One head, λ = 1/4"]] == [
        0.25
    ] * 2
    assert len({config.id for group in methods.values() for config in group}) == 30


def test_what_was_explored_is_named_by_what_was_changed(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "experiments")
    configs = variants.explored_heads(scenes, seeds=(20, 21))
    assert {config.seed for config in configs} == {20, 21}
    assert len({config.id for config in configs}) == len(configs)
    for n, config in enumerate(configs):  # records may have a head's options in another order
        if config.seed == 21:
            turned = dict(reversed(config.head_options.items()))
            configs[n] = dataclasses.replace(config, head_options=turned)
    records = [make_record(config, miou=float(n)) for n, config in enumerate(configs)]
    rows = [(r, r.config.seed, r.metrics["miou"]) for r in records]
    table = variants.explored_table(pd.DataFrame(rows, columns=["record", "seed", "miou"]))
    assert table.index[0] == "non_local"
    assert {"one head, as it is", "heads=8", "heads=8, num_bases=4"} <= set(table.index)
    assert {"windowed", "windowed, windows=[2]", "Places, heads=4", "Levels"} <= set(table.index)
    assert table.notna().all(axis=None)
    assert (table["mean"].diff().dropna() <= 0).all()


def test_one_detail_of_the_protocol_is_changed_at_a_time():
    details = variants.protocol(make_grid)
    (usual, _), quarter = details["as it is"], details["a quarter of the batch"]
    assert [config.batch_size for config in quarter] == [3, 3]
    assert details["twice the learning rate"][0].learning_rate == 2 * usual.learning_rate
    assert (
        details["the released head's further 3×3 convolution"][0].head_options["extra_channels"]
        == usual.head_options["channels"] // 2
    )
    assert "no change of scale" not in details  # scenes have none as it is
    for words, (config, _) in details.items():
        changed = [k for k, v in vars(config).items() if v != vars(usual)[k]]
        assert len(changed) == (words != "as it is"), words
    frozen = variants.protocol(lambda **axes: grid("animals_frozen", seeds=2, **axes))
    assert len(frozen) == len(details) - 1  # their features are computed at one scale


def test_a_method_is_not_below_where_it_is_surely_within_the_margin_of_every_rival():
    near = scored({
        "few": [90], "EMA": [50, 51, 52, 53], "Non-local": [49, 50, 51, 52],
        "level": [50.1, 50.9, 52.1, 52.9], "noisy": [45, 56, 47, 58], "worse": [48, 49, 50, 51],
    })  # fmt: skip
    found = variants.not_below({"scenes": near}, ["EMA", "Non-local", "few"])
    assert found["not below"].to_dict() == {
        ("scenes", "level"): True, ("scenes", "noisy"): False, ("scenes", "worse"): False,
    }  # fmt: skip
    level = found.loc[("scenes", "level")]
    assert (level["rival"], level["seeds"]) == ("EMA", 4)
    assert level["low"] > -0.5
    # Two tests more make each of them harder to pass.
    alone = near[near["method"].isin(["EMA", "Non-local", "level"])]
    once = variants.not_below({"scenes": alone}, ["EMA", "Non-local"])
    assert level["corrected"] == 3 * level["p"] == 3 * once["corrected"].iloc[0]
    # The methods of another data set are another question.
    both = variants.not_below({"scenes": near, "more": alone}, ["EMA", "Non-local", "few"])
    pd.testing.assert_frame_equal(both.loc[["scenes"]], found)

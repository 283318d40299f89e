"""The comparison with one thing changed: which runs, and the best of them."""

import pandas as pd

from emastudy.study.recipes import grid, scenes
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

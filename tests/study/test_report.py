"""The headline table, and the README's copy of it."""

import dataclasses

import pandas as pd
from study.conftest import make_record

from emastudy.study import report


def test_the_headline_is_best_first_and_paired(tiny, tmp_path):
    for seed in (0, 1, 2):
        make_record(dataclasses.replace(tiny, seed=seed), miou=50.0 + seed).write(tmp_path)
        ema = dataclasses.replace(tiny, head="ema", seed=seed)
        make_record(ema, miou=52.0 + seed + 0.01 * seed).write(tmp_path)
    lines = report.headline(tmp_path).splitlines()
    assert lines[2].startswith("| EMA (detached, as released) | 53.01 |")
    assert "+2.01 [+1.99, +2.03] | 3 |" in lines[2]
    assert lines[3].startswith("| FCN | 51.00 |")


def test_the_readme_shows_the_table_of_the_committed_records(root):
    table = report.headline(root / "experiments" / "records" / "animals")
    assert table in (root / "README.md").read_text(), f"paste into README.md:\n{table}"


def test_the_best_other_value_of_an_option_and_whether_it_is_decided():
    rows = [
        {"seed": seed, "K": k, "miou": 50.0 + gain + 0.1 * seed * (k == 4)}
        for seed in range(3)
        for k, gain in ((4, 2.0), (8, 1.0), (16, 0.0))
    ]
    said = report.best_other(pd.DataFrame(rows), "K", baseline=16.0)
    assert said.startswith("the best of the others is 4, +2.10 mIoU [+1.85, +2.35] against 16 (3 ")
    assert said.endswith(", decided.")
    assert "nothing to compare" in report.best_other(pd.DataFrame(rows[:1]), "K", baseline=4.0)

"""The headline table, and the README's copy of it."""

import dataclasses

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

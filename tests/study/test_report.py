"""Tables and sentences that pages share, and the README's copy of the headline."""

import dataclasses
import re

import pandas as pd
import pytest
from study.tiny import make_record

from emastudy.study import report
from emastudy.study.statistics import paired_differences


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
    assert said.startswith("the best of the others is 4, +2.10 [+1.85, +2.35] mIoU against 16 (3 ")
    assert said.endswith(", decided.")
    assert "nothing to compare" in report.best_other(pd.DataFrame(rows[:1]), "K", baseline=4.0)


def test_the_findings_of_the_readme_link_to_pages_of_the_book(root):
    text = report.findings_section((root / "README.md").read_text())
    pages = set(report.book_pages(root / "book" / "_toc.yml"))
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert len(linked) > 10
    assert {link.removesuffix(".ipynb") for link in linked} <= pages
    assert "## " not in text
    with pytest.raises(ValueError, match="no section"):
        report.findings_section("# A README\n")


def test_in_short_says_every_difference_its_interval_and_whether_it_decides():
    runs = pd.DataFrame(
        [
            {
                "gradient": regime,
                "T": f"T = {t}",
                "seed": seed,
                "miou": 50 + gain * t + seed % 2 * t,
            }
            for regime, gain in (("detached", 4.0), ("unrolled", 0.0))
            for t in (0, 1)
            for seed in range(4)
        ]
    )
    differences = paired_differences(runs, "T", "miou", baseline="T = 0", within=["gradient"])
    said = report.in_short(differences, "T = 0", "scenes").splitlines()
    assert said[0] == (
        "**In short.** mIoU on scenes, less that of T = 0 (4 seeds, paired, 95 % intervals):"
    )
    # 4.5 ± t(0.975, 3) · sqrt(1/3) / 2, tables: 3.1824
    assert said[2] == "- gradients detached: T = 1 +4.50 [+3.58, +5.42]"
    assert said[3] == "- gradients unrolled: T = 1 +0.50 [-0.42, +1.42] (not decided)"
    one = paired_differences(runs[:8].query("seed == 0"), "T", "miou", baseline="T = 0")
    assert report.in_short(one, "T = 0", "x", "Nats").endswith(": T = 1 +4.00 (not decided).")
    assert "Nothing" in report.in_short(differences.iloc[:0], "T = 0", "scenes")

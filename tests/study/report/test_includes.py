"""Tables that pages include, and the README's copy of the headline."""

import dataclasses
import re

import pytest
from study.tiny import make_record

from emastudy.study import tables
from emastudy.study.recipes import PAPER_CLASSES
from emastudy.study.report import includes


def test_the_headline_is_best_first_and_paired(tiny, tmp_path):
    for seed in (0, 1, 2):
        make_record(dataclasses.replace(tiny, seed=seed), miou=50.0 + seed).write(tmp_path)
        ema = dataclasses.replace(tiny, head="ema", seed=seed)
        make_record(ema, miou=52.0 + seed + 0.01 * seed).write(tmp_path)
    lines = includes.headline(tmp_path).splitlines()
    assert lines[2].startswith("| EMA, detached | 53.01 |")
    assert "+2.01 [+1.99, +2.03] | 3 |" in lines[2]
    assert lines[3].startswith("| FCN | 51.00 |")


def test_the_readme_shows_the_table_of_the_committed_records(root):
    table = includes.headline(root / "experiments" / "records" / "animals")
    assert table in (root / "README.md").read_text(), f"paste into README.md:\n{table}"


def test_the_findings_of_the_readme_link_to_pages_of_the_book(root):
    text = includes.findings_section((root / "README.md").read_text())
    pages = set(includes.book_pages(root / "book" / "_toc.yml"))
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert len(linked) > 10
    assert {link.removesuffix(".ipynb") for link in linked} <= pages
    assert "## " not in text
    with pytest.raises(ValueError, match="no section"):
        includes.findings_section("# A README\n")


def test_estimates_are_the_same_on_every_page():
    """The page on clusters and the plan of Tables 2-4 estimate some runs both."""
    rows = {line.split("`")[1]: line for line in includes.estimates_table().splitlines()[2:]}
    assert list(rows) == list(PAPER_CLASSES)
    for (_, recipe), row in tables.plan().iterrows():
        on_one_gpu = f"| {row['peta_macs']:.3g} | {row['gpu_hours']:.1f}, {row['memory_gib']:.1f} |"
        assert on_one_gpu in rows[recipe]

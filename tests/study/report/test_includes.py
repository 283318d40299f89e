"""Tables that pages include, and the README's copy of the headline."""

import re

import pytest
from study.tiny import make_record

from emastudy.study import tables
from emastudy.study.recipes import PAPER_CLASSES, animals, scenes
from emastudy.study.report import includes


def test_the_headline_is_best_first_and_paired(tmp_path):
    for seed in (0, 1, 2):
        make_record(animals("fcn", seed=seed), miou=50.0 + seed).write(tmp_path)
        make_record(animals(seed=seed), miou=52.0 + seed + 0.01 * seed).write(tmp_path)
        make_record(animals(seed=seed, heads=8), miou=60.0).write(tmp_path)  # no method's setting
    lines = includes.headline(tmp_path).splitlines()
    assert lines[2].startswith("| EMA, detached | 53.01 [")
    assert "+2.01 [+1.99, +2.03] | 3 |" in lines[2]
    assert lines[3].startswith("| FCN | 51.00 [")
    assert len(lines) == 4


def test_leads_are_taken_on_every_data_set_that_has_runs(tmp_path):
    for head, gain in (("ema", 2.0), ("fcn", 0.0)):
        for seed in range(3):
            config = scenes(head, seed=seed)
            make_record(config, miou=60.0 + gain + seed).write(tmp_path / "scenes")
    leads = includes.leads_everywhere("FCN", "Non-local", records=tmp_path)
    assert set(leads["data"]) == {"scenes"}
    assert list(leads["rival"]) == ["FCN"]
    assert leads["difference"].tolist() == [2.0]


def test_readme_and_book_say_what_the_records_say(root):
    readme = (root / "README.md").read_text()
    shown = includes.readme_with_findings(readme, root / "experiments")
    assert readme == shown, "run: emastudy findings --write"
    seven = re.search(r"<!-- findings -->(.*)<!-- /findings -->", shown, re.DOTALL)[1]
    linked = re.findall(r"\]\(([^)]+)\)", seven)
    assert len(linked) == 7
    assert all((root / link).is_file() for link in linked)
    pages = set(includes.book_pages(root / "book" / "_toc.yml"))
    texts = includes.findings_includes(root / "experiments")
    for name in ("main_findings", "findings"):
        text = texts[name]
        linked = re.findall(r"\]\(([^)]+)\)", text)
        assert linked
        assert {link.removesuffix(".ipynb") for link in linked} <= pages
    with pytest.raises(ValueError, match="lacks the lines <!-- findings -->"):
        includes.readme_with_findings("# A README\n", root / "experiments")


def test_estimates_are_the_same_on_every_page():
    """The page on clusters and the plan of Tables 2-4 estimate some runs both."""
    rows = {line.split("`")[1]: line for line in includes.estimates_table().splitlines()[2:]}
    assert list(rows) == list(PAPER_CLASSES)
    for (_, recipe), row in tables.plan().iterrows():
        on_one_gpu = f"| {row['peta_macs']:.3g} | {row['gpu_hours']:.1f}, {row['memory_gib']:.1f} |"
        assert on_one_gpu in rows[recipe]

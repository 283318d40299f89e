"""The published numbers: complete, sourced, and consistent with one another."""

import re

import pytest

from emastudy.study import published
from emastudy.study.claims import CLAIMS

TABLES = {
    load.__name__: load()
    for load in (
        published.table2,
        published.table3,
        published.table4,
        published.reimplementations,
        published.reports,
    )
}


@pytest.mark.parametrize("name", TABLES)
def test_every_number_has_source_and_confidence(name):
    table = TABLES[name]
    assert table["miou"].between(30, 90).all()
    assert (table["source"].str.len() > 10).all()
    assert table["confidence"].isin(["confirmed", "recalled"]).all()
    rows = table.reset_index().drop(columns=["source", "confidence"])
    assert not rows.duplicated().any()
    assert not rows.drop(columns="published", errors="ignore").isna().any().any()


@pytest.mark.parametrize("name", TABLES)
def test_what_was_only_recalled_says_so(name):
    table = TABLES[name]
    from_memory = table["source"].str.contains("from memory")
    assert (from_memory == (table["confidence"] == "recalled")).all()


def test_the_claims_quote_the_tables():
    """The three scores of the last claim are those of the tables' EMANet-101 rows."""
    quoted = [float(number) for number in re.findall(r"\d+\.\d", CLAIMS["C19"].statement)]
    tables = (published.table2(), published.table3(), published.table4())
    rows = [t[(t.index == "EMANet") & (t["backbone"] == "ResNet-101")] for t in tables]
    assert [float(row["miou"].iloc[0]) for row in rows] == quoted


def test_the_papers_words_follow_from_its_tables():
    """Section 6.2.3: 2.0 above DeepLabV3, 0.9 above the best other ResNet-101, on VOC test."""
    table = published.table2()
    same = table[table["backbone"] == "ResNet-101"]["miou"]
    assert same["EMANet"] - same["DeepLabV3"] == pytest.approx(2.0)
    assert same["EMANet"] - same.drop("EMANet").max() == pytest.approx(0.9)
    assert published.table3()["miou"].idxmax() == "EMANet"
    assert published.table4()["miou"].idxmax() == "EMANet"


def test_emanet_is_last_of_the_context_heads_elsewhere():
    frame = published.reimplementations()
    zoo = frame[(frame["code"] == "sssegmentation") & (frame["method"] != "FCN")]
    for _, part in zoo.groupby("backbone"):
        assert part.set_index("method")["miou"].idxmin() == "EMANet"

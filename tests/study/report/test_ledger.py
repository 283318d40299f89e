"""What people read of the ledger: answers, tables, text."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from study.made_up import ema, evidence, plain, scored

from emastudy.study import claims, report
from emastudy.study.claims import CLAIMS
from emastudy.study.report.ledger import MARKS, history, ledger_overview, ledger_table, tally


@pytest.fixture
def mixed():
    return evidence(scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0}))


def test_the_answer_has_number_interval_seeds_data_set_and_verdict(mixed):
    text = report.answer("C17", "C2", evidence=[mixed])
    assert text.startswith("**C17** (survey; the paper's Fig. 4 text): *EMA beats Non-local")
    assert re.search(
        r'<span class="verdict supported">supported</span> scenes, detached gradient: '
        r"EMA less A²: \+\d\.\d\d mIoU \[\+\d\.\d\d, \+\d\.\d\d\], "
        r"5 seeds; the weakest of 2 parts",
        text,
    )
    assert "scenes, unrolled gradient (0 of 5 seeds); scenes, one-step gradient (0 of 5" in text
    assert "**C2**" in text
    with pytest.raises(ValueError, match="no claim 'C99'; there are C1, "):
        report.answer("C99", evidence=[mixed])


def test_the_history_names_the_verdicts_that_new_runs_changed(mixed, tmp_path, monkeypatch):
    (tmp_path / "experiments/records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    judged = claims.judge([mixed], ["C17"])
    assert history(judged).endswith("both are shown.")
    before = {
        "dataset": "scenes", "date": "2026-01-02", "change": "all runs were made again",
        "verdicts": [["C17", "detached", "", "contradicted"], ["C17", "unrolled", "", "supported"]],
    }  # fmt: skip
    Path("experiments/verdicts_before.yaml").write_text(yaml.safe_dump(before))
    assert history(judged).endswith(
        "On 2026-01-02 all runs were made again: 1 of 1 verdicts became others: C17 with detached "
        "gradient from contradicted to supported."
    )


def test_pages_name_their_claims():
    assert report.of_page("21_bases_normalization") == ("C11", "C12", "C13")
    assert report.decided_here("33_comparisons").count("*Supported if*: rule, each.") == 2
    with pytest.raises(ValueError, match="decided on page '99_none'"):
        report.decided_here("99_none")


def test_the_table_has_a_row_a_claim_and_links_listed_pages_only(mixed, cheap_costs):
    table = ledger_table(claims.judge([mixed]), ["notebooks/14_relatives"])
    lines = [line for line in table.splitlines() if re.match(r"\| \[?C\d", line)]
    assert len(lines) == len(CLAIMS)
    linked = [line for line in lines if "](notebooks/14_relatives.ipynb)" in line]
    assert [line[:6] for line in linked] == ["| [C2]", "| [C3]"]
    assert table.count(".ipynb") == 2
    assert all(line.count("|") == 4 for line in lines)
    # Several verdicts are counted, and their sentences folded away.
    (many,) = (line for line in lines if line.startswith("| C17 "))
    counted, folded = re.search(r"<summary>(.*)</summary>(.*)</details>", many).groups()
    assert re.findall(r">([a-z ]+)</span> (\d)", counted) == [("supported", "1"), ("not run", "2")]
    assert folded.count("EMA less A²") == 1
    (one,) = (line for line in lines if "| C7 |" in line)
    assert "<details" not in one


def test_at_a_glance_a_mark_stands_in_the_place_of_its_data_set_and_regime(
    mixed, cheap_costs, root
):
    overview = ledger_overview(claims.judge([mixed]), ["notebooks/14_relatives"])
    rows = {
        re.sub(r"\W", "", cells[1].split("]")[0]): cells[3:-1]
        for cells in (line.split("|") for line in overview.splitlines() if line.startswith("| "))
    }
    assert list(rows) == ["claim", *CLAIMS]
    assert [name.strip() for name in rows["claim"]][:2] == ["without data", "scenes"]

    def marks(claim, column):
        lines = re.findall(r'<span class="marks">(.*?)</span></span></span>', rows[claim][column])
        return [re.findall(r">(.)<", line + "<") for line in lines]

    assert marks("C17", 1) == [["✓", "·", "·"]]  # detached, unrolled, one-step
    assert marks("C3", 0) == [["✓"], ["✗"]]  # a line for each variant, with its name
    named = re.findall(r'<span class="variant">(.*?)</span>', rows["C3"][0])
    assert named == ["θ = log softmax(ρ)", "θ linear, as in the block"]
    assert rows["C3"][1].strip() == ""
    assert 'title="supported: scenes, detached gradient: EMA less A²: +' in rows["C17"][1]
    # Variants that say the same share a mark, which tells of each.
    assert marks("C1", 1) == [["·", "·", "·"]]
    assert rows["C1"][1].count("scenes, detached gradient, gaussian: ") == 2  # title and label
    assert overview.count("](notebooks/14_relatives.ipynb)") == 2
    # A shape and a class of its own for every verdict, so that colour is never alone.
    style = (root / "book" / "_static" / "ledger.css").read_text()
    for verdict, shape in MARKS.items():
        kind = verdict.replace(" ", "-")
        assert f".verdict.{kind} " in style
        assert f'<span class="verdict {kind}">{shape}</span> {verdict}' in overview
    assert "hold wherever they were run: 4 of 19; nowhere: 0; " in overview


def test_claims_that_hold_nowhere_are_named():
    worse = evidence(scored({ema(): 0.0, plain("non_local"): 2.0, plain("a2"): 3.0}))
    assert "; nowhere: 1 (C17); inconclusive" in tally(claims.judge([worse], ["C17"]))


def test_the_text_is_aligned_and_verbose_shows_every_part(mixed):
    found = claims.judge([mixed], ["C17"])
    brief = report.ledger_text(found)
    assert brief.splitlines()[1].startswith(
        "     supported     scenes, detached gradient  EMA less"
    )
    verbose = report.ledger_text(found, verbose=True)
    assert "supported if: rule, each" in verbose
    assert verbose.count("EMA less") == 2


def test_verdicts_that_changed_are_told_with_what_they_were():
    gains = {ema(): 2.0, ema(maintenance="fixed"): 0.0}
    one = evidence(scored({**gains, ema(gradient="unrolled", maintenance="learned"): 4.0}))
    found = claims.judge([one], ["C9"])
    note = " (by the rule as first written: contradicted)"
    amended = "Amended 2026-11-26: supported if back-propagation decides with the unrolled gradient"
    for text in (
        report.answer("C9", evidence=[one]),
        report.ledger_text(found),
        report.ledger_text(found, verbose=True),
        ledger_table(found, []),
        ledger_overview(found, []),
    ):
        assert note in text
    assert amended in ledger_table(found, [])
    assert amended in report.ledger_text(found, verbose=True)
    assert amended in report.decided_here("22_bases_maintenance")
    assert "Amended since: C9, C13, C15 on 2026-11-26" in report.ledger_text(found)
    assert "1 of 1 verdicts shown here differ" in report.ledger_text(found)
    taken = [dataclasses.replace(found[0], adjusted=0.2)]
    assert "supported before the correction by Holm's method, p = " in report.ledger_text(taken)
    assert "that leaves 1 inconclusive" in report.ledger_text(taken)
    assert ">?↑</span>" in ledger_overview(taken, []).splitlines()[-1]

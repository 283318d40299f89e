"""The ledger: its rules, who is asked, and what people read."""

import hashlib
import re

import pytest
from study.made_up import ema, evidence, plain, record, scored

from emastudy.study import claims, report
from emastudy.study.claims import CLAIMS, MARKS, Evidence
from emastudy.study.recipes import scenes


def rows():
    return [
        f"| {c.id} | {c.statement} ({c.section}) | {c.measure} | {c.rule} |"
        for c in CLAIMS.values()
    ]


def test_the_rules_are_those_fixed_before_any_run():
    """Changing a claim or a rule after runs exist is what this study must not do."""
    assert list(CLAIMS) == [f"C{n}" for n in range(1, 20)]
    digest = hashlib.sha256("\n".join(rows()).encode()).hexdigest()
    assert digest == "793ed39ff6ccbf37bd6dfaaef6ec25cb3d7aeb2c0deda3a898e818270d3c04be"


def test_the_rules_are_those_written_down(paper_claims):
    assert rows() == paper_claims


def test_without_evidence_only_identities_and_costs_are_decided(cheap_costs):
    found = claims.judge([evidence()])
    table = claims.ledger(found)
    assert list(table["claim"].unique()) == list(CLAIMS)
    decided = table[table["verdict"] != "not run"]
    assert set(decided["claim"]) == {"C2", "C3", "C4", "C7"}
    assert (table[table["verdict"] == "not run"]["missing"] != "").all()


@pytest.fixture
def mixed():
    return evidence(scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0}))


def test_the_answer_has_number_interval_seeds_data_set_and_verdict(mixed):
    text = claims.answer("C17", "C2", evidence=[mixed])
    assert text.startswith("**C17** (survey; the paper's Fig. 4 text): *EMA beats Non-local")
    assert re.search(
        r'<span class="verdict supported">supported</span> scenes, detached gradient: '
        r"EMA less A²: \+\d\.\d\d mIoU \[\+\d\.\d\d, \+\d\.\d\d\] "
        r"\(bootstrap \[\S+, \S+\]\), 5 seeds; the weakest of 2 parts",
        text,
    )
    assert "scenes, unrolled gradient (0 of 5 seeds); scenes, one-step gradient (0 of 5" in text
    assert "**C2**" in text
    with pytest.raises(ValueError, match="no claim 'C20'; there are C1, "):
        claims.answer("C20", evidence=[mixed])


def test_pages_name_their_claims():
    assert claims.of_page("21_bases_normalization") == ("C11", "C12", "C13")
    assert claims.decided_here("33_comparisons").count("*Supported if*: rule, each.") == 2
    with pytest.raises(ValueError, match="decided on page '99_none'"):
        claims.decided_here("99_none")


def test_the_table_has_a_row_a_claim_and_links_listed_pages_only(mixed, cheap_costs):
    table = report.ledger_table(claims.judge([mixed]), ["notebooks/14_relatives"])
    lines = [line for line in table.splitlines() if re.match(r"\| \[?C\d", line)]
    assert len(lines) == 19
    linked = [line for line in lines if "](notebooks/14_relatives.ipynb)" in line]
    assert [line[:6] for line in linked] == ["| [C2]", "| [C3]"]
    assert table.count(".ipynb") == 2
    assert all(line.count("|") == 4 for line in lines)


def test_at_a_glance_a_mark_stands_in_the_place_of_its_data_set_and_regime(
    mixed, cheap_costs, root
):
    overview = report.ledger_overview(claims.judge([mixed]), ["notebooks/14_relatives"])
    rows = {
        re.sub(r"\W", "", cells[1].split("]")[0]): cells[3:-1]
        for cells in (line.split("|") for line in overview.splitlines() if line.startswith("| "))
    }
    assert list(rows) == ["claim", *CLAIMS]
    assert [name.strip() for name in rows["claim"]][:2] == ["without data", "scenes"]

    def marks(claim, column):
        stacks = re.findall(r'<span class="stack">(.*?)</span></span>', rows[claim][column])
        return [re.findall(r">(.)<", stack + "<") for stack in stacks]

    assert marks("C17", 1) == [["✓"], ["·"], ["·"]]  # detached, unrolled, one-step
    assert marks("C3", 0) == [["✓", "✗"]]  # one verdict a variant, above each other
    assert rows["C3"][1].strip() == ""
    assert 'title="supported: scenes, detached gradient: EMA less A²: +' in rows["C17"][1]
    # Variants that say the same share a mark, which tells of each.
    assert marks("C1", 1) == [["·"], ["·"], ["·"]]
    assert rows["C1"][1].count("scenes, detached gradient, gaussian: ") == 2  # title and label
    assert overview.count("](notebooks/14_relatives.ipynb)") == 2
    # A shape and a class of its own for every verdict, so that colour is never alone.
    style = (root / "book" / "_static" / "ledger.css").read_text()
    for verdict, shape in MARKS.items():
        kind = verdict.replace(" ", "-")
        assert f".verdict.{kind} " in style
        assert f'<span class="verdict {kind}">{shape}</span> {verdict} (' in overview


def test_the_text_is_aligned_and_verbose_shows_every_part(mixed):
    found = claims.judge([mixed], ["C17"])
    brief = report.ledger_text(found)
    assert brief.splitlines()[1].startswith(
        "     supported     scenes, detached gradient  EMA less"
    )
    assert "bootstrap" not in brief
    verbose = report.ledger_text(found, verbose=True)
    assert "supported if: rule, each" in verbose
    assert verbose.count("bootstrap") == 2


def test_evidence_is_read_from_a_profile(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "half.yaml").write_text("profile: half\nscale: 0.5\n")
    config = scenes("fcn", scale=0.5)
    record(config, 40.0).write(tmp_path / "records" / "half")
    found = Evidence.load(tmp_path, "half")
    assert found.miou("fcn").to_dict() == {0: 40.0}
    assert found.needed == 5
    assert Evidence.load(tmp_path, "animals").needed == 3
    with pytest.raises(ValueError, match="no profile 'hlaf'; there are animals, "):
        Evidence.load(tmp_path, "hlaf")


def test_the_committed_records_are_judged(root):
    found = claims.judge(claims.load_evidence(root / "experiments"), ["C11", "C12", "C13"])
    verdicts = [f.verdict for f in found if f.dataset == "scenes"]
    assert len(verdicts) == 9  # three claims under three gradient regimes
    assert "not run" not in verdicts

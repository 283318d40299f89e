"""The ledger: its claims are those written before any run, and who is asked."""

import hashlib

import pytest
from study.made_up import ema, evidence, plain, scored

from emastudy.study import claims
from emastudy.study.claims import CLAIMS


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


def test_every_data_set_and_regime_is_judged_by_itself():
    records = scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0})
    found = CLAIMS["C17"].findings([evidence(records), evidence()])
    assert [f.gradient for f in found] == ["detached", "unrolled", "one_step"] * 2
    assert [f.verdict for f in found] == ["supported"] + 5 * ["not run"]
    assert {f.gradient for f in CLAIMS["C10"].findings([evidence()])} == {"unrolled"}


def test_an_unknown_claim_is_named():
    with pytest.raises(ValueError, match="no claim 'C20'; there are C1, "):
        claims.judge([], ["C20"])


def test_the_committed_records_are_judged(root):
    found = claims.judge(claims.load_evidence(root / "experiments"), ["C11", "C12", "C13"])
    verdicts = [f.verdict for f in found if f.dataset == "scenes"]
    assert len(verdicts) == 9  # three claims under three gradient regimes
    assert "not run" not in verdicts

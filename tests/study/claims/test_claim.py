"""The ledger: its claims are those written before any run, and who is asked."""

import hashlib
from itertools import product

import pytest
from study.made_up import ema, evidence, plain, scored

from emastudy.study import claims
from emastudy.study.claims import CLAIMS
from emastudy.study.statistics import holm

# The paper's claims come first.
PAPERS = 19
# Further ones: id → digest of its text, written down before anything is run for it.
FURTHER: dict[str, str] = {}


def digest(*lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def rows():
    return [
        f"| {c.id} | {c.statement} ({c.section}) | {c.measure} | {c.rule} |"
        for c in CLAIMS.values()
    ]


def test_the_rules_are_those_fixed_before_any_run():
    """Changing a claim or a rule after runs exist is what this study must not do."""
    assert list(CLAIMS)[:PAPERS] == [f"C{n}" for n in range(1, PAPERS + 1)]
    papers = digest(*rows()[:PAPERS])
    assert papers == "793ed39ff6ccbf37bd6dfaaef6ec25cb3d7aeb2c0deda3a898e818270d3c04be"
    further = zip(list(CLAIMS)[PAPERS:], rows()[PAPERS:], strict=True)
    assert {name: digest(row) for name, row in further} == FURTHER


def test_the_rules_are_those_written_down(paper_claims):
    assert rows()[:PAPERS] == paper_claims


def test_without_evidence_only_identities_and_costs_are_decided(cheap_costs):
    found = claims.judge([evidence()])
    assert list(dict.fromkeys(one.claim for one in found)) == list(CLAIMS)
    decided = {one.claim for one in found if one.verdict != "not run"}
    assert decided == {"C2", "C3", "C4", "C7"}
    assert all(one.missing for one in found if one.verdict == "not run")


def test_every_data_set_and_regime_is_judged_by_itself():
    records = scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0})
    found = CLAIMS["C17"].judgements([evidence(records), evidence()])
    assert [f.gradient for f in found] == ["detached", "unrolled", "one_step"] * 2
    assert [f.verdict for f in found] == ["supported"] + 5 * ["not run"]
    assert {f.gradient for f in CLAIMS["C10"].judgements([evidence()])} == {"unrolled"}


def test_verdicts_are_corrected_among_all_on_one_data_set_and_regime():
    gains = {ema(): 0.85, plain("non_local"): 0.0, plain("a2"): -9.0}
    (found, *_) = claims.judge([evidence(scored(gains))], ["C17"])
    assert found.verdict == "supported"
    assert found.adjusted == found.p
    # Four verdicts more in the column: what was hardly supported no longer is.
    more = {ema(maintenance="fixed"): 0.85}
    for name, t in product(("l2", "none", "layer"), range(1, 5)):
        if (name, t) != ("l2", 3):  # the recipe's own
            more[ema(normalization=name, num_iterations=t)] = 0.0
    crowd = evidence(scored({**gains, **more}))
    (found, *_) = claims.judge([crowd], ["C17"])
    column = claims.judge([crowd], ["C9", "C11", "C12", "C13", "C17"])
    column = [f for f in column if f.gradient == "detached" and f.p == f.p]
    assert len(column) == 5
    assert [f.adjusted for f in column] == holm([f.p for f in column]).tolist()
    assert found.adjusted == pytest.approx(5 * found.p)
    assert (found.uncorrected, found.verdict) == ("supported", "inconclusive")
    assert found.original == "supported"


def test_amendments_are_dated_after_the_rules_and_say_why():
    amended = {c.id: c.amendment for c in CLAIMS.values() if c.amendment}
    assert set(amended) == {"C9", "C13", "C14", "C15"}
    for amendment in amended.values():
        assert amendment.date >= "2026-11-26"
        assert amendment.reason
        assert amendment.rule


def test_an_unknown_claim_is_named():
    with pytest.raises(ValueError, match="no claim 'C99'; there are C1, "):
        claims.judge([], ["C99"])


def test_the_committed_records_are_judged(root):
    evidence = claims.load_evidence(root / "experiments", ["scenes"])
    verdicts = [f.verdict for f in claims.judge(evidence, ["C11", "C12", "C13"])]
    assert len(verdicts) == 9  # three claims under three gradient regimes
    assert "not run" not in verdicts

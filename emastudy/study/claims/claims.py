"""The ledger: what the paper claims, how each claim is decided, and what our runs say.

Floor: study.

The rules were fixed before any run. A verdict is computed from records, measurements and, for
identities and costs, live; it is never typed. All differences are turned so that positive is what
the paper says. Unless a rule says otherwise it is the difference of mIoU, paired by seed, with at
least five seeds on scenes and three on photographs: supported if its whole 95 % interval lies on
the claimed side, contradicted if on the other, undecided if it holds both. Every verdict belongs
to one data set and, where the claim is about EMA networks, to one gradient regime.

A rule with several parts is supported if all are, and contradicted as soon as one is.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd

from emastudy.study.claims import judges_scores, judges_unit
from emastudy.study.claims.evidence import DATASETS, Evidence
from emastudy.study.claims.findings import Finding, badge, not_run, sentence
from emastudy.study.runs import records_folder

#: Gradient regimes in the order of the ledger: the released code's, the paper's story, ours.
GRADIENTS: tuple[str, ...] = ("detached", "unrolled", "one_step")

Judge = Callable[[Sequence[Evidence]], list[Finding]]


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: "C1" to "C19".
        section: Where the paper says it.
        statement: What it says.
        measure: What is measured.
        rule: When it counts as supported.
        page: Stem of the notebook that shows it.
        judge: Evidence to findings, without the claim's id.
    """

    id: str
    section: str
    statement: str
    measure: str
    rule: str
    page: str
    judge: Judge = dataclasses.field(repr=False)

    def findings(self, evidence: Sequence[Evidence]) -> list[Finding]:
        """Every verdict on this claim."""
        return [dataclasses.replace(found, claim=self.id) for found in self.judge(evidence)]


def _each(
    rule: Callable[[Evidence, str], Iterable[Finding]], gradients: Sequence[str] = GRADIENTS
) -> Judge:
    """Judge every data set and regime by itself."""

    def judge(evidence: Sequence[Evidence]) -> list[Finding]:
        return [
            dataclasses.replace(finding, dataset=one.name, gradient=gradient)
            for one, gradient in product(evidence, gradients)
            for finding in rule(one, gradient)
        ]

    return judge


#: The claims by id. The texts were written, and the rules fixed, before any run.
CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "C1",
            "5.2",
            "EM lifts the likelihood at every iteration",
            "F(μ) along the iterations of the trained unit on validation features, per "
            "normalisation",
            "no fall beyond rounding in any image",
            "13_what_ema_optimises",
            _each(judges_unit.likelihood),
        ),
        Claim(
            "C2",
            "3.3, 4",
            "Non-local is re-estimation of X with μ = X, no E and no M step",
            "identity",
            "max difference ≤ 1e-6 relative",
            "14_relatives",
            judges_unit.non_local,
        ),
        Claim(
            "C3",
            "5.4",
            "the A² block is one EM iteration",
            "identity",
            "≤ 1e-6 relative",
            "14_relatives",
            judges_unit.double_attention,
        ),
        Claim(
            "C4",
            "5.3",
            "L2Norm keeps the direction of each basis, BN and LN change it",
            "angle before/after",
            "0 for L2, > 0 for the others",
            "13_what_ema_optimises",
            judges_unit.directions,
        ),
        Claim(
            "C5",
            "1, 6",
            "X̃ is low-rank",
            "rank and effective rank of X̃",
            "rank ≤ K, and effective rank below that of X",
            "43_low_rank_and_robust",
            _each(judges_unit.low_rank),
        ),
        Claim(
            "C6",
            "abstract, 6",
            "X̃ is robust to the variance of the input",
            "fall of mIoU under noise, blur, contrast, JPEG, severities 1-5, EMA against FCN and "
            "against non-local",
            "smaller fall than FCN",
            "43_low_rank_and_robust",
            _each(judges_scores.robust),
        ),
        Claim(
            "C7",
            "Table 1",
            "far lighter than the baselines",
            "FLOPs, parameters, memory",
            "EMANet(512) head below DeepLabV3, V3+ and PSANet in all three",
            "32_table1_cost",
            judges_unit.light,
        ),
        Claim(
            "C8",
            "1, 4",
            "little overhead, cost linear in N",
            "measured time and memory against N",
            "exponent ≤ 1.1, unit ≤ 10 % of the R-101 network's time",
            "32_table1_cost",
            judges_unit.overhead,
        ),
        Claim(
            "C9",
            "5.2, Fig. 3 left",
            "moving averaging beats no update and back-propagation for μ^(0)",
            "mIoU, α = 0.9 against each, T = 3",
            "rule",
            "22_bases_maintenance",
            _each(judges_scores.maintenance),
        ),
        Claim(
            "C10",
            "5.2",
            "back-propagating into μ^(0) is unstable and may collapse",
            "gradient norms over training, spread over seeds, share of collapsed runs",
            "a collapse, or a larger spread",
            "22_bases_maintenance",
            _each(judges_scores.instability, ("unrolled",)),
        ),
        Claim(
            "C11",
            "Fig. 3 right",
            "L2Norm beats no norm and LN for T ≥ 3",
            "mIoU",
            "rule, both",
            "21_bases_normalization",
            _each(judges_scores.l2_beats),
        ),
        Claim(
            "C12",
            "Fig. 3 right",
            "LN is worse than no norm",
            "mIoU, mean over T",
            "rule",
            "21_bases_normalization",
            _each(judges_scores.layer_is_worse),
        ),
        Claim(
            "C13",
            "Fig. 3 right",
            "L2Norm improves with T; none and LN hardly depend on T",
            "slope of mIoU on T = 1…4",
            "slope interval above 0 for L2, containing 0 for the others",
            "21_bases_normalization",
            _each(judges_scores.slopes),
        ),
        Claim(
            "C14",
            "Fig. 4",
            "mIoU peaks at T_train = 3",
            "best T_train per seed",
            "3 in most seeds, and T=3 above T=1 by the rule",
            "23_iterations",
            _each(judges_scores.peak),
        ),
        Claim(
            "C15",
            "Fig. 4",
            "more iterations at test help and saturate",
            "mIoU over T_eval for fixed T_train",
            "not falling, last step < 0.1",
            "23_iterations",
            _each(judges_scores.more_at_test),
        ),
        Claim(
            "C16",
            "Table 1",
            "EMA beats DeepLabV3, V3+, PSANet",
            "mIoU SS and MS+flip under one trainer",
            "rule, each",
            "33_comparisons",
            _each(judges_scores.beats_pyramids),
        ),
        Claim(
            "C17",
            "survey; the paper's Fig. 4 text",
            "EMA beats Non-local and A²",
            "mIoU",
            "rule, each",
            "33_comparisons",
            _each(judges_scores.beats_attention),
        ),
        Claim(
            "C18",
            "5.5",
            "bases converge to abstract, semantic concepts",
            "mutual information of argmax_k z with classes, by iteration, against random bases; "
            "matched across images against shuffled",
            "rises with iterations, above both controls",
            "42_concepts",
            _each(judges_unit.concepts),
        ),
        Claim(
            "C19",
            "Tables 2-4",
            "VOC test 87.7 / Context 53.1 / COCO Stuff 39.9",
            "the protocol itself",
            "within 0.5 mIoU; needs the data and GPUs",
            "34_published_tables",
            judges_scores.published_tables,
        ),
    )
}


def load_evidence(
    experiments: Path | None = None, profiles: Iterable[str] = tuple(DATASETS)
) -> list[Evidence]:
    """Records and measurements of profiles; default those that the ledger is judged on.

    Args:
        experiments: Folder of ``profiles/`` and ``records/``; default this checkout's.
        profiles: Names.

    Raises:
        ValueError: There is no such profile.
    """
    folder = experiments or records_folder("").parent
    return [Evidence.load(folder, profile) for profile in profiles]


def judge(evidence: Sequence[Evidence], ids: Iterable[str] = ()) -> list[Finding]:
    """Every verdict on some claims.

    Args:
        evidence: See :func:`load_evidence`.
        ids: Of the claims; none = all.

    Raises:
        ValueError: There is no such claim.
    """
    chosen = tuple(ids) or tuple(CLAIMS)
    for id in chosen:
        if id not in CLAIMS:
            raise ValueError(f"there is no claim {id!r}; there are {', '.join(CLAIMS)}")
    return [finding for id in chosen for finding in CLAIMS[id].findings(evidence)]


def ledger(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a tidy table.

    Returns:
        One row a finding: "claim", "dataset", "gradient", "variant", "verdict", the numbers of
        its decisive part ("what", "effect", "low", "high", "bootstrap_low", "bootstrap_high",
        "unit", "seeds"), and "missing" where it is not run.
    """
    rows = []
    for finding in findings:
        part = finding.decisive
        rows.append(
            {
                "claim": finding.claim,
                "dataset": finding.dataset,
                "gradient": finding.gradient,
                "variant": finding.variant,
                "verdict": finding.verdict,
                "what": part.what,
                "effect": part.effect,
                "low": part.interval[0],
                "high": part.interval[1],
                "bootstrap_low": part.bootstrap[0],
                "bootstrap_high": part.bootstrap[1],
                "unit": part.unit,
                "seeds": part.seeds,
                "missing": finding.missing,
            }
        )
    return pd.DataFrame(rows)


def of_page(page: str) -> tuple[str, ...]:
    """Ids of the claims that a page decides.

    Args:
        page: Stem of its notebook.
    """
    return tuple(claim.id for claim in CLAIMS.values() if claim.page == page)


def answer(*ids: str, evidence: Sequence[Evidence] | None = None) -> str:
    """What our runs say of some claims, as Markdown for the top of a page.

    For each claim what the paper says, then a sentence a verdict: where, the number with its
    interval, seeds; then what was not run.

    Args:
        ids: Of the claims.
        evidence: Default: this checkout's committed evidence.

    Raises:
        ValueError: There is no such claim.
    """
    found = judge(load_evidence() if evidence is None else evidence, ids)
    blocks = []
    for id in ids:
        claim = CLAIMS[id]
        lines = [f"**{id}** ({claim.section}): *{claim.statement}.*", ""]
        mine = [finding for finding in found if finding.claim == id]
        lines += [f"- {sentence(f, bootstrap=True)}" for f in mine if f.verdict != "not run"]
        absent = not_run(mine)
        lines += [f"- {badge('not run')} {absent}"] if absent else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def decided_here(page: str) -> str:
    """The claims that a page decides, with their rules, as a Markdown list.

    (What a notebook prints as Markdown cannot hold a table in the book.)

    Args:
        page: Stem of its notebook.

    Raises:
        ValueError: The page decides none.
    """
    ids = of_page(page)
    if not ids:
        raise ValueError(f"no claim is decided on page {page!r}; see claims.CLAIMS")
    lines = ["Claims decided here, by rules fixed before any run:", ""]
    for id in ids:
        claim = CLAIMS[id]
        lines.append(
            f"- **{id}**: {claim.statement}. *Measure*: {claim.measure}. "
            f"*Supported if*: {claim.rule}."
        )
    return "\n".join(lines)

"""Claims about what a trained unit computes: its objective, its rank, what its bases know."""

from collections.abc import Iterable
from typing import get_args

import pandas as pd

from emastudy import em
from emastudy.study.claims.claim import claim
from emastudy.study.claims.evidence import Evidence
from emastudy.study.claims.verdict import Judgement, Part, above, counted, missing_part


@claim(
    "C1",
    section="5.2",
    statement="EM lifts the likelihood at every iteration",
    measure="F(μ) along the iterations of the trained unit on validation features, per "
    "normalisation",
    rule="no fall beyond rounding in any image",
    page="13_what_ema_optimises",
)
def likelihood(evidence: Evidence) -> Iterable[Judgement]:
    """Per normalisation: the number of images in which F falls, over all seeds."""
    for name in get_args(em.Normalization):
        what = "validation images in which F falls"
        rows = evidence.measured("objective", normalization=name)
        part = _unmeasured(evidence, rows, what, "objective")
        if part is None:
            falls, unit = float(rows["falls"].sum()), f"of {rows['images'].sum()} images"
            part = counted(what, not falls, falls, unit, len(rows))
        yield Judgement((part,), name)


@claim(
    "C5",
    section="1, 6",
    statement="X̃ is low-rank",
    measure="rank and effective rank of X̃",
    rule="rank ≤ K, and effective rank below that of X",
    page="43_low_rank_and_robust",
)
def low_rank(evidence: Evidence) -> Iterable[Judgement]:
    """The rank of X̃ at most K in every run, and its effective rank below X's by the rule."""
    rows = evidence.measured("rank")
    if missing := _unmeasured(evidence, rows, "rank of X̃", "rank"):
        yield Judgement((missing,))
        return
    largest, bases = float(rows["largest_rank_estimate"].max()), int(rows["num_bases"].iloc[0])
    below = rows["effective_rank_x"] - rows["effective_rank_estimate"]
    unit = f"of at most {bases}"
    rank = counted("largest rank of X̃", largest <= bases, largest, unit, len(rows))
    yield Judgement((rank, above("effective rank of X less that of X̃", below, unit="")))


@claim(
    "C18",
    section="5.5",
    statement="bases converge to abstract, semantic concepts",
    measure="mutual information of argmax_k z with classes, by iteration, against random bases; "
    "matched across images against shuffled",
    rule="rises with iterations, above both controls",
    page="42_concepts",
)
def concepts(evidence: Evidence) -> Iterable[Judgement]:
    """Information after T iterations against after one, against random bases, and shuffled."""
    rows = evidence.measured("concepts")
    if missing := _unmeasured(evidence, rows, "information", "concepts"):
        yield Judgement((missing,))
        return
    first, last = (rows["information"].str[i].astype(float) for i in (0, -1))
    gains = {
        "information, last iteration less first": last - first,
        "information less that of random bases": last - rows["random_bases"].str[-1].astype(float),
        "matched across images less shuffled": rows["matched"] - rows["shuffled"],
    }
    yield Judgement(tuple(above(what, gain, unit="nats") for what, gain in gains.items()))


def _unmeasured(evidence: Evidence, rows: pd.DataFrame, what: str, measure: str) -> Part | None:
    return missing_part(what, evidence.needed, pd.Series(rows.index, rows.index, name=measure))

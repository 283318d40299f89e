"""How claims about the unit itself are judged: what it computes, what it costs, what it knows.

Floor: study (imports torch and pandas).

C1 to C5, C7, C8 and C18: identities and costs are computed live, the rest is measured on trained
networks. Each judge turns evidence into findings; the claims that they decide, and the rules in
words, are in ``claims.CLAIMS``.
"""

import functools
from collections.abc import Iterable, Sequence
from itertools import product
from typing import get_args

import pandas as pd
import torch

from emastudy import em
from emastudy.em import relatives
from emastudy.study import tables
from emastudy.study.claims.evidence import Evidence, Part, Verdict, above_zero, lacking
from emastudy.study.claims.findings import Finding
from emastudy.study.statistics import Fit, fit_exponent
from emastudy.study.tables import scaling

_NORMALIZATIONS: tuple[str, ...] = get_args(em.Normalization)


# --- what it computes ---------------------------------------------------------------------------


def likelihood(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C1, per normalisation: the number of images in which F falls, over all seeds."""
    for name in _NORMALIZATIONS:
        what = "validation images in which F falls"
        found = evidence.measured("objective", gradient=gradient, normalization=name)
        missing = _unmeasured(evidence, found, what, "objective")
        if missing:
            yield Finding((missing,), name)
            continue
        falls, images = int(found["falls"].sum()), int(found["images"].sum())
        verdict: Verdict = "contradicted" if falls else "supported"
        part = Part(
            what, verdict, float(falls), seeds=len(found), unit=f"of {images} images", signed=False
        )
        yield Finding((part,), name)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _identity(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> Part:
    gap = float((ours - theirs).abs().max() / theirs.abs().max())
    verdict: Verdict = "supported" if gap <= 1e-6 else "contradicted"
    return Part(what, verdict, gap, unit="relative difference", signed=False)


def non_local(evidence: Sequence[Evidence]) -> list[Finding]:
    """C2, on random features in double precision."""
    x = _random(4, 200, 16)
    again = em.reconstruct(em.responsibilities(x, x), x)
    return [Finding((_identity("re-estimation with μ = X", again, relatives.non_local(x)),))]


def double_attention(evidence: Sequence[Evidence]) -> list[Finding]:
    """C3, with the θ that it takes and with the θ that the block can have.

    The block's θ is a linear map of X; the second variant gives it the one nearest (least squares)
    to the θ that makes the identity exact.
    """
    x, start = _random(200, 16), em.normalize(_random(8, 16, seed=1), "l2")
    one = em.expectation_maximization(x, start, 1, normalization="none", trace=False)
    ema = em.reconstruct(one.responsibilities, one.bases)
    rho = x @ start.mT
    exact = torch.log_softmax(rho, dim=-1)
    affine = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    linear = affine @ torch.linalg.lstsq(affine, exact).solution
    block = relatives.double_attention
    return [
        Finding((_identity("the block's output", block(x, theta, rho), ema),), variant)
        for theta, variant in (
            (exact, "θ = log softmax(ρ)"),
            (linear, "θ linear, as in the block"),
        )
    ]


def directions(evidence: Sequence[Evidence]) -> list[Finding]:
    """C4, on random bases: batch norm over the bases, as over the samples of a batch."""
    bases = _random(64, 32) + 0.5
    batch = torch.nn.functional.batch_norm(bases, None, None, training=True)
    parts = []
    for name, after in (
        ("L2Norm", em.normalize(bases, "l2")),
        ("LN", em.normalize(bases, "layer")),
        ("BN", batch),
    ):
        # Half the angle from chord and sum: exact near zero, where the arc cosine is not.
        u, v = em.normalize(bases, "l2"), em.normalize(after, "l2")
        angles = torch.rad2deg(2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1)))
        keeps = name == "L2Norm"
        angle = float(angles.max() if keeps else angles.min())
        holds = angle < 1e-6 if keeps else angle > 1e-6
        what = f"{'largest' if keeps else 'smallest'} angle between a basis before and after {name}"
        verdict: Verdict = "supported" if holds else "contradicted"
        parts.append(Part(what, verdict, angle, unit="degrees", signed=False))
    return [Finding(tuple(parts))]


def low_rank(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C5: rank of X̃ at most K in every run, and its effective rank below X's by the rule."""
    found = evidence.measured("rank", gradient=gradient)
    missing = _unmeasured(evidence, found, "rank of X̃", "rank")
    if missing:
        yield Finding((missing,))
        return
    largest, count = int(found["largest_rank_estimate"].max()), int(found["num_bases"].iloc[0])
    verdict: Verdict = "supported" if largest <= count else "contradicted"
    unit = f"of at most {count}"
    below = found["effective_rank_x"] - found["effective_rank_estimate"]
    yield Finding(
        (
            Part(
                "largest rank of X̃",
                verdict,
                float(largest),
                seeds=len(found),
                unit=unit,
                signed=False,
            ),
            above_zero("effective rank of X less that of X̃", below, unit=""),
        )
    )


# --- what it costs ------------------------------------------------------------------------------


@functools.cache
def _table1() -> pd.DataFrame:
    return tables.table1()


def light(evidence: Sequence[Evidence]) -> list[Finding]:
    """C7, counted on the networks themselves; memory is what training keeps of one image."""
    costs = _table1()
    parts = []
    for method, (column, unit) in product(
        ("DeepLabV3", "DeepLabV3+", "PSANet"),
        (("gmacs", "GMACs"), ("mparams", "M parameters"), ("kept_mib", "MiB")),
    ):
        saved = float(costs[column].loc[method]) - float(costs[column].loc["EMANet (512)"])
        verdict: Verdict = "supported" if saved > 0 else "contradicted"
        parts.append(Part(f"{method}'s head less EMANet (512)'s", verdict, saved, unit=unit))
    return [Finding(tuple(parts))]


@functools.cache
def _memory() -> Fit:
    measured = scaling.measure_contexts((33, 49, 65), channels=128, repeats=1)
    ours = measured[measured["module"] == "EMA"]
    return fit_exponent(ours["N"], ours["peak_bytes"])


def _at_most(what: str, fit: Fit, limit: float) -> Part:
    verdict: Verdict = "undecided"
    if fit.high <= limit:
        verdict = "supported"
    elif fit.low > limit:
        verdict = "contradicted"
    interval = (fit.low, fit.high)
    return Part(what, verdict, fit.exponent, interval, unit="as exponent of N", signed=False)


def overhead(evidence: Sequence[Evidence]) -> list[Finding]:
    """C8: peak memory is the same on every machine and measured here; time is a measurement."""
    memory = _at_most("peak memory of the unit", _memory(), 1.1)
    stored = [e.measurements["time"] for e in evidence if len(e.measurements.get("time", ()))]
    if not stored:
        missing = "no stored measurement of time"
        return [Finding((memory, Part("time of the unit", "not run", unit="", missing=missing)))]
    row = stored[0].iloc[-1]
    share = float(row["unit_seconds"] / row["network_seconds"])
    small: Verdict = "supported" if share <= 0.1 else "contradicted"
    return [
        Finding(
            (
                memory,
                _at_most("time of the unit", fit_exponent(row["pixels"], row["seconds"]), 1.1),
                Part(
                    "the unit's time",
                    small,
                    share,
                    unit="of the ResNet-101 network's time",
                    signed=False,
                ),
            )
        )
    ]


# --- what its bases know ------------------------------------------------------------------------


def concepts(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C18: information after T iterations against after one, against random bases, shuffled."""
    found = evidence.measured("concepts", gradient=gradient)
    missing = _unmeasured(evidence, found, "information", "concepts")
    if missing:
        yield Finding((missing,))
        return
    first, last = (found["information"].map(lambda v, i=i: float(v[i])) for i in (0, -1))
    random = found["random_bases"].map(lambda values: float(values[-1]))
    yield Finding(
        (
            above_zero("information, last iteration less first", last - first, unit="nats"),
            above_zero("information less that of random bases", last - random, unit="nats"),
            above_zero(
                "matched across images less shuffled",
                found["matched"] - found["shuffled"],
                unit="nats",
            ),
        )
    )


def _unmeasured(evidence: Evidence, found: pd.DataFrame, what: str, name: str) -> Part | None:
    return lacking(what, evidence.needed, pd.Series(found.index, found.index, name=name))

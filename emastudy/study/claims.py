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
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from emastudy import em
from emastudy.em.relatives import double_attention, non_local
from emastudy.study import published, scaling, tables
from emastudy.study.evidence import (
    DATASETS,
    Evidence,
    Part,
    Verdict,
    above_zero,
    compare,
    lacking,
)
from emastudy.study.records import records_folder
from emastudy.study.statistics import spread_ratio_interval

#: Gradient regimes in the order of the ledger: the released code's, the paper's story, ours.
GRADIENTS: tuple[str, ...] = ("detached", "unrolled", "one_step")
_NORMALIZATIONS: tuple[str, ...] = get_args(em.Normalization)
_CORRUPTIONS = ("noise", "blur", "contrast", "jpeg")


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim, on one data set, under one gradient regime.

    Attributes:
        parts: The comparisons behind it.
        variant: What else is told apart, e.g. the normalisation; "" = nothing.
        any_of: Whether one supported part is enough.
        claim: Id of the claim.
        dataset: The profile; "" where no data set is needed.
        gradient: The regime; "" where the claim is not about EMA networks' training.
    """

    parts: tuple[Part, ...]
    variant: str = ""
    any_of: bool = False
    claim: str = ""
    dataset: str = ""
    gradient: str = ""

    @property
    def verdict(self) -> Verdict:
        """All parts that decide, taken together."""
        seen = {part.verdict for part in self.parts if part.decides}
        order: tuple[Verdict, ...] = ("contradicted", "not run", "undecided", "supported")
        if self.any_of:
            order = ("supported", "not run", "undecided", "contradicted")
        return next(verdict for verdict in order if verdict in seen)

    @property
    def decisive(self) -> Part:
        """The part that the verdict hangs on.

        The weakest support, or the strongest contradiction, of those that say the same; where one
        part is enough, the first that says it.
        """
        same = [p for p in self.parts if p.decides and p.verdict == self.verdict]
        end = 1 if self.verdict == "contradicted" else 0
        if self.any_of or all(np.isnan(part.interval[end]) for part in same):
            return same[0]
        return min(same, key=lambda p: np.nan_to_num(p.interval[end], nan=np.inf))

    @property
    def missing(self) -> str:
        """What has not been run, of the parts that decide; "" if nothing."""
        said = [p.missing.split("; ") for p in self.parts if p.decides and p.missing]
        return "; ".join(dict.fromkeys(chain.from_iterable(said)))

    @property
    def where(self) -> str:
        """Data set, regime and variant in words."""
        regime = f"{self.gradient.replace('_', '-')} gradient" if self.gradient else ""
        words = (DATASETS.get(self.dataset, self.dataset), regime, self.variant)
        return ", ".join(filter(None, words))


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


def _unmeasured(evidence: Evidence, found: pd.DataFrame, what: str, name: str) -> Part | None:
    return lacking(what, evidence.needed, pd.Series(found.index, found.index, name=name))


# --- what EM does -------------------------------------------------------------------------------


def _likelihood(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def _non_local(evidence: Sequence[Evidence]) -> list[Finding]:
    """C2, on random features in double precision."""
    x = _random(4, 200, 16)
    again = em.reconstruct(em.responsibilities(x, x), x)
    return [Finding((_identity("re-estimation with μ = X", again, non_local(x)),))]


def _double_attention(evidence: Sequence[Evidence]) -> list[Finding]:
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
    return [
        Finding((_identity("the block's output", double_attention(x, theta, rho), ema),), variant)
        for theta, variant in (
            (exact, "θ = log softmax(ρ)"),
            (linear, "θ linear, as in the block"),
        )
    ]


def _directions(evidence: Sequence[Evidence]) -> list[Finding]:
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


# --- low rank, robust, light --------------------------------------------------------------------


def _low_rank(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def _robust(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C6: the fall of mIoU from clean to the mean over all kinds and severities."""

    def fall(head: str, **options: Any) -> pd.Series:
        clean = evidence.scores(head, **options)
        worse = pd.concat(
            [
                evidence.scores(head, at={"corruption": kind, "severity": severity}, **options)
                for kind, severity in product(_CORRUPTIONS, range(1, 6))
            ],
            axis=1,
        )
        return (
            (clean - worse.mean(axis=1, skipna=False)).dropna().rename(f"{clean.name}, corrupted")
        )

    ema = fall("ema", gradient=gradient)
    yield Finding(
        (
            compare("fall of FCN less fall of EMA", fall("fcn"), ema, evidence.needed),
            compare(
                "fall of non-local less fall of EMA",
                fall("non_local"),
                ema,
                evidence.needed,
                decides=False,
            ),
        )
    )


@functools.cache
def _table1() -> pd.DataFrame:
    return tables.table1()


def _light(evidence: Sequence[Evidence]) -> list[Finding]:
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
def _memory() -> scaling.Fit:
    measured = scaling.measure_contexts((33, 49, 65), channels=128, repeats=1)
    ours = measured[measured["module"] == "EMA"]
    return scaling.fit_exponent(ours["N"], ours["peak_bytes"])


def _at_most(what: str, fit: scaling.Fit, limit: float) -> Part:
    verdict: Verdict = "undecided"
    if fit.high <= limit:
        verdict = "supported"
    elif fit.low > limit:
        verdict = "contradicted"
    interval = (fit.low, fit.high)
    return Part(what, verdict, fit.exponent, interval, unit="as exponent of N", signed=False)


def _overhead(evidence: Sequence[Evidence]) -> list[Finding]:
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
                _at_most(
                    "time of the unit", scaling.fit_exponent(row["pixels"], row["seconds"]), 1.1
                ),
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


# --- bases: maintenance and normalisation -------------------------------------------------------


def _maintenance(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C9. Back-propagation into μ^(0) needs the unrolled gradient, whatever the others have."""
    average = evidence.miou(gradient=gradient)
    fixed = evidence.miou(gradient=gradient, maintenance="fixed")
    learned = evidence.miou(gradient="unrolled", maintenance="learned")
    other = "" if gradient == "unrolled" else " (unrolled)"
    yield Finding(
        (
            compare("moving average less no update", average, fixed, evidence.needed),
            compare(
                f"moving average less back-propagation{other}", average, learned, evidence.needed
            ),
        )
    )


def _instability(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C10: a collapse is a score below half of the moving average's mean, or a loss not finite."""
    learned = evidence.runs(gradient=gradient, maintenance="learned")
    average = evidence.miou(gradient=gradient)
    score = evidence.miou(gradient=gradient, maintenance="learned")
    missing = lacking("learned bases against moving average", evidence.needed, score, average)
    if missing:
        yield Finding((missing,))
        return
    seeds = len(score)
    curves = [record.curves for record in learned["record"]]
    losses = [np.array([value for _, value in c.get("loss", [])]) for c in curves]
    finite = np.array([np.isfinite(loss).all() for loss in losses])
    collapsed = int((~finite | (score < average.mean() / 2).to_numpy()).sum())
    first: Verdict = "supported" if collapsed else "contradicted"
    ratio, low, high = spread_ratio_interval(score, average)
    second: Verdict = "undecided"
    if low > 1:
        second = "supported"
    elif high < 1:
        second = "contradicted"
    parts = [
        Part(
            "runs with learned bases that collapse",
            first,
            float(collapsed),
            seeds=seeds,
            unit=f"of {seeds} runs",
            signed=False,
        ),
        Part(
            "spread over seeds, learned over moving average (F-interval)",
            second,
            ratio,
            (low, high),
            seeds=seeds,
            unit="times",
            signed=False,
        ),
    ]
    norms = [np.array([v for _, v in c["bases_gradient"]]) for c in curves if "bases_gradient" in c]
    if norms:
        peak = float(np.mean([norm.max() / np.median(norm) for norm in norms]))
        what = "largest gradient of μ^(0) over its median, mean over runs"
        parts.append(Part(what, "undecided", peak, unit="times", signed=False, decides=False))
    yield Finding(tuple(parts), any_of=True)


def _by_iterations(
    evidence: Evidence, gradient: str, normalization: str, counts: Iterable[int]
) -> pd.DataFrame:
    """mIoU, one row a seed that has all T, one column a T."""
    columns = {
        count: evidence.miou(gradient=gradient, normalization=normalization, num_iterations=count)
        for count in counts
    }
    return pd.DataFrame(columns).dropna()


def _l2_beats(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C11, at each T from 3 to 4, the largest that Fig. 3's comparison is run for here."""

    def miou(normalization: str, count: int) -> pd.Series:
        return evidence.miou(gradient=gradient, normalization=normalization, num_iterations=count)

    yield Finding(
        tuple(
            compare(f"L2Norm less {words}, T = {t}", miou("l2", t), miou(name, t), evidence.needed)
            for (name, words), t in product((("none", "no norm"), ("layer", "LN")), (3, 4))
        )
    )


def _layer_is_worse(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C12, on the mean over T = 1…4."""
    none, layer = (
        _by_iterations(evidence, gradient, name, range(1, 5))
        .mean(axis=1)
        .rename(f"ema gradient={gradient} normalization={name}, T = 1 to 4")
        for name in ("none", "layer")
    )
    yield Finding((compare("no norm less LN, mean over T = 1 to 4", none, layer, evidence.needed),))


def _slopes(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C13: least squares through mIoU at T = 1…4 in every seed, then the interval of the slopes.

    "Hardly depend on T" is supported where the interval holds 0 and contradicted where it does not.
    """
    parts = []
    for name, words in (("l2", "L2Norm"), ("none", "no norm"), ("layer", "LN")):
        table = _by_iterations(evidence, gradient, name, range(1, 5))
        what = f"slope of {words} on T"
        counts = table.columns.to_numpy(float) - table.columns.to_numpy(float).mean()
        slopes = (table @ counts) / float(counts @ counts)
        slopes = slopes.rename(f"ema gradient={gradient} normalization={name}, T = 1 to 4")
        missing = lacking(what, evidence.needed, slopes)
        if missing:
            parts.append(missing)
            continue
        part = above_zero(what, slopes, unit="mIoU per iteration")
        if name != "l2":
            holds: Verdict = "supported" if part.verdict == "undecided" else "contradicted"
            part = dataclasses.replace(part, verdict=holds)
        parts.append(part)
    yield Finding(tuple(parts))


# --- iterations ---------------------------------------------------------------------------------


def _peak(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C14, on T_train = 1…8, each scored at T_eval = T_train."""
    table = _by_iterations(evidence, gradient, "l2", range(1, 9))
    what = "seeds whose best T_train is 3"
    label = f"ema gradient={gradient}, T = 1 to 8"
    most = lacking(what, evidence.needed, table[3].rename(label))
    if most is None:
        best = int((table.idxmax(axis=1) == 3).sum())
        verdict: Verdict = "supported" if best > len(table) / 2 else "contradicted"
        unit = f"of {len(table)} seeds"
        most = Part(what, verdict, float(best), seeds=len(table), unit=unit, signed=False)
    three, one = (evidence.miou(gradient=gradient, num_iterations=t) for t in (3, 1))
    yield Finding((most, compare("T = 3 less T = 1", three, one, evidence.needed)))


def _more_at_test(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C15, for T_train = 3 and T_eval = 1…8.

    Not falling: supported if the mean over seeds rises or stays at every step, contradicted if a
    step's whole interval lies below 0. The last step: supported if its whole interval is below 0.1.
    """
    columns = {t: evidence.scores(gradient=gradient, at={"num_iterations": t}) for t in range(1, 9)}
    if columns[3].empty:
        columns[3] = evidence.miou(gradient=gradient)  # T_eval = T_train is the record itself
    table = pd.DataFrame(columns).dropna()
    label = f"ema gradient={gradient}, T_eval = 1 to 8"
    missing = lacking("mIoU over T_eval", evidence.needed, table[8].rename(label))
    if missing:
        yield Finding((missing,))
        return
    parts = []
    for before, after in pairwise(table.columns):
        step = above_zero(f"T_eval = {after} less {before}", table[after] - table[before])
        if step.verdict == "undecided" and step.effect >= 0:
            step = dataclasses.replace(step, verdict="supported")
        parts.append(step)
    last = parts[-1]
    verdict: Verdict = "undecided"
    if last.interval[1] < 0.1:
        verdict = "supported"
    elif last.interval[0] >= 0.1:
        verdict = "contradicted"
    parts.append(dataclasses.replace(last, what="last step, below 0.1", verdict=verdict))
    yield Finding(tuple(parts))


# --- against others -----------------------------------------------------------------------------


def _beats_pyramids(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C16, single scale from the records, multi-scale with flip from measurements."""
    many = {"multi_scale": True}
    single, multiple = (
        evidence.miou(gradient=gradient),
        evidence.scores(gradient=gradient, at=many),
    )
    rivals = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3+", "psanet": "PSANet"}
    yield Finding(
        tuple(
            compare(f"EMA less {words}, {how}", ours, theirs, evidence.needed)
            for head, words in rivals.items()
            for how, ours, theirs in (
                ("single scale", single, evidence.miou(head)),
                ("multi-scale", multiple, evidence.scores(head, at=many)),
            )
        )
    )


def _beats_attention(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C17, single scale."""
    ours = evidence.miou(gradient=gradient)
    yield Finding(
        tuple(
            compare(f"EMA less {words}", ours, evidence.miou(head), evidence.needed)
            for head, words in (("non_local", "Non-local"), ("a2", "A²"))
        )
    )


# --- concepts, and the published tables ---------------------------------------------------------


def _concepts(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def _published_tables(evidence: Sequence[Evidence]) -> list[Finding]:
    """C19, from multi-scale scores of ResNet-101 networks: all seeds' mean within 0.5."""
    targets = (
        ("VOC test", "voc2012", published.table2()),
        ("PASCAL Context", "pascal_context", published.table3()),
        ("COCO Stuff", "coco_stuff", published.table4()),
    )
    tables_of_scores = [e.measurements["scores"] for e in evidence if "scores" in e.measurements]
    parts = []
    for name, dataset, table in targets:
        what = f"{name}, ours less published"
        ours = table[(table["backbone"] == "ResNet-101") & (table.index == "EMANet")]
        theirs = float(ours["miou"].iloc[0])
        scores: list[float] = []
        for found in tables_of_scores:
            fits = (
                (found["dataset"] == dataset)
                & (found["backbone"] == "resnet101")
                & found["head"].isin(["ema", "emanet_released"])
                & found["at.multi_scale"].astype(bool)
                & (found["at.corruption"] == "")
                & (found["at.num_iterations"] == 0)
                & (found["at.split"] == ("test" if dataset == "voc2012" else found["eval_split"]))
            )
            scores += list(found.loc[fits, "miou"])
        if not scores:
            missing = "no run of the paper's protocol"
            parts.append(Part(what, "not run", unit="", missing=missing))
            continue
        gap = float(np.mean(scores)) - theirs
        verdict: Verdict = "supported" if abs(gap) <= 0.5 else "contradicted"
        parts.append(Part(what, verdict, gap, seeds=len(scores)))
    return [Finding(tuple(parts))]


# --- the ledger ---------------------------------------------------------------------------------


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
            _each(_likelihood),
        ),
        Claim(
            "C2",
            "3.3, 4",
            "Non-local is re-estimation of X with μ = X, no E and no M step",
            "identity",
            "max difference ≤ 1e-6 relative",
            "14_relatives",
            _non_local,
        ),
        Claim(
            "C3",
            "5.4",
            "the A² block is one EM iteration",
            "identity",
            "≤ 1e-6 relative",
            "14_relatives",
            _double_attention,
        ),
        Claim(
            "C4",
            "5.3",
            "L2Norm keeps the direction of each basis, BN and LN change it",
            "angle before/after",
            "0 for L2, > 0 for the others",
            "13_what_ema_optimises",
            _directions,
        ),
        Claim(
            "C5",
            "1, 6",
            "X̃ is low-rank",
            "rank and effective rank of X̃",
            "rank ≤ K, and effective rank below that of X",
            "43_low_rank_and_robust",
            _each(_low_rank),
        ),
        Claim(
            "C6",
            "abstract, 6",
            "X̃ is robust to the variance of the input",
            "fall of mIoU under noise, blur, contrast, JPEG, severities 1-5, EMA against FCN and "
            "against non-local",
            "smaller fall than FCN",
            "43_low_rank_and_robust",
            _each(_robust),
        ),
        Claim(
            "C7",
            "Table 1",
            "far lighter than the baselines",
            "FLOPs, parameters, memory",
            "EMANet(512) head below DeepLabV3, V3+ and PSANet in all three",
            "32_table1_cost",
            _light,
        ),
        Claim(
            "C8",
            "1, 4",
            "little overhead, cost linear in N",
            "measured time and memory against N",
            "exponent ≤ 1.1, unit ≤ 10 % of the R-101 network's time",
            "32_table1_cost",
            _overhead,
        ),
        Claim(
            "C9",
            "5.2, Fig. 3 left",
            "moving averaging beats no update and back-propagation for μ^(0)",
            "mIoU, α = 0.9 against each, T = 3",
            "rule",
            "22_bases_maintenance",
            _each(_maintenance),
        ),
        Claim(
            "C10",
            "5.2",
            "back-propagating into μ^(0) is unstable and may collapse",
            "gradient norms over training, spread over seeds, share of collapsed runs",
            "a collapse, or a larger spread",
            "22_bases_maintenance",
            _each(_instability, ("unrolled",)),
        ),
        Claim(
            "C11",
            "Fig. 3 right",
            "L2Norm beats no norm and LN for T ≥ 3",
            "mIoU",
            "rule, both",
            "21_bases_normalization",
            _each(_l2_beats),
        ),
        Claim(
            "C12",
            "Fig. 3 right",
            "LN is worse than no norm",
            "mIoU, mean over T",
            "rule",
            "21_bases_normalization",
            _each(_layer_is_worse),
        ),
        Claim(
            "C13",
            "Fig. 3 right",
            "L2Norm improves with T; none and LN hardly depend on T",
            "slope of mIoU on T = 1…4",
            "slope interval above 0 for L2, containing 0 for the others",
            "21_bases_normalization",
            _each(_slopes),
        ),
        Claim(
            "C14",
            "Fig. 4",
            "mIoU peaks at T_train = 3",
            "best T_train per seed",
            "3 in most seeds, and T=3 above T=1 by the rule",
            "23_iterations",
            _each(_peak),
        ),
        Claim(
            "C15",
            "Fig. 4",
            "more iterations at test help and saturate",
            "mIoU over T_eval for fixed T_train",
            "not falling, last step < 0.1",
            "23_iterations",
            _each(_more_at_test),
        ),
        Claim(
            "C16",
            "Table 1",
            "EMA beats DeepLabV3, V3+, PSANet",
            "mIoU SS and MS+flip under one trainer",
            "rule, each",
            "33_comparisons",
            _each(_beats_pyramids),
        ),
        Claim(
            "C17",
            "survey; the paper's Fig. 4 text",
            "EMA beats Non-local and A²",
            "mIoU",
            "rule, each",
            "33_comparisons",
            _each(_beats_attention),
        ),
        Claim(
            "C18",
            "5.5",
            "bases converge to abstract, semantic concepts",
            "mutual information of argmax_k z with classes, by iteration, against random bases; "
            "matched across images against shuffled",
            "rises with iterations, above both controls",
            "42_concepts",
            _each(_concepts),
        ),
        Claim(
            "C19",
            "Tables 2-4",
            "VOC test 87.7 / Context 53.1 / COCO Stuff 39.9",
            "the protocol itself",
            "within 0.5 mIoU; needs the data and GPUs",
            "34_published_tables",
            _published_tables,
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


def badge(verdict: Verdict) -> str:
    """A verdict as a word in a coloured box; the book's style sheet has the colours."""
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def sentence(finding: Finding, *, bootstrap: bool = False) -> str:
    """A finding in one sentence of Markdown: where, what, number, interval, seeds.

    Args:
        finding: A finding that was run.
        bootstrap: Also give the bootstrap's interval.
    """
    part, deciding = finding.decisive, [p for p in finding.parts if p.decides]
    words = [f"{finding.where}:"] if finding.where else []
    words.append(f"{part.what}: {part.number}")
    if bootstrap and part.resampled:
        words.append(f"({part.resampled})")
    text = " ".join(words) + (f", {part.seeds} seeds" if part.seeds else "")
    same = sum(p.verdict == finding.verdict for p in deciding)
    if len(deciding) > 1 and same == len(deciding) and finding.verdict == "supported":
        many = np.isnan(part.interval[0])
        text += f"; {same - 1} further parts agree" if many else f"; the weakest of {same} parts"
    elif len(deciding) > 1:
        text += f"; {same} of {len(deciding)} parts {finding.verdict}"
    return f"{badge(finding.verdict)} {text}"


def not_run(findings: Iterable[Finding]) -> str:
    """Where a claim is not decided for want of runs, and how many seeds are there; "" if nowhere.

    Regimes and variants of one data set are named only where some of them were run.
    """
    findings = list(findings)
    absent = [f for f in findings if f.verdict == "not run"]
    words: dict[str, None] = {}
    for finding in absent:
        part = finding.decisive
        short = f"{part.seeds} of {part.needed} seeds" if part.needed else finding.missing
        whole = all(f.verdict == "not run" for f in findings if f.dataset == finding.dataset)
        name = DATASETS.get(finding.dataset, finding.dataset) if whole else finding.where
        if whole and part.needed:
            same = [f.decisive for f in absent if f.dataset == finding.dataset]
            short = f"{max(p.seeds for p in same)} of {part.needed} seeds"
        words[f"{name} ({short})" if name else short] = None
    return "; ".join(words)

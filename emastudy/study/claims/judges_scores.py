"""How claims about scores are judged: runs of one network against runs of another.

Floor: study (imports pandas).

C6, C9 to C17 and C19. Each judge turns evidence into findings; the claims that they decide, and
the rules in words, are in ``claims.CLAIMS``.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from emastudy.study import published
from emastudy.study.claims.evidence import Evidence, Part, Verdict, above_zero, compare, lacking
from emastudy.study.claims.findings import Finding
from emastudy.study.statistics import spread_ratio_interval

_CORRUPTIONS = ("noise", "blur", "contrast", "jpeg")


def _on_same_images(evidence: Evidence, parts: Callable[[int], Sequence[Part]]) -> tuple[Part, ...]:
    """Parts made of scores on the most images that all networks in them were scored on.

    Args:
        evidence: Whose scores.
        parts: Makes them of the scores on so many images.
    """
    found: tuple[Part, ...] = ()
    for images in evidence.image_counts or [0]:
        found = tuple(parts(images))
        if all(part.verdict != "not run" for part in found):
            break
    return found


# --- corrupted images ---------------------------------------------------------------------------


def robust(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C6: the fall of mIoU from clean to the mean over all kinds and severities."""

    def fall(head: str, images: int, **options: Any) -> pd.Series:
        clean = evidence.scores(head, images, **options)
        worse = pd.concat(
            [
                evidence.scores(
                    head, images, at={"corruption": kind, "severity": severity}, **options
                )
                for kind, severity in product(_CORRUPTIONS, range(1, 6))
            ],
            axis=1,
        )
        return (
            (clean - worse.mean(axis=1, skipna=False)).dropna().rename(f"{clean.name}, corrupted")
        )

    rivals = {"fcn": "FCN", "non_local": "non-local"}

    def against(head: str, images: int) -> list[Part]:
        ours, theirs = fall("ema", images, gradient=gradient), fall(head, images)
        what = f"fall of {rivals[head]} less fall of EMA"
        return [compare(what, theirs, ours, evidence.needed, decides=head == "fcn")]

    yield Finding(
        tuple(part for h in rivals for part in _on_same_images(evidence, partial(against, h)))
    )


# --- bases: maintenance and normalisation -------------------------------------------------------


def maintenance(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def instability(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def l2_beats(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C11, at each T from 3 to 4, the largest that Fig. 3's comparison is run for here."""

    def miou(normalization: str, count: int) -> pd.Series:
        return evidence.miou(gradient=gradient, normalization=normalization, num_iterations=count)

    yield Finding(
        tuple(
            compare(f"L2Norm less {words}, T = {t}", miou("l2", t), miou(name, t), evidence.needed)
            for (name, words), t in product((("none", "no norm"), ("layer", "LN")), (3, 4))
        )
    )


def layer_is_worse(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C12, on the mean over T = 1…4."""
    none, layer = (
        _by_iterations(evidence, gradient, name, range(1, 5))
        .mean(axis=1)
        .rename(f"ema gradient={gradient} normalization={name}, T = 1 to 4")
        for name in ("none", "layer")
    )
    yield Finding((compare("no norm less LN, mean over T = 1 to 4", none, layer, evidence.needed),))


def slopes(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def peak(evidence: Evidence, gradient: str) -> Iterable[Finding]:
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


def more_at_test(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C15, for T_train = 3 and T_eval = 1…8.

    Not falling: supported if the mean over seeds rises or stays at every step, contradicted if a
    step's whole interval lies below 0. The last step: supported if its whole interval is below 0.1.
    """

    def parts(images: int) -> list[Part]:
        table = pd.DataFrame(
            {
                t: evidence.scores("ema", images, at={"num_iterations": t}, gradient=gradient)
                for t in range(1, 9)
            }
        ).dropna()
        label = f"ema gradient={gradient}, T_eval = 1 to 8"
        missing = lacking("mIoU over T_eval", evidence.needed, table[8].rename(label))
        if missing:
            return [missing]
        found = []
        for before, after in pairwise(table.columns):
            step = above_zero(f"T_eval = {after} less {before}", table[after] - table[before])
            if step.verdict == "undecided" and step.effect >= 0:
                step = dataclasses.replace(step, verdict="supported")
            found.append(step)
        last = found[-1]
        verdict: Verdict = "undecided"
        if last.interval[1] < 0.1:
            verdict = "supported"
        elif last.interval[0] >= 0.1:
            verdict = "contradicted"
        return [*found, dataclasses.replace(last, what="last step, below 0.1", verdict=verdict)]

    yield Finding(_on_same_images(evidence, parts))


# --- against others -----------------------------------------------------------------------------


def beats_pyramids(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C16, single scale from the records, multi-scale with flip from measurements."""
    rivals = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3+", "psanet": "PSANet"}
    single = evidence.miou(gradient=gradient)

    def multiple(head: str, images: int) -> list[Part]:
        ours = evidence.scores("ema", images, at={"multi_scale": True}, gradient=gradient)
        theirs = evidence.scores(head, images, at={"multi_scale": True})
        return [compare(f"EMA less {rivals[head]}, multi-scale", ours, theirs, evidence.needed)]

    parts: list[Part] = []
    for head, words in rivals.items():
        what = f"EMA less {words}, single scale"
        parts.append(compare(what, single, evidence.miou(head), evidence.needed))
        parts += _on_same_images(evidence, partial(multiple, head))
    yield Finding(tuple(parts))


def beats_attention(evidence: Evidence, gradient: str) -> Iterable[Finding]:
    """C17, single scale."""
    ours = evidence.miou(gradient=gradient)
    yield Finding(
        tuple(
            compare(f"EMA less {words}", ours, evidence.miou(head), evidence.needed)
            for head, words in (("non_local", "Non-local"), ("a2", "A²"))
        )
    )


# --- the published tables -----------------------------------------------------------------------


def published_tables(evidence: Sequence[Evidence]) -> list[Finding]:
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

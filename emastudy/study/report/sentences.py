"""Sentences of Markdown that pages open with, made from differences and their intervals."""

import pandas as pd

from emastudy.study.recipes import TABLE1_RIVALS
from emastudy.study.statistics import (
    FEWEST,
    MARGIN,
    as_text,
    paired_differences,
    standing,
    summarize,
)
from emastudy.study.tables import PUBLISHED, gaps, published_miou


def in_short(differences: pd.DataFrame, baseline: str, data: str, quantity: str = "mIoU") -> str:
    """What differs from a baseline, in Markdown: a sentence, or one item of a list a regime.

    No margin of equivalence is set for other quantities than mIoU, see ``statistics.standing``.

    Args:
        differences: See ``statistics.paired_differences``; if by regime, within "gradient".
    """
    margin = MARGIN if "mIoU" in quantity else 0.0
    if differences.empty:
        return "**In short.** Nothing to compare yet."

    def items(part: pd.DataFrame) -> str:
        return ", ".join(
            f"{name} {as_text(row)}{'' if row['decided'] else f' ({standing(row, margin)})'}"
            for name, row in part.iterrows()
        )

    fewest, most = differences["seeds"].min(), differences["seeds"].max()
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    decide = ", which decide nothing" if most < FEWEST else ""
    about = (
        f"**In short.** {quantity} on {data}, less that of {baseline} "
        f"({seeds} seeds{decide}, paired, 95 % intervals)"
    )
    if differences.index.nlevels == 1:
        return f"{about}: {items(differences)}."
    regimes = differences.groupby(level="gradient", sort=False)
    lines = [f"- gradients {name}: {items(part.droplevel(0))}" for name, part in regimes]
    return f"{about}:\n\n" + "\n".join(lines)


def best_other(runs: pd.DataFrame, by: str, *, baseline: float) -> str:
    """Which other value of an option scored best, against the usual one, as a sentence."""
    if baseline not in set(runs[by]) or runs[by].nunique() < 2:
        return "nothing to compare yet."
    differences = paired_differences(runs, by, "miou", baseline=baseline)
    best = differences.sort_values("difference", ascending=False).iloc[0]
    return (
        f"the best of the others is {best.name:g}, {as_text(best)} mIoU against {baseline:g} "
        f"({best['seeds']} seeds), {standing(best)}."
    )


def table1_answer(runs: pd.DataFrame, data: str) -> str:
    """Table 1's question answered in one sentence of Markdown.

    The EMA network with the highest mean speaks for the method: a choice made after the fact, and
    in the paper's favour.
    """
    rivals = [rival.label for rival in TABLE1_RIVALS]
    means = summarize(runs, "method", "miou")["mean"]
    best = means[runs.loc[runs["head"] == "ema", "method"].unique()].idxmax()
    table = gaps(runs).query("method == @best and rival in @rivals")
    ahead = table["difference"] > 0
    above, below = (int((table["decided"] & side).sum()) for side in (ahead, ~ahead))
    verdict = "not decided for every one of them"
    if above == len(rivals):
        verdict = "yes"
    elif below == len(rivals):
        verdict = "no, it lies below each of them"
    elif above and below:
        verdict = "some, but not all"
    against = ", ".join(f"{as_text(row)} against {row['rival']}" for _, row in table.iterrows())
    absent = ", ".join(rival for rival in rivals if rival not in set(table["rival"]))
    return (
        f"**In short.** Does EMA beat {', '.join(rivals[:-1])} and {rivals[-1]} under one trainer? "
        f"On {data}, single scale: {verdict}. {best}, the best of the EMA networks, has "
        f"{against or 'no rival'}, in mIoU ({means.index.size} methods, "
        f"{runs['seed'].nunique()} seeds, paired, 95 % intervals"
        f"{f'; not run: {absent}' if absent else ''})."
    )


def duels(runs: pd.DataFrame, method: str, data: str) -> str:
    """How one method stands against every other, in Markdown: a sentence each.

    What they call decided is so after the correction for their number.
    """
    means = summarize(runs, "method", "miou")["mean"]
    found = []
    for rival, row in paired_differences(runs, "method", "miou", baseline=method).iterrows():
        ends = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
        turned = pd.Series({**row, **ends})
        decided = standing(turned) if row["seeds"] > 1 else "one seed has no interval"
        found.append(
            f"On {data} {method} scores {means[method]:.2f} mIoU and {rival} "
            f"{means[str(rival)]:.2f}: a difference of {as_text(turned)} (95 % interval, paired "
            f"over {row['seeds']:.0f} seeds, {decided})."
        )
    return "\n\n".join(found)


def margin(table: str) -> str:
    """What a published table says of EMANet, in a sentence: its score, and the next best one's.

    Only methods known to stand on the same backbone, ResNet-101, are compared.
    """
    rows = PUBLISHED[table]().query("backbone == 'ResNet-101' and confidence == 'confirmed'")
    ours, others = published_miou(table), rows.drop(index="EMANet")["miou"]
    best = ", ".join(others.index[others == others.max()])
    return (
        f"{table}: EMANet (ResNet-101) {ours:.1f} % mIoU, {ours - others.max():+.1f} against the "
        f"best other ResNet-101 ({best}, {others.max():.1f})."
    )

"""The sentences that pages open with, made from the runs on them."""

from collections.abc import Mapping

import pandas as pd

from emastudy.study.report.report import best_other
from emastudy.study.statistics import as_text, paired_differences, summarize
from emastudy.study.tables import PUBLISHED, SUSTAINED_MACS, accuracy, margin, photographs, variants


def settings(
    panels: Mapping[str, tuple[str, pd.DataFrame]],
    baselines: Mapping[str, float],
    different: pd.DataFrame,
) -> str:
    """Which values of EMA's options scored best, as a Markdown list.

    Args:
        panels: The option's column → what to call it, and the runs with its values.
        baselines: The column → the recipe's value.
        different: Of the bases' number, see ``ablations.different_bases``.
    """
    bases = panels["head.num_bases"][1]
    lines = [
        f"- {name}, gradients {regime}: " + best_other(part, column, baseline=baselines[column])
        for column, (name, runs) in panels.items()
        for regime, part in runs.groupby("gradient", sort=False)
    ]
    lines += [
        f"- attention against global average pooling (K = 1), gradients {regime}: "
        + best_other(part, "head.num_bases", baseline=1)
        for regime, part in bases.groupby("gradient", sort=False)
    ]
    most = different[different["num_bases"] == bases["head.num_bases"].max()]
    lines += [
        f"- of K = {count:g} bases, gradients {regime}, {part['different'].mean():.1f} are "
        f"different ones after T = 3 iterations ({len(part)} seeds; see below)."
        for (regime, count), part in most.groupby(["gradient", "num_bases"])
    ]
    return "\n".join(lines)


def many_scales(one: pd.DataFrame, several: pd.DataFrame) -> str:
    """What six scales and mirror images add, and whether they change the order of the methods.

    Args:
        one: Columns "method", "seed", "miou", at one scale.
        several: The same at six scales with mirror images.
    """
    gains = photographs.scale_gains(one, several)["difference"]
    means = pd.DataFrame(
        {
            name: summarize(part, "method", "miou")["mean"]
            for name, part in enumerate((one, several))
        }
    )
    leads = accuracy.leads(several)
    leads = leads[leads["rival"].isin(accuracy.TABLE1_RIVALS)]
    leads = leads[~leads["method"].str.contains("half")]
    over = []
    for rival in leads["rival"].unique():
        rows = leads[leads["rival"] == rival]
        gaps = [
            f"{as_text(row)} ({row['method'].removeprefix('EMA, ')})" for _, row in rows.iterrows()
        ]
        over.append(f"over {rival} {', '.join(gaps)}")
    correlation = means.corr("spearman").to_numpy()[0, 1]
    return (
        f"**In short.** Six scales and mirror images add {gains.min():.1f} to {gains.max():.1f} "
        "mIoU; Spearman's rank correlation between the methods' means at one scale and at six is "
        f"{correlation:.2f}. At six scales EMA has {'; '.join(over)}."
    )


def decoder(whole: pd.DataFrame, decoded: pd.DataFrame) -> str:
    """How context modules stand against DeepLabV3+, as they are and with its decoder.

    Args:
        whole: Columns "method", "seed", "miou"; without the decoder.
        decoded: The same of context modules, with column "decoder": "with" or "without".
    """
    plain = paired_differences(whole, "method", "miou", baseline="DeepLabV3+")
    equal = paired_differences(
        decoded[decoded["decoder"] == "with"], "method", "miou", baseline=photographs.ASPP
    )
    return (
        "**In short.** mIoU against DeepLabV3+, paired by seed: "
        + "; ".join(
            f"{module} {as_text(plain.T[module])}, with the decoder {as_text(equal.T[module])}"
            for module in equal.index
        )
        + "."
    )


def best_setting(runs: pd.DataFrame, changed: pd.DataFrame) -> str:
    """Which of EMA's changed settings scored best, and what it stands beside.

    Args:
        runs: The comparison, see ``accuracy.leads``.
        changed: See ``variants.settings``, with "method".
    """
    best = variants.best_setting(changed)
    means = summarize(changed, "method", "miou")["mean"]
    usual = summarize(runs, "method", "miou")["mean"]
    usual = usual[usual.index.map(accuracy.is_ema)]
    return (
        f"The best of {len(means)} changed settings is {best}: {means[best]:.2f} % mIoU; the best\n"
        f"EMA network above has {usual.max():.2f}. Against each rival, paired by seed:"
    )


def published_tables(scores: pd.DataFrame, hours: pd.Series) -> str:
    """What the paper's Tables 2-4 say, and what of them was not run, as a Markdown list.

    Args:
        scores: Our own, see ``tables.paper_scores``.
        hours: Table → GPU-hours that it takes, see ``tables.plan``.
    """
    lines = [f"- {margin(name)}" for name in PUBLISHED]
    missing = [name for name in PUBLISHED if name not in set(scores["table"])]
    if missing:
        times = ", ".join(f"{name} about {hours[name]:,.0f} h" for name in missing)
        lines.append(
            f"- **Not run here:** {', '.join(missing)}. The data sets are absent; on one GPU that "
            f"sustains {SUSTAINED_MACS / 1e12:.0f}·10¹² multiply-adds a second (an assumption) "
            f"they take: {times}. Commands, time and memory are below, and so is the same chain of "
            "runs on scenes, executed."
        )
    return "\n".join(lines)


def places(table: pd.DataFrame) -> str:
    """Which place EMANet has among the heads of other people's code, one line a comparison.

    Args:
        table: See ``published.reimplementations``.
    """
    lines = []
    for (code, dataset, backbone), part in table.groupby(
        ["code", "dataset", "backbone"], sort=False
    ):
        scores = part.set_index("method")["miou"]
        if len(scores) > 1:
            place = int((scores > scores["EMANet"]).sum()) + 1
            lines.append(
                f"{code}, {dataset}, {backbone}: EMANet is number {place} of {len(scores)} heads."
            )
    return "\n".join(lines)

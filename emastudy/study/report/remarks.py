"""What a page says of its own numbers: a function a remark, made from the page's tables.

Arguments are called as the functions of ``tables`` that make them, ``data`` is in words, and
``panels`` are those of ``tables.ablations``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from emastudy.engine import cost
from emastudy.engine.diagnostics import effective_rank
from emastudy.engine.walkthrough import Walkthrough, change
from emastudy.study.recipes import TABLE1_RIVALS
from emastudy.study.report.sentences import best_other, margin
from emastudy.study.statistics import (
    LEVEL,
    as_text,
    fit_exponent,
    holm,
    paired_differences,
    summarize,
)
from emastudy.study.tables import accuracy, bases, counting, photographs
from emastudy.study.tables.budget import sustained
from emastudy.study.tables.costs import released_network
from emastudy.study.tables.test_sets import PUBLISHED


def settings(
    panels: Mapping[str, tuple[str, pd.DataFrame]],
    baselines: Mapping[str, Any],
    different: pd.DataFrame,
) -> str:
    """Which values of EMA's options scored best, as a Markdown list."""
    counted = panels["head.num_bases"][1]
    lines = [
        f"- {name}, gradients {regime}: "
        + best_other(part, column, baseline=float(baselines[column]))
        for column, (name, runs) in panels.items()
        for regime, part in runs.groupby("gradient", sort=False)
    ]
    lines += [
        f"- attention against global average pooling (K = 1), gradients {regime}: "
        + best_other(part, "head.num_bases", baseline=1.0)
        for regime, part in counted.groupby("gradient", sort=False)
    ]
    most = different[different["num_bases"] == counted["head.num_bases"].max()]
    lines += [
        f"- of K = {count:g} bases, gradients {regime}, {part['different'].mean():.1f} are "
        f"different ones after T = 3 iterations (networks: {len(part)}; see below)."
        for (regime, count), part in most.groupby(["gradient", "num_bases"])
    ]
    return "\n".join(lines)


def many_scales(one: pd.DataFrame, several: pd.DataFrame) -> str:
    """What six scales and mirror images add, and whether they change the order of the methods."""
    gains = photographs.scale_gains(one, several)["difference"]
    before, after = (summarize(part, "method", "miou")["mean"] for part in (one, several))
    leads = accuracy.gaps(several)
    leads = leads[leads["rival"].isin([method.label for method in TABLE1_RIVALS])]
    leads = leads[~leads["method"].str.contains("half")]
    texts = [
        f"{as_text(row)} ({row['method'].removeprefix('EMA, ')})" for _, row in leads.iterrows()
    ]
    rivals = leads.assign(text=texts).groupby("rival", sort=False)["text"]
    over = [f"over {rival} {', '.join(texts)}" for rival, texts in rivals]
    correlation = before.corr(after, "spearman")
    return (
        f"**In short.** Six scales and mirror images add {gains.min():.1f} to {gains.max():.1f} "
        "mIoU; Spearman's rank correlation between the methods' means at one scale and at six is "
        f"{correlation:.2f}. At six scales EMA has {'; '.join(over)}."
    )


def decoder(whole: pd.DataFrame, decoded: pd.DataFrame) -> str:
    """How context modules stand against DeepLabV3+, as they are and "with" its decoder."""
    plain = paired_differences(whole, "method", "miou", baseline="DeepLabV3+")
    same = decoded[decoded["decoder"] == "with"]
    equal = paired_differences(same, "method", "miou", baseline=photographs.ASPP)
    modules = [
        f"{module} {as_text(plain.T[module])}, with the decoder {as_text(equal.T[module])}"
        for module in equal.index
    ]
    return f"**In short.** mIoU against DeepLabV3+, paired by seed: {'; '.join(modules)}."


def best_setting(runs: pd.DataFrame, changed: pd.DataFrame) -> str:
    """Which of EMA's changed settings scored best, and what it stands beside."""
    means = summarize(changed, "method", "miou")["mean"]
    best = means.idxmax()
    usual = summarize(runs[runs["head"] == "ema"], "method", "miou")["mean"]
    return (
        f"The best of {len(means)} changed settings is {best}: {means.max():.2f} % mIoU; the best\n"
        f"EMA network above has {usual.max():.2f}. Against each rival, paired by seed:"
    )


def reproduced(ratios: pd.DataFrame) -> str:
    """Which rows of Table 1 come out again, one line a row."""
    lines = []
    names = {"gmacs_ratio": "multiply-adds", "mparams_ratio": "parameters"}
    misses = (ratios[list(names)] - 1).abs().rename(columns=names)
    for method, row in misses.iterrows():
        verdict = "not reproduced as it stands" if row.max() > counting.ROUNDING else "reproduced"
        off = ", ".join(f"{name} {miss:.1%} off" for name, miss in row.items())
        lines.append(f"{method}: {verdict} ({off}).")
    return "\n".join(lines)


def closest_definitions(tried: pd.DataFrame) -> str:
    """Which definition of a row of Table 1 reproduces it, one line a method."""
    lines = []
    for _, row in counting.closest_definitions(tried).iterrows():
        verdict = "is the closest, and does not reproduce it"
        if row["miss"] <= counting.ROUNDING:
            verdict = "reproduces the row"
        way = f"{row['definition']}, {row['counted']}"
        lines.append(f"{way}: {verdict} (worst of both numbers {row['miss']:.1%} off).")
    return "\n".join(lines)


def memory_matches(memory: pd.DataFrame) -> str:
    """Where what is kept for the backward pass is the published memory."""
    close = memory.index[(memory["kept / published"] - 1).abs() <= 0.01]
    return (
        "Kept for the backward pass matches the published memory within 1 % in: "
        f"{', '.join(close) or 'no row'}. The other rows match neither of the two counts."
    )


def memory_order(memory: pd.DataFrame) -> str:
    """The heads by the memory that they keep, ours and the published."""
    heads = memory.drop(index="ResNet-101")
    ours, theirs = (heads[c].sort_values().index for c in ("kept_mib", "published_memory_mb"))
    return (
        f"Least to most memory kept, ours: {' < '.join(ours)}\n"
        f"The published order: {' < '.join(theirs)}"
    )


def nowhere_below(tests: pd.DataFrame) -> str:
    """Whether some method is nowhere below its rivals, and how far each came, as Markdown.

    Args:
        tests: Of ``tables.variants.not_below``.
    """
    held = tests["not below"].unstack("data")
    everywhere = tests["p"].unstack("data").dropna().max(axis="columns")
    winners = list(everywhere.index[holm(everywhere) < LEVEL])
    lines = []
    for method, row in held.iterrows():
        of = row.dropna()
        names = "; ".join(of.index[of.astype(bool)]) or "none"
        lines.append(f"- {method}: {names} (of {len(of)} that it was run on)")
    first = (
        f"Nowhere below, on all data sets: {', '.join(winners)}."
        if winners
        else "No method is shown to be nowhere below: there is no unit here to recommend for all "
        "data."
    )
    return "\n".join([first, "Data sets on which each is shown not to be below:", "", *lines])


def growth(times: pd.DataFrame) -> str:
    """By which power of the number of pixels each module's time grows, one line a module."""
    return "\n".join(
        f"{name}: time grows as N^{fit.exponent:.2f} (95 % {fit.low:.2f} to {fit.high:.2f})."
        for name, part in times.groupby("module", sort=False)
        for fit in [fit_exponent(part["N"], part["seconds"])]
    )


def overhead(spent: pd.Series) -> str:
    """What share of its network's time the unit takes."""
    fit = fit_exponent(spent["pixels"], spent["seconds"])
    share = spent["unit_seconds"] / spent["network_seconds"]
    return (
        f"Network {spent['network_seconds']:.2f} s, unit {spent['unit_seconds']:.3f} s: "
        f"{share:.1%}. The unit alone grows as N^{fit.exponent:.2f} (95 % {fit.low:.2f} to "
        f"{fit.high:.2f})."
    )


def folded_head(size: int) -> str:
    """What folding its first conv saves of EMANet (512)'s head."""
    network = released_network("emanet")
    written, folded = (
        cost.measure(network, (size, size), folded=fold).parts["head"].macs
        for fold in (False, True)
    )
    return (
        f"EMANet (512)'s head at {size}×{size}: {written / 1e9:.2f}·10⁹ multiply-adds as written, "
        f"{folded / 1e9:.2f}·10⁹ folded, {1 - folded / written:.1%} less; most of it is the 3×3 "
        "conv before the unit."
    )


def audits(summary: pd.DataFrame, tolerance: Mapping[str, float]) -> str:
    """Whether the records hold, in a few sentences."""
    done = summary[summary["trained anew"] > 0]
    if done.empty:
        return (
            "Nothing is audited yet. `emastudy audit scenes --sample 25` trains 25 "
            "recorded runs anew and compares them with their records."
        )
    lines = [
        f"- {profile}: {row['records']:,.0f} records, {row['trained anew']:.0f} of them trained "
        f"anew, of which {row['hold']:.0f} came out within the tolerance. The largest difference "
        f"is {row['largest difference']:.2f} points of mIoU; between seeds the standard deviation "
        f"is {row['standard deviation over seeds']:.2f}."
        for profile, row in done.iterrows()
    ]
    absent = ", ".join(summary.index.difference(done.index, sort=False))
    lines += [f"- Not audited yet: {absent}."] if absent else []
    held, again = int(done["hold"].sum()), int(done["trained anew"].sum())
    return (
        f"{held} of {again} runs that were trained anew hold. A run holds if it scores within "
        f"{tolerance['miou']:g} points of mIoU of its record and its loss stays, on average, "
        f"within {tolerance['loss']:g} nats of the recorded curve.\n\n" + "\n".join(lines)
    )


def attention(
    concepts: pd.Series, maps: pd.DataFrame, classes: Sequence[str], data: str, images: int
) -> str:
    """What the bases of one network attend to, in a few sentences."""
    found = bases.service(concepts["counts"])
    purity = found.classes.max(axis=1)
    purest = np.where(found.usage >= 0.01, purity, 0).argmax()
    kind = found.classes[purest].argmax()
    shared = bases.entropy(maps)["as number of bases"]
    return (
        f"**In short.** In {images} unseen images of {data}, {found.usage @ purity:.0%} of the "
        "pixels are of the class that their basis holds most of; were bases blind to classes, "
        f"{found.everywhere.max():.0%} would be. The purest basis in use holds "
        f"{purity[purest]:.0%} {classes[kind]}, of which the images have "
        f"{found.everywhere[kind]:.0%}. In the images drawn a pixel is shared by "
        f"{shared.iloc[0]:.1f} bases after the first iteration and {shared.iloc[-1]:.1f} after the "
        "last (the exponential of the entropy). One network: intervals over seeds are on the next "
        "page."
    )


def on_a_photograph(walk: Walkthrough) -> str:
    """In how many places a photograph's bases come to lie."""
    first, *others = sorted(walk.sizes, reverse=True)
    many = f"{1 + len(others)} places: {first} in the fullest" if others else "one place"
    return (
        f"On this photograph the {len(walk.group)} bases lie in {many}, after {len(walk.maps)} "
        f"iterations (bases in one place have cosines above 0.99)."
    )


def moved(walks: Mapping[str, Walkthrough]) -> str:
    """How low the rank is that EM leaves of a photograph, and whether that steadies it in noise."""
    first, *worse = walks.values()
    ranks = [effective_rank(torch.from_numpy(x)).item() for x in (first.features, first.estimate)]
    features = [change(first.features, walk.features) for walk in worse]
    estimates = [change(first.estimate, walk.estimate) for walk in worse]
    less = sum(after < before for before, after in zip(features, estimates, strict=True))
    listed = [", ".join(f"{100 * x:.0f} %" for x in values) for values in (features, estimates)]
    return (
        f"The effective rank falls from {ranks[0]:.1f} to {ranks[1]:.1f}. The noise moves the "
        f"features by {listed[0]} of their length, and what is rebuilt of them by {listed[1]}: "
        f"the rebuilt map moves less in {less} of {len(worse)} cases."
    )


def critical_concentration(measured: pd.DataFrame, data: str) -> str:
    """Below which λ bases that are all in one place stay there, over the images, in a sentence."""
    critical = np.concatenate(measured["critical"].tolist())
    low, middle, high = np.quantile(critical, [0.05, 0.5, 0.95])
    return (
        f"{data}: λ_c is {middle:.2f} in the median image and from {low:.2f} to {high:.2f} in the "
        f"middle 90 %; λ is {measured['head.concentration'].iloc[0]:g}."
    )


def published_tables(scores: pd.DataFrame, hours: pd.Series) -> str:
    """What the paper's Tables 2-4 say, and what of them was not run, with GPU-hours by table."""
    lines = [f"- {margin(name)}" for name in PUBLISHED]
    missing = [name for name in PUBLISHED if name not in set(scores["table"])]
    if missing:
        times = ", ".join(f"{name} about {hours[name]:,.0f} h" for name in missing)
        lines.append(
            f"- **Not run here:** {', '.join(missing)}. The data sets are absent. The runs "
            f"would take {times}, on one GPU that sustains {sustained().words}. Commands, time and "
            "memory are below, and so is the same chain of runs on scenes, executed."
        )
    return "\n".join(lines)


def commands(plan: pd.DataFrame) -> str:
    """The commands that run and score the paper's Tables 2-4, as blocks of Markdown."""
    lines = ["```sh"]
    for table, part in plan["command"].groupby("table"):
        lines += [f"# {table!s}", *part]
    lines += [
        "# for VOC test the files that its server takes, multi-scale and flip",
        "emastudy evaluate runs/ID --split test --multi-scale --flip --submit OUT "
        "--data-root FOLDER",
        "```",
        "",
        "Scores of the other tables, likewise, are measured beside the records, where this page "
        "and the ledger look for them:",
        "",
        "```python",
        "from emastudy.engine import Runtime",
        "from emastudy.study import measure, records_folder, runs_folder",
        "from emastudy.study.recipes import RECIPES",
        "",
        'for recipe, folder in {"pascal_context": "FOLDER", "coco_stuff": "FOLDER"}.items():',
        '    runs, place = [RECIPES[recipe](seed=0)], records_folder("paper")',
        "    runtime = Runtime(data_root=folder, runs_dir=str(runs_folder()))",
        '    measure(runs, "scores", place, runtime, multi_scale=[True])',
        "```",
    ]
    return "\n".join(lines)


def places(table: pd.DataFrame) -> str:
    """Which place EMANet has among the heads of other people's code, one line a comparison."""
    lines = []
    for where, part in table.groupby(["code", "dataset", "backbone"], sort=False):
        scores = part.set_index("method")["miou"]
        if len(scores) > 1:
            place = int((scores > scores["EMANet"]).sum()) + 1
            lines.append(
                f"{', '.join(map(str, where))}: EMANet is number {place} of {len(scores)} heads."
            )
    return "\n".join(lines)

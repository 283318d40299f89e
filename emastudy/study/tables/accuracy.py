"""The accuracy half of Table 1: context modules under one trainer, and what their records say.

Floor: study.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from emastudy import networks
from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network
from emastudy.study import published
from emastudy.study.statistics import as_text, paired_differences, summarize

#: What EMA is held against, in the paper's names.
RIVALS = {
    "FCN": "fcn",
    "Non-local": "non_local",
    "A²": "a2",
    "PSPNet": "pspnet",
    "PSANet": "psanet",
    "DeepLabV3": "deeplabv3",
    "DeepLabV3+": "deeplabv3plus",
}
#: Those of them that are in the paper's Table 1.
TABLE1_RIVALS = ("DeepLabV3", "DeepLabV3+", "PSANet")


def configs(
    recipe: Callable[..., RunConfig], *, seeds: int, scale: float = 1.0, only: str = ""
) -> dict[str, list[RunConfig]]:
    """The runs of the comparison, method by method.

    EMA comes at the recipe's width and at half of it, as in Table 1, and with every gradient
    regime (at half the width, the released code's and the paper's story alone).

    Args:
        recipe: Of ``protocols.PROTOCOLS``.
        seeds: Number of seeds.
        scale: Share of the recipe's iterations.
        only: Names of methods, separated by semicolons; "" = all.

    Returns:
        Method → one config a seed. The methods are ``RIVALS``, "EMA, detached", "EMA, one-step",
        "EMA, unrolled", "EMA (half), detached" and "EMA (half), unrolled".

    Raises:
        ValueError: ``only`` names a method that there is not.
    """
    half = {"channels": width(recipe("ema")) // 2}
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        **{method: (head, {}) for method, head in RIVALS.items()},
        "EMA, detached": ("ema", {}),
        "EMA, one-step": ("ema", {"gradient": "one_step"}),
        "EMA, unrolled": ("ema", {"gradient": "unrolled"}),
        "EMA (half), detached": ("ema", half),
        "EMA (half), unrolled": ("ema", {**half, "gradient": "unrolled"}),
    }
    chosen = [name.strip() for name in only.split(";")] if only else list(methods)
    for name in chosen:
        if name not in methods:
            raise ValueError(f"there is no method {name!r}; there are {'; '.join(methods)}")
    return {
        method: [recipe(head, seed=seed, scale=scale, **options) for seed in range(seeds)]
        for method, (head, options) in methods.items()
        if method in chosen
    }


def name_methods(runs: pd.DataFrame, methods: Mapping[str, Sequence[RunConfig]]) -> pd.DataFrame:
    """Records or measurements with a column "method", in the order of the methods.

    Args:
        runs: With the runs' ids as index or as column "id".
        methods: See :func:`configs`.
    """
    names = {config.id: method for method, group in methods.items() for config in group}
    ids = runs["id"] if "id" in runs else runs.index.to_series()
    place = {method: number for number, method in enumerate(methods)}
    named = runs.assign(method=ids.map(names).to_numpy())
    return named.iloc[np.lexsort((named["seed"], named["method"].map(place)))]


def width(config: RunConfig) -> int:
    """Number of channels that a head's context module works on."""
    channels = {**networks.head_defaults(config.head), **config.head_options}["channels"]
    return int(str(channels))


def is_ema(method: str) -> bool:
    """Whether a method of :func:`configs` is one of EMA's."""
    return method.startswith("EMA")


def leads(runs: pd.DataFrame) -> pd.DataFrame:
    """What every EMA network has over every rival, paired by seed.

    Args:
        runs: Columns "method", "seed", "miou"; one run per method and seed.

    Returns:
        One row a pair: "rival", "method", "difference" (EMA less the rival, mIoU), "low", "high"
        (95 % t-interval), "seeds", "decided" (the interval excludes zero).
    """
    ours = [method for method in runs["method"].unique() if is_ema(method)]
    tables = [
        paired_differences(runs, "method", "miou", baseline=rival)
        .loc[ours]
        .rename_axis("method")
        .reset_index()
        .assign(rival=rival)
        for rival in runs["method"].unique()
        if not is_ema(rival)
    ]
    columns = ["rival", "method", "difference", "low", "high", "seeds", "decided"]
    return pd.concat(tables, ignore_index=True)[columns]


def published_leads() -> pd.DataFrame:
    """The same from the published Table 1.

    Returns:
        Columns "rival", "method" ("EMANet (256)", "EMANet (512)"), "difference" (single scale)
        and "difference_ms" (multi-scale and flip), mIoU.
    """
    table = published.table1()
    rows = []
    for method in ("EMANet (256)", "EMANet (512)"):
        for rival in TABLE1_RIVALS:
            gap = (
                table.loc[method, ["miou_ss", "miou_ms"]] - table.loc[rival, ["miou_ss", "miou_ms"]]
            )
            rows.append((rival, method, *gap))
    return pd.DataFrame(rows, columns=["rival", "method", "difference", "difference_ms"])


def beside_published(runs: pd.DataFrame, multi_scale: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1's accuracies, ours and the published. The networks and the data differ: compare the
    order and the gaps, not the numbers.

    Args:
        runs: Columns "method", "seed", "miou", single scale.
        multi_scale: The same at multi-scale with flip, if it was measured.

    Returns:
        Index = method. "SS" and "MS + flip": our means over seeds, percent; "published SS" and
        "published MS + flip" with NaN where the table has no such row.
    """
    table = pd.DataFrame({"SS": summarize(runs, "method", "miou")["mean"]})
    if multi_scale is not None:
        table["MS + flip"] = summarize(multi_scale, "method", "miou")["mean"]
    twins = [
        f"EMANet ({256 if 'half' in method else 512})" if is_ema(method) else method
        for method in table.index
    ]
    theirs = published.table1().reindex(twins)
    table["published SS"] = theirs["miou_ss"].to_numpy()
    table["published MS + flip"] = theirs["miou_ms"].to_numpy()
    return table


def per_class(runs: pd.DataFrame) -> pd.DataFrame:
    """IoU in percent, mean over seeds: index = method, one column a class.

    Args:
        runs: Columns "method" and "record", or "method" and "iou".
    """
    tables = runs["iou"] if "iou" in runs else runs["record"].map(lambda record: record.iou)
    iou = pd.DataFrame(list(tables), index=runs["method"], dtype=float)
    return 100 * iou.groupby(level="method", sort=False).mean()


def head_costs(methods: Mapping[str, Sequence[RunConfig]], num_classes: int) -> pd.DataFrame:
    """What each method's head costs on one training crop at the stride of evaluation.

    Counted on the meta device, see ``engine.cost``: no weights, no data.

    Args:
        methods: See :func:`configs`; the first run of each is counted.
        num_classes: Of the dataset.

    Returns:
        Index = method; "mmacs" (10⁶ multiply-adds) and "kparams" (10³ parameters).
    """
    rows = {}
    for method, (config, *_) in methods.items():
        with torch.device("meta"):
            network = build_network(config, num_classes)
        network.set_output_stride(config.eval_output_stride)
        head = cost.measure(network, (config.crop_size, config.crop_size)).parts["head"]
        rows[method] = {"mmacs": head.macs / 1e6, "kparams": head.params / 1e3}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def answer(runs: pd.DataFrame, data: str) -> str:
    """Table 1's question answered in one sentence of Markdown.

    The EMA network with the highest mean speaks for the method: a choice made after the fact, and
    in the paper's favour.

    Args:
        runs: See :func:`leads`.
        data: What it was measured on, in words.
    """
    found = leads(runs)
    means = summarize(runs, "method", "miou")["mean"]
    best = means[[method for method in means.index if is_ema(method)]].idxmax()
    table = found[(found["method"] == best) & found["rival"].isin(TABLE1_RIVALS)]
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    word = "not decided for every one of them"
    if above == len(TABLE1_RIVALS):
        word = "yes"
    elif below == len(TABLE1_RIVALS):
        word = "no, it lies below each of them"
    elif above and below:
        word = "some, but not all"
    gaps = ", ".join(f"{as_text(row)} against {row['rival']}" for _, row in table.iterrows())
    absent = ", ".join(rival for rival in TABLE1_RIVALS if rival not in set(table["rival"]))
    return (
        f"**Answer.** Does EMA beat DeepLabV3, DeepLabV3+ and PSANet under one trainer? On {data}, "
        f"single scale: {word}. {best}, the best of the EMA networks, has {gaps or 'no rival'}, in "
        f"mIoU ({means.index.size} methods, {runs['seed'].nunique()} seeds, paired, 95 % "
        f"intervals{f'; not run: {absent}' if absent else ''})."
    )


def duel(runs: pd.DataFrame, method: str, baseline: str, data: str) -> str:
    """How one method stands against one other, in a sentence of Markdown.

    Args:
        runs: Columns "method", "seed", "miou"; one run per method and seed.
        method: The one.
        baseline: The other.
        data: What it was measured on, in words.
    """
    row = paired_differences(runs, "method", "miou", baseline=baseline).T[method]
    means = summarize(runs, "method", "miou")["mean"]
    decided = "which decides it" if row["decided"] else "which decides nothing: it holds zero"
    if row["seeds"] < 2:
        decided = "and one seed has no interval"
    return (
        f"**Answer.** On {data} {method} scores {means[method]:.2f} mIoU and {baseline} "
        f"{means[baseline]:.2f}: a difference of {as_text(row)} (95 % interval, paired over "
        f"{row['seeds']:.0f} seeds, {decided})."
    )


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Where the pixels of each class go, in percent of the class; mean over seeds.

    Args:
        rows: Columns "confusion" (pixel counts, [true][predicted]) and "iou" (for the names), one
            row a seed, see ``measurements.scores``.

    Returns:
        Index "true class", columns "predicted class"; a row sums to 100. NaN for an absent class.
    """
    names = list(rows["iou"].iloc[0])
    counts = np.array([np.asarray(value, dtype=float) for value in rows["confusion"]])
    totals = counts.sum(axis=2, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return pd.DataFrame(
        100 * shares.mean(axis=0),
        index=pd.Index(names, name="true class"),
        columns=pd.Index(names, name="predicted class"),
    )

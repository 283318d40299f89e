"""The accuracy half of Table 1: context modules under one trainer, and what their records say."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from emastudy import own
from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network
from emastudy.errors import InputError
from emastudy.study import published, statistics
from emastudy.study.recipes import (
    CONTROLS,
    METHODS,
    STARTS,
    SUCCESSORS,
    TABLE1_RIVALS,
    Method,
    Recipe,
    width,
)
from emastudy.study.statistics import corrected, mean_interval, paired_differences, summarize

# What the labels of ``recipes.STARTS`` add to the usual ones.
_START = ", norm from"


def table1_runs(
    recipe: Recipe, *, seeds: int, scale: float = 1.0, only: str = ""
) -> dict[str, list[RunConfig]]:
    """The runs of the comparison, method by method.

    Args:
        only: Labels of methods, separated by semicolons; "" = all of ``recipes.METHODS``. Those of
            ``recipes.SUCCESSORS``, ``recipes.CONTROLS`` and ``recipes.STARTS`` may be among them,
            and import paths, ``my_module:MyUnit``.

    Returns:
        Label of a method → one config a seed.

    Raises:
        InputError: ``only`` names a method that there is not.
    """
    usual = "; ".join(method.label for method in METHODS.values())
    chosen = [name.strip() for name in (only or usual).split(";")]
    mine = {name: Method(name, name) for name in chosen if own.is_path(name)}
    known = METHODS | SUCCESSORS | CONTROLS | STARTS | mine
    methods = {method.label: method for method in known.values()}
    for name in chosen:
        if name not in methods:
            own.refuse_module("method", name)
            raise InputError(f"there is no method {name!r}; there are {'; '.join(methods)}")
    channels = width(recipe("ema"))
    return {
        label: [
            recipe(method.head, seed=seed, scale=scale, **method.head_options(channels))
            for seed in range(seeds)
        ]
        for label, method in methods.items()
        if label in chosen
    }


def all_methods(recipe: Recipe, *, seeds: int) -> dict[str, list[RunConfig]]:
    """:func:`table1_runs` of all methods that the study compares, in their usual start."""
    labels = [method.label for method in (METHODS | SUCCESSORS).values()]
    return table1_runs(recipe, seeds=seeds, only="; ".join(labels))


def both_starts(recipe: Recipe, *, seeds: int) -> dict[str, list[RunConfig]]:
    """:func:`table1_runs` of the methods of ``recipes.STARTS``, and of the same as usual."""
    labels = [method.label for method in STARTS.values()]
    usual = [label.partition(_START)[0] for label in labels]
    return table1_runs(recipe, seeds=seeds, only="; ".join([*usual, *labels]))


def by_start(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of attention with the block's name, "block", and where its batch norm began, "start"."""
    start = runs["head.zero_init"].map({True: "from 0", False: "from 1"})
    return runs.assign(block=runs["method"].str.partition(_START)[0], start=start)


def gaps(runs: pd.DataFrame) -> pd.DataFrame:
    """What every EMA network scores above or below every rival, paired by seed.

    Args:
        runs: Columns "method", "head", "seed", "miou"; one run per method and seed.

    Returns:
        "rival", "method" and ``statistics.paired_differences``, q-values over all pairs.
    """
    is_ema = runs["head"] == "ema"
    ours = list(runs.loc[is_ema, "method"].unique())
    tables = {
        rival: paired_differences(runs, "method", "miou", baseline=rival).loc[ours]
        for rival in runs.loc[~is_ema, "method"].unique()
    }
    return corrected(pd.concat(tables, names=["rival", "method"])).reset_index()


def over_images(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences to a method with intervals over seeds alone, and over seeds and images.

    Args:
        runs: Columns "method", "seed", "miou", "record"; one run per method and seed.

    Returns:
        Index = method; "difference", "low", "high" over the seeds on these images, "low, images",
        "high, images" for other images as well, "image deviation" (see
        ``statistics.image_deviation``, from the seeds whose records keep counts by image) and
        "seeds". Methods without such seeds are left out.
    """
    kept = {
        (method, seed): counts.numpy()
        for method, seed, record in runs[["method", "seed", "record"]].itertuples(index=False)
        if (counts := record.matrices) is not None
    }
    wide = runs.pivot(index="seed", columns="method", values="miou")
    rows = {}
    for method in runs["method"].unique():
        seeds = [s for s in wide.index if (method, s) in kept and (baseline, s) in kept]
        if method == baseline or not seeds:
            continue
        both = (np.stack([kept[name, seed] for seed in seeds]) for name in (method, baseline))
        deviation = statistics.image_deviation(*both)
        differences = (wide[method] - wide[baseline]).dropna()
        wider = statistics.over_images(differences, deviation)[1:]
        rows[method] = (*mean_interval(differences), *wider, deviation, len(differences))
    columns = ["difference", "low", "high", "low, images", "high, images"]
    columns += ["image deviation", "seeds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def published_gaps() -> pd.DataFrame:
    """The same from the published Table 1, of "EMANet (256)" and "EMANet (512)".

    Returns:
        Columns "rival", "method", "difference" (single scale) and "difference_ms" (multi-scale
        and flip), mIoU.
    """
    table = published.table1()[["miou_ss", "miou_ms"]]
    rows = [
        (rival.label, method, *(table.loc[method] - table.loc[rival.table1_row]))
        for method in ("EMANet (256)", "EMANet (512)")
        for rival in TABLE1_RIVALS
    ]
    return pd.DataFrame(rows, columns=["rival", "method", "difference", "difference_ms"])


def beside_published(runs: pd.DataFrame, multi_scale: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1's accuracies, ours and the published. The networks and the data differ: compare the
    order and the gaps, not the numbers.

    Args:
        runs: Columns "method", "seed", "miou", single scale.
        multi_scale: The same at multi-scale with flip, if it was measured.

    Returns:
        Index = method. "SS" and "MS + flip", means over seeds, percent; both "published", NaN where
        Table 1 has no such row.
    """
    table = pd.DataFrame({"SS": summarize(runs, "method", "miou")["mean"]})
    if multi_scale is not None:
        table["MS + flip"] = summarize(multi_scale, "method", "miou")["mean"]
    rows = {method.label: method.table1_row for method in METHODS.values()}
    theirs = published.table1().reindex(table.index.map(rows))
    table["published SS"] = theirs["miou_ss"].to_numpy()
    table["published MS + flip"] = theirs["miou_ms"].to_numpy()
    return table


def per_class(runs: pd.DataFrame) -> pd.DataFrame:
    """IoU in percent, mean over seeds, of "record" or "iou": index = method, columns = classes."""
    tables = runs["iou"] if "iou" in runs else [record.iou for record in runs["record"]]
    iou = pd.DataFrame(list(tables), index=runs["method"], dtype=float)
    return 100 * iou.groupby(level="method", sort=False).mean()


def head_costs(methods: Mapping[str, Sequence[RunConfig]], num_classes: int) -> pd.DataFrame:
    """What each method's head costs on one training crop at the stride of evaluation.

    Counted on the meta device, see ``engine.cost``: no weights, no data.

    Args:
        methods: See :func:`table1_runs`; the first run of each is counted.

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


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Where the pixels of each true class (a row) go, in percent of it; mean over seeds.

    NaN for an absent class.

    Args:
        rows: One a seed, see ``measures.scores``: "confusion", and "iou" for the names.
    """
    names = list(rows["iou"].iloc[0])
    counts = np.array([np.asarray(value, dtype=float) for value in rows["confusion"]])
    totals = counts.sum(axis=2, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    true, predicted = (pd.Index(names, name=f"{which} class") for which in ("true", "predicted"))
    return pd.DataFrame(100 * shares.mean(axis=0), index=true, columns=predicted)

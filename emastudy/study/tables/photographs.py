"""The tables of photographs: end to end beside frozen features, and with DeepLabV3+'s decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from emastudy.engine import RunConfig
from emastudy.study.statistics import paired_differences

#: The context modules that are also given DeepLabV3+'s decoder: head and options.
MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "FCN": ("fcn", {}),
    "EMA, detached": ("ema", {}),
    "EMA, one-step": ("ema", {"gradient": "one_step"}),
    "EMA, unrolled": ("ema", {"gradient": "unrolled"}),
}
#: The context module that has it in DeepLabV3+ and lacks it in DeepLabV3.
ASPP = "ASPP (DeepLabV3, DeepLabV3+)"
#: Methods as ``report.method_names`` calls them → as ``accuracy.configs`` does.
TWINS = {
    "FCN": "FCN",
    "Non-local": "Non-local",
    "A²": "A²",
    "EMA (detached, as released)": "EMA, detached",
    "EMA (one-step gradient)": "EMA, one-step",
    "EMA (unrolled gradient)": "EMA, unrolled",
}


def decoder_groups(
    recipe: Callable[..., RunConfig], methods: Mapping[str, Sequence[RunConfig]], *, seeds: int
) -> dict[str, dict[str, Sequence[RunConfig]]]:
    """The context modules without and with DeepLabV3+'s decoder (48 detail channels).

    Args:
        recipe: Makes the runs with it.
        methods: See ``accuracy.configs``; has those without.
        seeds: Number of seeds.

    Returns:
        "without" and "with" → context module → one config a seed.
    """
    decoded: dict[str, Sequence[RunConfig]] = {
        module: [recipe(head, seed=n, detail_channels=48, **options) for n in range(seeds)]
        for module, (head, options) in MODULES.items()
    }
    return {
        "without": {**{module: methods[module] for module in MODULES}, ASPP: methods["DeepLabV3"]},
        "with": {**decoded, ASPP: methods["DeepLabV3+"]},
    }


def class_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """IoU of every class and seed, one row each.

    Args:
        scores: Columns "method", "seed" and "iou", see ``measures.scores``.

    Returns:
        "method", "seed", "class" and "IoU", percent.
    """
    iou = 100 * pd.DataFrame(list(scores["iou"]), dtype=float)
    runs = scores[["method", "seed"]].reset_index(drop=True)
    return runs.join(iou).melt(["method", "seed"], var_name="class", value_name="IoU")


def scale_gains(one: pd.DataFrame, several: pd.DataFrame) -> pd.DataFrame:
    """What six scales and mirror images add to every method's score, paired by seed.

    Args:
        one: Columns "method", "seed", "miou", at one scale.
        several: The same at six scales with mirror images.

    Returns:
        Index = method; columns as ``statistics.paired_differences``.
    """
    both = pd.concat([one.assign(views="one"), several.assign(views="several")])
    gains = paired_differences(both, "views", "miou", baseline="one", within=["method"])
    return gains.droplevel("views")


def both_ways(end_to_end: pd.Series, frozen: pd.Series) -> pd.DataFrame:
    """Mean scores of the methods that were trained end to end and on frozen features.

    Args:
        end_to_end: Method, see ``report.method_names`` → mean mIoU.
        frozen: Method, see ``accuracy.configs`` → mean mIoU.

    Returns:
        Index = method; "end to end" and "frozen backbone".
    """
    columns = {
        "end to end": {name: end_to_end.get(name) for name in TWINS},
        "frozen backbone": {name: frozen.get(other) for name, other in TWINS.items()},
    }
    return pd.DataFrame(columns).dropna()


def regimes_both_ways(end_to_end: pd.DataFrame, frozen: pd.DataFrame) -> pd.DataFrame:
    """What EMA's other gradient regimes have over the detached one, either way.

    Args:
        end_to_end: Runs with "method" as ``report.method_names`` has it.
        frozen: Runs with "method" as ``accuracy.configs`` has it.

    Returns:
        Index ("way", "method"); columns as ``statistics.paired_differences``.
    """
    ways = {
        "end to end": end_to_end.assign(method=end_to_end["method"].map(TWINS)),
        "frozen backbone": frozen,
    }
    runs = pd.concat(ways, names=["way"]).reset_index("way")
    regimes = runs[runs["method"].isin([name for name in MODULES if name.startswith("EMA")])]
    return paired_differences(regimes, "method", "miou", baseline="EMA, detached", within=["way"])

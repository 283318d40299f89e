"""The tables of photographs: end to end beside frozen features, and with DeepLabV3+'s decoder."""

from collections.abc import Mapping, Sequence

import pandas as pd

from emastudy.engine import RunConfig
from emastudy.study.recipes import METHODS, Recipe, width
from emastudy.study.statistics import paired_differences

#: The context modules that are also given DeepLabV3+'s decoder.
MODULES = tuple(METHODS[key] for key in ("fcn", "ema_detached", "ema_one_step", "ema_unrolled"))
#: The context module that has it in DeepLabV3+ and lacks it in DeepLabV3.
ASPP = "ASPP (DeepLabV3, DeepLabV3+)"


def decoder_groups(
    recipe: Recipe, methods: Mapping[str, Sequence[RunConfig]], *, seeds: int
) -> dict[str, dict[str, Sequence[RunConfig]]]:
    """Runs "without" and "with" DeepLabV3+'s decoder (48 detail channels), by context module."""
    channels = width(recipe("ema"))
    without = {module.label: methods[module.label] for module in MODULES}
    decoded = {
        module.label: [
            recipe(module.head, seed=seed, detail_channels=48, **module.head_options(channels))
            for seed in range(seeds)
        ]
        for module in MODULES
    }
    return {
        "without": {**without, ASPP: methods["DeepLabV3"]},
        "with": {**decoded, ASPP: methods["DeepLabV3+"]},
    }


def class_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a "method", "seed" and "class", with "IoU" in percent, from ``measures.scores``."""
    iou = 100 * pd.DataFrame(list(scores["iou"]), dtype=float)
    runs = scores[["method", "seed"]].reset_index(drop=True)
    return runs.join(iou).melt(["method", "seed"], var_name="class", value_name="IoU")


def scale_gains(one: pd.DataFrame, several: pd.DataFrame) -> pd.DataFrame:
    """What six scales and mirror images add to every method's score, paired by seed."""
    both = pd.concat([one.assign(views="one"), several.assign(views="several")])
    gains = paired_differences(both, "views", "miou", baseline="one", within=["method"])
    return gains.droplevel("views")


def both_ways(end_to_end: pd.Series, frozen: pd.Series) -> pd.DataFrame:
    """Mean scores of the methods that were trained end to end and on frozen features."""
    ways = {"end to end": end_to_end, "frozen backbone": frozen.reindex(end_to_end.index)}
    return pd.DataFrame(ways).dropna()


def regimes_both_ways(end_to_end: pd.DataFrame, frozen: pd.DataFrame) -> pd.DataFrame:
    """What EMA's other regimes have over the detached one, either "way", paired by seed."""
    ways = {"end to end": end_to_end, "frozen backbone": frozen}
    runs = pd.concat(ways, names=["way"]).reset_index("way")
    regimes = runs[runs["method"].isin([module.label for module in MODULES if module.gradient])]
    return paired_differences(regimes, "method", "miou", baseline="EMA, detached", within=["way"])

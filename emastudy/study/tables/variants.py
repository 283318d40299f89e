"""The comparison once more, with EMA's settings changed, or the schedule.

``grid`` is ``Page.grid``.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from emastudy import own
from emastudy.engine import RunConfig
from emastudy.study.recipes import CONTROLS, width
from emastudy.study.runs import config_columns
from emastudy.study.statistics import (
    LEVEL,
    MARGIN,
    holm,
    mean_interval,
    mean_test,
    paired_differences,
    summarize,
)
from emastudy.study.tables import accuracy

#: One setting of EMA changed at a time: in words, and as an option of the head.
SETTINGS: dict[str, dict[str, Any]] = {
    "λ = 1/4": {"concentration": 0.25},
    "λ = 4": {"concentration": 4.0},
    "K = 1, global average pooling": {"num_bases": 1},
    "K = 8": {"num_bases": 8},
    "K = 32": {"num_bases": 32},
    "T = 1": {"num_iterations": 1},
}
#: Details of the protocol that re-implementations differ in: in words, and as fields of a config.
PROTOCOL: dict[str, dict[str, Any]] = {
    "half the batch": {"batch_size": 0.5},
    "a quarter of the batch": {"batch_size": 0.25},
    "batch norm's statistics move by 3e-4": {"bn_momentum": 3e-4},
    "crops at scales from 0.5 to 2": {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)},
    "no change of scale": {"scales": (1.0,)},
    "the released head's further 3×3 convolution": {"extra_channels": 0.5},
    "half the learning rate": {"learning_rate": 0.5},
    "twice the learning rate": {"learning_rate": 2.0},
    "no weight decay": {"weight_decay": 0.0},
}
#: The methods that are also trained at other learning rates.
PACED = ("FCN", "Non-local", "EMA, detached", "EMA, unrolled")


def settings(
    grid: Callable[..., list[RunConfig]], regimes: Sequence[str]
) -> dict[str, list[RunConfig]]:
    """The runs of EMA with one of its settings changed: "EMA, REGIME, SETTING" → one a seed."""
    return {
        f"EMA, {regime}, {words}": grid(
            gradient=[regime], **{name: [value] for name, value in options.items()}
        )
        for regime in regimes
        for words, options in SETTINGS.items()
    }


def best_against_rivals(runs: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """What the best setting, picked after the fact in EMA's favour, has over every rival."""
    rivals = runs[runs["head"] != "ema"]
    gaps = accuracy.gaps(pd.concat([rivals, changed]))
    best = gaps[gaps["method"] == summarize(changed, "method", "miou")["mean"].idxmax()]
    return best.set_index("rival").drop(columns="method")


def paces(
    methods: Mapping[str, Sequence[RunConfig]], factors: Iterable[float]
) -> dict[str, list[RunConfig]]:
    """The runs of those methods that are in ``PACED``, at their learning rate and multiples."""
    factors = sorted({1.0, *factors})
    return {
        method: [
            replace(config, learning_rate=factor * config.learning_rate)
            for config in methods[method]
            for factor in factors
        ]
        for method in PACED
        if method in methods
    }


def a_pixel_short(methods: Mapping[str, Sequence[RunConfig]]) -> dict[str, list[RunConfig]]:
    """The same runs with a crop one pixel smaller, misaligned: see ``datasets.misalignment``."""
    return {
        method: [replace(config, crop_size=config.crop_size - 1) for config in configs]
        for method, configs in methods.items()
    }


def several_heads(grid: Callable[..., list[RunConfig]]) -> dict[str, list[RunConfig]]:
    """EMA with several heads and windows, unrolled, beside EMA as it is and its rivals.

    Heads may soften the softmax, by up to √H, so one head at smaller λ is included as a control.
    """
    bases = config_columns(grid()[0])["head.num_bases"]
    unrolled: dict[str, dict[str, Any]] = {
        "EMA, one head": {},
        "One head, λ = 1/2": {"concentration": 0.5},
        "One head, λ = 1/4": {"concentration": 0.25},
        "4 heads": {"heads": 4},
        "8 heads": {"heads": 8},
        "8 heads, λ learnt": {"heads": 8, "concentration_scale": "learned"},
        "8 heads of K/4 bases": {"heads": 8, "num_bases": bases // 4},
        "8 heads, λ = λ_c/2": {"heads": 8, "concentration_scale": "critical", "concentration": 0.5},
        "4 heads with values": {"heads": 4, "value_conv": True},
    }
    emas = {
        method: grid(gradient=["unrolled"], **{name: [value] for name, value in axes.items()})
        for method, axes in unrolled.items()
    }
    released = {"EMA, detached": grid(gradient=["detached"])}
    others = {
        "8 heads, half in windows": grid("windowed_ema"),
        "half in windows, K = 1 (pooling)": grid("windowed_ema", num_bases=[1]),
        "Non-local": grid("non_local"),
        "OCR": grid("ocr"),
    }
    return {"FCN": grid("fcn"), **released, **emas, **others}


def not_below(runs: Mapping[str, pd.DataFrame], rivals: Sequence[str]) -> pd.DataFrame:
    """Which methods are below none of some rivals, data set by data set: tests of non-inferiority.

    On each data set the one-sided tests that a method is not more than ``statistics.MARGIN`` below
    a rival are paired by seed; the largest p-value counts, for it must hold against every rival
    that has two seeds or more in common. It is corrected for the methods of its data set, by Holm's
    method. (That a method is below nowhere needs no correction for the number of data sets: it is
    the largest of their p-values that counts.)

    Args:
        runs: Data set, in words → runs with "method", "seed" and "miou".

    Returns:
        Index ("data", "method"); "rival", the one that is the hardest to match there,
        "difference" from it, mIoU, its 90 % interval "low" and "high", "p" of the test alone and
        "corrected", "seeds", and "not below": whether the corrected one is under 5 %.
    """
    rows = {}
    for data, table in runs.items():
        wide = table.pivot(index="seed", columns="method", values="miou")
        there = [rival for rival in rivals if rival in wide]
        for method in [m for m in table["method"].unique() if m not in rivals]:
            tests = []
            for rival in there:
                differences = (wide[method] - wide[rival]).dropna()
                if len(differences) < 2:
                    continue
                mean, low, high = mean_interval(differences, 0.9)
                p = mean_test(differences, -MARGIN) / 2
                p = p if mean > -MARGIN else 1 - p
                tests.append((p, rival, mean, low, high, len(differences)))
            if tests:
                rows[data, method] = max(tests)
    columns = ["p", "rival", "difference", "low", "high", "seeds"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    found.index = pd.MultiIndex.from_tuples(found.index, names=["data", "method"])
    found["corrected"] = found.groupby("data")["p"].transform(holm)
    found["not below"] = found["corrected"] < LEVEL
    return found[["rival", "difference", "low", "high", "p", "corrected", "seeds", "not below"]]


def explored_heads(recipe: Callable[..., RunConfig], seeds: Sequence[int]) -> list[RunConfig]:
    """What was tried before the seeds that decide: heads × λ, values, starts, T, windows, places.

    Units with places, and with starts from pooled levels, lie in ``experiments/explored_units.py``,
    to be imported from there.
    """
    critical = {"heads": 8, "concentration_scale": "critical"}
    values = {"heads": 8, "value_conv": True}
    emas: list[dict[str, Any]] = [
        {}, {"concentration": 0.25}, {"heads": 4}, {"heads": 8}, {"heads": 16},
        {"heads": 8, "num_bases": 4},
        {"value_conv": True}, {"heads": 4, "value_conv": True}, values,
        {"heads": 8, "concentration_scale": "learned"},
        *({**critical, "concentration": factor} for factor in (0.5, 1.5, 4.0)),
        *({**critical, **values, "concentration": factor} for factor in (1.5, 4.0)),
        {**values, "concentration_scale": "learned"},
        {**values, "maintenance": "grid"}, {**values, "num_iterations": 1},
    ]  # fmt: skip
    windows: list[dict[str, Any]] = [
        {}, {"heads": 2, "concentration_scale": "fixed"}, {"windows": [2]},
        {"num_bases": 4}, {"num_bases": 1},
        {"windows": [1, 2, 4, 4]},
    ]  # fmt: skip
    usual = {"num_bases": recipe("ema").head_options["num_bases"]}
    explored = itertools.product(("Places", "Levels"), ({}, {"heads": 4}))
    tried = [
        *(("ema", {"gradient": "unrolled", **options}) for options in emas),
        *(("windowed_ema", options) for options in windows),
        *((f"explored_units:{unit}", {**usual, **options}) for unit, options in explored),
        ("non_local", {}),
    ]
    return [recipe(head, seed=seed, **options) for head, options in tried for seed in seeds]


def explored_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What the exploration found, best first: one row a setting, one column a seed."""
    configs = [record.config for record in runs["record"]]
    usual = min((c.head_options for c in configs if c.head == "ema"), key=len)

    def words(config: RunConfig) -> str:
        short = {"ema": "", "windowed_ema": "windowed"}.get(config.head, own.short(config.head))
        stated = sorted(config.head_options.items())
        changed = [f"{name}={value}" for name, value in stated if usual.get(name) != value]
        return ", ".join(filter(None, [short, *changed])) or "one head, as it is"

    named = runs.assign(setting=list(map(words, configs)))
    table = named.pivot(index="setting", columns="seed", values="miou")
    return table.assign(mean=table.mean(axis=1)).sort_values("mean", ascending=False)


def mixing(grid: Callable[..., list[RunConfig]]) -> dict[str, list[RunConfig]]:
    """Methods from one in which a pixel sees no other, 1×1 convs, to those that mix a whole map."""
    control = CONTROLS["no_attention"]
    return {
        "FCN": grid("fcn"),
        control.label: grid(control.head),
        "EMA, one head": grid(gradient=["unrolled"]),
        "8 heads": grid(gradient=["unrolled"], heads=[8]),
        "8 heads, half in windows": grid("windowed_ema"),
        "Non-local, norm from 1": grid("non_local", zero_init=[False]),
    }


def whole_images(methods: Mapping[str, Sequence[RunConfig]]) -> dict[str, list[RunConfig]]:
    """The same runs, of heads on frozen features, learning from images without padding."""
    return {
        method: [replace(config, crop_size=0) for config in configs]
        for method, configs in methods.items()
    }


def by_padding(usual: pd.DataFrame, scored: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """What padding does to each method: what its mIoU changes by, paired by seed.

    Args:
        usual: Records of runs that learn with padding and are scored without.
        scored: Their measure ``padded``, of some.
        whole: Records of :func:`whole_images`, of some.

    Returns:
        Index ("method", "padding"); as ``statistics.paired_differences``.
    """
    kinds = {
        "learnt": usual,
        "learnt and scored": scored.assign(miou=scored["padded"]),
        "none": whole,
    }
    runs = pd.concat([found.assign(padding=kind) for kind, found in kinds.items()])
    return paired_differences(runs, "padding", "miou", baseline="learnt", within=["method"])


def padding_share(size: tuple[int, int], config: RunConfig) -> float:
    """Percent of a run's training crops that is padding, in the mean over its scales."""
    side = config.crop_size
    inside = [min(side, round(scale * n)) / side for scale in config.scales for n in size]
    return 100 * (1 - float(np.mean(np.prod(np.reshape(inside, (-1, 2)), axis=1))))


def protocol(grid: Callable[..., list[RunConfig]]) -> dict[str, list[RunConfig]]:
    """The released unit (detached) as the recipe has it, and with one detail changed at a time.

    What the recipe has already is left out, and on frozen features, which are computed at one
    scale, the scales. "as it is" comes first.
    """
    usual = grid()
    found = {"as it is": usual}
    for words, change in PROTOCOL.items():
        if usual[0].frozen_backbone and "scales" in change:
            continue
        changed = [_changed(config, **change) for config in usual]
        if changed[0].id != usual[0].id:
            found[words] = changed
    return found


def _changed(config: RunConfig, **change: Any) -> RunConfig:
    """A config with one field changed; rates, sizes and widths are given as factors."""
    ((name, value),) = change.items()
    if name == "extra_channels":
        options = {**config.head_options, name: round(value * width(config))}
        return replace(config, head_options=options)
    if name == "batch_size":
        value = round(value * config.batch_size)
    if name == "learning_rate":
        value *= config.learning_rate
    return replace(config, **{name: value})

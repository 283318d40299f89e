"""The comparison once more, with EMA's settings changed, or the schedule."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from emastudy.engine import RunConfig
from emastudy.study.statistics import summarize
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
#: The methods that are also trained at other learning rates.
PACED = ("FCN", "Non-local", "EMA, detached", "EMA, unrolled")


def settings(
    grid: Callable[..., list[RunConfig]], regimes: Sequence[str]
) -> dict[str, list[RunConfig]]:
    """The runs of EMA with one of its settings changed.

    Args:
        grid: See ``Page.grid``.
        regimes: Gradient regimes.

    Returns:
        "EMA, REGIME, SETTING" → one config a seed.
    """
    return {
        f"EMA, {regime}, {words}": grid(
            gradient=[regime], **{name: [value] for name, value in options.items()}
        )
        for regime in regimes
        for words, options in SETTINGS.items()
    }


def best_setting(changed: pd.DataFrame) -> str:
    """The method with the highest mean."""
    return str(summarize(changed, "method", "miou")["mean"].idxmax())


def best_against_rivals(runs: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """What the best of the changed settings has over every rival, paired by seed.

    It is picked after the fact, in EMA's favour.

    Args:
        runs: The comparison, see ``accuracy.gaps``.
        changed: The runs of :func:`settings`, with "method".

    Returns:
        Index = rival; columns as ``statistics.paired_differences``.
    """
    rivals = runs[runs["head"] != "ema"]
    gaps = accuracy.gaps(pd.concat([rivals, changed]))
    best = gaps[gaps["method"] == best_setting(changed)]
    return best.set_index("rival").drop(columns="method")


def paces(
    methods: Mapping[str, Sequence[RunConfig]], factors: Iterable[float]
) -> dict[str, list[RunConfig]]:
    """The runs of some methods at their learning rate and at multiples of it.

    Args:
        methods: See ``accuracy.configs``; those of ``PACED`` among them are taken.
        factors: The multiples.
    """
    chosen = {method: methods[method] for method in PACED if method in methods}
    return {
        method: [
            replace(config, learning_rate=rate)
            for config in configs
            for rate in sorted({config.learning_rate * factor for factor in (1.0, *factors)})
        ]
        for method, configs in chosen.items()
    }

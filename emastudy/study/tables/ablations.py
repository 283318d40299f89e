"""The ablations' tables: normalisation, start, iterations, number of bases, concentration.

``measured`` is what ``measures.objective`` or ``measures.distinct`` found, ``runs`` are records
with the columns of :func:`named`, ``grid`` is ``Page.grid``, and ``panels`` are, by an option's
column, what to call it and the runs with its values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emastudy import em
from emastudy.em.iteration import Normalization
from emastudy.engine import RunConfig
from emastudy.study.runs import config_columns
from emastudy.study.statistics import paired_differences, summarize

#: What can become of the bases after an M step, see ``em.normalize``.
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
#: Where EM can start, by the unit's option ``maintenance``; all else is a moving average.
STARTS = {
    "fixed": "fixed (α = 1)",
    "learned": "learned by back-propagation",
    "grid": "the image: grid",
    "pixels": "the image: pixels",
}
#: The paper's choice.
MOVING_AVERAGE = "moving average, α = 0.9"

# In a record → in the tables.
_NAMES = {
    "head.gradient": "gradient",
    "head.normalization": "normalisation",
    "head.num_iterations": "T",
    "at.num_iterations": "T_eval",
}


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs or measurements with their columns called as in the tables, and "λ" in words."""
    if runs.empty:
        return runs
    return runs.rename(columns=_NAMES).assign(λ=runs["head.concentration"].map("{:g}".format))


def comparable(runs: pd.DataFrame, by: str, *, within: str = "gradient") -> pd.DataFrame:
    """The runs of those gradient regimes, say, in which a column takes at least two values."""
    if runs.empty:
        return runs
    return runs.groupby(within).filter(lambda part: part[by].nunique() > 1)


def without_record(configs: Iterable[RunConfig]) -> pd.DataFrame:
    """How many seeds are not recorded, by gradient regime, normalisation and T."""
    columns = ["head.gradient", "head.normalization", "head.num_iterations"]
    rows = pd.DataFrame([config_columns(config) for config in configs], columns=columns)
    return rows.value_counts().to_frame("seeds without a record")


def random_objectives(
    concentrations: Sequence[float] = (1.0, 4.0), problems: int = 200
) -> dict[tuple[float, str], Float[Tensor, "problems steps"]]:
    """(λ, normalisation) → the objective F in nats after 0 to 12 iterations on random features.

    Every problem has 64 pixels and 8 bases of 16 channels, the same for all settings.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(problems, 64, 16, generator=generator).double()
    directions = torch.randn(problems, 8, 16, generator=generator).double()
    objectives: dict[tuple[float, str], Tensor] = {}
    for concentration in concentrations:
        for normalization in NORMALIZATIONS:
            start = em.normalize(directions, "layer" if normalization == "layer" else "l2")
            course = em.expectation_maximization(
                x, start, 12, concentration=concentration, normalization=normalization
            ).objective
            assert course is not None
            objectives[concentration, normalization] = course
    return objectives


def falls(measured: pd.DataFrame) -> pd.DataFrame:
    """In how many unseen images F falls anywhere, over all seeds, by regime and normalisation."""
    columns = {
        "images": ("images", "sum"),
        "of them F falls in": ("falls", "sum"),
        "largest fall, share of F": ("largest_fall", "max"),
    }
    return named(measured).groupby(["gradient", "normalisation"], sort=False).agg(**columns)


def start_configs(
    grid: Callable[..., list[RunConfig]], regimes: Sequence[str], counts: Iterable[int]
) -> list[RunConfig]:
    """The runs that compare starts of EM.

    Args:
        regimes: Gradient regimes; learned bases get a gradient in the unrolled one alone.
        counts: Values of T for the paper's three starts; the others have the recipe's.
    """
    counts = list(counts)
    configs = [
        *grid(gradient=regimes, momentum=(0.9, 0.0, 0.5, 0.99)),
        *grid(gradient=regimes, maintenance=("fixed", "grid", "pixels")),
        *grid(gradient=regimes, num_iterations=counts),
        *grid(gradient=regimes, maintenance=["fixed"], num_iterations=counts),
    ]
    if "unrolled" in regimes:
        learned = {"gradient": ["unrolled"], "maintenance": ["learned"]}
        configs += [*grid(**learned), *grid(**learned, num_iterations=counts)]
    return configs


def name_starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with the columns of :func:`named` and "start", where their EM starts."""
    if runs.empty:
        return runs
    starts = [
        STARTS.get(maintenance, f"moving average, α = {momentum:g}")
        for maintenance, momentum in _rows(runs, "head.maintenance", "head.momentum")
    ]
    return named(runs).assign(start=starts)


def change_from_training(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores with "change": less that with as many iterations in the test as in training."""
    same = scores[scores["T"] == scores["T_eval"]].set_index("id")["miou"]
    return scores.assign(change=scores["miou"] - scores["id"].map(same))


def different_bases(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`named`, with "different": bases left after the network's T, mean over images."""
    left = [course[int(t)] for course, t in _rows(measured, "distinct", "head.num_iterations")]
    return named(measured).assign(different=left)


def name_bases(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of FCN and EMA, :func:`named`, with "method": "FCN" or "EMA, REGIME, K = NUMBER"."""
    if runs.empty:
        return runs
    methods = [
        "FCN" if head == "fcn" else f"EMA, {regime}, K = {count:g}"
        for head, regime, count in _rows(runs, "head", "head.gradient", "head.num_bases")
    ]
    return named(runs).assign(method=methods)


def bases_and_scores(measured: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by regime and λ: how many different bases are left, and the score."""
    by = ["gradient", "head.concentration"]
    table = different_bases(measured).groupby(by)["different"].mean().to_frame("different bases")
    table["mIoU, %"] = runs.groupby(by)["miou"].mean()
    return table.rename_axis(["gradient", "λ"])


def panel_differences(
    panels: Mapping[str, tuple[str, pd.DataFrame]], baselines: Mapping[str, Any]
) -> pd.DataFrame:
    """Every value of several options less the recipe's own (in ``baselines``), paired by seed."""
    parts = {
        title: paired_differences(
            runs, column, "miou", baseline=baselines[column], within=["gradient"]
        )
        for column, (title, runs) in panels.items()
    }
    return _changed(parts)


def panel_summaries(panels: Mapping[str, tuple[str, pd.DataFrame]], value: str) -> pd.DataFrame:
    """Means over seeds with intervals, see :func:`panel_differences`."""
    parts = {
        title: summarize(runs, column, value, within=["gradient"])
        for column, (title, runs) in panels.items()
    }
    return _changed(parts)


def _rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(frame[column] for column in columns), strict=True)


def _changed(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(parts, names=["what is changed", "gradient", "to"])
    return table.rename(index="{:g}".format, level="to")

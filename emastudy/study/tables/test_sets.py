"""Tables 2-4, on test sets: what was published, our runs of the same, and their rehearsal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from emastudy.engine import RunConfig
from emastudy.study import published
from emastudy.study.measures import load_measurements
from emastudy.study.recipes import RECIPES

#: The recipes behind each table, each run starting from the last.
PAPER_RUNS = {
    "Table 2": ("voc_test_coco", "voc_test_trainaug", "voc_test"),
    "Table 3": ("pascal_context",),
    "Table 4": ("coco_stuff",),
}
#: The published tables, by the same names.
PUBLISHED: dict[str, Callable[[], pd.DataFrame]] = {
    "Table 2": published.table2,
    "Table 3": published.table3,
    "Table 4": published.table4,
}


def published_miou(table: str) -> float:
    """The published score of EMANet on ResNet-101, percent."""
    rows = PUBLISHED[table]().query("backbone == 'ResNet-101'")
    return float(rows["miou"].loc["EMANet"])


def paper_scores(folder: Path) -> pd.DataFrame:
    """Our own scores of the paper's recipes in Tables 3 and 4, as far as they were measured.

    One row a seed of the last run of a table's chain: its multi-scale score, that on most images,
    and what was "published" for it. Of Table 2 VOC's server alone has the masks.

    Args:
        folder: Records of the profile "paper"; need not exist.
    """
    columns = ["table", "seed", "miou", "published"]
    scores = load_measurements(folder, "scores")
    if scores.empty:
        return pd.DataFrame(columns=columns)
    usual = (scores["at.corruption"] == "") & (scores["at.num_iterations"] == 0)
    whole = scores["at.multi_scale"].astype(bool) & (scores["at.split"] == scores["eval_split"])
    scores = scores[usual & whole].sort_values("images").drop_duplicates("id", keep="last")
    tables = []
    for table, recipes in PAPER_RUNS.items():
        if table == "Table 2":
            continue
        ids = {RECIPES[recipes[-1]](seed=int(seed)).id for seed in scores["seed"].unique()}
        ours = scores[scores["id"].isin(ids)]
        tables.append(ours.assign(table=table, published=published_miou(table)))
    return pd.concat(tables)[columns].reset_index(drop=True)


def rehearsal(*, seed: int, scale: float = 1.0) -> list[RunConfig]:
    """Table 2's chain on scenes: as many runs, each starting from the last.

    Learning rates fall, and lengths differ, by the factors of the paper's chain.

    Args:
        scale: Share of the iterations of the recipe ``scenes``, which the first run has.
    """
    longest, *others = (RECIPES[recipe]() for recipe in PAPER_RUNS["Table 2"])
    first = RECIPES["scenes"](seed=seed, scale=scale)
    chain = [first]
    for step in others:
        iterations = max(2, round(first.iterations * (step.iterations / longest.iterations)))
        rate = first.learning_rate * step.learning_rate / longest.learning_rate
        before = chain[-1].id
        chain.append(replace(first, start_from=before, iterations=iterations, learning_rate=rate))
    return chain

"""What corruption costs each method, and how low the rank of the re-estimated features is."""

from collections.abc import Sequence

import pandas as pd

from emastudy.study.statistics import paired_differences, summarize_columns

#: Kinds of corruption, see ``datasets.CORRUPTIONS``.
KINDS = ("noise", "blur", "contrast", "jpeg")


def options(
    *, severities: Sequence[int], images: int, iterations: Sequence[int] = ()
) -> dict[str, object]:
    """Options of ``measures.scores``: clean images, and every kind of corruption.

    Args:
        images: How many images, evenly spaced; 0 = all.
        iterations: Numbers of EM iterations in the test; none = as trained.
    """
    scored = {"corruptions": ["", *KINDS], "severities": list(severities), "images": images}
    return {**scored, "iterations": list(iterations)} if iterations else scored


def falls(scores: pd.DataFrame) -> pd.DataFrame:
    """What is lost to corruption, one row a method and seed.

    Args:
        scores: See ``measures.scores``, with "method".

    Returns:
        "clean" and "corrupted" mIoU, percent, the latter a mean over kinds and severities; "fall",
        their difference; "remains, %", their ratio.
    """
    clean = scores["at.corruption"] == ""
    means = {
        name: part.groupby(["method", "seed"], sort=False)["miou"].mean()
        for name, part in (("clean", scores[clean]), ("corrupted", scores[~clean]))
    }
    table = pd.DataFrame(means)
    table["fall"] = table["clean"] - table["corrupted"]
    table["remains, %"] = 100 * table["corrupted"] / table["clean"]
    return table.reset_index()


def mean_falls(falls: pd.DataFrame) -> pd.DataFrame:
    """What every method loses, mean over seeds."""
    columns = ["clean", "corrupted", "fall", "remains, %"]
    means = falls.groupby("method", sort=False)[columns].mean()
    return means.rename_axis("mIoU, %, mean over seeds")


def less_than_fcn(falls: pd.DataFrame) -> pd.DataFrame:
    """What every method loses less what FCN loses, paired by seed, and likewise what remains."""
    tables = {
        column: paired_differences(falls, "method", column, baseline="FCN")
        for column in ("fall", "remains, %")
    }
    return pd.concat(tables, names=["quantity", "less FCN"])


def by_iterations(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of one network with several numbers of iterations, clean and corrupted.

    Returns:
        One row a run, "images" ("clean", "corrupted, severity …") and number of iterations in the
        test, "T_eval": "gradient", "seed", "miou" (mean over kinds).
    """
    words = "corrupted, severity " + scores["at.severity"].astype(str)
    words = words.where(scores["at.corruption"] != "", "clean")
    columns = {"head.gradient": "gradient", "at.num_iterations": "T_eval"}
    named = scores.assign(images=words).rename(columns=columns)
    by = ["gradient", "seed", "images", "T_eval"]
    return named.groupby(by, sort=False)["miou"].mean().reset_index()


def ranks(measured: pd.DataFrame) -> pd.DataFrame:
    """Ranks and effective ranks by regime, mean over images, with intervals over seeds."""
    columns = {
        "rank_x": "rank of X",
        "rank_estimate": "rank of X̃",
        "effective_rank_x": "effective rank of X",
        "effective_rank_estimate": "effective rank of X̃",
    }
    table = summarize_columns(measured, "head.gradient", columns)
    return table.rename_axis(["gradient", "mean over images"])

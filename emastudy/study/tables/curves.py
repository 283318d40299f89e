"""Training curves of many runs as one table."""

import pandas as pd


def losses(runs: pd.DataFrame, *, smooth: int = 1) -> pd.DataFrame:
    """The training loss of every run, point by point: "iteration", "loss" (nats), and its columns.

    Args:
        runs: Column "record", and some of "method", "step" and "seed", which tell runs apart.
        smooth: Mean of so many points, as far as there are that many before; 1 = as recorded.
    """
    columns = [name for name in ("method", "step", "seed") if name in runs]
    points = ["iteration", "loss"]
    curves = pd.concat(
        pd.DataFrame(row["record"].curves["loss"], columns=points).assign(**row[columns])
        for _, row in runs.iterrows()
    )
    curves["loss"] = curves.groupby(columns)["loss"].transform(
        lambda loss: loss.rolling(smooth, min_periods=1).mean()
    )
    return curves

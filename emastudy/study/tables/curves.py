"""Training curves of many runs as one table."""

import pandas as pd

_TELL_APART = ("method", "step", "seed")


def losses(runs: pd.DataFrame, *, smooth: int = 1) -> pd.DataFrame:
    """The training loss of every run, point by point.

    Args:
        runs: Column "record", and some of "method", "step" and "seed", which tell runs apart.
        smooth: Mean of so many points, as far as there are that many before; 1 = as recorded.

    Returns:
        One row a point: "iteration", "loss" (nats), and those columns.
    """
    columns = [name for name in _TELL_APART if name in runs]
    curves = pd.concat(
        pd.DataFrame(row["record"].curves["loss"], columns=["iteration", "loss"]).assign(
            **{name: row[name] for name in columns}
        )
        for _, row in runs.iterrows()
    )
    curves["loss"] = curves.groupby(columns)["loss"].transform(
        lambda loss: loss.rolling(smooth, min_periods=1).mean()
    )
    return curves

"""Training curves as a table."""

from study.made_up import record

from emastudy.study.recipes import scenes
from emastudy.study.runs import to_frame
from emastudy.study.tables import curves


def test_losses_are_smoothed_run_by_run():
    courses = ([(10, 4.0), (20, 2.0), (30, 0.0)], [(10, 1.0), (20, 1.0), (30, 1.0)])
    runs = to_frame(
        record(scenes("fcn", seed=seed), 50, {"loss": course})
        for seed, course in enumerate(courses)
    ).assign(method="FCN")
    plain = curves.losses(runs)
    assert plain.loc[plain["seed"] == 0, "loss"].tolist() == [4, 2, 0]
    smooth = curves.losses(runs, smooth=2)
    assert smooth.loc[smooth["seed"] == 0, "loss"].tolist() == [4, 3, 1]
    assert smooth.loc[smooth["seed"] == 1, "loss"].tolist() == [1, 1, 1]
    assert set(smooth.columns) == {"iteration", "loss", "method", "seed"}

"""The ablations' tables: the right runs, told apart, and compared with the right ones."""

import pandas as pd
import pytest
from study.made_up import ema, runs

from emastudy.study.recipes import grid, scenes
from emastudy.study.tables import ablations


def make_grid(head="ema", **axes):
    return grid("scenes", head, seeds=1, **axes)


def test_names_are_those_of_the_tables():
    table = ablations.named(runs({ema(concentration=0.25, normalization="layer"): [50.0]}))
    (row,) = table.to_dict("records")
    assert row["normalisation"] == "layer"
    assert (row["T"], row["gradient"], row["λ"]) == (3, "detached", "0.25")
    assert ablations.named(pd.DataFrame()).empty


def test_only_regimes_with_something_to_compare_are_kept():
    table = ablations.named(
        runs({ema(): [50.0], ema(num_iterations=1): [49.0], ema(gradient="unrolled"): [51.0]})
    )
    assert set(ablations.comparable(table, "T")["gradient"]) == {"detached"}
    assert ablations.comparable(table, "gradient", within="T")["T"].unique() == [3]
    assert ablations.comparable(pd.DataFrame(), "T").empty


def test_seeds_without_a_record_are_counted_by_setting():
    configs = [scenes(seed=0), scenes(seed=1), scenes(seed=0, gradient="unrolled")]
    counts = ablations.without_record(configs)["seeds without a record"].to_dict()
    assert counts == {("detached", "l2", 3): 2, ("unrolled", "l2", 3): 1}
    assert ablations.without_record([]).empty


def test_learned_bases_are_run_where_a_gradient_reaches_them():
    for regimes, learned in ((["detached"], 0), (["detached", "unrolled"], 3)):
        configs = ablations.start_configs(make_grid, regimes, [1, 2])
        options = [config.head_options for config in configs]
        found = [o for o in options if o.get("maintenance") == "learned"]
        assert len(found) == learned
        assert all(o["gradient"] == "unrolled" for o in found)


def test_a_start_is_called_by_its_maintenance_or_its_momentum():
    table = ablations.name_starts(
        runs({ema(): [1.0], ema(momentum=0.0): [1.0], ema(maintenance="grid"): [1.0]})
    )
    assert list(table["start"]) == [
        ablations.MOVING_AVERAGE,
        "moving average, α = 0",
        ablations.STARTS["grid"],
    ]
    assert ablations.name_starts(pd.DataFrame()).empty


def test_change_is_from_testing_as_trained():
    scores = pd.DataFrame(
        {"id": ["a", "a", "b"], "T": [1, 1, 2], "T_eval": [1, 2, 2], "miou": [50.0, 53.0, 40.0]}
    )
    assert list(ablations.change_from_training(scores)["change"]) == [0.0, 3.0, 0.0]


def measured_bases():
    rows = runs({ema(num_bases=4): [1.0], ema(num_bases=4, num_iterations=1): [1.0]})
    return rows.assign(distinct=[[4.0, 3.0, 2.0, 1.5]] * 2, num_bases=4)


def test_different_bases_are_counted_after_the_networks_own_iterations():
    assert list(ablations.different_bases(measured_bases())["different"]) == [1.5, 3.0]


def test_bases_and_scores_stand_side_by_side():
    table = ablations.named(runs({ema(concentration=0.25): [50.0, 60.0]}))
    measured = runs({ema(concentration=0.25): [0.0]}).assign(distinct=[[4.0, 3.0, 2.0, 1.5]])
    found = ablations.bases_and_scores(measured, table)
    assert found.loc[("detached", 0.25)].to_dict() == {"different bases": 1.5, "mIoU, %": 55.0}


def test_methods_of_the_control_say_regime_and_bases():
    table = ablations.name_bases(runs({("fcn", ()): [1.0], ema(num_bases=1): [1.0]}))
    assert list(table["method"]) == ["FCN", "EMA, detached, K = 1"]


def test_panels_compare_each_option_with_the_recipes_own_value():
    table = ablations.named(runs({ema(num_bases=8): [50.0, 51.0], ema(): [52.0, 54.0]}))
    panels = {"head.num_bases": ("number of bases K", table)}
    found = ablations.panel_differences(panels, {"head.num_bases": 16})
    assert found["difference"].to_dict() == {("number of bases K", "detached", "8"): -2.5}
    means = ablations.panel_summaries(panels, "miou")["mean"].to_dict()
    assert means["number of bases K", "detached", "16"] == 53.0


def test_on_random_features_only_the_iteration_without_a_mixture_may_fall():
    objectives = ablations.random_objectives(concentrations=(4.0,), problems=20)
    falls = {
        name: bool((course.diff(dim=1) < -1e-4 * course[:, 1:].abs()).any())
        for (_, name), course in objectives.items()
    }
    assert falls["l2"] is False
    assert falls["gaussian"] is False
    assert falls["none"] is True


def test_falls_are_added_over_seeds():
    table = runs({ema(): [1.0, 1.0]}).assign(images=10, falls=[1, 2], largest_fall=[0.5, 0.25])
    (row,) = ablations.falls(table).to_dict("records")
    assert row["images"] == 20
    assert row["of them F falls in"] == 3
    assert row["largest fall, share of F"] == pytest.approx(0.5)

"""What bases know: counted by hand on tables of a few pixels."""

import numpy as np
import pandas as pd
import pytest
from study.made_up import ema, runs

from emastudy.study.tables import bases

COUNTS = [[6, 0], [1, 1], [0, 0]]


def concepts(**options):
    table = runs({ema(**options): [1.0, 1.0]})
    return table.assign(
        information=[[0.1, 0.2, 0.4], [0.3, 0.2, 0.2]],
        random_bases=[[0.0, 0.1, 0.1], [0.0, 0.1, 0.3]],
        matched=[0.4, 0.2],
        shuffled=0.05,
        entropy=0.5,
        counts=[COUNTS, COUNTS],
    )


def test_service_is_shares_of_pixels_and_a_basis_without_any_serves_nobody():
    found = bases.service(COUNTS)
    assert found.usage == pytest.approx([0.75, 0.25, 0])
    assert found.classes == pytest.approx(np.array([[1, 0], [0.5, 0.5], [0, 0]]))
    assert found.everywhere == pytest.approx([7 / 8, 1 / 8])


def test_entropy_is_a_mean_over_images_from_the_first_iteration_on():
    table = bases.entropy(pd.DataFrame({"entropy": [[1.0, 0.0], [3.0, 0.0]]}))
    assert table["mean entropy of z, nats"].to_dict() == {1: 2.0, 2: 0.0}
    assert table["as number of bases"].to_dict() == {1: pytest.approx(np.exp(2)), 2: 1.0}


def test_courses_have_a_row_for_every_start_and_iteration():
    found = bases.courses(concepts())
    assert len(found) == 2 * 2 * 3
    one = found[(found["seed"] == 0) & (found["start"] == "random")]
    assert one.set_index("iteration")["information"].to_dict() == {1: 0.0, 2: 0.1, 3: 0.1}


def test_ends_are_the_first_and_the_last_iteration_of_the_trained_start():
    found = bases.ends(concepts())
    assert set(found["after"]) == {"after iteration 1", "after iteration 3"}
    assert found.groupby("after")["information"].mean()["after iteration 3"] == pytest.approx(0.3)


def test_information_has_its_controls_beside_it():
    found = bases.information(concepts())["mean"].droplevel(0).to_dict()
    assert found == {
        "trained start": pytest.approx(0.3),
        "random start": pytest.approx(0.2),
        "renumbered per image": pytest.approx(0.05),
        "trained, % of all there is": pytest.approx(60),
    }


def test_change_is_last_less_first_with_an_interval_over_seeds():
    both = pd.concat([concepts(), concepts(concentration=0.25)])
    found = bases.change_by_concentration(both)
    assert list(found.index) == [("detached", 1.0), ("detached", 0.25)]
    row = found.iloc[0]
    assert row["change"] == pytest.approx(0.1)
    assert (row["first"], row["last"], row["seeds"]) == (pytest.approx(0.2), pytest.approx(0.3), 2)
    assert row["low, 95 %"] < 0.1 < row["high, 95 %"]


def test_usage_is_sorted_before_it_is_averaged():
    table = concepts().assign(counts=[[[6], [2]], [[0], [8]]])
    assert bases.sorted_usage(table)["detached"] == pytest.approx([0.875, 0.125])


def test_courses_of_different_bases_begin_before_the_first_iteration():
    table = runs({ema(): [1.0]}).assign(distinct=[[4.0, 2.0]])
    found = bases.distinct_courses(table)
    assert found[["iteration", "distinct"]].to_numpy().tolist() == [[0, 4.0], [1, 2.0]]


def test_a_network_is_summed_up_by_its_record_and_its_counts():
    row = concepts().reset_index().iloc[0]
    table = bases.network_summary({"miou": 61.238}, row)["the network"]
    assert table["mIoU on the scored images, %"] == 61.24
    assert (table["bases K"], table["iterations T"], table["gradient"]) == (3, 3, "detached")


def test_starts_say_what_theorem_8_predicts():
    found = pd.DataFrame({
        "head.gradient": ["detached", "detached"],
        "members": [[2, 2, 1], [1, 1, 1]],
        "growth": [[0.5, 0.9, 1.5], [2.0, 0.5, 3.0]],
        "concentration": [1.0, 1.0],
        "threshold": [2.0, 4.0],
    })  # fmt: skip
    row = bases.starts(found).loc["detached"]
    assert row["networks"] == 2
    assert row["λ / threshold"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert row["places"] == (2 + 3) / 2
    assert row["of those in groups, growth < 1"] == 1
    assert row["of those alone, growth > 1"] == 3 / 4


def test_ways_of_counting_stand_side_by_side():
    soft = concepts().assign(
        information=lambda t: t["information"].map(lambda v: [x / 2 for x in v])
    )
    found = bases.both_counts({"hard": concepts(), "soft": soft})
    assert list(found.index) == [("detached", "hard"), ("detached", "soft")]
    assert found["change"].tolist() == pytest.approx([0.1, 0.05])
    assert found["random start"].tolist() == [concepts()["random_bases"].str[-1].mean()] * 2

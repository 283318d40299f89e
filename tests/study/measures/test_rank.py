"""Ranks before and after the re-estimation."""

from emastudy.study.measures import MEASURES


def test_rank_of_the_estimate_is_at_most_the_number_of_bases(subject):
    (row,) = MEASURES["rank"](subject, images=2)
    assert row["largest_rank_estimate"] <= row["num_bases"] == 4
    assert row["rank_estimate"] <= row["rank_x"] <= 8
    assert 1 <= row["effective_rank_estimate"] <= row["rank_estimate"] + 1e-6
    assert row["spectrum_x"][0] == row["spectrum_estimate"][0] == 1
    assert max(row["spectrum_estimate"][4:]) < 1e-6

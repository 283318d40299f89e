"""EM's objective, followed on a trained unit."""

from emastudy.study.measures import MEASURES


def test_objective_counts_the_images_in_which_it_falls(subject):
    (row,) = MEASURES["objective"](subject, iterations=5, images=3)
    assert row["images"] == 3
    assert len(row["objective"]) == 6
    assert row["falls"] == 0  # l2 bases: it is EM
    assert row["objective"] == sorted(row["objective"])
    unit = subject.unit
    unit.normalization = "none"
    unit.bases.mul_(20)  # long bases shrink to means: the objective of the softmax must fall
    (row,) = MEASURES["objective"](subject, iterations=5, images=3)
    assert row["falls"] == 3
    assert row["largest_fall"] > 1e-3

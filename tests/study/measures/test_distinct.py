"""Bases that become one are counted as one."""

import pytest
import torch

from emastudy.study.measures import MEASURES


def test_bases_that_merge_are_counted_iteration_by_iteration(subject, sees):
    (row,) = MEASURES["distinct"](subject, iterations=3, images=2)
    assert len(row["distinct"]) == 4
    assert all(1 <= count <= row["num_bases"] == 4 for count in row["distinct"])
    assert len(row["critical"]) == 2

    # Two clusters, two bases near each: apart at first, after one iteration both are its mean.
    labels = torch.arange(2).repeat_interleave(50)
    x = 9 * torch.eye(8)[labels]
    bases = torch.nn.functional.normalize(
        torch.eye(8)[[0, 0, 1, 1]] + 0.3 * torch.eye(8)[[2, 3, 4, 5]], dim=-1
    )
    (row,) = MEASURES["distinct"](sees([(x, bases, labels)] * 2), iterations=1, images=2)
    assert row["distinct"] == [4, 2]
    # Mean (4.5, 4.5), length 9/√2; apart from it ±(4.5, -4.5), mean square 81/2.
    assert row["critical"] == pytest.approx([(9 / 2**0.5) / (81 / 2)] * 2)

"""Whether the shared start holds together, against the moving average itself."""

import pytest
import torch

from emastudy.em import expectation_maximization, normalize
from emastudy.study.measures import MEASURES


def test_growth_says_what_the_moving_average_does(subject, sees):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(50, 8, generator=generator) + 2 * torch.eye(8)[0] for _ in range(6)]
    place = normalize(torch.stack(features).mean(dim=1).mean(dim=0, keepdim=True), "l2")
    noise = normalize(torch.randn(4, 8, generator=generator), "l2")
    inputs = [(x, place.expand(4, -1), torch.zeros(50)) for x in features]
    (row,) = MEASURES["start"](sees(inputs), images=6)
    assert row["members"] == [4] * 4
    assert row["concentration"] == 1
    # All in one place, growth is in proportion to λ^T, and 1 at the threshold.
    assert row["growth"][0] == pytest.approx(row["threshold"] ** -2, rel=1e-5)
    for share, grows in ((0.9, False), (1.1, True)):
        start = normalize(place + 1e-4 * noise, "l2").double()
        before = (start - start.mean(dim=0)).norm()
        for _ in range(60):
            ends = expectation_maximization(
                torch.stack(features).double(), start, 2, concentration=share * row["threshold"]
            )
            start = ends.bases.mean(dim=0)
        assert bool((start - start.mean(dim=0)).norm() > before) is grows


def test_bases_apart_are_counted_apart(subject):
    (row,) = MEASURES["start"](subject, images=4)
    assert row["num_bases"] == len(row["members"]) == len(row["growth"]) == 4
    assert all(1 <= count <= 4 for count in row["members"])


def test_a_concentration_of_every_image_is_refused(subject):
    subject.unit.concentration_scale = "critical"
    with pytest.raises(ValueError, match="concentration_scale is 'critical'"):
        MEASURES["start"](subject, images=4)

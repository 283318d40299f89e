"""What bases know of classes, against scikit-learn and against bases that know all."""

import pytest
import torch
from sklearn.metrics import mutual_info_score

from emastudy.study.measures import MEASURES
from emastudy.study.measures.concepts import mutual_information


def test_mutual_information_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    basis, label = (torch.randint(5, (400,), generator=generator) for _ in range(2))
    label = torch.where(basis > 2, label % 2, label)
    counts = torch.zeros(5, 5, dtype=torch.float64)
    for k, c in zip(basis, label, strict=True):
        counts[k, c] += 1
    assert mutual_information(counts) == pytest.approx(mutual_info_score(basis, label))
    assert mutual_information(torch.eye(4)) == pytest.approx(torch.tensor(4.0).log().item())
    assert mutual_information(torch.ones(3, 4)) == pytest.approx(0, abs=1e-7)


def test_concepts_know_what_a_basis_per_class_would_know(subject, sees):
    (row,) = MEASURES["concepts"](subject, images=4)
    assert len(row["information"]) == len(row["random_bases"]) == 2
    assert sum(map(sum, row["counts"])) == 4 * 16 * 16
    assert 0 <= row["shuffled"] <= row["entropy"]

    # Features that are the class itself, bases that are the classes: all there is to know.
    labels = torch.arange(4).repeat(25)
    perfect = sees([(9 * torch.eye(8)[labels], torch.eye(8)[:4], labels)] * 4)
    (row,) = MEASURES["concepts"](perfect, images=4)
    assert row["matched"] == row["information"][-1] == pytest.approx(row["entropy"])
    assert row["shuffled"] < 0.8 * row["entropy"]


def test_soft_counts_know_no_more_than_what_they_share(subject, sees):
    labels = torch.arange(4).repeat(25)
    inputs = [(9 * torch.eye(8)[labels], torch.eye(8)[:4], labels)] * 4
    (hard,), (soft,) = (MEASURES[m](sees(inputs), images=4) for m in ("concepts", "soft_concepts"))
    # exp(9) : 1 : 1 : 1 leave nothing to share.
    assert soft["information"][-1] == pytest.approx(hard["information"][-1], rel=0.01)
    # Two equal bases share pixels evenly, so as one basis they know as much.
    twice = torch.eye(8)[[0, 0, 1, 2]]
    (merged,) = MEASURES["soft_concepts"](sees([(x, twice, y) for x, _, y in inputs]), images=4)
    z = subject.em(inputs[0][0], twice, 1).responsibilities
    counts = z.double().T @ torch.eye(4, dtype=torch.float64)[labels]
    as_one = torch.cat([counts[:2].sum(dim=0, keepdim=True), counts[2:]])
    assert merged["information"][0] == pytest.approx(mutual_information(as_one))
    (row,) = MEASURES["soft_concepts"](subject, images=4)
    (taken,) = MEASURES["concepts"](subject, images=4)
    assert len(row["information"]) == len(row["random_bases"]) == 2
    assert 0 <= row["matched"] <= taken["entropy"]

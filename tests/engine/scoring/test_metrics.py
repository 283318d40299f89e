"""Metrics against plain numpy counts, torchmetrics, and a slow border score."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.borders import BoundaryF

# Class 3 is neither present nor predicted, 4 predicted only, 5 present and never found.
CLASSES = 6


def labels(seed=0, pixels=4000):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 5, 255], pixels, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    guess = np.where(rng.random(pixels) < 0.6, truth, rng.choice([0, 1, 2, 4], pixels))
    return truth, np.where(np.isin(guess, [5, 255]), 0, guess)


def counted(truth, guess):
    confusion = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    for t, g in zip(truth, guess, strict=True):
        if t != 255:
            confusion[t, g] += 1
    return torch.from_numpy(confusion)


@pytest.mark.parametrize("seed", range(3))
def test_means_agree_with_sets_of_pixels(seed):
    truth, guess = labels(seed)
    confusion = counted(truth, guess)
    truth, guess = truth[truth != 255], guess[truth != 255]
    ious, shares, weighted = [], [], 0.0
    for c in range(CLASSES):
        either = ((truth == c) | (guess == c)).sum()
        both = ((truth == c) & (guess == c)).sum()
        if either:
            ious.append(both / either)
            weighted += (truth == c).mean() * both / either
        if (truth == c).any():
            shares.append((guess[truth == c] == c).mean())
    assert (len(ious), len(shares)) == (5, 4)  # the means are over different classes
    assert metrics.summary(confusion) == pytest.approx(
        {
            "miou": 100 * np.mean(ious),
            "mean_accuracy": 100 * np.mean(shares),
            "pixel_accuracy": 100 * (truth == guess).mean(),
            "frequency_weighted_iou": 100 * weighted,
        }
    )


def test_values_agree_with_torchmetrics():
    truth, guess = labels()
    confusion = counted(truth, guess)
    truth, guess = torch.from_numpy(truth), torch.from_numpy(guess)
    present, either = [0, 1, 2, 5], [0, 1, 2, 4, 5]

    def theirs(kind, average):
        return kind(CLASSES, average=average, ignore_index=255)(guess, truth).double()

    torch.testing.assert_close(
        metrics.iou(confusion)[either],
        theirs(MulticlassJaccardIndex, "none")[either],
        rtol=1e-6,
        atol=0,
    )
    torch.testing.assert_close(
        metrics.class_accuracy(confusion)[present],
        theirs(MulticlassAccuracy, "none")[present],
        rtol=1e-6,
        atol=0,
    )
    pixel, weighted = (
        100 * float(theirs(kind, average))
        for kind, average in ((MulticlassAccuracy, "micro"), (MulticlassJaccardIndex, "weighted"))
    )
    assert metrics.pixel_accuracy(confusion) == pytest.approx(pixel, rel=1e-6)
    assert metrics.frequency_weighted_iou(confusion) == pytest.approx(weighted, rel=1e-6)


def test_undefined_values_are_nan_and_counts_beyond_float32_are_kept():
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    assert all(math.isnan(v) for v in metrics.summary(confusion).values())
    confusion[0, 0], confusion[0, 1] = 2**40, 1
    share = metrics.class_accuracy(confusion)
    assert 0 < 1 - share[0].item() < 1e-11
    assert share[1:].isnan().all()
    assert metrics.iou(confusion)[1] == 0  # predicted, never present
    assert metrics.iou(confusion)[2].isnan()


def slow_boundary_f(guess, truth, classes):
    """Csurka et al.'s score by all pairs of pixels, one image; None for a class without border."""
    height, width = truth.shape
    radius = math.ceil(0.0075 * math.sqrt(height**2 + width**2))

    def border(labels, c):
        found = []
        for y in range(height):
            for x in range(width):
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
                if labels[y, x] == c and any(labels[p] != c for p in inside):
                    found.append((y, x))
        return found

    def near(pixel, others):
        return any(math.dist(pixel, other) <= radius for other in others)

    scores = []
    for c in range(classes):
        true, predicted = border(truth, c), border(guess, c)
        hits = [p for p in predicted if near(p, true)]
        counted = [p for p in predicted if truth[p] != 255 or p in hits]
        met = [p for p in true if near(p, predicted)]
        if not true and not counted:
            scores.append(None)
        elif not hits or not met:
            scores.append(0.0)
        else:
            precision, recall = len(hits) / len(counted), len(met) / len(true)
            scores.append(2 * precision * recall / (precision + recall))
    return scores


def blobs(rng, height, width, values):
    """Regions rather than noise, so that borders are lines."""
    seeds = rng.uniform(0, (height, width), (6, 2))
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows[..., None] - seeds[:, 0], columns[..., None] - seeds[:, 1])
    return rng.choice(values, 6)[distance.argmin(-1)]


def test_boundary_f_agrees_with_all_pairs_of_pixels():
    rng = np.random.default_rng(1)
    metric, sums, images = BoundaryF(5), np.zeros(5), np.zeros(5)
    for size in [(30, 41), (24, 24), (200, 9), (17, 33)]:  # θ = 1, 1, 2, 1
        truth = blobs(rng, *size, [0, 1, 2, 255])
        guess = np.where(truth == 255, 0, np.roll(truth, 1, axis=1))
        guess[:5] = 3
        metric.update(torch.from_numpy(guess)[None], torch.from_numpy(truth)[None])
        for c, score in enumerate(slow_boundary_f(guess, truth, 5)):
            if score is not None:
                sums[c] += score
                images[c] += 1
    assert images[4] == 0  # so that NaN is met
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(metric.compute(), sums / images, rtol=1e-12)


def test_boundary_f_at_its_ends():
    truth = torch.zeros(1, 100, 100, dtype=torch.int64)  # θ = 2 pixels
    truth[:, :, 50:] = 1

    def score(guess, truth=truth):
        metric = BoundaryF(2)
        metric.update(guess, truth)
        return metric.compute().tolist()

    assert score(truth) == [1, 1]
    assert score(truth.roll(2, -1))[1] < 1  # a second border where the roll came in
    moved = torch.zeros_like(truth)
    moved[:, :, 52:] = 1
    assert score(moved) == [1, 1]  # within θ
    moved[:, :, :53] = 0
    assert score(moved) == [0, 0]  # beyond it
    assert score(torch.zeros_like(truth)) == [0, 0]
    assert all(map(math.isnan, score(torch.zeros_like(truth), torch.zeros_like(truth))))
    # A border may lie anywhere in VOC's ignored band; one deep in an ignored region is no error.
    banded = truth.clone()
    banded[:, :, 49:51] = 255
    assert score(truth, banded) == [1, 1]
    banded[:, 80:] = 255
    guess = truth.clone()
    guess[:, 90:95, 20:30] = 1
    assert score(guess, banded) == score(truth, banded)


def test_counts_by_image_survive_packing():
    entries = torch.tensor([[0, 3, 9], [0, 8, 2**31 - 1], [7, 0, 1]])
    assert torch.equal(metrics.unpack(metrics.pack(entries)), entries)
    dense = metrics.matrices(entries, 3, images=9)
    assert dense.shape == (9, 3, 3)
    assert (dense[0, 1, 0], dense[0, 2, 2], dense[7, 0, 0]) == (9, 2**31 - 1, 1)
    assert dense.sum() == 9 + 2**31 - 1 + 1
    assert metrics.matrices(torch.zeros(0, 3, dtype=torch.int64), 3).shape == (0, 3, 3)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        metrics.unpack("AAAA")

"""The loss over labelled pixels."""

import pytest
import torch

from emastudy.engine.training.loss import segmentation_loss


def test_the_loss_ignores_255_and_survives_a_crop_without_labels():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    mask = torch.tensor([[[0, 255], [2, 255]]])
    expected = -logits.log_softmax(1)[0, [0, 2], [0, 1], [0, 0]].mean()
    torch.testing.assert_close(segmentation_loss(logits, mask), expected)
    nothing = segmentation_loss(logits, torch.full((1, 2, 2), 255))
    nothing.backward()
    assert nothing == 0
    assert (logits.grad == 0).all()


def test_the_loss_over_all_pixels_is_the_released_codes():
    logits = torch.randn(2, 3, 4, 4)
    mask = torch.randint(3, (2, 4, 4))
    mask[0, :3] = 255
    expected = torch.nn.functional.cross_entropy(
        logits, mask, ignore_index=255, reduction="none"
    ).mean()
    every = torch.tensor(mask.numel())
    torch.testing.assert_close(segmentation_loss(logits, mask, every), expected)


def test_the_loss_of_small_logits_is_that_of_enlarged_ones():
    small = torch.randn(3, 5, 4, 6, requires_grad=True)
    mask = torch.randint(0, 5, (3, 31, 41))
    mask[0, :10] = 255
    large = torch.nn.functional.interpolate(
        small, size=(31, 41), mode="bilinear", align_corners=True
    )
    expected = segmentation_loss(large, mask)
    found = segmentation_loss(small, mask)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, small), torch.autograd.grad(expected, small)
    )


@pytest.mark.parametrize("size", [(31, 41), (4, 6)])
def test_with_deterministic_algorithms_torch_adds_nothing_up_inside_of_cross_entropy(
    size, monkeypatch
):
    """Of nll_loss2d, "sum" and "mean" have no deterministic implementation on GPUs."""
    logits, mask = torch.randn(2, 5, 4, 6), torch.randint(0, 5, (2, *size))
    mask[0, :3] = 255
    expected = segmentation_loss(logits, mask)
    plain, asked = torch.nn.functional.cross_entropy, set()

    def watched(*arguments, reduction, **options):
        asked.add(reduction)
        return plain(*arguments, reduction=reduction, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", watched)
    torch.use_deterministic_algorithms(True)
    try:
        found = segmentation_loss(logits, mask)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(found, expected)
    assert asked == {"none"}

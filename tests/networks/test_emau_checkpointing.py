"""Gradient checkpointing runs the unit again when its bases have moved already."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from emastudy import EMAU
from emastudy.errors import InputError

REGIMES = ("detached", "one_step", "unrolled")


def make(**options):
    torch.manual_seed(0)
    # Half of each new value: a pass repeated from other bases would be far off.
    unit = EMAU(8, 4, momentum=0.5, **options)
    return nn.Sequential(nn.Conv2d(3, 8, 1), unit, nn.Conv2d(8, 2, 1)).train()


def assert_alike(plain, saving):
    """Up to rounding: a first pass without gradients folds the first conv into the bases."""
    torch.testing.assert_close(saving[1].bases, plain[1].bases)
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if a.requires_grad:
            assert (a.grad - b.grad).norm() < 1e-3 * a.grad.norm(), name


def loss(network, image):
    return network(image.clone().requires_grad_()).square().sum()


def saved_loss(network, image, reentrant):
    output = checkpoint(network, image.clone().requires_grad_(), use_reentrant=reentrant)
    return output.square().sum()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("gradient", REGIMES)
@pytest.mark.parametrize("order", ["step by step", "summed", "first first", "last first"])
@pytest.mark.parametrize("options", [{}, {"heads": 2, "value_conv": True}])
def test_bases_move_once_and_gradients_are_the_plain_ones(gradient, reentrant, order, options):
    plain, saving = (make(gradient=gradient, **options) for _ in range(2))
    images = torch.randn(3, 2, 3, 7, 6)
    if order == "step by step":
        for image in images:
            loss(plain, image).backward()
            saved_loss(saving, image, reentrant).backward()
    else:
        ours = [saved_loss(saving, image, reentrant) for image in images]
        theirs = [loss(plain, image) for image in images]
        for losses in (ours, theirs):
            if order == "summed":
                sum(losses).backward()
            else:
                for one in losses if order == "first first" else losses[::-1]:
                    one.backward()
    assert_alike(plain, saving)


@pytest.mark.parametrize("reentrant", [False, True])
def test_sequential_segments(reentrant):
    plain, saving = make(gradient="unrolled"), make(gradient="unrolled")
    image = torch.randn(2, 3, 7, 6)
    loss(plain, image).backward()
    output = checkpoint_sequential(
        saving, 2, image.clone().requires_grad_(), use_reentrant=reentrant
    )
    output.square().sum().backward()
    assert_alike(plain, saving)


def test_a_checkpoint_within_a_checkpoint():
    plain, saving = make(gradient="unrolled"), make(gradient="unrolled")
    image = torch.randn(2, 3, 7, 6)
    loss(plain, image).backward()
    inner = copy.copy(saving)

    def nested(x):
        return checkpoint(inner, x, use_reentrant=False)

    saved_loss(nested, image, False).backward()
    assert_alike(plain, saving)


def test_under_autocast_and_with_bases_that_a_bad_batch_has_left():
    plain, saving = make(gradient="one_step"), make(gradient="one_step")
    images = torch.randn(2, 2, 3, 7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        for network in (plain, saving):
            network(torch.full((2, 3, 7, 6), float("nan")))
        ours = [saved_loss(saving, image, False) for image in images]
        theirs = [loss(plain, image) for image in images]
    for network, losses in ((plain, theirs), (saving, ours)):
        network.zero_grad()
        sum(losses).backward()
    assert_alike(plain, saving)


def test_a_pass_in_evaluation_mode_starts_from_the_bases_of_now():
    network = make().eval()
    before = network[1].bases.clone()
    saved_loss(network, torch.randn(2, 3, 7, 6), False).backward()
    assert network[1].bases.equal(before)


def test_passes_that_agree_in_a_row_are_told_apart():
    plain, saving = make(gradient="unrolled")[1], make(gradient="unrolled")[1]
    maps = torch.randn(2, 2, 8, 9, 7)
    maps[:, :, :, 4] = 0
    sum(loss(plain, one) for one in maps).backward()
    sum(saved_loss(saving, one, False) for one in maps).backward()
    torch.testing.assert_close(saving.conv1.weight.grad, plain.conv1.weight.grad)


@pytest.mark.parametrize("why", ["too many", "twice the same"])
def test_a_repeated_pass_that_cannot_be_told_is_an_error_and_no_wrong_gradient(why):
    network = make(gradient="unrolled")
    images = torch.randn(20, 2, 3, 7, 6) if why == "too many" else torch.ones(2, 2, 3, 7, 6)
    total = sum(saved_loss(network, image, False) for image in images)
    with pytest.raises(InputError, match="not clear which of the last 16 training passes"):
        total.backward()


def test_what_is_remembered_is_bounded_and_stays_at_home():
    unit = make()[1]
    for _ in range(40):
        unit(torch.randn(1, 8, 3, 3))
    assert len(unit._starts._passes) == 16
    assert len(copy.deepcopy(unit)._starts._passes) == 0

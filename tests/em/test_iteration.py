"""EM's gradient in one pass over the features, against autograd's, product by product."""

import pytest
import torch

from emastudy import em

KINDS = ("one image", "a batch", "starts of their own", "heads", "projected", "projected heads")


def problem(kind):
    """Features, μ^(0) and λ, and all that a gradient can go to."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return numbers.requires_grad_()

    images, heads, pixels, bases, channels, inputs = 2, 3, 7, 4, 5, 6
    scale = torch.tensor(0.7, dtype=torch.float64)
    if "heads" in kind:
        scale = torch.rand(heads, generator=generator, dtype=torch.float64)
    scale.requires_grad_()
    if kind == "projected":
        x = em.Projected(draw(images, pixels, inputs), draw(channels, inputs), draw(channels))
    elif kind == "projected heads":
        weight, bias = draw(heads, channels, inputs), draw(heads, channels)
        x = em.Projected(draw(images, 1, pixels, inputs), weight, bias)
    else:
        batch = {"a batch": (images,), "heads": (images, heads)}.get(kind, ())
        x = draw(*batch, pixels, channels)
    own = {"starts of their own": (images,)}.get(kind, (heads,) if "heads" in kind else ())
    start = draw(*own, bases, channels)
    return x, start, scale, [*(x if isinstance(x, em.Projected) else [x]), start, scale]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradient", ["one_step", "unrolled"])
@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
def test_one_pass_has_autograds_gradient_and_its_gradient(kind, gradient, normalization):
    x, start, scale, leaves = problem(kind)
    generator = torch.Generator().manual_seed(1)
    found = []
    for one_pass in (True, False):
        z, bases, _ = em.expectation_maximization(
            x, start, 3, concentration=scale, normalization=normalization, gradient=gradient,
            trace=False, one_pass=one_pass,
        )  # fmt: skip
        generator.manual_seed(1)
        to_z, to_bases = (
            torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in (z, bases)
        )
        value = (z.square() * to_z).sum() + (bases * to_bases).sum()
        how = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(value, leaves, create_graph=True, **how)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves, **how)
        found.append([z, bases, *first, *second])
    assert found[0][2].abs().max() > 1e-3
    for ours, autograds in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograds, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("wanted", ["z", "bases"])
def test_a_gradient_may_come_by_one_way_alone(wanted):
    x, start, _, leaves = problem("projected")
    found = []
    for one_pass in (True, False):
        result = em.expectation_maximization(x, start, 2, trace=False, one_pass=one_pass)
        part = result.bases if wanted == "bases" else result.responsibilities
        found.append(torch.autograd.grad(part.pow(3).sum(), leaves[:-1]))
    torch.testing.assert_close(*found)


def test_features_that_learn_nothing_get_no_gradient():
    x, start, _, _ = problem("one image")
    z, bases, _ = em.expectation_maximization(x.detach(), start, 2, trace=False)
    em.reconstruct(z, bases).sum().backward()
    assert start.grad is not None
    assert x.grad is None


def test_on_the_meta_device_gradients_have_shapes():
    x, start = (torch.empty(*shape, device="meta").requires_grad_() for shape in ((7, 5), (4, 5)))
    z, bases, _ = em.expectation_maximization(x, start, 2, trace=False)
    em.reconstruct(z, bases).sum().backward()
    assert (x.grad.shape, start.grad.shape) == (x.shape, start.shape)


def test_torch_func_maps_over_images():
    x, start, _, _ = problem("a batch")

    def value(image, bases):
        z, means, _ = em.expectation_maximization(image, bases, 2, trace=False)
        return em.reconstruct(z, means).square().sum()

    each = torch.func.vmap(torch.func.grad(value), (0, None))(x.detach(), start.detach())
    (expected,) = torch.autograd.grad(value(x, start), x)
    torch.testing.assert_close(each, expected)


@pytest.mark.parametrize("kind", ["a batch", "projected"])
@pytest.mark.parametrize("how", ["autocast", "bfloat16", "float16"])
def test_in_half_precision_one_pass_is_not_further_from_the_truth_than_autograd(kind, how):
    x, start, _, leaves = problem(kind)
    leaves = leaves[:-1]
    wide = [leaf.detach().float() for leaf in leaves]
    dtype = torch.float32 if how == "autocast" else getattr(torch, how)

    def gradients(dtype, *, one_pass, autocast=False):
        values = [leaf.to(dtype).requires_grad_() for leaf in wide]
        features = em.Projected(*values[:3]) if kind == "projected" else values[0]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            z, bases, _ = em.expectation_maximization(
                features, values[-1], 3, trace=False, one_pass=one_pass
            )
            em.reconstruct(z, bases).square().sum().backward()
        return torch.cat([value.grad.double().flatten() for value in values])

    truth = gradients(torch.float64, one_pass=False)
    ours, autograds = (
        (gradients(dtype, one_pass=one_pass, autocast=how == "autocast") - truth).norm()
        for one_pass in (True, False)
    )
    assert ours <= 1.5 * autograds

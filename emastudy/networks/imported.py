"""Context modules and backbones of one's own, by import path: each is tried before it is used."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emastudy import options, own
from emastudy.errors import EmastudyError, InputError
from emastudy.networks.backbones import Backbone

logger = logging.getLogger(__name__)

# Neither square nor the same twice: a unit that swaps height and width is found out.
_MAP = (16, 12)
_IMAGE = 64


def import_context(path: str, reserved: Callable[..., object]) -> Callable[..., nn.Module]:
    """The maker of a context module, called as ``maker(channels, **options)``.

    What it makes has been tried on a random map of 16×12 pixels, in training mode: it keeps the
    shape, is finite, and lets gradients through. A parameter without a gradient is logged.

    Args:
        path: Import path of a class.
        reserved: Whose options it may not have as well: the head that it is put into.

    Raises:
        InputError: It cannot be imported, is no ``nn.Module`` or cannot be called so. The maker
            raises one where what is made is not as above.
    """
    owner = f"head {path!r}"
    return _tried_context(owner, _load(owner, path, nn.Module), reserved)


def import_backbone(path: str) -> Callable[..., Backbone]:
    """The maker of a backbone, called as ``maker(weights, **options)``, tried on an image.

    Raises:
        InputError: It cannot be imported, is no :class:`Backbone` or cannot be called so. The
            maker raises one where what is made has other feature maps than it says.
    """
    owner = f"backbone {path!r}"
    return _tried_backbone(owner, _load(owner, path, Backbone))


# Cached, as options.defaults is by the function it is asked about.
@functools.cache
def _tried_context(
    owner: str, make: Callable[..., nn.Module], reserved: Callable[..., object]
) -> Callable[..., nn.Module]:
    def maker(channels: int, **given: Any) -> nn.Module:
        # Whatever is drawn on trial, the unit that is used starts as it would without.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            _try_context(owner, _call(owner, make, channels, given), channels)
        return make(channels, **given)

    signature = _signature(owner, make, "channels")
    taken = sorted(signature.parameters.keys() & options.defaults(reserved).keys())
    if taken:
        raise InputError(
            f"{owner} has an option {taken[0]!r}, which the head around it has too; "
            "give it another name"
        )
    vars(maker)["__signature__"] = signature
    return maker


@functools.cache
def _tried_backbone(owner: str, make: Callable[..., nn.Module]) -> Callable[..., Backbone]:
    def maker(weights: Any, **given: Any) -> Backbone:
        backbone = _call(owner, make, weights, given)
        assert isinstance(backbone, Backbone)
        _try_backbone(owner, backbone)
        return backbone

    vars(maker)["__signature__"] = _signature(owner, make, "weights")
    return maker


def _load(owner: str, path: str, kind: type[nn.Module]) -> Callable[..., nn.Module]:
    """The class that a path leads to; nothing else is called, for a config may be a stranger's."""
    found = own.load(path)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise InputError(f"{owner} is {found!r:.60}; expected a class derived from {kind.__name__}")
    return found


def _signature(owner: str, make: Callable[..., nn.Module], first: str) -> inspect.Signature:
    """The signature of a maker without its first parameter."""
    signature = inspect.signature(make)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise InputError(f"{owner} takes no {first}; it is called as NAME({first}, **options)")
    return signature.replace(parameters=parameters[1:])


def _call(
    owner: str, make: Callable[..., nn.Module], first: Any, given: dict[str, Any]
) -> nn.Module:
    call = ", ".join([repr(first), *(f"{name}={value!r}" for name, value in given.items())])
    with _blamed(f"{owner} cannot be made by ({call})"):
        return make(first, **given)


def _try_context(owner: str, unit: nn.Module, channels: int) -> None:
    x = torch.randn(2, channels, *_MAP, requires_grad=True)
    shape = tuple(x.shape)
    with _blamed(f"{owner} fails on a map of shape {shape}"):
        y = unit.train()(x)
    if not isinstance(y, Tensor) or tuple(y.shape) != shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise InputError(f"{owner} makes {got} of a map of shape {shape}; it must keep the shape")
    if not y.is_meta and not y.isfinite().all():
        raise InputError(f"{owner} makes NaN or infinity of a random map; start it tamer")
    if y.requires_grad:
        torch.autograd.backward(y.sum())
    if x.grad is None:
        raise InputError(
            f"{owner} lets no gradient through to its input, so that nothing before it could "
            "learn; look for detach, no_grad or argmax"
        )
    learnt = {name: p for name, p in unit.named_parameters() if p.requires_grad}
    still = [name for name, parameter in learnt.items() if parameter.grad is None]
    if still and len(still) == len(learnt):
        raise InputError(f"{owner}: none of its parameters gets a gradient: {', '.join(still)}")
    if still:
        logger.warning("%s: no gradient reaches %s", owner, ", ".join(still))


def _try_backbone(owner: str, backbone: Backbone) -> None:
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    image = torch.empty(2, 3, _IMAGE, _IMAGE, device="meta")
    with _blamed(f"{owner} fails on an image of shape {(*image.shape,)}"):
        maps = functional_call(backbone, state, image)
    got = [(m.shape[1], m.shape[2]) for m in maps]
    side = -(-_IMAGE // backbone.native_stride)
    if [c for c, _ in got] != list(backbone.channels) or got[-1][1] != side:
        raise InputError(
            f"{owner} says channels {backbone.channels} and stride {backbone.native_stride}; of "
            f"{_IMAGE}×{_IMAGE} pixels it makes maps of (channels, height) {got}"
        )


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """An error of somebody's own code, other than the package's, becomes one that says ``what``."""
    try:
        yield
    except EmastudyError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {error}".partition("\n")[0]) from error

"""Context modules and backbones of one's own, by import path: each is tried before it is used."""

import functools
import inspect
import itertools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from emastudy import options, own
from emastudy.errors import InputError
from emastudy.networks.backbones import Backbone

logger = logging.getLogger(__name__)

# Height and width. The first is not square: a unit that swaps them is found out.
_MAPS = ((16, 12), (16, 16))
_IMAGES = ((64, 96), (64, 64))


def import_context(path: str, reserved: Callable[..., object]) -> Callable[..., nn.Module]:
    """The maker of a context module, called as ``maker(channels, **options)``.

    What it makes has been tried on random maps, in training and evaluation mode: it keeps shape and
    dtype, is finite, and lets gradients through that are not all zero, and its state_dict holds all
    that training changes. A parameter without a gradient, or chance in evaluation, is logged.

    Args:
        path: Import path of a class.
        reserved: The head that it is put into, whose options must have other names.

    Raises:
        InputError: It cannot be imported, is no ``nn.Module`` or cannot be called so. The maker
            raises one where what is made is not as above.
    """
    owner = f"head {path!r}"
    return _tried_context(owner, _load(owner, path, nn.Module), reserved)


def import_backbone(path: str) -> Callable[..., Backbone]:
    """The maker of a backbone, called as ``maker(weights, **options)``, tried in both modes.

    Raises:
        InputError: It cannot be imported, is no :class:`Backbone` or cannot be called so. The
            maker raises one where what is made has other feature maps than it says, or state
            beside its state_dict.
    """
    owner = f"backbone {path!r}"
    return _tried_backbone(owner, _load(owner, path, Backbone))


# Cached, as options.defaults is by the function it is asked about.
@functools.cache
def _tried_context(
    owner: str, make: Callable[..., nn.Module], reserved: Callable[..., object]
) -> Callable[..., nn.Module]:
    def maker(channels: int, **given: Any) -> nn.Module:
        # Whatever is drawn on trial, the unit that is used starts as it would without. Values are
        # looked at, so it is tried on real tensors also where the network is to be on meta ones.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            unit, fresh = (_call(owner, make, channels, given) for _ in range(2))
            _try_context(owner, unit, channels)
            _try_restoring(owner, unit, fresh, torch.randn(2, channels, *_MAPS[0]))
        return _call(owner, make, channels, given)

    signature = _signature(owner, make, "channels")
    taken = sorted(signature.parameters.keys() & options.defaults(reserved).keys())
    if taken:
        raise InputError(
            f"{owner} has an option {taken[0]!r}, which the head around it has too; "
            "give it another name"
        )
    _declare(maker, make, signature)
    return maker


@functools.cache
def _tried_backbone(owner: str, make: Callable[..., nn.Module]) -> Callable[..., Backbone]:
    def maker(weights: Any, **given: Any) -> Backbone:
        backbone = _call(owner, make, weights, given)
        assert isinstance(backbone, Backbone)
        _try_backbone(owner, backbone)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # As a run that resumes makes it, without the weights.
            unit, fresh = (_call(owner, make, None, given) for _ in range(2))
            _try_restoring(owner, unit, fresh, torch.randn(2, 3, *_IMAGES[0]))
        return backbone

    _declare(maker, make, _signature(owner, make, "weights"))
    return maker


def _declare(
    maker: Callable[..., nn.Module], make: Callable[..., nn.Module], signature: inspect.Signature
) -> None:
    """Let a maker have the options of what it makes, and their types."""
    vars(maker)["__signature__"] = signature
    maker.__annotations__ = dict(options.types(make))


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
    parameters = list(inspect.signature(make).parameters.values())[1:]
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    if absent := [p.name for p in named if p.default is p.empty and p.name not in given]:
        raise InputError(
            f"{owner} cannot be made by ({call}): it is missing the option {absent[0]!r}; give it "
            f"(--head-options {absent[0]}=VALUE, or --backbone-options), or a default"
        )
    with own.blamed(f"{owner} cannot be made by ({call})"):
        made = make(first, **given)
        tensors = itertools.chain(made.named_parameters(), made.named_buffers())
        lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        raise InputError(
            f"{owner} leaves the shape of {', '.join(lazy)} to its first pass, and the optimizer "
            "wants it before: take nn.Conv2d instead of nn.LazyConv2d, and likewise"
        )
    return made


def _try_context(owner: str, unit: nn.Module, channels: int) -> None:
    for training, size in itertools.product((True, False), _MAPS):
        x = torch.randn(1 + training, channels, *size, requires_grad=training)
        shape = tuple(x.shape)
        where = f"a map of shape {shape} in {_mode(training)}"
        with own.blamed(f"{owner} fails on {where}"), torch.set_grad_enabled(training):
            y = unit.train(training)(x)
        if not isinstance(y, Tensor) or tuple(y.shape) != shape:
            got = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise InputError(f"{owner} makes {got} of {where}; it must keep the shape")
        if y.dtype != x.dtype:
            raise InputError(
                f"{owner} makes {_said(y.dtype)} of {where} in {_said(x.dtype)}; it must keep the "
                "dtype: return y.to(x.dtype)"
            )
        if not y.isfinite().all():
            raise InputError(
                f"{owner} makes NaN or infinity of a random map in {_mode(training)}; "
                "initialise it with smaller weights"
            )
        if training:
            _try_gradients(owner, unit, x, y)


def _try_gradients(owner: str, unit: nn.Module, x: Tensor, y: Tensor) -> None:
    if y.requires_grad:
        with own.blamed(f"{owner} fails to compute gradients"):
            # Of a random sum, for the plain sum of what is normalised depends on nothing.
            torch.autograd.backward(y, torch.randn_like(y))
    if not _moves(x):
        raise InputError(
            f"{owner} lets no gradient through to its input, or one that is 0 everywhere, so that "
            "nothing before it could learn; look for detach, no_grad, argmax or round"
        )
    learnt = {name: p for name, p in unit.named_parameters() if p.requires_grad}
    # Some may start at 0 and hold back the others' gradients, but not all at once.
    if learnt and not any(map(_moves, learnt.values())):
        names = ", ".join(learnt)
        raise InputError(f"{owner}: none of its parameters gets a gradient beside 0: {names}")
    still = [name for name, parameter in learnt.items() if parameter.grad is None]
    if still:
        logger.warning("%s: no gradient reaches %s", owner, ", ".join(still))


def _try_restoring(owner: str, unit: nn.Module, fresh: nn.Module, x: Tensor) -> None:
    """Refuse what its state_dict does not restore; say where evaluation is random.

    Args:
        unit: It is changed, as training would.
        fresh: Another one, made alike.
    """
    with own.blamed(f"{owner} fails after a step of training"), torch.no_grad():
        unit.eval()(x.clone())  # what it keeps of this pass must not outlive the step
        for parameter in unit.parameters():
            if parameter.requires_grad:  # a factor of 0 would hold back what stands behind it
                parameter.add_(0.02 * torch.randn_like(parameter))
        unit.train()(x.clone())
        once, again, other = (_evaluated(unit, x, seed) for seed in (0, 0, 1))
    if not _agree(once, again):
        raise InputError(
            f"{owner} gives two different outputs for the same input in evaluation mode, with the "
            "same random numbers: nothing that one pass changes may be used by the next"
        )
    if not _agree(once, other):
        logger.warning(
            "%s draws random numbers in evaluation mode: scores differ a little each time. If that "
            "is not meant, use nn.Dropout or F.dropout(x, p, self.training)",
            owner,
        )
    elif isinstance(once, Tensor) and not _agree(once[:1], _evaluated(unit, x[:1], 0)):
        logger.warning(
            "%s makes another output of an image alone than of the same in a batch, in evaluation "
            "mode: it mixes the images of a batch, and images are scored one by one",
            owner,
        )
    try:
        fresh.load_state_dict(unit.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{owner}: a new one cannot load the state_dict of one that was trained; make all "
            f"parameters and buffers in __init__, of their final shape. {reason}"
        ) from error
    with own.blamed(f"{owner} fails once it has loaded a state_dict"), torch.no_grad():
        loaded = _evaluated(fresh, x, 0)
    if not _agree(once, loaded):
        raise InputError(
            f"{owner} is not restored by its state_dict: a new one that has loaded that of a "
            "trained one gives another output for the same input in evaluation mode, and so would "
            "every checkpoint. Make what training changes, and what __init__ draws at random, a "
            "parameter or a buffer (self.register_buffer, persistent as by default), and a list of "
            "layers an nn.ModuleList"
        )


def _evaluated(unit: nn.Module, x: Tensor, seed: int) -> Any:
    """What it makes in evaluation mode of such random numbers; the caller has forked them."""
    torch.default_generator.manual_seed(seed)
    return unit.eval()(x.clone())


def _agree(one: Any, other: Any) -> bool:
    """Whether two outputs, tensors or sequences of them, are equal up to rounding."""
    try:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    except AssertionError:
        return False
    return True


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _moves(tensor: Tensor) -> bool:
    return tensor.grad is not None and bool(tensor.grad.any())


def _try_backbone(owner: str, backbone: Backbone) -> None:
    """Try it as it is, with its weights; its buffers and modes are left alone."""
    modes = {module: module.training for module in backbone.modules()}
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    for training, (height, width) in itertools.product((True, False), _IMAGES):
        with (
            own.blamed(f"{owner} fails on an image of {height}×{width} in {_mode(training)}"),
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
        ):
            state = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
            image = torch.randn(1 + training, 3, height, width, device=device)
            maps = functional_call(backbone.train(training), state, image)
            dtypes = {m.dtype for m in maps} - {image.dtype}
        got = [tuple(m.shape[1:]) for m in maps]
        last = tuple(-(-side // backbone.native_stride) for side in (height, width))
        if [c for c, *_ in got] != list(backbone.channels) or got[-1][1:] != last:
            raise InputError(
                f"{owner} says channels {backbone.channels} and stride {backbone.native_stride}; "
                f"of {height}×{width} pixels it makes maps of (channels, height, width) {got} in "
                f"{_mode(training)}"
            )
        if dtypes:
            raise InputError(
                f"{owner} makes maps in {', '.join(map(_said, dtypes))} of images in "
                f"{_said(image.dtype)}; it must keep the dtype: return maps as m.to(image.dtype)"
            )
    for module, mode in modes.items():
        module.training = mode


def _mode(training: bool) -> str:
    return "training mode" if training else "evaluation mode"

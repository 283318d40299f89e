"""What a network costs: multiply-adds, parameters, activation memory, time.

Counting runs on the meta device, where tensors have shapes and no data: a ResNet-152 at 1025×1025
needs no memory. Timing runs where the module and its input are.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from emastudy import options, own
from emastudy.errors import InputError
from emastudy.networks import EMAU, evaluation_mode
from emastudy.options import NonNegativeInt, PositiveInt

Tensors = dict[str, Tensor]

_BATCH_NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
)


@dataclass(frozen=True)
class Cost:
    """Costs of one image's forward pass in float32."""

    #: Multiply-adds of convolutions and matrix products, half of what ``torch.utils.flop_counter``
    #: counts. It does not see, nor does this: additions of biases, batch norm, softmax, pooling,
    #: resizing and other element-wise work.
    macs: int
    convolution_macs: int  #: Those of them that convolutions do.
    #: Parameters, frozen ones included, and the bases μ^(0) of EM attention, which are learnt
    #: though no optimiser touches them. Batch norm's running statistics are not.
    params: int
    #: Tensors that training keeps for the backward pass, each counted once; weights and the input
    #: left out.
    activation_bytes: int
    #: Largest sum of tensors alive at one moment of inference; weights and the input left out, and
    #: so is what a kernel allocates for itself. Attention over all pixel pairs counts with its N×N
    #: matrix, which fused kernels avoid.
    peak_bytes: int
    #: The same for each part by its dotted name. A part's ``activation_bytes`` are of tensors first
    #: kept while it ran; its ``peak_bytes`` the network's while it ran.
    parts: Mapping[str, "Cost"] = field(default_factory=dict)


@options.checked
def measure(
    network: nn.Module,
    size: tuple[PositiveInt, PositiveInt],
    *,
    channels: PositiveInt = 3,
    folded: bool = False,
) -> Cost:
    """Count a network's costs without running it.

    Args:
        network: Any module that takes one (1, channels, H, W) tensor. It is left as it is; it may
            lie on the meta device.
        size: (H, W) of the input.
        folded: Count EMA units as they run, their first conv folded into the bases (see ``EMAU``).
            The default is to count them as they are written down, as the paper does.

    Returns:
        The whole network's cost, with its parts down to two levels.

    Raises:
        InputError: A part of one's own fails without values.
    """
    state = {
        name: torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        for name, value in [*network.named_parameters(), *network.named_buffers()]
    }
    # Two for training: batch norm on a single pooled value would refuse one.
    image, images = (torch.empty(batch, channels, *size, device="meta") for batch in (1, 2))
    with evaluation_mode(network), _folded(network, folded):
        try:
            flops, peak = _in_inference(network, state, image)
            kept = _in_training(network, state, images)
        except Exception as error:
            if fault := own.fault(error):
                raise InputError(f"the cost cannot be counted: {fault}") from error
            raise
    costs, root = {}, type(network).__name__
    for name, part in network.named_modules():
        if name.count(".") < 2 and not isinstance(part, nn.ModuleList | nn.ModuleDict):
            path = f"{root}.{name}" if name else root  # what torch's trackers call it
            costs[name] = Cost(
                macs=sum(flops.get(path, {}).values()) // 2,
                convolution_macs=flops.get(path, {}).get(torch.ops.aten.convolution, 0) // 2,
                params=count_parameters(part),
                activation_bytes=kept[path] // 2,
                peak_bytes=peak[path],
            )
    whole = costs.pop("")
    return dataclasses.replace(whole, parts=costs)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, EM attention's bases included, see :class:`Cost`."""
    bases = [unit.bases for unit in module.modules() if isinstance(unit, EMAU)]
    return sum(tensor.numel() for tensor in {*module.parameters(), *bases} if tensor is not None)


@options.checked
def seconds(run: Callable[[], Any], *, repeats: PositiveInt = 5) -> float:
    """Median time of a call, after one that is not counted, to the end of its work on a GPU."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return float(median(times[1:]))


def multiply_adds(run: Callable[[], Any]) -> int:
    """Multiply-adds of the products in a call, which may be one on the meta device."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def peak_bytes(run: Callable[[], Any], *inputs: Tensor) -> int:
    """Largest sum of tensors alive at one moment of a real call, beyond ``inputs``.

    On a GPU it is the allocator's own peak. On a CPU it is the sum over tensors; what a kernel
    allocates for itself is not seen.
    """
    if inputs and inputs[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    live = _Live(inputs, ModuleTracker())
    with live:
        run()
    return live.peak["Global"]


@options.checked
def table(network: nn.Module, size: PositiveInt, *, repeats: NonNegativeInt = 0) -> str:
    """:func:`measure` of a network and its parts as text, and the median time of so many passes."""
    whole = measure(network, (size, size))
    lines = [f"{'part':<20}{'GMACs':>10}{'M params':>10}{'kept MiB':>10}{'peak MiB':>10}"]
    for name, part in {"whole": whole, **whole.parts}.items():
        lines.append(
            f"{name:<20}{part.macs / 1e9:>10.2f}{part.params / 1e6:>10.3f}"
            f"{part.activation_bytes / 2**20:>10.1f}{part.peak_bytes / 2**20:>10.1f}"
        )
    lines += ["", "kept: for the backward pass of one image; peak: in inference; both float32"]
    if repeats:
        image = torch.randn(1, 3, size, size)
        with evaluation_mode(network), torch.inference_mode():
            median_time = seconds(lambda: network(image), repeats=repeats)
        lines.append(f"forward pass: {median_time:.3f} s, median of {repeats}")
    return "\n".join(lines)


@contextmanager
def _folded(network: nn.Module, folded: bool) -> Iterator[None]:
    """Within the context EMA units fold their first conv into the bases, or do not."""
    folds = {unit: unit.fold for unit in network.modules() if isinstance(unit, EMAU)}
    try:
        for unit, fold in folds.items():
            unit.fold = fold and folded
        yield
    finally:
        for unit, fold in folds.items():
            unit.fold = fold


def _in_inference(
    network: nn.Module, state: Tensors, image: Tensor
) -> tuple[dict[str, dict[Any, int]], dict[str, int]]:
    """Floating-point operations by kind, and the peak of memory in bytes, of every module."""
    tracker, counter = ModuleTracker(), FlopCounterMode(display=False)
    live = _Live([image, *state.values()], tracker)
    with torch.no_grad(), _ShapesOfBatchNorm(), tracker, live, counter:
        functional_call(network.eval(), state, image)
    return counter.get_flop_counts(), live.peak


def _in_training(network: nn.Module, state: Tensors, images: Tensor) -> dict[str, int]:
    """Bytes that autograd keeps for the backward pass, of every module."""
    tracker = ModuleTracker()
    kept: Counter[str] = Counter()
    seen = {_ref(tensor).cdata for tensor in [images, *state.values()]}
    alive = []  # a freed storage's key may be used again

    def pack(tensor: Tensor) -> Tensor:
        key = _ref(tensor).cdata
        if key not in seen:
            seen.add(key)
            alive.append(tensor.detach())
            kept.update(dict.fromkeys(tracker.parents, tensor.untyped_storage().nbytes()))
        return tensor

    keeping = saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), _ShapesOfBatchNorm(), tracker, keeping:
        functional_call(network.train(), state, images)
    return kept


def _ref(tensor: Tensor) -> Any:
    """Weak reference to a tensor's storage: equal for views of one another."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


class _ShapesOfBatchNorm(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Batch norm on the meta device by its shapes alone.

    torch decomposes it into a dozen operations there, which takes half of a network's counting.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _BATCH_NORMS:
            x = args[0]
            mean, deviation = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
            return torch.empty_like(x), mean, deviation
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up the storages alive after every operation; keeps the largest sum by running module."""

    def __init__(self, known: Iterable[Tensor], tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: Counter[str] = Counter()
        self._tracker = tracker
        # Held, so that no other storage gets the same key.
        self._known = {ref.cdata: ref for ref in map(_ref, known)}
        self._alive: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                ref = _ref(tensor)
                if ref.cdata not in self._known:
                    self._alive[ref.cdata] = (ref, tensor.untyped_storage().nbytes())
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        total = sum(size for _, size in self._alive.values())
        for module in self._tracker.parents:
            self.peak[module] = max(self.peak[module], total)
        return result

"""What the EMA unit needs of graphs, made by autograd or by those who trace, export and compile."""

from typing import Any

import torch
from torch import Tensor

from emastudy.em.iteration import is_tracing


def _is_exporting_in_2_6() -> bool:
    """With ``strict=False``; with True, torch 2.6's default, ``fold`` has to be set to False."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


# New in torch 2.7.
_is_exporting = getattr(torch.compiler, "is_exporting", _is_exporting_in_2_6)


def for_any_size() -> bool:
    """Whether a graph is made that is to serve maps of other sizes than the one before it."""
    return is_tracing() or _is_exporting()


def is_for_several_sizes(features: Tensor) -> bool:
    """Whether a graph is exported for maps of other heights or widths, too, as was asked for."""
    if not _is_exporting():
        return False
    from torch.fx.experimental import symbolic_shapes  # slow to import

    # Older versions of torch cannot tell.
    is_fixed = getattr(symbolic_shapes, "has_static_value", lambda size: True)
    height, width = features.shape[-2:]
    return not (is_fixed(height) and is_fixed(width))


def is_making_a_graph() -> bool:
    """Whether a graph is made, whose compiler chooses layouts itself."""
    return torch.compiler.is_compiling() or for_any_size()


def pool_any_size(image: Tensor, cells: tuple[int, int]) -> Tensor:
    """adaptive_avg_pool2d as two matrix products, which ONNX, too, has for maps of any size."""

    def weights(size: int, count: int) -> Tensor:
        # Counted from ones that follow the image to any device; a graph would keep arange's.
        place, cell = (image.new_ones(n, dtype=torch.long).cumsum(0) - 1 for n in (size, count))
        begin, end = cell * size // count, ((cell + 1) * size + count - 1) // count
        inside = (begin[:, None] <= place) & (place < end[:, None])
        return (inside / inside.sum(dim=1, keepdim=True)).to(image.dtype)

    rows, columns = map(weights, image.shape[-2:], cells)
    return rows @ image @ columns.T


@torch.library.custom_op("emastudy::keep", mutates_args=())
def keep(buffer: Tensor) -> Tensor:
    """A copy that a compiled graph keeps for its backward pass.

    A ``clone`` it makes again there, from a buffer that has moved since (torch 2.14: #197039).
    """
    return buffer.clone()


@keep.register_fake
def _(buffer: Tensor) -> Tensor:
    return torch.empty_like(buffer)


class ChannelsFirst(torch.autograd.Function):
    """A channels_last map in ordinary layout; its gradient is laid out the other way.

    The batch norm before it wants the gradient like its input, or is several times slower. And
    torch copies transposed matrices in tiles, but batches of them number by number.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        output = torch.empty_like(x, memory_format=torch.contiguous_format)
        for one, other in zip(output.flatten(2), x.flatten(2), strict=True):
            one.copy_(other)
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The same gradient, channels_last."""
        return gradient.contiguous(memory_format=torch.channels_last)


class Unreached(torch.autograd.Function):
    """Return the first argument; tie the others to the graph, without a gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *parameters: Tensor) -> Tensor:
        """A view of the output."""
        ctx.others = len(parameters)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient to the output alone."""
        return gradient, *[None] * ctx.others

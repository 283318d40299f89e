"""Context modules that EMA is compared with. Each maps (B, C, H, W) to the same shape."""

from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy import options
from emastudy.errors import InputError
from emastudy.networks.layers import as_map, batch_norm, pixels
from emastudy.options import PositiveInt

Kernel = Literal["embedded_gaussian", "dot"]


class AttentionBlock(nn.Module, ABC):
    r"""A block of attention, but for its weighted mean, :meth:`attend`.

    .. math:: Y = X + \mathrm{BN}\big(W_o\, \mathrm{attend}(Q, K, V)\big)

    Q, K and V are 1×1 convs of X to half the channels.

    Args:
        channels: C, even.
        zero_init: The batch norm starts at 0, so that the block begins as the identity, else at 1.
    """

    @options.checked
    def __init__(self, channels: PositiveInt, *, zero_init: bool = True) -> None:
        super().__init__()
        if channels % 2:
            raise InputError(f"channels is {channels}; the block halves it: use an even C")
        inner = channels // 2
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = batch_norm(channels, zero_init)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend over all pixels and add to the input."""
        y = self.attend(self.query(features), self.key(features), self.value(features))
        change: Tensor = self.norm(self.out(as_map(y, features)))
        return features + change

    @abstractmethod
    def attend(
        self,
        query: Float[Tensor, "b d h w"],
        key: Float[Tensor, "b d h w"],
        value: Float[Tensor, "b d h w"],
    ) -> Float[Tensor, "b n d"]:
        """Every pixel's mean of the values."""


class NonLocal(AttentionBlock):
    r"""Non-local block: every pixel becomes a mean over all pixels, weighted by similarity.

    .. math:: y_i = x_i + \mathrm{BN}\Big(W_o \sum_j
        \frac{f(x_i, x_j)}{\mathcal C(x_i)}\, g(x_j)\Big), \quad
        f = \exp\big(\theta(x_i)^\top \phi(x_j)\big) \text{ or } \theta(x_i)^\top \phi(x_j)

    θ, φ and g are 1×1 convs to C/2 channels; 𝒞 is Σ_j f for the embedded Gaussian (a softmax
    over j) and N for the dot product. The Gaussian goes through
    ``scaled_dot_product_attention`` with scale 1, so the N×N matrix is never stored where the
    device has a fused kernel for it. The dot product is θ(X) (φ(X)ᵀ g(X)) / N, linear in N.

    Args:
        channels: C, even.
        kernel: f, "embedded_gaussian" or "dot".
        zero_init: See :class:`AttentionBlock`.

    Raises:
        InputError: ``channels`` is odd, or ``kernel`` is unknown.

    Source: Wang et al., "Non-local Neural Networks", CVPR 2018, Eqs 1, 3, 4 and 6. The batch
    norm starts at zero there, so that the block starts as the identity; so it does here.
    """

    @options.checked
    def __init__(
        self, channels: PositiveInt, *, kernel: Kernel = "embedded_gaussian", zero_init: bool = True
    ) -> None:
        super().__init__(channels, zero_init=zero_init)
        self.kernel = kernel

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Similarity to all pixels, and what they hold."""
        # Contiguous pixels: the fused kernels want them. No copy where the map is channels_last.
        query, key, value = (pixels(x).contiguous().unsqueeze(1) for x in (query, key, value))
        if self.kernel == "dot":
            y = query @ (key.mT @ value / key.shape[-2])
        else:
            y = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return y.squeeze(1)


class DoubleAttention(nn.Module):
    r"""A² block: gather the image into K vectors, then hand every pixel a mixture of them.

    .. math:: y = x + \mathrm{BN}\Big(W_o
        \big[\phi(X)\, \mathrm{softmax}_n(\theta(X))^\top\big]
        \mathrm{softmax}_k(\rho(X))\Big)

    θ and ρ are 1×1 convs to K channels, φ one to C/4. The first softmax runs over the N pixels
    (gather), the second over the K vectors (distribute). With φ the identity, ρ = λ X μ^(0)ᵀ,
    z = softmax_k(ρ) and gather weights z_nk / Σ_m z_mk, what stands in the outer bracket is one
    iteration of EM attention without bases normalisation.

    Args:
        channels: C, a multiple of 4.
        num_bases: K, number of gathered vectors.
        zero_init: See :class:`AttentionBlock`.

    Raises:
        InputError: ``channels`` is no multiple of 4.

    Source: Chen et al., "A²-Nets: Double Attention Networks", NeurIPS 2018, Eq. 6. Differs: K is
    free and 64 by default, as EMA's; there it is C/4, like φ's width. The batch norm starts at
    zero, like :class:`NonLocal`'s.
    """

    @options.checked
    def __init__(
        self, channels: PositiveInt, num_bases: PositiveInt = 64, *, zero_init: bool = True
    ) -> None:
        super().__init__()
        if channels % 4:
            raise InputError(
                f"channels is {channels}; the A² block quarters it: use a multiple of 4"
            )
        self.gather = nn.Conv2d(channels, num_bases, 1)
        self.distribute = nn.Conv2d(channels, num_bases, 1)
        self.value = nn.Conv2d(channels, channels // 4, 1)
        self.out = nn.Conv2d(channels // 4, channels, 1, bias=False)
        self.norm = batch_norm(channels, zero_init)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Gather, distribute and add to the input."""
        over_pixels = self.gather(features).flatten(2).float().softmax(dim=2)  # (B, K, N)
        over_bases = self.distribute(features).flatten(2).float().softmax(dim=1)  # (B, K, N)
        value = self.value(features).flatten(2)  # (B, C/4, N)
        gathered = value @ over_pixels.to(value.dtype).transpose(1, 2)  # (B, C/4, K)
        y = (gathered @ over_bases.to(value.dtype)).unflatten(2, features.shape[-2:])
        change: Tensor = self.norm(self.out(y))
        return features + change


class NoAttention(nn.Module):
    r"""The control: the EMA unit without EM, in which every pixel keeps its own features.

    .. math:: Y = \mathrm{ReLU}\big(X + \mathrm{BN}(W_2\, \mathrm{ReLU}(W_1 X))\big)

    It has the unit's convs, norm, residual and start, and no pixel hears of another: what it
    scores over no module at all is not context.

    Args:
        channels: C.
        zero_init: The batch norm starts at 0, so that the block begins as ReLU(X), else at 1.

    Source: none; it belongs to this study. W_1 learns here, as under the unit's "unrolled".
    """

    @options.checked
    def __init__(self, channels: PositiveInt, *, zero_init: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = batch_norm(channels, zero_init)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change every pixel by itself."""
        return F.relu(features + self.norm(self.conv2(F.relu(self.conv1(features)))))

"""Context modules that EMA is compared with. Each maps (B, C, H, W) to the same shape.

Floor: networks (imports torch).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class NonLocal(nn.Module):
    r"""Non-local block with the embedded Gaussian kernel.

    .. math:: y_i = x_i + \mathrm{BN}\Big(W_o \sum_j
        \mathrm{softmax}_j\big(\theta(x_i)^\top \phi(x_j)\big)\, g(x_j)\Big)

    θ, φ and g are 1×1 convs to C/2 channels. The attention goes through
    ``scaled_dot_product_attention`` with scale 1, so the N×N matrix is never stored where the
    device has a fused kernel for it.

    Args:
        channels: C, even.

    Raises:
        ValueError: ``channels`` is odd.

    Source: Wang et al., "Non-local Neural Networks", CVPR 2018, Eqs 1, 3 and 6. The batch
    norm starts at zero there, so that the block starts as the identity; so it does here.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(
                f"channels is {channels}; the non-local block halves it: use an even C"
            )
        inner = channels // 2
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend over all pixels and add to the input."""
        query, key, value = (
            conv(features).permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)
            for conv in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        y = y.transpose(1, 2).reshape(len(y), -1, *features.shape[-2:])
        attended: Tensor = self.norm(self.out(y))
        return features + attended

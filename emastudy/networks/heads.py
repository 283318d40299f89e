"""Heads: a backbone's feature maps to class logits, at the last map's resolution or finer.

All share one interface: ``maker(in_channels, num_classes, **options)`` makes a module that maps
the list of feature maps, of so many channels each, to so many logits. A head that reads other maps
than the last says so in ``levels``, their places in the backbone's list. ``dropout`` is, for all of
them, the probability with which a whole channel is dropped before the classifier. ``HEADS`` has
them by name.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from emastudy import options as named
from emastudy.networks import after_ema
from emastudy.networks.context import DoubleAttention, NoAttention, NonLocal
from emastudy.networks.emau import EMAU
from emastudy.networks.layers import Decoder, classifier, conv_bn_relu
from emastudy.networks.psa import PSAHead
from emastudy.networks.pyramids import DeepLabV3Head, PSPHead
from emastudy.networks.windows import WindowedEMAU
from emastudy.options import NonNegativeInt, PositiveInt, Probability


class ContextHead(nn.Module):
    """3×3 conv to ``channels`` → context module → 1×1 classifier, on the last feature map.

    With ``detail_channels``, DeepLabV3+'s decoder stands between the context module and the
    classifier, and takes its details from the first feature map.

    The networks compared differ in the context module alone: none (FCN), EMAU, non-local, A² and
    those of ``after_ema``.

    Args:
        context: Makes the context module, called as ``context(channels, **options)``.
        channels: Those that the context module sees, the paper's C.
        extra_channels: Those of a further 3×3 conv-BN-ReLU after the context module, 256 in the
            released EMANet; 0 = none, as in the paper's Table 1.
        detail_channels: Those that the decoder takes of the first feature map, 48 in DeepLabV3+;
            0 = no decoder, as in the paper.

    Source: Li et al., ICCV 2019, Section 6.1; dropout from the released code; decoder from Chen et
    al., ECCV 2018.
    """

    @named.checked
    def __init__(
        self,
        context: Callable[..., nn.Module],
        in_channels: Sequence[int],
        num_classes: PositiveInt,
        *,
        channels: PositiveInt = 512,
        dropout: Probability = 0.1,
        extra_channels: NonNegativeInt = 0,
        detail_channels: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(in_channels[-1], channels)
        self.context = context(channels, **options)
        details = (channels, in_channels[0], detail_channels)
        self.decoder = Decoder(*details) if detail_channels else None
        self.levels = (0, -1) if detail_channels else (-1,)
        self.extra = conv_bn_relu(channels, extra_channels) if extra_channels else nn.Identity()
        self.classifier = classifier(extra_channels or channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        attended = self.context(self.reduce(features[-1]))
        if self.decoder is not None:
            attended = self.decoder(attended, features[0])
        logits: Tensor = self.classifier(self.extra(attended))
        return logits


HEADS: dict[str, Callable[..., nn.Module]] = {
    "a2": partial(ContextHead, DoubleAttention),
    "criss_cross": partial(ContextHead, after_ema.CrissCrossAttention),
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": partial(DeepLabV3Head, detail_channels=48),
    "efficient": partial(ContextHead, after_ema.EfficientAttention),
    "ema": partial(ContextHead, EMAU),
    "emanet_released": partial(ContextHead, EMAU, extra_channels=256),
    "external": partial(ContextHead, after_ema.ExternalAttention),
    "fcn": partial(ContextHead, nn.Identity),  # Long et al., CVPR 2015
    "hamburger": partial(ContextHead, after_ema.Hamburger),
    "no_attention": partial(ContextHead, NoAttention),
    "non_local": partial(ContextHead, NonLocal),
    "nystrom": partial(ContextHead, after_ema.NystromAttention),
    "ocr": after_ema.OCRHead,
    "psanet": PSAHead,
    "pspnet": PSPHead,
    "slots": partial(ContextHead, after_ema.SlotAttention),
    "windowed_ema": partial(ContextHead, WindowedEMAU),
}
#: Further names of heads.
ALIASES = {"emanet": "ema"}

"""The paper's tables, ours beside the published.

Floor: study.
"""

from typing import Any

import pandas as pd
import torch

from emastudy import networks
from emastudy.engine import cost
from emastudy.study import published

#: Rows of Table 1: head and its options. All stand on the released ResNet-101 (deep stem).
TABLE1_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "DeepLabV3": ("deeplabv3", {}),
    "DeepLabV3+": ("deeplabv3plus", {}),
    "PSANet": ("psanet", {}),
    "EMANet (256)": ("emanet", {"channels": 256}),
    "EMANet (512)": ("emanet", {}),
}


def table1(
    heads: dict[str, tuple[str, dict[str, Any]]] | None = None, *, size: int = 513
) -> pd.DataFrame:
    """Table 1's costs, counted by ``engine.cost`` on the meta device, beside the published.

    Args:
        heads: Method → (head, options); default: the paper's rows.
        size: Height and width of the input.

    Returns:
        Index = method; the first row is the backbone, the others are what a head adds. Columns:
        "gmacs", "convolution_gmacs", "mparams", "kept_mib" (tensors kept for the backward pass of
        one image), "peak_mib" (of the whole network, at inference), and, where the method is in
        the published table, "published_gmacs", "published_mparams" and "published_memory_mb".
    """
    rows = {}
    for method, (head, options) in (heads or TABLE1_HEADS).items():
        with torch.device("meta"):
            network = networks.build(
                head,
                backbone="resnet101",
                num_classes=21,
                output_stride=8,
                backbone_options={"deep_stem": True},
                **options,
            )
        whole = cost.measure(network, (size, size))
        rows["ResNet-101"] = _row(whole.parts["backbone"])
        rows[method] = _row(whole.parts["head"])
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    theirs = published.table1()[["gmacs", "mparams", "memory_mb"]].add_prefix("published_")
    return frame.join(theirs)


def _row(part: cost.Cost) -> dict[str, float]:
    return {
        "gmacs": part.macs / 1e9,
        "convolution_gmacs": part.convolution_macs / 1e9,
        "mparams": part.params / 1e6,
        "kept_mib": part.activation_bytes / 2**20,
        "peak_mib": part.peak_bytes / 2**20,
    }

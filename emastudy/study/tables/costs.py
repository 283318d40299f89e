"""The cost half of Table 1: counted beside the published, and measured module by module."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from emastudy import networks
from emastudy.engine import cost
from emastudy.networks import EMAU, DoubleAttention, NonLocal
from emastudy.study import published
from emastudy.study.recipes import METHODS
from emastudy.study.runs import benchmark_results


def table1_heads() -> dict[str, tuple[str, dict[str, Any]]]:
    """Rows of Table 1 in its order → head and options of the first method that stands beside it."""
    channels = networks.head_defaults("ema")["channels"]
    rows = {
        method.table1_row: (method.head, method.head_options(channels))
        for method in reversed(METHODS.values())
    }
    return {row: rows[row] for row in published.table1().index if row in rows}


def released_network(head: str, **options: Any) -> networks.SegmentationNetwork:
    """A head on the released ResNet-101 (deep stem) at output stride 8, on the meta device."""
    with torch.device("meta"):
        return networks.build(
            head,
            backbone="resnet101",
            num_classes=21,
            output_stride=8,
            backbone_options={"deep_stem": True},
            **options,
        )


def table1(
    heads: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None, *, size: int = 513
) -> pd.DataFrame:
    """Table 1's costs, counted by ``engine.cost`` on the meta device, beside the published.

    Args:
        heads: Method → (head, options), on the released ResNet-101; default: the paper's rows.

    Returns:
        Index = method; the first row is the backbone, the others are what a head adds. Columns:
        "gmacs", "convolution_gmacs", "mparams", "kept_mib" (tensors kept for the backward pass of
        one image), "peak_mib" (of the whole network, at inference), and, where the method is in
        the published table, "published_gmacs", "published_mparams" and "published_memory_mb".
    """
    rows = {}
    for method, (head, options) in (heads or table1_heads()).items():
        whole = cost.measure(released_network(head, **options), (size, size))
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


def measure_contexts(
    sides: Sequence[int],
    *,
    channels: int = 512,
    bases: Sequence[int] = (64,),
    repeats: int = 3,
    device: str = "cpu",
) -> pd.DataFrame:
    """Run EMA, A² and non-local attention on random feature maps and measure them.

    Args:
        sides: Heights and widths of the maps; N = side².
        bases: K of EMA and A²; non-local has none.
        repeats: Timed forward passes of one image each (inference, channels_last).

    Returns:
        One row a module, side and K: "module", "side", "N", "K" (0 for non-local), "seconds"
        (median), "peak_bytes" (of tensors beyond input and weights) and "stored_bytes": the same
        if the attention's N×N matrix is stored, which fused kernels avoid.
    """
    modules = [
        *(("EMA", k, EMAU(channels, k)) for k in bases),
        *(("A²", k, DoubleAttention(channels, k)) for k in bases),
        ("non-local", 0, NonLocal(channels)),
    ]
    rows = [
        {"module": name, "side": side, "N": side**2, "K": k}
        | _measured(module.eval().to(device), side, channels, repeats)
        for name, k, module in modules
        for side in sides
    ]
    return pd.DataFrame(rows)


def _measured(module: nn.Module, side: int, channels: int, repeats: int) -> dict[str, float]:
    module.to(memory_format=torch.channels_last)
    x = torch.randn(1, channels, side, side, device=next(module.parameters()).device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = cost.seconds(lambda: module(x), repeats=repeats)
        peak = cost.peak_bytes(lambda: module(x), x, *module.parameters(), *module.buffers())
    counted = cost.measure(module, (side, side), channels=channels, folded=True)
    return {"seconds": seconds, "peak_bytes": peak, "stored_bytes": counted.peak_bytes}


def benchmarked(name: str) -> tuple[pd.DataFrame, str]:
    """What the checkout keeps in ``benchmarks/results``, and on what machine; empty if nothing."""
    path = benchmark_results(name)
    if not path.is_file():
        return pd.DataFrame(), ""
    kept = json.loads(path.read_text(encoding="utf-8"))
    machine, versions = kept["machine"], kept["versions"]
    words = (
        f"{machine['processor']}, threads: {machine['threads']}, torch {versions['torch']}, "
        f"{kept['created'][:10]}, load {kept['load']['1 min']:.1f}"
    )
    return pd.DataFrame(kept["rows"]), words


def ways(rows: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Milliseconds of the ways that a benchmark compares, one row a setting, one column a way."""
    wide = rows.pivot_table("seconds", list(within), "way", sort=False)
    return (1000 * wide).rename_axis(columns="ms").round(1)

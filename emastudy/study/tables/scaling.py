"""Time and memory of the context modules alone, measured, against the number of pixels and bases.

Floor: study.
"""

from collections.abc import Sequence

import pandas as pd
import torch

from emastudy.engine import cost
from emastudy.networks import EMAU, DoubleAttention, NonLocal


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
        channels: C.
        bases: K of EMA and A²; non-local has none.
        repeats: Timed forward passes of one image each (inference, channels_last).
        device: "cpu" or "cuda".

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
    rows = []
    for name, k, module in modules:
        module.eval().to(device).to(memory_format=torch.channels_last)
        for side in sides:
            x = torch.randn(1, channels, side, side, device=device)
            x = x.contiguous(memory_format=torch.channels_last)

            def run(module: torch.nn.Module = module, x: torch.Tensor = x) -> torch.Tensor:
                result: torch.Tensor = module(x)
                return result

            with torch.no_grad():
                seconds = cost.seconds(run, repeats=repeats)
                peak = cost.peak_bytes(run, x, *module.parameters(), *module.buffers())
            stored = cost.measure(module, (side, side), channels=channels, folded=True).peak_bytes
            rows.append(
                {
                    "module": name,
                    "side": side,
                    "N": side**2,
                    "K": k,
                    "seconds": seconds,
                    "peak_bytes": peak,
                    "stored_bytes": stored,
                }
            )
    return pd.DataFrame(rows)

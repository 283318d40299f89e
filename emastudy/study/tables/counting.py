"""Table 1's costs against the published: ratios, definitions of rows, memory, growth, folding.

``costs`` are those of ``tables.table1``, ``measured`` those of ``tables.measure_contexts``.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from emastudy import EMAU
from emastudy.engine import cost
from emastudy.study.tables.costs import table1

#: A row of Table 1 is reproduced if no number of it is off by more.
ROUNDING = 0.006
#: Definitions that a row of Table 1 could have had: head and options.
DEFINITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "PSANet, all": ("psanet", {}),
    "PSANet, last conv of 512": ("psanet", {"channels": 512}),
    "PSANet, collect only": ("psanet", {"flow": "collect"}),
    "DeepLabV3+, all": ("deeplabv3plus", {}),
    "DeepLabV3+, no image pooling": ("deeplabv3plus", {"image_pooling": False}),
    "DeepLabV3+, 32 detail channels": ("deeplabv3plus", {"detail_channels": 32}),
    "DeepLabV3+, neither": ("deeplabv3plus", {"image_pooling": False, "detail_channels": 32}),
    "EMANet (512), all": ("emanet", {}),
    "EMANet (512), with the released extra conv": ("emanet", {"extra_channels": 256}),
}


def beside_published(costs: pd.DataFrame) -> pd.DataFrame:
    """Multiply-adds and parameters, ours, the published, and ours over the published."""
    table = pd.DataFrame(index=costs.index)
    for quantity in ("gmacs", "mparams"):
        theirs = f"published_{quantity}"
        table[[quantity, theirs]] = costs[[quantity, theirs]]
        table[f"{quantity}_ratio"] = costs[quantity] / costs[theirs]
    return table


def definitions(costs: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """What the rows of Table 1 would be under other definitions, see ``DEFINITIONS``.

    Returns:
        Index = definition; "gmacs", "convolution_gmacs" (without the products of attention weights
        and features), "mparams", and each over the published number.
    """
    counts = ["gmacs", "convolution_gmacs", "mparams"]
    tried = table1(DEFINITIONS, size=size).drop(index="ResNet-101")[counts]
    rows = costs.loc[[name.split(",")[0] for name in tried.index]]
    for count in counts:
        theirs = rows[f"published_{count.split('_')[-1]}"]
        tried[f"{count}_ratio"] = tried[count] / theirs.to_numpy()
    return tried


def closest_definitions(tried: pd.DataFrame) -> pd.DataFrame:
    """Of the definitions of each row the one that comes closest to the published numbers.

    Returns:
        Index = method; "definition", "counted" ("all products counted" or "convolutions only") and
        "miss", the larger share that multiply-adds or parameters are off by.
    """
    ways = {"all products counted": "gmacs", "convolutions only": "convolution_gmacs"}
    rows = [
        {
            "method": str(name).partition(",")[0],
            "definition": name,
            "counted": words,
            "miss": max(abs(row[f"{count}_ratio"] - 1), abs(row["mparams_ratio"] - 1)),
        }
        for name, row in tried.iterrows()
        for words, count in ways.items()
    ]
    table = pd.DataFrame(rows)
    return table.loc[table.groupby("method", sort=False)["miss"].idxmin()].set_index("method")


def memory(costs: pd.DataFrame) -> pd.DataFrame:
    """Memory for one image beside the published."""
    table = costs[["kept_mib", "peak_mib", "published_memory_mb"]]
    return table.assign(**{"kept / published": costs["kept_mib"] / costs["published_memory_mb"]})


def growth(measured: pd.DataFrame, *, least_side: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time and peak memory of the attention modules, for fits against a size.

    Args:
        least_side: Smaller maps are left out: there, fixed costs hide the growth.

    Returns:
        Times, with "milliseconds"; and memory, with "MiB", where non-local attention is both
        "fused" and "stored".
    """
    large = measured[measured["side"] >= least_side]
    fused = large.rename(columns={"peak_bytes": "MiB"}).replace({"non-local": "non-local, fused"})
    stored = large[large["module"] == "non-local"].rename(columns={"stored_bytes": "MiB"})
    both = pd.concat([fused, stored.replace({"non-local": "non-local, stored"})])
    times = large.assign(milliseconds=1000 * large["seconds"])
    return times, both.assign(MiB=both["MiB"] / 2**20)


def times_beside_another(measured: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds of each attention module by the side of the map, and non-local over EMA."""
    wide = measured.pivot(index="side", columns="module", values="seconds")
    milliseconds: pd.DataFrame = 1000 * wide
    table = milliseconds.round(2).add_suffix(", ms")
    table["non-local / EMA"] = (wide["non-local"] / wide["EMA"]).round(1)
    return table


def folding(
    sides: Sequence[int], *, channels: int, repeats: int, device: str = "cpu"
) -> pd.DataFrame:
    """What folding the unit's first conv into the EM iterations saves, by the side of the map."""
    rows = {}
    for side in sides:
        x = torch.randn(1, channels, side, side).to(device, memory_format=torch.channels_last)
        unit = EMAU(channels).eval().to(device).to(memory_format=torch.channels_last)
        row = {}
        for words, fold in (("as written", False), ("folded", True)):
            unit.fold = fold
            with torch.no_grad():
                counted = cost.measure(unit, (side, side), channels=channels, folded=fold)
                seconds = cost.seconds(partial(unit, x), repeats=repeats)
            row[f"10⁹ multiply-adds, {words}"] = counted.macs / 1e9
            row[f"ms, {words}"] = 1000 * seconds
        rows[side] = row
    table = pd.DataFrame.from_dict(rows, orient="index").sort_index(axis=1)
    table["saved, % of the time"] = 100 * (1 - table["ms, folded"] / table["ms, as written"])
    return table

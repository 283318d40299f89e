"""The one table of methods that are compared: what each is called, and what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from emastudy import networks
from emastudy.engine import RunConfig

#: EMA's gradient regimes in the order of all tables, as readers call them: the released code's,
#: the paper's story, ours.
REGIMES = {"detached": "detached", "unrolled": "unrolled", "one_step": "one-step"}


@dataclass(frozen=True)
class Method:
    """A context module in one setting.

    Attributes:
        label: What readers call it.
        head: Its head, see ``networks.build``.
        options: Options of the head.
        width: Share of the usual channels that it works on.
        table1_row: The row of the paper's Table 1 that it stands beside; "" = none.
    """

    label: str
    head: str
    options: Mapping[str, Any] = field(default_factory=dict)
    width: float = 1.0
    table1_row: str = ""

    def head_options(self, channels: int) -> dict[str, Any]:
        """Options of its head where the usual one has so many channels."""
        narrow = {"channels": round(self.width * channels)} if self.width != 1 else {}
        return {**self.options, **narrow}


def _ema(regime: str, *, half: bool = False) -> Method:
    return Method(
        label=f"EMA{' (half)' if half else ''}, {REGIMES[regime]}",
        head="ema",
        options={"gradient": regime},
        width=0.5 if half else 1.0,
        table1_row="EMANet (256)" if half else "EMANet (512)",
    )


#: The methods by a short name, in the order of all tables. EMA comes at the usual width and at half
#: of it, as in the paper's Table 1.
METHODS = {
    "fcn": Method("FCN", "fcn"),
    "non_local": Method("Non-local", "non_local"),
    "a2": Method("A²", "a2"),
    "pspnet": Method("PSPNet", "pspnet"),
    "deeplabv3": Method("DeepLabV3", "deeplabv3", table1_row="DeepLabV3"),
    "deeplabv3plus": Method("DeepLabV3+", "deeplabv3plus", table1_row="DeepLabV3+"),
    "psanet": Method("PSANet", "psanet", table1_row="PSANet"),
    **{f"ema_{regime}": _ema(regime) for regime in REGIMES},
    "ema_half_detached": _ema("detached", half=True),
    "ema_half_unrolled": _ema("unrolled", half=True),
}
#: What EMA is held against in the paper's Table 1.
TABLE1_RIVALS = tuple(m for m in METHODS.values() if m.table1_row and m.head != "ema")


def label_runs(runs: pd.DataFrame) -> pd.Series:
    """What readers call each run's head, with its gradient regime; options do not count.

    Args:
        runs: Records or measurements, see ``runs.load_records``.
    """
    regimes = runs.get("head.gradient", pd.Series(None, runs.index))
    return pd.Series(map(_label, runs["head"], regimes), runs.index)


def _label(head: str, regime: Any) -> str:
    options = {"gradient": regime} if isinstance(regime, str) else {}
    for method in METHODS.values():
        if (method.head, method.options, method.width) == (head, options, 1):
            return method.label
    return ", ".join([head, *options.values()])


def name_methods(runs: pd.DataFrame, methods: Mapping[str, Sequence[RunConfig]]) -> pd.DataFrame:
    """Records or measurements with a column "method", in the order of the methods.

    Args:
        runs: With the runs' ids as index or as column "id".
        methods: Label → configs, see ``tables.accuracy.table1_runs``.
    """
    names = {config.id: method for method, group in methods.items() for config in group}
    ids = runs["id"] if "id" in runs else runs.index.to_series()
    place = {method: number for number, method in enumerate(methods)}
    named = runs.assign(method=ids.map(names).to_numpy())
    return named.iloc[np.lexsort((named["seed"], named["method"].map(place)))]


def width(config: RunConfig) -> int:
    """Number of channels that a head's context module works on."""
    channels = {**networks.head_defaults(config.head), **config.head_options}["channels"]
    return int(str(channels))

"""Published numbers, as data. Nothing here was measured by us.

Floor: study.
"""

import pandas as pd

#: Where the numbers of Table 1 were taken from.
TABLE1_SOURCE = "Li et al., ICCV 2019, Table 1, as in the README of github.com/XiaLiPKU/EMANet"


def table1() -> pd.DataFrame:
    """Table 1: PASCAL VOC 2012 val, ResNet-101 at output stride 8, input 513×513.

    Returns:
        Index = method. Columns: "miou_ss" and "miou_ms" in percent (single scale; multi-scale
        and flip), "gmacs" in 10⁹ multiply-adds, "memory_mb" (the unit is printed "M"; what was
        measured is not said), "mparams" in millions. The backbone's row is absolute, the others
        are what the head adds to it.

    Source: ``TABLE1_SOURCE``.
    """
    nan = float("nan")
    columns = ["miou_ss", "miou_ms", "gmacs", "memory_mb", "mparams"]
    rows = {
        "ResNet-101": (nan, nan, 190.6, 2603.0, 42.6),
        "DeepLabV3": (78.51, 79.77, 63.4, 66.0, 15.5),
        "DeepLabV3+": (79.35, 80.57, 84.1, 99.3, 16.3),
        "PSANet": (78.51, 79.77, 56.3, 59.4, 18.5),
        "EMANet (256)": (79.73, 80.94, 21.1, 12.3, 4.87),
        "EMANet (512)": (80.05, 81.32, 43.1, 22.1, 10.0),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")

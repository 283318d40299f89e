"""Published numbers, as data. Nothing here was measured by us.

Every number has its source and how sure it is: "confirmed" (read in the paper's prose, the authors'
repository or its issues, or the code base named) or "recalled" (from memory, seen in no copy; show
it only as unverified). The tables and figures of the paper's text at hand were lost in extraction,
so no value was read off a plot.
"""

from collections.abc import Iterable

import pandas as pd

#: Where the numbers of Table 1 were taken from.
TABLE1_SOURCE = "Li et al., ICCV 2019, Table 1, as in the README of github.com/XiaLiPKU/EMANet"

_README = "README of github.com/XiaLiPKU/EMANet"
_ISSUES = "github.com/XiaLiPKU/EMANet/issues"
_MEMORY = "from memory, seen in no copy"


def table1() -> pd.DataFrame:
    """Table 1: PASCAL VOC 2012 val, ResNet-101 at output stride 8, input 513×513.

    Returns:
        Index = method. Columns: "miou_ss" and "miou_ms" in percent (single scale; multi-scale
        and flip), "gmacs" in 10⁹ multiply-adds, "memory_mb" (the unit is printed "M"; what was
        measured is not stated), "mparams" in millions. The backbone's row is absolute, the others
        are what the head adds to it. That DeepLabV3 and PSANet have the same mIoU looks like a
        slip of the table. All are "confirmed".

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


def table2() -> pd.DataFrame:
    """Table 2: PASCAL VOC 2012 test, as the server scores it.

    Returns:
        Index = method; columns "backbone", "miou" (percent), "source", "confidence".
    """
    return _methods(
        [
            ("GCN", "ResNet-152", 83.6),
            ("RefineNet", "ResNet-152", 84.2),
            ("Wide ResNet", "Wide ResNet-38", 84.9),
            ("PSPNet", "ResNet-101", 85.4),
            ("DeepLabV3", "ResNet-101", 85.7),
            ("PSANet", "ResNet-101", 85.7),
            ("EncNet", "ResNet-101", 85.9),
            ("DFN", "ResNet-101", 86.2),
            ("Exfuse", "ResNet-101", 86.2),
            ("IDW-CNN", "ResNet-101", 86.3),
            ("SDN", "DenseNet-161", 86.6),
            ("DIS", "ResNet-101", 86.8),
            ("EMANet", "ResNet-101", 87.7),
            ("DeepLabV3+", "Xception-65", 87.8),
            ("Exfuse", "ResNeXt-131", 87.9),
            ("MSCI", "ResNet-152", 88.0),
            ("EMANet", "ResNet-152", 88.2),
        ],
        f"Table 2, as in the {_README}",
    )


def table3() -> pd.DataFrame:
    """Table 3: PASCAL Context, 59 classes and background.

    Columns as :func:`table2`; "" for a backbone that is not known.
    """
    sure = _methods(
        [
            ("EMANet", "ResNet-101", 53.1),
            ("DANet", "ResNet-101", 52.6),
            ("EncNet", "ResNet-101", 51.7),
        ],
        "Table 3, confirmed by the papers that cite it",
    )
    recalled = _methods(
        [
            ("PSPNet", "", 47.8),
            ("DANet", "ResNet-50", 50.1),
            ("MSCI", "ResNet-152", 50.3),
            ("EMANet", "ResNet-50", 50.5),
            ("SGR", "", 50.8),
            ("CCL", "", 51.6),
            ("SGR+", "", 52.5),
        ],
        f"Table 3, {_MEMORY}",
        "recalled",
    )
    return pd.concat([sure, recalled]).sort_values("miou", kind="stable")


def table4() -> pd.DataFrame:
    """Table 4: COCO Stuff 10k, 171 classes; columns as :func:`table3`."""
    own = _methods([("EMANet", "ResNet-101", 39.9)], "the paper, Section 6.4")
    sure = _methods(
        [("DANet", "ResNet-101", 39.7), ("CCL", "", 35.7), ("RefineNet", "", 33.6)],
        "Table 4, confirmed by the papers that cite it",
    )
    recalled = _methods(
        [
            ("DANet", "ResNet-50", 37.2),
            ("DSSPN", "", 37.3),
            ("EMANet", "ResNet-50", 37.6),
            ("SGR", "", 39.1),
        ],
        f"Table 4, {_MEMORY}",
        "recalled",
    )
    return pd.concat([own, sure, recalled]).sort_values("miou", kind="stable")


def reimplementations() -> pd.DataFrame:
    """Independent re-implementations, single scale, each trained by its own code base.

    Returns:
        Columns "code", "dataset", "method", "backbone", "miou" (percent), "source",
        "confidence". Numbers compare within one code base only.
    """
    columns = ["code", "dataset", "method", "backbone", "miou", "source", "confidence"]
    scores = {
        ("sssegmentation", "VOC val"): {
            "FCN": (67.80, 70.59),
            "EMANet": (75.29, 76.43),
            "Non-local": (77.08, 78.89),
            "DeepLabV3": (77.72, 79.52),
            "PSPNet": (77.93, 79.04),
        },
        ("PaddleSeg", "VOC val"): {"EMANet": (78.60, 79.47), "PSPNet": (80.76, 80.22)},
        ("mmsegmentation", "Cityscapes val"): {"EMANet": (77.59, 79.10)},
    }
    rows = [
        (code, dataset, method, backbone, miou, f"model zoo of {code}", "confirmed")
        for (code, dataset), methods in scores.items()
        for method, pair in methods.items()
        for backbone, miou in zip(("ResNet-50", "ResNet-101"), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def reports() -> pd.DataFrame:
    """Scores of the released code or checkpoint: by its authors and by its users.

    Returns:
        Columns "who", "what", "dataset", "published" (what it should have been, percent; NaN if
        nothing was published for it), "miou" (what was got, percent), "source", "confidence".
    """
    columns = ["who", "what", "dataset", "published", "miou", "source", "confidence"]
    nan, val = float("nan"), "VOC val"
    rows = [
        ("authors", "released checkpoint, single scale", val, 80.05, 80.50, f"{_ISSUES}/22"),
        ("authors", "EMANet-101", val, 80.05, 80.99, _README),
        ("user", "EMANet-101, trained anew", val, 80.05, 79.44, f"{_ISSUES}/22"),
        ("user", "EMANet-50, trained anew, T = 3", val, 78.52, 76.04, f"{_ISSUES}/37"),
        ("user", "trained at batch size 3", "COCO Stuff", nan, 34.55, f"{_ISSUES}/23"),
    ]
    return pd.DataFrame([(*row, "confirmed") for row in rows], columns=columns)


def _methods(
    rows: Iterable[tuple[str, str, float]], source: str, confidence: str = "confirmed"
) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["method", "backbone", "miou"]).set_index("method")
    return frame.assign(source=source, confidence=confidence)

"""``emastudy data``: the datasets."""

import sys
from pathlib import Path

import tyro

from emastudy import datasets, options, own
from emastudy.commands import Pairs
from emastudy.errors import InputError


def command(
    name: tyro.conf.Positional[str] = "",
    root: Path | None = None,
    download: bool = False,
    dataset_options: Pairs = (),
) -> None:
    """List the datasets, describe one, or check its files (which are never changed).

    For example: emastudy data voc2012 --root data --download

    Args:
        name: Name of the dataset; default: list them all. Or an import path of your own,
            my_module:MyData, which is opened and checked without a root, too, if it needs none.
        root: The dataset's folder: check counts, pairs, sizes and mask values, report every
            problem, and fail if there is one. Without it the dataset is only described.
        download: First fetch what is public into root and unpack it there.
        dataset_options: Further options of the dataset, e.g. background=true.
    """
    if not name:
        print("\n".join(f"{known:<16} {kind.title}" for known, kind in datasets.DATASETS.items()))
        return
    kind = datasets.find(name)
    if own.is_path(name) and not issubclass(kind, datasets.FileDataset):
        print(datasets.describe(kind))
        _finish(kind, name, datasets.check_own(name, root, options.parse(dataset_options)))
        return
    if root is None:
        if download:
            raise InputError("download needs root: the folder to put the dataset in")
        print(datasets.describe(kind))
        return
    if not issubclass(kind, datasets.FileDataset):
        raise InputError(f"dataset {name!r} is drawn, not read: it has no root")
    if download:
        if not kind.archives:
            raise InputError(f"{name} has no public address; lay it out by hand: {kind.layout}")
        datasets.download(kind.archives, root)
        if kind.by_hand:
            print(f"by hand: {kind.by_hand}")
    _finish(kind, root, datasets.check(kind, root, options.parse(dataset_options)))


def _finish(
    kind: type[datasets.SegmentationDataset], checked: str | Path, report: datasets.Report
) -> None:
    print(datasets.report_text(kind, report))
    if report.problems:
        sys.exit(f"emastudy: {checked}: {len(report.problems):,} problems")
    print(f"{checked}: no problems")

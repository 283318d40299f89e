"""Describing datasets and checking their roots: every problem, and nothing is changed."""

import contextlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from emastudy.datasets.base import IGNORE, SegmentationDataset
from emastudy.datasets.files import FileDataset, require_same_size
from emastudy.datasets.images import orientation, read_image
from emastudy.datasets.labels import Labels, Seen, count_mask, judge, look, one_class, shared_items
from emastudy.datasets.lists import Pair, missing_files
from emastudy.datasets.load import load, require_arguments
from emastudy.errors import EmastudyError


@dataclass
class Report:
    """What a check found."""

    counts: dict[str, int] = field(default_factory=dict)  #: Split → images its list names.
    absent: dict[str, str] = field(default_factory=dict)  #: Split that is not there → why.
    #: Split → sizes of its images and classes, where the dataset's class states neither.
    contents: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  #: One sentence each, naming the file.
    warnings: list[str] = field(default_factory=list)  #: What may be intended, one sentence each.


def check(
    kind: type[FileDataset], root: str | Path, options: Mapping[str, Any] | None = None
) -> Report:
    """Check a data root: counts, lists, pairs, sizes and mask values of every split.

    Every file is read, none is written. A problem does not end the check.

    Raises:
        ValueError: An option that the dataset does not have, or of another type.
    """
    report = Report()
    try:
        folder = kind.locate(Path(root))
        splits = kind.splits(folder)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return report

    report.warnings += [
        f"there is no split {split!r}, which training asks for; there are {', '.join(splits)}"
        for split in ("train", "val")
        if split not in splits
    ]

    opened = _open(report, kind, root, splits, options or {})
    report.problems += _shared_names(opened)
    labels, gone = _examine_files(report, opened)
    for dataset in opened.values():
        _judge_split(report, dataset, [labels[pair] for pair in dataset.pairs if pair in labels])
        report.warnings += _turned(dataset, gone)
    # What is wrong with the root as a whole is met again in every split.
    report.problems = list(dict.fromkeys(report.problems))
    return report


def check_own(
    name: str, root: str | Path | None = None, options: Mapping[str, Any] | None = None
) -> Report:
    """Check a dataset of one's own that is no :class:`FileDataset`, by at most 256 items a split.

    Args:
        name: Its import path. Of its splits those are opened that are usual.
    """
    report = Report()
    looked: list[Seen] = []
    for split in ("train", "val", "test"):
        try:
            dataset = load(name, split, root=root, **(options or {}))
        except EmastudyError as error:
            report.absent[split] = str(error)
            if split != "test":  # which nothing asks for
                report.problems.append(str(error))
            continue
        seen = look(dataset, 256)
        report.problems += seen.problems
        report.counts[split] = len(dataset)
        ends = dict.fromkeys(sorted(seen.sizes)[i] for i in (0, -1) if seen.sizes)
        shown = " to ".join(f"{height}×{width}" for height, width in ends)
        named = ", ".join(dataset.classes)
        report.contents[split] = f"{shown} pixels; {len(dataset.classes)} classes: {named}"
        if split == "test" and not any(any(labels.pixels) for labels in seen.labels):
            report.warnings.append(f"split {split!r} has no labels: it can only be predicted")
        else:
            _judge_split(report, dataset, seen.labels)
        shared = filter(None, (shared_items(other, seen) for other in looked))
        (report.warnings if split == "test" else report.problems).extend(shared)
        looked.append(seen)
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _open(
    report: Report,
    kind: type[FileDataset],
    root: str | Path,
    splits: Iterable[str],
    options: Mapping[str, Any],
) -> dict[str, FileDataset]:
    """The splits that can be opened; of the others the report says why not."""
    opened: dict[str, FileDataset] = {}
    for split in splits:
        arguments = {"root": root, "split": split, **options, "complete": False}
        require_arguments(kind, arguments)
        try:
            opened[split] = kind(**arguments)
        except (OSError, ValueError) as error:
            report.absent[split] = str(error)
            if split not in kind.optional or not isinstance(error, FileNotFoundError):
                report.problems.append(str(error))
        else:
            report.counts[split] = len(opened[split])
            report.problems += _list_problems(opened[split])
    return opened


def _examine_files(
    report: Report, opened: Mapping[str, FileDataset]
) -> tuple[dict[Pair, Labels], Container[Path]]:
    """What masks hold, and which files are missing; what splits share is read once."""
    readers = {pair: dataset for dataset in opened.values() for pair in dataset.pairs}
    needed = {pair.image: pair for pair in readers}
    needed |= {pair.mask: pair for pair in readers if pair.mask is not None}
    gone = {path: needed[path] for path in missing_files(list(needed))}
    report.problems += _missing_problems(gone)
    labels: dict[Pair, Labels] = {}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda item: _examine(item[1], item[0], gone), readers.items())
        bar = tqdm(found, total=len(readers), desc="check", unit="image", leave=False)
        for pair, (problems, counted) in zip(readers, bar, strict=True):
            report.problems += problems
            if counted is not None:
                labels[pair] = counted
    return labels, gone


def _list_problems(dataset: FileDataset) -> list[str]:
    """A wrong number of images, and names listed twice."""
    problems, where = [], f"split {dataset.split!r}"
    expected = dataset.counts.get(dataset.split, len(dataset))
    if expected != len(dataset):
        there = f"{len(dataset):,} images"
        problems.append(f"{where} has {there}; the official release has {expected:,}")
    count = Counter(dataset.names)
    last = {pair.name: pair for pair in dataset.pairs if count[pair.name] > 1}
    return problems + [f"{where} names {name} more than once{p.where}" for name, p in last.items()]


def _shared_names(opened: Mapping[str, FileDataset]) -> list[str]:
    """Images to score that are also trained on, or chosen by."""
    trained = {"val": ("train", "trainaug"), "test": ("train", "trainaug", "trainval", "val")}
    images = {split: {p.image: p.name for p in dataset.pairs} for split, dataset in opened.items()}
    return [
        f"{name} is in split {scored!r} and in {other!r}"
        for scored, others in trained.items()
        for other in others
        if scored in images and other in images
        for name in sorted(images[scored][p] for p in images[scored].keys() & images[other].keys())
    ]


def _missing_problems(missing: Mapping[Path, Pair]) -> list[str]:
    """One line per missing folder of several of them, and per other missing file."""
    parents = Counter(path.parent for path in missing if not path.parent.is_dir())
    folders = {folder: count for folder, count in parents.items() if count > 1}
    files = {path: pair for path, pair in missing.items() if path.parent not in folders}
    lines = [f"folder {name} is missing, with {count:,} files" for name, count in folders.items()]
    return lines + [f"{path} is missing{pair.where}" for path, pair in files.items()]


def _examine(
    dataset: FileDataset, pair: Pair, gone: Container[Path]
) -> tuple[list[str], Labels | None]:
    """Damage, foreign values and different sizes of one pair, and what its mask holds."""
    problems = []
    image, mask, labels = None, None, None
    try:
        if pair.image not in gone:
            image = read_image(pair.image)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    try:
        if pair.mask is not None and pair.mask not in gone:
            values = dataset.read_values(pair.mask)
            mask = dataset.to_classes(values, pair.mask)
            labels = count_mask(dataset, values, mask.numpy())
        if image is not None and mask is not None:
            require_same_size(pair, image, mask)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    return problems, labels


def _judge_split(report: Report, dataset: SegmentationDataset, labels: Sequence[Labels]) -> None:
    """Whether the masks that could be read can be learnt or scored."""
    if len(dataset.classes) < 2:
        report.problems.append(one_class(dataset))
    elif labels:
        whole = Labels.total(labels, len(dataset.classes))
        to_learn = dataset.split.startswith("train")
        wrong, odd = judge(dataset, dataset.split, whole, len(dataset), to_learn=to_learn)
        report.problems += wrong
        report.warnings += odd


def _turned(dataset: FileDataset, gone: Container[Path]) -> list[str]:
    """A warning of photographs whose masks may show them as stored instead of upright."""
    turned = []
    for pair in dataset.pairs:
        with contextlib.suppress(OSError, ValueError):
            if pair.image not in gone and pair.mask is not None and orientation(pair.image) > 1:
                turned.append(pair.image.name)
    if not turned:
        return []
    return [
        f"split {dataset.split!r}: photographs are turned upright by their EXIF orientation "
        f"({len(turned):,}, {turned[0]} the first): their masks must show them upright too, which "
        "equal sizes alone do not prove"
    ]


def describe(kind: type[SegmentationDataset]) -> str:
    """What a dataset's class states about it, as text."""
    lines = [kind.title or kind.name, ""]
    if issubclass(kind, FileDataset):
        if kind.all_classes:
            lines.append(f"classes  {len(kind.all_classes)}")
            values: dict[int, list[int]] = {}
            for value, index in sorted(kind.stored.items()):
                values.setdefault(index, []).append(value)
            for index, (name, color) in enumerate(zip(kind.all_classes, kind.colors, strict=True)):
                more = ", ..." if len(values[index]) > 1 else ""
                lines.append(f"  {f'{values[index][0]}{more}':>6}  {name:<18}#{bytes(color).hex()}")
            ignored = map(str, values.get(IGNORE, []))
            lines.append(f"ignored  {', '.join(ignored) or 'no value'} ({IGNORE} once read)")
        for split, count in kind.counts.items():
            optional = ", optional" if split in kind.optional else ""
            lines.append(f"split    {split}: {count:,} images{optional}")
        lines.append(f"layout   {kind.layout}")
        for archive in kind.archives:
            sum_ = f"MD5 {archive.md5}" if archive.md5 else "no published checksum"
            lines.append(f"fetches  {archive.url} ({sum_})")
        if kind.by_hand:
            lines.append(f"by hand  {kind.by_hand}")
    if kind.licence:
        lines.append(f"licence  {kind.licence}")
    if kind.citation:
        lines.append(f"cite     {kind.citation}")
    return "\n".join(lines)


def report_text(kind: type[SegmentationDataset], report: Report) -> str:
    """What a check found, as text: one line a split, one a problem or warning."""
    lines = []
    for split, count in report.counts.items():
        official = kind.counts.get(split) if issubclass(kind, FileDataset) else None
        more = f" of {report.contents[split]}" if split in report.contents else ""
        lines.append(f"{split:<10} {count:,}{f' of {official:,}' if official else ''} images{more}")
    lines += [f"{split:<10} absent: {reason}" for split, reason in report.absent.items()]
    lines += [f"- {problem}" for problem in report.problems]
    return "\n".join(lines + [f"- may be intended: {warning}" for warning in report.warnings])

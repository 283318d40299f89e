"""Describing datasets and checking their roots: every problem, and nothing is changed.

Floor: datasets.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from emastudy.datasets.base import IGNORE, SegmentationDataset
from emastudy.datasets.files import FileDataset, Pair, missing_files, read_image, require_same_size


@dataclass
class Report:
    """What a check found."""

    #: Split → images its list names.
    counts: dict[str, int] = field(default_factory=dict)
    #: Split that is not there → why.
    absent: dict[str, str] = field(default_factory=dict)
    #: One sentence each, naming the file.
    problems: list[str] = field(default_factory=list)


def check(
    kind: type[FileDataset], root: str | Path, options: Mapping[str, Any] | None = None
) -> Report:
    """Check a data root: counts, lists, pairs, sizes and mask values of every split.

    Every file is read, none is written. A problem does not end the check.

    Args:
        kind: The dataset's class.
        root: Its root, as for ``datasets.load``.
        options: Further options of the dataset.

    Raises:
        ValueError: An option that the dataset does not have.
    """
    report = Report()
    try:
        folder = kind.locate(Path(root))
        splits = kind.splits(folder)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return report

    opened: dict[str, FileDataset] = {}
    for split in splits:
        try:
            opened[split] = kind(root, split, complete=False, **(options or {}))
        except FileNotFoundError as error:
            report.absent[split] = str(error)
            if split not in kind.optional:
                report.problems.append(str(error))
            continue
        except (OSError, ValueError) as error:
            report.absent[split] = str(error)
            report.problems.append(str(error))
            continue
        except TypeError as error:
            raise ValueError(f"dataset {kind.name!r}: {error}") from error
        report.counts[split] = len(opened[split])
        report.problems += _list_problems(opened[split])
    report.problems += _shared_names(opened)

    # Splits share files; each is read once.
    readers = {pair: dataset for dataset in opened.values() for pair in dataset.pairs}
    missing = _missing(list(readers))
    report.problems += _missing_problems(missing)
    gone = set(missing)
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda item: _pair_problems(item[1], item[0], gone), readers.items())
        for problems in tqdm(found, total=len(readers), desc="check", unit="image", leave=False):
            report.problems += problems
    # What is wrong with the root as a whole is met again in every split.
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _list_problems(dataset: FileDataset) -> list[str]:
    """A wrong number of images, and names listed twice."""
    problems = []
    expected = dataset.counts.get(dataset.split, len(dataset))
    if expected != len(dataset):
        problems.append(
            f"split {dataset.split!r} has {len(dataset):,} images; the official release has "
            f"{expected:,}"
        )
    twice = [name for name, count in Counter(dataset.names).items() if count > 1]
    return problems + [f"split {dataset.split!r} names {name} more than once" for name in twice]


def _shared_names(opened: Mapping[str, FileDataset]) -> list[str]:
    """Images to score that are also trained on, or chosen by."""
    trained = {"val": ("train", "trainaug"), "test": ("train", "trainaug", "trainval", "val")}
    return [
        f"{name} is in split {scored!r} and in {other!r}"
        for scored, others in trained.items()
        for other in others
        if scored in opened and other in opened
        for name in sorted({*opened[scored].names} & {*opened[other].names})
    ]


def _missing(pairs: Sequence[Pair]) -> list[Path]:
    images = missing_files([pair.image for pair in pairs])
    return images + missing_files([pair.mask for pair in pairs if pair.mask is not None])


def _missing_problems(missing: Sequence[Path]) -> list[str]:
    """One line per missing file, or per missing folder."""
    folders = Counter(path.parent for path in missing if not path.parent.is_dir())
    return [
        *(f"folder {folder} is missing, with {count:,} files" for folder, count in folders.items()),
        *(f"{path} is missing" for path in missing if path.parent not in folders),
    ]


def _pair_problems(dataset: FileDataset, pair: Pair, gone: set[Path]) -> list[str]:
    """Damage, foreign values and different sizes of one pair."""
    problems = []
    read = []
    for path, reader in ((pair.image, read_image), (pair.mask, dataset.read_classes)):
        if path is not None and path not in gone:
            try:
                read.append(reader(path))
            except (OSError, ValueError) as error:
                problems.append(str(error))
    if len(read) == 2:
        try:
            require_same_size(pair, *read)
        except ValueError as error:
            problems.append(str(error))
    return problems


def describe(kind: type[SegmentationDataset]) -> str:
    """What a dataset's class states about it, as text."""
    lines = [kind.title, ""]
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
    lines.append(f"licence  {kind.licence}")
    if kind.citation:
        lines.append(f"cite     {kind.citation}")
    return "\n".join(lines)


def report_text(kind: type[FileDataset], report: Report) -> str:
    """What a check found, as text: one line a split, one a problem."""
    lines = []
    for split, count in report.counts.items():
        official = kind.counts.get(split)
        lines.append(f"{split:<10} {count:,}{f' of {official:,}' if official else ''} images")
    lines += [f"{split:<10} absent: {reason}" for split, reason in report.absent.items()]
    return "\n".join(lines + [f"- {problem}" for problem in report.problems])

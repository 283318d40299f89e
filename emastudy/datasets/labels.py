"""What the masks of a split hold, and whether it can be learnt and scored."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
from tqdm.auto import tqdm

from emastudy import own
from emastudy.datasets.base import IGNORE, SegmentationDataset, View, require_repeatable
from emastudy.datasets.files import FileDataset
from emastudy.datasets.fingerprint import evenly_spaced
from emastudy.datasets.lists import Pair
from emastudy.errors import EmastudyError, InputError

# Items of a dataset of one's own that are read before training; their images are read with them.
_ITEMS = 64


@dataclass(frozen=True)
class Labels:
    """Pixels counted in some masks of a split."""

    pixels: tuple[int, ...]  #: Per class, in the order of the dataset's classes.
    others: int = 0  #: Pixels of the benchmark's further classes, which this dataset does not keep.
    ignored: int = 0  #: Pixels whose value belongs to no class of the benchmark.
    masks: int = 1
    lone: int = 0  #: Masks in which a single class stands beside ignored pixels and nothing else.

    @property
    def seen(self) -> int:
        """Number of classes that occur."""
        return sum(count > 0 for count in self.pixels)

    @classmethod
    def total(cls, parts: Iterable["Labels"], classes: int) -> "Labels":
        """The sum over masks."""
        rows = [(*p.pixels, p.others, p.ignored, p.masks, p.lone) for p in parts]
        sums = np.array(rows, dtype=np.int64).reshape(-1, classes + 4).sum(axis=0)
        *pixels, others, ignored, masks, lone = map(int, sums)
        return cls(tuple(pixels), others, ignored, masks, lone)


@dataclass
class Seen:
    """What some items of a dataset of one's own hold."""

    split: str
    labels: list[Labels] = field(default_factory=list)  #: Of each mask that could be read.
    images: set[bytes] = field(default_factory=set)  #: Digests of the images.
    sizes: set[tuple[int, int]] = field(default_factory=set)  #: Heights and widths.
    problems: list[str] = field(default_factory=list)  #: One sentence each.


def count_mask(dataset: SegmentationDataset, values: np.ndarray, mask: np.ndarray) -> Labels:
    """Count the pixels of one mask, given as stored and as indices into the dataset's classes."""
    pixels = tuple(map(int, np.bincount(mask.ravel(), minlength=256)[: len(dataset.classes)]))
    ignored = int(np.isin(values, _ignored(dataset)).sum())
    others = mask.size - sum(pixels) - ignored
    lone = ignored > 0 and others == 0 and sum(count > 0 for count in pixels) == 1
    return Labels(pixels, others, ignored, lone=int(lone))


def learnable(
    train: SegmentationDataset, *scored: SegmentationDataset, masks: int = 256
) -> list[str]:
    """Check, by their masks alone, that there is something to learn and to score.

    At most ``masks`` masks of each dataset are read, evenly spaced; more only where those leave
    open whether a second class, or a labelled pixel, occurs at all. Of data of one's own that are
    no files fewer, for whole items are read, see :func:`look`. Scenes are not examined: their
    classes occur by construction.

    Returns:
        Warnings, one sentence each: classes that do not occur, ignored pixels that look like an
        object, images that are both trained on and scored.

    Raises:
        FileNotFoundError: A mask is missing.
        ValueError: There is a single class; a split has no labelled pixel, or one class beside
            ignored pixels; a mask cannot be read, or has a value that the dataset does not know; or
            what :func:`look` finds.
    """
    errors, warnings = [], []
    looked: dict[int, Seen] = {}  # by the dataset's id
    for dataset in (train, *scored):
        if len(dataset.classes) < 2:
            errors.append(one_class(dataset))
            continue
        source: SegmentationDataset = dataset
        if found := _pairs(dataset):
            source, pairs = found
            if all(pair.mask is None for pair in pairs):
                errors.append(f"split {dataset.split!r} has no masks: it can only be predicted")
                continue
            labels = _count(found[0], pairs, masks)
        elif _is_own(dataset):
            seen = looked[id(dataset)] = look(dataset, _ITEMS)
            if seen.problems:
                errors.append(seen.problems[0])
                continue
            labels = Labels.total(seen.labels, len(dataset.classes))
        else:
            continue
        wrong, odd = judge(source, dataset.split, labels, len(dataset), to_learn=dataset is train)
        errors += wrong
        warnings += odd
    if errors:
        raise InputError("; ".join(dict.fromkeys(errors)))
    shared = [shared_images(train, dataset) for dataset in scored]
    if trained := looked.get(id(train)):
        others = (looked.get(id(dataset)) for dataset in scored)
        shared += [shared_items(trained, other) for other in others if other]
    return warnings + list(filter(None, shared))


def look(dataset: SegmentationDataset, most: int) -> Seen:
    """Read at most so many items of a dataset of one's own, and further ones as :func:`learnable`.

    A problem is an item that cannot be read or is not the same twice, and images that are black
    because somebody has divided them by 255.
    """
    seen = Seen(dataset.split)
    brightest = 0

    def read(index: int) -> None:
        nonlocal brightest
        image, mask = (part.numpy() for part in dataset[index])
        brightest = max(brightest, int(image.max(initial=0)))
        seen.images.add(hashlib.sha256(image.tobytes()).digest())
        seen.sizes.add(mask.shape)
        seen.labels.append(count_mask(dataset, mask, mask))

    def attempt(what: Callable[[int], None], index: int) -> None:
        try:
            with own.blamed(f"dataset {dataset.name!r}: item {index} of split {dataset.split!r}"):
                what(index)
        except EmastudyError as error:
            seen.problems.append(str(error))

    total = len(dataset)
    first = evenly_spaced(total, most)
    rest = iter(sorted({*range(total)} - {*first}))
    while first and not seen.problems and Labels.total(seen.labels, len(dataset.classes)).seen < 2:
        for index in tqdm(first, f"look at {dataset.split}", unit="image", leave=False):
            attempt(read, index)
        first = [*islice(rest, most)]
    for index in evenly_spaced(total, 8):
        attempt(partial(require_repeatable, dataset), index)
    if seen.labels and brightest <= 1:
        seen.problems.append(
            f"dataset {dataset.name!r}: no value of {len(seen.labels):,} images of split "
            f"{dataset.split!r} is above 1; images are uint8 from 0 to 255: leave out a division "
            "by 255, or multiply by it"
        )
    return seen


def judge(
    dataset: SegmentationDataset, split: str, labels: Labels, total: int, *, to_learn: bool
) -> tuple[list[str], list[str]]:
    """What is wrong, and what is odd, with the masks of a split.

    Args:
        total: Number of its masks, of which some may have been left out.
    """
    names = dataset.classes
    looked = "" if labels.masks == total else f"{labels.masks:,} of "
    looked += f"its {total:,} masks"
    everything = sum(labels.pixels) + labels.others + labels.ignored
    values = ", ".join(map(str, _ignored(dataset)))
    beside = ""
    if labels.ignored:
        share = _percent(labels.ignored, everything)
        beside += f"; {share} of the pixels have the value {values}, ignored"
    if labels.others:
        beside += f"; {_percent(labels.others, everything)} are of classes left out"
    present = [name for name, count in zip(names, labels.pixels, strict=True) if count]
    absent = [name for name in names if name not in present]
    where = f"split {split!r}: "
    if not present:
        return [f"{where}no pixel of {looked} belongs to a class{beside}"], []
    if len(present) == 1 and (to_learn or labels.ignored):
        hint = ""
        if labels.ignored:
            hint = ": if that is an object, give it a class"
        if labels.ignored and isinstance(dataset, FileDataset):
            index = dataset.all_classes.index(present[0])
            value = next(value for value, stored in dataset.stored.items() if stored == index)
            pairs = f"{present[0]}: {value}, {absent[0]}: {dataset.ignored[-1]}"
            hint += f", as in classes: {{{pairs}}}"
        return [f"{where}{present[0]!r} is the only class in {looked}{beside}{hint}"], []
    odd = []
    if absent:
        shown = ", ".join(map(repr, absent[:5])) + ", …" * (len(absent) > 5)
        count = f"{len(absent)} of {len(names)} classes"
        odd.append(f"{where}{count}, {shown}, occur in none of {looked}{beside}")
    if labels.lone > labels.masks / 10:
        odd.append(
            f"{where}in {labels.lone:,} of {looked} the value {values}, ignored, stands beside "
            "one class alone: if it is an object, it is neither learnt nor scored there"
        )
    return [], odd


def one_class(dataset: SegmentationDataset) -> str:
    """Why a dataset of one class is of no use."""
    return (
        f"dataset {dataset.name!r} has one class, {dataset.classes[0]!r}: nothing can be told "
        "apart; name a second, for instance background, instead of ignoring its pixels"
    )


def shared_images(train: SegmentationDataset, scored: SegmentationDataset) -> str:
    """A warning if images are both trained on and scored, or nothing."""
    one, other = _pairs(train), _pairs(scored)
    if one is None or other is None:
        return ""
    shared = sorted({pair.image for pair in one[1]} & {pair.image for pair in other[1]})
    if not shared:
        return ""
    return (
        f"{len(shared):,} of the {len(other[1]):,} images of split {scored.split!r}, "
        f"{shared[0].name} the first, are in split {train.split!r} too: scores on them say "
        "nothing about new images"
    )


def shared_items(train: Seen, scored: Seen) -> str:
    """Likewise of images that were looked at, by their pixels."""
    shared = len(train.images & scored.images)
    if not shared:
        return ""
    return (
        f"{shared:,} of {len(scored.images):,} images looked at of split {scored.split!r} are in "
        f"split {train.split!r} too: scores on them say nothing about new images"
    )


def _ignored(dataset: SegmentationDataset) -> Sequence[int]:
    """The mask values that belong to no class."""
    return dataset.ignored if isinstance(dataset, FileDataset) else (IGNORE,)


def _is_own(dataset: SegmentationDataset) -> bool:
    """Whether a dataset, or what is under a view, is of a class that is not the package's."""
    while isinstance(dataset, View):
        dataset = dataset.dataset
    return not type(dataset).__module__.startswith("emastudy.")


def _pairs(dataset: SegmentationDataset) -> tuple[FileDataset, list[Pair]] | None:
    """The files under a dataset, if it reads files."""
    indices: Sequence[int] = range(len(dataset))
    while isinstance(dataset, View):
        indices = [dataset.indices[index] for index in indices]
        dataset = dataset.dataset
    if not isinstance(dataset, FileDataset):
        return None
    return dataset, [dataset.pairs[index] for index in indices]


def _count(dataset: FileDataset, pairs: list[Pair], masks: int) -> Labels:
    """Count evenly spaced masks, and further ones until two classes have been seen."""

    def count(pair: Pair) -> Labels:
        if pair.mask is None:
            return Labels((0,) * len(dataset.classes))
        values = dataset.read_values(pair.mask)
        return count_mask(dataset, values, dataset.to_classes(values, pair.mask).numpy())

    first = evenly_spaced(len(pairs), masks)
    rest = iter(sorted({*range(len(pairs))} - {*first}))
    labels = Labels.total([], len(dataset.classes))
    with ThreadPoolExecutor() as pool:
        while first and labels.seen < 2:
            parts = pool.map(count, [pairs[index] for index in first])
            labels = Labels.total([labels, *parts], len(dataset.classes))
            first = [*islice(rest, masks)]
    return labels


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"

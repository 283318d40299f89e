"""Which data a run saw: enough to tell two datasets apart, small enough to be kept with a run."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emastudy.errors import InputError


@dataclass(frozen=True)
class Fingerprint:
    """What a split holds; it stays the same where the files are copied or moved.

    ``dataclasses.asdict`` makes JSON of it, :meth:`from_dict` reads that. Colours are left out, for
    they change no number. A field that one of two fingerprints does not have yet, for it was taken
    before there was that field, is not compared: what was kept with older runs stays valid.
    """

    dataset: str
    split: str
    images: int
    classes: tuple[str, ...]  #: Names of the classes, in the order of their indices.
    ignored: tuple[int, ...]  #: Mask values that belong to no class.
    labels: str = ""  #: Digest of what mask values mean.
    names: str = ""  #: Digest of the images' names, in their order.
    content: str = ""  #: Digest of the sizes of all files, or of what draws the images.
    #: A few images, evenly spaced, with the digests of their files or pixels.
    samples: tuple[tuple[str, str], ...] = ()
    #: Digest of the bytes of masks and images, as many as are read in a moment, see
    #: ``FileDataset.fingerprint``; empty in fingerprints from before it was kept, and for data that
    #: are no files.
    files: str = ""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Fingerprint":
        """What ``dataclasses.asdict`` gave, back from JSON, which has lists only."""
        tuples = {field: tuple(content[field]) for field in ("classes", "ignored")}
        samples = tuple((str(name), str(value)) for name, value in content["samples"])
        return cls(**{**content, **tuples, "samples": samples})


def differences(now: Fingerprint, before: Fingerprint) -> list[str]:
    """What differs between two datasets, in words; nothing if they are the same."""
    found = [
        f"{field}: {_shown(getattr(now, field))} instead of {_shown(getattr(before, field))}"
        for field in ("dataset", "split", "classes", "ignored")
        if getattr(now, field) != getattr(before, field)
    ]
    if now.images != before.images:
        found.append(f"{now.images:,} images instead of {before.images:,}")
    if now.labels != before.labels and now.classes == before.classes:
        found.append("mask values mean other classes")
    if now.dataset != before.dataset or now.split != before.split:
        return found  # other images anyway

    here, there = dict(now.samples), dict(before.samples)
    changed = [name for name in here if name in there and here[name] != there[name]]
    if now.names != before.names and now.images == before.images:
        others = [name for name in here if name not in there]
        found.append("images of other names" + _examples(others))
    if changed:
        found.append("files of other content" + _examples(changed))
    elif now.names == before.names and (
        now.content != before.content or (now.files and before.files and now.files != before.files)
    ):
        found.append("images or masks of other content")
    return found


def require_same(now: Fingerprint, before: Mapping[str, Any], run: str, fix: str) -> None:
    """Refuse data that are not those that a run saw.

    Args:
        before: What was kept of the run's, as ``dataclasses.asdict`` gave it; empty for a run from
            before it was kept, of which nothing can be said.

    Raises:
        InputError: The data differ; the message says in what.
    """
    found = "; ".join(differences(now, Fingerprint.from_dict(before)) if before else [])
    if found:
        raise InputError(f"run {run} saw other data; split {now.split!r} has now {found}: {fix}")


def digest(parts: Iterable[object]) -> str:
    """A short digest of things that print the same where they are the same."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:16]


def evenly_spaced(length: int, most: int) -> list[int]:
    """At most ``most`` indices from 0 to ``length`` - 1, both ends among them."""
    spaced = np.linspace(0, length - 1, min(length, most)).round().astype(int)
    return [int(index) for index in spaced]


def _shown(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else repr(value)


def _examples(names: list[str]) -> str:
    return f", e.g. {', '.join(names[:3])}" if names else ""

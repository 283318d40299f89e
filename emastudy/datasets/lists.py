"""Which files make up a split: lists of names, and folders whose files pair by name.

A list is a UTF-8 text file with one name a line. Byte order marks, CR LF, blank lines, spaces
around a name, the ending of an image file behind it, backslashes and decomposed Unicode (as macOS
writes file names) are passed over. Columns, comments and absolute paths are not: they name no file.
"""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from emastudy.datasets.images import RARE_SUFFIXES, SUFFIXES
from emastudy.errors import InputError, MissingFileError, UnknownSplitError


class Listed(str):
    """A name out of a list, with the place where it stands there."""

    where: str = ""  #: The list and the line, for messages.

    @classmethod
    def at(cls, where: str, name: str) -> "Listed":
        """A name that stands at ``where``."""
        listed = cls(name)
        listed.where = where
        return listed


@dataclass(frozen=True)
class Pair:
    """One item of a split: its files, which need not be there yet."""

    name: str
    image: Path
    #: None where the split has no masks (a test set whose annotation is kept secret).
    mask: Path | None

    @property
    def where(self) -> str:
        """What asks for its files, in brackets behind a space: a line of a list, or a file."""
        if isinstance(self.name, Listed):
            return f" ({self.name.where})"
        there = [path for path in (self.image, self.mask) if path is not None and path.exists()]
        return f" ({there[0]} is there)" if len(there) == 1 else ""


def read_list(path: Path, split: str) -> list[Listed]:
    """The names of a split's list, in their order.

    Raises:
        UnknownSplitError: There is no such list; the message names those beside it.
        ValueError: It is empty, or no UTF-8 text.
    """
    if not path.is_file():
        lists = (p.stem for p in path.parent.glob("*.txt") if not p.name.startswith("."))
        there = ", ".join(sorted(lists)) or "none"
        raise UnknownSplitError(f"split {split!r}: there is no {path}; lists there: {there}")
    content = path.read_bytes()
    if b"\0" in content or content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(
            f"split {split!r}: {path} is UTF-16 text, or no text at all; save it as UTF-8, one "
            "name a line"
        )
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"split {split!r}: {path}, line {number}, is not UTF-8 ({error.reason}); save the list "
            "as UTF-8"
        ) from None
    names = []
    for number, text in enumerate(lines, start=1):
        line = text.strip()
        name = _plain(line)
        plain = name == line and not re.search(r"[\s,;]", line)
        written = "" if plain else f": {line!r}, taken as one name"
        if line:
            names.append(Listed.at(f"{path}, line {number}{written}", name))
    if not names:
        raise InputError(f"split {split!r}: {path} names no image")
    return names


def pair_files(
    images: Path, masks: Path, names: Sequence[str] | None = None, *, split: str
) -> list[Pair]:
    """Pairs of the files of equal name, whatever their endings, in two folders.

    Args:
        names: Which ones, in their order; None takes every name of either folder, sorted.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: Two files of one folder have the same name, a name is an absolute path, or
            there is no file at all.
    """
    photographs, labels = _files_by_name(images, split), _files_by_name(masks, split)
    chosen = sorted({*photographs, *labels}) if names is None else names
    if not chosen:
        raise InputError(f"split {split!r}: {images} holds no image")
    paths = {name: PureWindowsPath(name) for name in chosen}  # which knows both kinds of slashes
    outside = [name for name in chosen if paths[name].anchor or ".." in paths[name].parts]
    if outside:
        where = outside[0].where if isinstance(outside[0], Listed) else repr(outside[0])
        raise InputError(
            f"split {split!r}: {len(outside)} of {len(chosen)} names lead out of the folder, at "
            f"first {where}; write them relative to {images}"
        )
    image = {name: photographs.get(name, images / f"{name}.jpg") for name in chosen}
    mask = {name: labels.get(name, masks / f"{name}.png") for name in chosen}
    return [Pair(name, image[name], mask[name]) for name in chosen]


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and those inside it, sorted; hidden ones do not count.

    One of the rarer kinds counts where no file of the first kinds has its name: a camera writes a
    JPEG beside its raw data.
    """
    known = SUFFIXES + RARE_SUFFIXES
    files = sorted(path for path in _visible_files(folder) if path.suffix.lower() in known)
    usual = {path.with_suffix("") for path in files if path.suffix.lower() in SUFFIXES}
    return [p for p in files if p.suffix.lower() in SUFFIXES or p.with_suffix("") not in usual]


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those that do not exist; one listing per folder instead of one look per file."""
    present = {
        folder: {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for folder in {path.parent for path in paths}
    }
    return [path for path in paths if path.name not in present[path.parent]]


def require_folder(root: Path, what: str) -> None:
    """Check that a data root is a folder."""
    if not root.is_dir():
        state = "is a file, not a folder" if root.exists() else "does not exist"
        raise MissingFileError(f"data root {root} {state}; give the folder that holds {what}")


def _files_by_name(folder: Path, split: str) -> dict[str, Path]:
    """A folder's :func:`image_files` by their names."""
    if not folder.is_dir():
        raise MissingFileError(f"split {split!r}: there is no folder {folder}")
    files: dict[str, Path] = {}
    for path in image_files(folder):
        name = _composed(path.relative_to(folder).with_suffix("").as_posix())
        if name in files and path.suffix.lower() in SUFFIXES:
            raise InputError(f"{files[name]} and {path} have the same name: keep one")
        files.setdefault(name, path)
    return files


def _visible_files(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _plain(line: str) -> str:
    path = PurePosixPath(_composed(line).replace("\\", "/"))
    known = path.suffix.lower() in SUFFIXES + RARE_SUFFIXES
    return (path.with_suffix("") if known else path).as_posix()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)

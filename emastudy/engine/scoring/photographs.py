"""Which photographs are meant, and what their predictions are called."""

import glob
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emastudy import datasets
from emastudy.errors import InputError, MissingFileError, require


@dataclass(frozen=True)
class Photograph:
    """An image file and the beginning of its predictions' names, which no other one's have.

    The name is that of the file without its ending, and in a folder that was given the path below
    that folder. Where two would be called the same, all are called by their paths from the folder
    on that they share; and where that does not tell them apart, all keep their endings.
    """

    path: Path
    name: str


def find_photographs(given: Sequence[str | Path], results: Path) -> list[Photograph]:
    """The image files that are meant, each once, in the order in which they are given.

    Args:
        given: Files, folders (see ``datasets.image_files``) and patterns such as ``"a/**/*.jpg"``.
            A file that does not exist is among those returned as long as another one does.
        results: Folder of the predictions. If it lies in a folder that is given, its files are not
            meant.

    Raises:
        InputError: Nothing is given, or a folder or pattern without images.
        MissingFileError: No file exists.
    """
    require(len(given) > 0, "images", [str(path) for path in given], "at least one file")
    found = [pair for path in given for pair in _meant(Path(path), results)]
    once = {os.path.abspath(path): (path, base) for path, base in reversed(found)}  # noqa: PTH100
    pairs = list(reversed(once.values()))
    if not any(path.exists() for path, _ in pairs):
        raise MissingFileError(f"there is no {pairs[0][0]}")
    names = _names(pairs)
    return [Photograph(path, name) for (path, _), name in zip(pairs, names, strict=True)]


def _meant(given: Path, results: Path) -> list[tuple[Path, Path]]:
    """Files, and the folder that each one's name begins in."""
    if given.is_dir():
        files = datasets.image_files(given)
        if given.resolve() in results.resolve().parents:
            files = [path for path in files if results.resolve() not in path.resolve().parents]
        if not files:
            raise InputError(f"{given} holds no image; give files or a folder of them")
        return [(path, given) for path in files]
    if not given.exists() and glob.has_magic(str(given)):
        # Not Path.glob: a pattern may begin at the root, and hidden files are not meant.
        matching = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207
        if not matching:
            raise InputError(f"no file matches {str(given)!r}")
        return [pair for path in matching for pair in _meant(Path(path), results)]
    return [(given, given.parent)]


def _names(pairs: Sequence[tuple[Path, Path]]) -> list[str]:
    whole = [Path(os.path.abspath(path)) for path, _ in pairs]  # noqa: PTH100 - links stay
    shared = os.path.commonpath([path.parent for path in whole])
    below = [path.relative_to(shared) for path in whole]
    attempts: list[Iterable[Path]] = [
        (path.relative_to(base).with_suffix("") for path, base in pairs),
        (path.with_suffix("") for path in below),
        below,
    ]
    for attempt in attempts:
        names = [path.as_posix() for path in attempt]
        # Not every file system tells capitals, or the forms of an accent, apart.
        if len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names):
            return names
    raise InputError(
        "image names differ only in case, so that their predictions might overwrite each "
        f"other: {', '.join(sorted(map(str, below), key=str.casefold))}; rename one"
    )

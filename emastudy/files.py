"""Files: whole or not there, checked by digest, and known to be writable before work is done."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emastudy.errors import WriteError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write a file to; the file takes the place of ``path`` when the block ends.

    It is flushed to disk first, so that neither a reader nor a power cut meets half of it. After
    an error the file is gone and what was at ``path`` before stays. Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of its own: a search for *.json beside ``path`` must not find half of one.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8, see :func:`written_whole`."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_writable(folder: Path, advice: str = "choose another folder") -> None:
    """Make a folder and try to write in it, before hours of work for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        raise WriteError(
            f"folder {folder} cannot be written ({error}). Free space there, make it writable, or "
            f"{advice}; then run again"
        ) from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

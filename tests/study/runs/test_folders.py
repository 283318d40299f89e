"""Folders are found in a checkout, and what is missing outside of one is said."""

import pytest
from study.tiny import make_record

from emastudy.errors import MissingFileError
from emastudy.study import records_folder, runs_folder
from emastudy.study.runs import experiments_folder, recorded_folder


def test_folders_are_found_from_anywhere_in_a_checkout(tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "experiments"):
        monkeypatch.chdir(place)
        assert records_folder("x") == tmp_path / "experiments" / "records" / "x"
        assert runs_folder() == tmp_path / "runs"
        assert experiments_folder() == tmp_path / "experiments"
    (tmp_path / "elsewhere").mkdir()
    outside = tmp_path.parent
    monkeypatch.chdir(outside)
    assert records_folder("x") == outside / "records" / "x"
    assert runs_folder() == outside / "runs"


def test_outside_a_checkout_it_is_said_where_records_and_notebooks_were_looked_for(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for profile in ("", "scenes"):
        with pytest.raises(MissingFileError, match="outside a checkout") as error:
            recorded_folder(profile)
        assert str(tmp_path / "records" / profile) in str(error.value)
    with pytest.raises(MissingFileError, match=f"lies in {tmp_path} or above it.*checkout"):
        experiments_folder()
    make_record(tiny).write(records_folder("mine"))
    assert recorded_folder("mine") == tmp_path / "records" / "mine"
    assert recorded_folder() == tmp_path / "records"


def test_a_profile_without_records_is_named_with_those_that_have_some(tiny, tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="train runs first"):
        recorded_folder("scenes")
    make_record(tiny).write(records_folder("scenes"))
    with pytest.raises(MissingFileError, match="records/scnes; there are records of scenes$"):
        recorded_folder("scnes")

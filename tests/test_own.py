"""Import paths: what is loaded is the file as it is now, and what cannot be says why."""

import os
import sys

import pytest
from torch.utils.data import Dataset

from emastudy import own
from emastudy.engine.loading import Loader
from emastudy.errors import InputError


def test_what_is_loaded_is_the_file_as_it_is_now(my_module):
    """Also within a second and at the same length, where a compiled file would pass for it."""
    seen = []
    for value in (1, 2, 1):
        my_module.write_text(f"value = {value}\n")
        os.utime(my_module, (1e9, 1e9))
        seen.append((own.load("my_module:value"), own.digest("my_module:value")))
    assert [value for value, _ in seen] == [1, 2, 1]
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]


def test_a_module_that_was_imported_before_is_brought_up_to_date(my_module):
    sys.path.append(str(my_module.parent))
    import my_module as imported

    my_module.write_text("value = 3\n")
    assert own.load("my_module:value") == 3
    assert imported.value == 3


def test_what_a_file_does_not_define_any_more_is_gone(my_module):
    my_module.write_text("class Old: pass\n")
    own.load("my_module:Old")
    my_module.write_text("class New: pass\n")
    with pytest.raises(InputError, match="Old"):
        own.load("my_module:Old")
    New = own.load("my_module:New")
    assert New.__name__ == "New"


def test_a_file_that_is_wrong_now_takes_nothing_from_units_made_before(my_module):
    my_module.write_text("F = 3\nclass U:\n    def f(self): return F\n")
    unit = own.load("my_module:U")()
    for wrong in ("F = (\n", "raise ZeroDivisionError\n"):
        my_module.write_text(wrong)
        with pytest.raises(InputError, match="cannot be imported"):
            own.load("my_module:U")
        assert unit.f() == 3


def test_the_working_directory_comes_before_the_standard_library(my_module, monkeypatch):
    """Whose own tests are a package ``test``, a name that anybody may choose."""
    monkeypatch.delitem(sys.modules, "test", raising=False)
    my_module.with_name("test.py").write_text("class Unit: value = 7")
    assert own.load("test:Unit").value == 7
    monkeypatch.delitem(sys.modules, "test")


def test_an_unchanged_file_is_executed_once(my_module):
    my_module.write_text("value = object()\n")
    assert own.load("my_module:value") is own.load("my_module:value")


def test_a_module_may_lie_in_a_package(my_module, tmp_path, caplog):
    """And import from it, which is told: a change there makes no other run."""
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "base.py").write_text("value = 4\n")
    (package / "units.py").write_text("from .base import value\n")
    try:
        assert own.load("my_package.units:value") == 4
        assert "units.py imports base.py, a change of which makes no other run" in caplog.text
        import my_package.units

        assert my_package.units.value == 4
    finally:
        for name in ("my_package", "my_package.base", "my_package.units"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("my_module:Unit", "import nowhere\n", "my_module.py, line 1: ModuleNotFoundError: No mod"),
        ("my_module:Unit", "a = 1\nb = c\n", "my_module.py, line 2: NameError: name 'c' is not"),
        ("my_module:Unit", "a = 1\n\nb = (\n", "my_module.py, line 3: SyntaxError"),
        ("my_module:Unit", "", "my_module.py defines no Unit"),
        ("my_modul:Unit", "", "there is no file my_modul.py in .* change into the folder"),
        (
            "my_module.units:Unit",
            "",
            "cannot be imported: __path__ attribute not found on 'my_module'",
        ),
        ("my_module.py:Unit", "", "names a file; drop .py: my_module:Unit"),
        ("folder/my_module.py:Unit", "", "names a file; drop .py: folder.my_module:Unit"),
        ("torch._C:Tag", "", r"there is no file torch/_C\.py"),
        ("my_module:", "", "is no import path; expected one like my_module:MyUnit"),
        ("my_module:a:b", "", "is no import path"),
        ("__main__:Unit", "", "unknown to the processes that train; write it to a file"),
    ],
)
def test_what_cannot_be_imported_says_why(my_module, path, source, message):
    my_module.write_text(source)
    with pytest.raises(InputError, match=message):
        own.load(path)


def test_a_name_that_is_no_module_with_classes_is_left_to_others(my_module):
    my_module.write_text("class Unit(:")
    for name in ("my_module", "crf", "vgg-16", "", "my_module.py", "../my_module"):
        own.refuse_module("head", name)


def test_a_package_that_cannot_be_imported_says_why(tmp_path, my_module):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("1 / 0")
    with pytest.raises(InputError, match="'broken.units:Unit' cannot be imported: division by"):
        own.load("broken.units:Unit")


FAILING = """
class Part:
    def work(self):
        return self.deeper()
    def deeper(self):
        return {}["a key"]
"""


def test_an_error_in_a_file_of_ones_own_is_told_from_others(my_module):
    my_module.write_text(FAILING)
    part = own.load("my_module:Part")()
    with pytest.raises(KeyError) as error:
        part.work()
    said = f"{my_module}, line 6, in Part.deeper (return {{}}[\"a key\"]): KeyError: 'a key'"
    assert own.fault(error.value) == said
    with pytest.raises(InputError, match="^it fails: .*in Part.deeper"), own.blamed("it fails"):
        part.work()
    with pytest.raises(ZeroDivisionError) as error:
        1 / 0  # noqa: B018
    assert own.fault(error.value) == ""
    with pytest.raises(InputError, match="^it fails: ZeroDiv"), own.blamed("it fails"):
        1 / 0  # noqa: B018


class Working(Dataset):
    def __init__(self, part):
        self.part = part

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.part.work()


def test_so_is_one_from_a_process_that_loads_data(my_module):
    my_module.write_text(FAILING)
    loader = Loader(Working(own.load("my_module:Part")()), num_workers=1)
    with pytest.raises(KeyError) as error:
        list(loader)
    assert own.fault(error.value).endswith(
        """in Part.deeper (return {}["a key"]): KeyError: 'a key'"""
    )

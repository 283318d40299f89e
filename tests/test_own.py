"""Import paths: what is loaded is the file as it is now, and what cannot be says why."""

import os
import sys

import pytest

from emastudy import own
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

"""Parts of one's own, named by import path: ``my_module:MyUnit``.

Wherever a head, backbone or dataset is named, such a path may stand. Modules are looked for as
``python -m`` does, the working directory included, so that the processes of a sweep and a notebook
find the same file. A file that was changed since it was imported is executed anew.
"""

import ast
import hashlib
import importlib
import importlib.util
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from emastudy.errors import EmastudyError, InputError

logger = logging.getLogger(__name__)

_DIGEST = "__emastudy_digest__"
_FILES: set[str] = set()  # of the modules that were loaded
# A frame of a printed traceback: file, line, function, and what is printed of the source.
_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)\n((?: {4}.*\n|  \[Previous.*\n)*)', re.M)


def is_path(name: str) -> bool:
    """Whether a name is an import path, and no name of the package's."""
    return ":" in name


def short(name: str) -> str:
    """What an import path leads to, ``MyUnit``, or any other name as it is."""
    return name.rpartition(":")[2]


def module(path: str) -> str:
    """The module of an import path."""
    return path.partition(":")[0]


def digest(path: str) -> str:
    """Digest of the source of an import path's module as it is now, without what that imports."""
    return _digest(_source(path)[1])


def load(path: str) -> Any:
    """What an import path leads to, of the file as it is now.

    Raises:
        InputError: The module cannot be found or imported, or has nothing of that name.
    """
    origin, source = _source(path)
    name, attribute = module(path), short(path)
    loaded = sys.modules.get(name)
    if loaded is None or vars(loaded).get(_DIGEST) != _digest(source):
        # Not importlib.reload: it may take a compiled file for a source of the same second and
        # length, and what is run must be what the digest says.
        loaded = _execute(name, loaded, origin, source, path)
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        there = f"; it defines {', '.join(classes)}" if (classes := _classes(source)) else ""
        raise InputError(f"{path!r}: {origin} defines no {attribute}{there}") from None


def refuse_module(what: str, name: str) -> None:
    """Raise an InputError where a name is a module's, whose class is still to be named.

    Args:
        what: What the name was given for, "head" for instance.
    """
    dotted = ".".join(Path(name.removesuffix(".py")).parts)
    for candidate in (dotted, dotted.rpartition(".")[0]):  # my_module.MyUnit is meant as well
        with suppress(InputError):
            origin, source = _source(f"{candidate}:class")
            if classes := _classes(source):
                paths = ", ".join(f"{candidate}:{found}" for found in classes)
                break
    else:
        return
    raise InputError(
        f"{what} is {name!r}, which names no class; expected module:class, and {origin} has {paths}"
    )


def fault(error: BaseException) -> str:
    """Where in a file of one's own an error arose, and what it says; "" if none took part in it.

    An error of a process that loads data has that process' traceback in its text, and counts alike.
    """
    text = "".join(traceback.format_exception(error))
    frames = list(_FRAME.finditer(text))
    ours = [frame for frame in frames if frame[1] in _FILES]
    if not ours:
        return ""
    file, line, function, source = ours[-1].groups()
    reason = text[frames[-1].end() :].partition("\n")[0]
    if "meta tensor" in reason:
        reason += (
            " (cost is counted on meta tensors, which have shapes and no values: do without "
            ".item(), .tolist() and if on a value, or leave that out where x.is_meta)"
        )
    place = f"{file}, line {line}, in {_class_around(file, int(line))}{function}"
    return f"{place} ({source.strip().partition(chr(10))[0]}): {reason}"


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """An error of somebody's own code, other than the package's, becomes one that says ``what``."""
    try:
        yield
    except EmastudyError:
        raise
    except Exception as error:
        reason = fault(error) or f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{what}: {reason}") from error


def _class_around(file: str, line: int) -> str:
    """The class, with a dot, that a line of a file is in."""
    try:
        nodes = ast.walk(ast.parse(Path(file).read_bytes()))
    except (OSError, SyntaxError):  # changed since
        return ""
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    around = [c.name for c in classes if c.lineno <= line <= (c.end_lineno or 0)]
    return f"{around[-1]}." if around else ""


def _classes(source: bytes) -> list[str]:
    """The classes that a file defines, without executing it."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in body if isinstance(node, ast.ClassDef)]


def _execute(
    name: str, loaded: ModuleType | None, origin: Path, source: bytes, path: str
) -> ModuleType:
    spec = _find(name)
    loaded = loaded or importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = loaded
    kept = dict(vars(loaded))
    vars(loaded)[_DIGEST] = None  # until it has run to its end
    _FILES.add(str(origin))
    before = set(sys.modules)
    try:
        code = compile(source, origin, "exec")
        if not hasattr(loaded, "__path__"):  # what the file does not define any more is gone
            for stale in [key for key in kept if not key.startswith("__")]:
                delattr(loaded, stale)
        exec(code, vars(loaded))
    except Exception as error:
        del sys.modules[name]
        vars(loaded).update(kept)  # units made before go on with what they knew
        raise InputError(
            f"{path!r} cannot be imported: {_where(error, origin)}: {type(error).__name__}: {error}"
        ) from error
    vars(loaded)[_DIGEST] = _digest(source)
    files = (getattr(sys.modules[other], "__file__", None) for other in {*sys.modules} - before)
    paths = (Path(file) for file in files if file)
    if beside := sorted(path.name for path in paths if origin.parent in path.parents):
        message = "%s imports %s, a change of which makes no other run: keep what may change in %s"
        logger.warning(message, origin.name, ", ".join(beside), origin.name)
    parent, _, child = name.rpartition(".")
    if parent:  # as the import statement does
        setattr(sys.modules[parent], child, loaded)
    return loaded


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:12]


def _source(path: str) -> tuple[Path, bytes]:
    """Where a module's file is, and what it holds."""
    name = module(path)
    if name.endswith(".py"):
        parts = Path(name).with_suffix("").parts
        raise InputError(f"{path!r} names a file; drop .py: {'.'.join(parts)}:{short(path)}")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        how = "folders are joined by dots, sub.my_module:MyUnit" if "/" in name else ""
        how = how or "a module's name has letters, digits and underscores" * ("-" in name)
        raise InputError(
            f"{path!r} is no import path; expected one like my_module:MyUnit{'; ' * bool(how)}{how}"
        )
    if name == "__main__":
        raise InputError(
            f"{path!r}: what a notebook or script defines is unknown to the processes that train; "
            "write it to a file (in a notebook with %%writefile my_module.py) and name that"
        )
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        spec = _find(name)
    except Exception as error:  # a package's own, too
        raise InputError(f"{path!r} cannot be imported: {error}") from error
    origin = Path(spec.origin or "" if spec else "")
    # A module that has been imported is known by where its file was.
    if origin.suffix != ".py" or not origin.is_file():
        raise InputError(
            f"{path!r}: there is no file {name.replace('.', '/')}.py in {here} or on "
            "Python's path; change into the folder it lies in"
        )
    return origin, origin.read_bytes()


def _find(name: str) -> ModuleSpec | None:
    """Where a module is, in the working directory first.

    A file of one's own may so be called ``test``, as a package of the standard library is.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(name)
    finally:
        sys.path.remove(here)


def _where(error: Exception, origin: Path) -> str:
    """File and line of the module that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(origin)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return f"{origin}, line {line}" if line else str(origin)

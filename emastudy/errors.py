"""The package's own errors: whatever it raises on purpose derives from ``EmastudyError``.

Each also derives from the built-in error that it is a case of, so that ``except ValueError`` works
as anybody expects. The command prints one line for these; anything else is a bug and shows its
traceback.
"""

import platform
import re
from importlib.metadata import metadata, version


class EmastudyError(Exception):
    """Above every error that the package raises on purpose; the message says the fix."""


class InputError(EmastudyError, ValueError):
    """An argument, option or file is at fault; the message names it, its value and the fix."""


class MissingFileError(EmastudyError, FileNotFoundError):
    """A file or folder that was asked for is not there."""


class UnknownSplitError(InputError, FileNotFoundError):
    """A dataset has no such split; the message lists those that it has."""


class DownloadError(EmastudyError, ConnectionError):
    """Something could not be fetched; the message says from where, and how to do without."""


class WriteError(EmastudyError, OSError):
    """A folder cannot be written: full, read-only or vanished."""


class CheckpointError(EmastudyError, RuntimeError):
    """A checkpoint is missing, damaged or cannot be written; the message names folder and fix."""


class LoadingError(EmastudyError, RuntimeError):
    """A process that loads data died."""


class ProcessError(EmastudyError, RuntimeError):
    """One of several training processes did not take part in what all have to do."""


class NonFiniteLossError(EmastudyError, FloatingPointError):
    """The loss became NaN or infinite; the message has iteration and config."""


class RecordError(EmastudyError, ValueError):
    """A record cannot be trusted, or not be written; the message names the file and the fix."""


class SweepError(EmastudyError, RuntimeError):
    """Some runs of a sweep failed; the message has each one's error. The others are recorded."""


class NotebookError(EmastudyError, RuntimeError):
    """A notebook failed, or was given a parameter that it does not have."""


def why_not_fetched(error: Exception) -> str:
    """What went wrong with a download, in one line, and what helps where the network is guarded."""
    from urllib.request import getproxies  # slow to import, and seldom needed

    reason = " ".join(str(error).split()) or type(error).__name__
    if "CERTIFICATE" in reason.upper():
        return (
            f"{reason}. If a proxy signs connections with a certificate of its own, name that "
            "certificate's file in the variable SSL_CERT_FILE"
        )
    if proxies := ", ".join(f"{k}_proxy={_shown(v)}" for k, v in sorted(getproxies().items())):
        return f"{reason}; by way of {proxies}"
    return reason


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ``InputError("NAME is VALUE; expected EXPECTED")`` unless a condition holds."""
    if not holds:
        raise InputError(f"{name} is {value!r}; expected {expected}")


def said(thing: object) -> str:
    """What a value is, in a message: "a float32 tensor of shape (3, 65, 65)", "a list"."""
    if not (hasattr(thing, "dtype") and hasattr(thing, "shape")):
        return f"a {type(thing).__name__}"
    kind = "array" if type(thing).__name__ == "ndarray" else "tensor"
    return f"a {str(thing.dtype).removeprefix('torch.')} {kind} of shape {(*thing.shape,)}"


def bug_report(command: str) -> str:
    """What to say of an error that the package did not raise on purpose, two lines."""
    urls = (url.split(", ", 1) for url in metadata("emastudy").get_all("Project-URL") or ())
    tracker = dict(urls).get("Issues", "the project's issue tracker")
    return (
        f"emastudy: this is a bug in emastudy {version('emastudy')} (Python "
        f"{platform.python_version()}, torch {version('torch')}, {platform.platform()}).\n"
        f"emastudy: please report the command {command!r} with all lines above: {tracker}"
    )


def _shown(proxy: str) -> str:
    """A proxy's address without the password that may be in it."""
    return re.sub(r"//[^@/]*@", "//…@", proxy)

"""The package's own errors: whatever it raises on purpose derives from ``EmastudyError``.

Each also derives from the built-in error that it is a case of, so that ``except ValueError`` works
as anybody expects. The command prints one line for these; anything else is a bug and shows its
traceback.
"""


class EmastudyError(Exception):
    """Above every error that the package raises on purpose; the message says the fix."""


class InputError(EmastudyError, ValueError):
    """An argument, option or file is at fault; the message names it, its value and the fix."""


class MissingFileError(EmastudyError, FileNotFoundError):
    """A file or folder that was asked for is not there."""


class WriteError(EmastudyError, OSError):
    """A folder cannot be written: full, read-only or vanished."""


class CheckpointError(EmastudyError, RuntimeError):
    """A checkpoint is missing, damaged or cannot be written; the message names folder and fix."""


class LoadingError(EmastudyError, RuntimeError):
    """A process that loads data died."""


class NonFiniteLossError(EmastudyError, FloatingPointError):
    """The loss became NaN or infinite; the message has iteration and config."""


class SubmissionError(EmastudyError, ValueError):
    """What was written is not what the server takes; the message lists the problems."""


class RecordError(EmastudyError, ValueError):
    """A record cannot be trusted, or not be written; the message names the file and the fix."""


class SweepError(EmastudyError, RuntimeError):
    """Some runs of a sweep failed; the message has each one's error. The others are recorded."""


class NotebookError(EmastudyError, RuntimeError):
    """A notebook failed, or was given a parameter that it does not have."""

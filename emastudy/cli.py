"""The command ``emastudy``: its subcommands, its exit status and what it says of errors."""

import errno
import io
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

import tyro
from tqdm.contrib.logging import logging_redirect_tqdm

from emastudy import own
from emastudy.errors import EmastudyError, bug_report

#: Subcommand → the first line of its help. Each is a file of ``emastudy.commands``.
COMMANDS = {
    "train": "Train one run, score it and keep its record. Interrupted, it resumes where it "
    "stopped.",
    "evaluate": "Score a trained network on a split of the dataset it was trained for.",
    "predict": "Segment photographs: NAME_mask.png (palette, class indices) and NAME_overlay.png "
    "each.",
    "cost": "Count a network's multiply-adds, parameters and activation memory, whole and by part.",
    "records": "Show the state of every profile's runs: finished, outdated, running, interrupted, "
    "failed.",
    "audit": "Train recorded runs anew and say whether their records hold; exit status 1 if one "
    "does not.",
    "claims": "Print the ledger: each claim of the paper and what the records say of it.",
    "findings": "Print what was found, from the committed records; or put it into README.",
    "study": "Run the notebooks through papermill; those that are up to date are left alone.",
    "data": "List the datasets, describe one, or check its files (which are never changed).",
}

# Errors of writing that no check beforehand can rule out.
_OF_THE_MACHINE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
    errno.ENAMETOOLONG,
)


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("accelerate", "papermill", "submitit"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a narrow encoding lacks is shown as "?"
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    if arguments == ["--version"]:
        print(version("emastudy"))  # noqa: T201
        return
    try:
        with logging_redirect_tqdm():
            _app(arguments).cli(
                prog="emastudy",
                description=(
                    "Train, score and inspect EM attention networks, and run the study's "
                    "notebooks. Try: emastudy train scenes. Exit status: 0 done; 1 done, but an "
                    "image, a check or an audit failed; 2 not done, the message says why; 3 a bug. "
                    "With --traceback, anywhere, an error shows where it came from; --version "
                    "prints the version."
                ),
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(
            "emastudy: stopped; finished runs are kept, run the same command to resume\n"
        )
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader has had enough: emastudy ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        message = _explanation(error)
        if message is None or "--traceback" in sys.argv:
            traceback.print_exc()
        if message is None:
            sys.stderr.write(bug_report(shlex.join(["emastudy", *arguments])) + "\n")
            sys.exit(3)
        sys.stderr.write(f"emastudy: {message}\n")
        sys.exit(2)


def _app(arguments: list[str]) -> tyro.extras.SubcommandApp:
    """All subcommands. Only the one that is called is imported: most take seconds."""
    called = next((argument for argument in arguments if not argument.startswith("-")), "")
    app = tyro.extras.SubcommandApp()
    for name, help_text in COMMANDS.items():
        command = _described(help_text)
        if name == called:
            command = import_module(f"emastudy.commands.{name}").command
        app.command(name=name)(command)
    return app


def _described(text: str) -> Callable[[], None]:
    """A stand-in for a subcommand, for the list of them."""

    def command() -> None:
        pass

    command.__doc__ = text
    return command


def _explanation(error: Exception) -> str | None:
    """What an error means and what to do about it; None for a bug of the package."""
    if isinstance(error, EmastudyError):
        return str(error)
    if fault := own.fault(error):
        return f"an error in a part of your own, {fault}; fix it there, --traceback shows all"
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("emastudy"):
        return (
            f"{error.name} is not installed; pip install '.[study]' in a checkout brings all that "
            "the commands need"
        )
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return (
            f"a path has letters beyond those of the locale ({sys.getfilesystemencoding()}): "
            "set PYTHONUTF8=1, or LC_ALL=C.UTF-8, and run again"
        )
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return f"{error}: free space there, make it writable, or choose another place"
    return None


if __name__ == "__main__":
    main()

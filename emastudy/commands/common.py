"""What several commands share."""

import sys
from typing import Annotated

import tyro

#: Options as NAME=VALUE. VALUE is read as YAML, so 3 is a number and true a truth value.
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")]


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")

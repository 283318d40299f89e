"""The subcommands of ``emastudy``: a file each, whose function ``command`` parses and prints.

Imports everything below; only the command that is asked for is imported. Arguments, their types and
their help are the function's.
"""

from typing import Annotated

import tyro

#: Options as NAME=VALUE. VALUE is read as YAML, so 3 is a number and true a truth value.
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")]

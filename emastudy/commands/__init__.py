"""The subcommands of ``emastudy``: a file each, whose function ``command`` parses and prints.

Imports everything below; only the command that is asked for is imported. Arguments, their types and
their help are the function's.
"""

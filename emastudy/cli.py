"""The command ``emastudy``."""


def main() -> None:
    """Entry point."""

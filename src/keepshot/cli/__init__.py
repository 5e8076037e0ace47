"""The command line: thin over the public calls."""

from keepshot.cli.main import main

__all__ = ["main"]

"""Command line of WeakSegment: `python -m WeakSegmentLib <command>`; each command is one `_add_*` function below."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from BreastBiomarkersLib import command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 bad input, 130 cancelled."""
    return command_line.run(build_parser(), arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = argparse.ArgumentParser(prog="python -m WeakSegmentLib", description="Lesion masks from six points.")
    commands = parser.add_subparsers(metavar="command", required=True)
    for add_command in (_add_segment,):
        add_command(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands.add_parser("segment", help="segment one lesion from six extreme points")

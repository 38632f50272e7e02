"""Command line of NIRSTReconstruction: `python -m NIRSTReconstructionLib <command>`; one file per command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from BreastBiomarkersLib import command_line

from NIRSTReconstructionLib.check_command import add_check_parser
from NIRSTReconstructionLib.generate_command import add_generate_parser
from NIRSTReconstructionLib.network_commands import add_evaluate_parser, add_predict_parser, add_train_parser
from NIRSTReconstructionLib.reconstruct_command import add_reconstruct_parser
from NIRSTReconstructionLib.simulate_command import add_simulate_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 bad input, 130 cancelled."""
    return command_line.run(build_parser(), arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m NIRSTReconstructionLib", description="Chromophore images from near-infrared light and MRI."
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for add_command in (
        add_reconstruct_parser,
        add_simulate_parser,
        add_generate_parser,
        add_check_parser,
        add_train_parser,
        add_predict_parser,
        add_evaluate_parser,
    ):
        add_command(commands)
    return parser

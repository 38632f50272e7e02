"""The options of every command that measures segments of one image."""

from __future__ import annotations

import argparse
from dataclasses import replace

from BreastBiomarkersLib.volume import read_volume

from RadiomicsPanelLib.roi import Case, read_cases
from RadiomicsPanelLib.settings import PRESETS


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Give a command `--image`, `--mask`, `--label` and `--settings`."""
    parser.add_argument("--image", required=True, metavar="FILE", help="NRRD, NIfTI or MetaImage")
    parser.add_argument(
        "--mask", required=True, metavar="FILE", help="label map; .seg.nrrd names are kept; its grid may differ"
    )
    parser.add_argument("--label", type=int, metavar="N", help="only this label (default: every label but 0)")
    parser.add_argument(
        "--exclude", metavar="FILE", help="mask of air, bone or vessels to leave out of the tissue around segments"
    )
    parser.add_argument(
        "--settings",
        default="mr",
        metavar="PRESET_OR_FILE",
        help=f"one of {', '.join(PRESETS)}, or a .json file (mm; intensities in the image's unit); default mr",
    )


def cases_of(options: argparse.Namespace) -> list[Case]:
    """Return the segments the options name."""
    cases = read_cases(options.image, options.mask, options.label)
    if options.exclude is None:
        return cases
    exclusion = read_volume(options.exclude)
    return [replace(case, exclusion=exclusion) for case in cases]

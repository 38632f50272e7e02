"""The command that writes feature maps."""

from __future__ import annotations

import argparse
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.progress import Progress, portion

from RadiomicsPanelLib.case_options import add_case_options, cases_of
from RadiomicsPanelLib.map_formulas import ROWS
from RadiomicsPanelLib.maps import MAP_AGGREGATIONS, MAX_RADIUS, compute_feature_maps, write_maps
from RadiomicsPanelLib.roi import prepare_roi
from RadiomicsPanelLib.settings import read_settings


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    maps = commands.add_parser("maps", help="write features of each voxel's surroundings as images")
    add_case_options(maps)
    maps.add_argument(
        "--feature",
        action="append",
        required=True,
        metavar="NAME",
        help=f"feature (glcm_contrast) or family ({', '.join(ROWS)}), may be repeated",
    )
    maps.add_argument(
        "--radius", type=int, default=1, metavar="VOXELS", help=f"of the kernel, 1 to {MAX_RADIUS}; default 1"
    )
    maps.add_argument("--aggregation", default="3D_avg", choices=MAP_AGGREGATIONS, help="default 3D_avg")
    maps.add_argument(
        "--on-source-grid", action="store_true", help="write maps on the image's own grid, not the resampled one"
    )
    maps.add_argument("--output", required=True, metavar="FOLDER", help="<segment>_<feature>.nrrd, <segment>_maps.json")
    command_line.add_json_option(maps)
    maps.set_defaults(handler=_maps)


def _maps(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    settings = read_settings(options.settings)
    progress(0.0, "Reading")
    cases, segments = cases_of(options), []
    for n, case in enumerate(cases):
        step = portion(progress, 0.02 + 0.98 * n / len(cases), 0.02 + 0.98 * (n + 1) / len(cases))
        roi = prepare_roi(case, settings)
        maps = compute_feature_maps(roi, options.feature, options.radius, options.aggregation, portion(step, 0.0, 0.9))
        write_maps(maps, options.output, case.image if options.on_source_grid else None)
        step(1.0, "Done")
        segments.append({"segment": case.segment, "voxels": len(roi.intensities), "maps": list(maps.values)})
    return {"output": options.output, "settings": settings.name, "segments": segments}

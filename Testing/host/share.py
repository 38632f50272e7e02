"""The small share folder that the module logics look for: color tables and terminologies.

The perceptual color maps (viridis, inferno, plasma, magma, cividis) are public domain (CC0); 33 of their 256 colors are
kept here and the rest is interpolated, which is within 6/255 of the originals.
"""

from __future__ import annotations

import colorsys
import json
from pathlib import Path

import numpy as np

SHARE_DIRECTORY = "share/Slicer-5.12"

PERCEPTUAL = {
    "Viridis": (
        "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e 297a8e 26828e "
        "23898e 21918c 1f978b 1f9f88 21a685 27ad81 31b57b 3dbc74 4cc26c 5cc863 6ece58 81d34d 95d840 aadc32 c0df25 "
        "d5e21a eae51a fde725"
    ),
    "Inferno": (
        "000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d 8a226a 972766 a32c61 "
        "b0315b bc3754 c63d4d d04545 da4e3c e35933 eb6429 f1711f f67e14 f98c0a fb9b06 fcaa0f fbba1f f9c932 f5d949 "
        "f2e865 f3f586 fcffa4"
    ),
    "Plasma": (
        "0d0887 220690 310597 3f049c 4c02a1 5901a5 6600a7 7201a8 7e03a8 8a09a5 9511a1 a01a9c aa2395 b32c8e bc3587 "
        "c43e7f cc4778 d24f71 d9586a df6263 e56b5d eb7556 f07f4f f48948 f89441 fb9f3a fdab33 feb72d fdc328 fcd025 "
        "f9dd25 f5eb27 f0f921"
    ),
    "Magma": (
        "000004 030312 0a0822 130d34 1d1147 29115a 36106b 440f76 51127c 5d177f 6a1c81 762181 832681 902a81 9c2e7f "
        "aa337d b73779 c23b75 cf4070 db476a e55064 ee5b5e f4695c f9785d fb8761 fd9668 fea571 feb47b fec287 fed194 "
        "fde0a1 fceeb0 fcfdbf"
    ),
    "Cividis": (
        "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d 5a5f6e 61656f 686a71 6f7073 "
        "767676 7d7c78 838179 8b8778 928d78 9a9376 a29975 aaa073 b3a670 bbad6d c3b369 ccba64 d4c15f ddc858 e6d051 "
        "efd748 f8df3c fee838"
    ),
}
# Corner colors (index, red, green, blue) of the dark blue to dark red rainbow.
RAINBOW = ((0, 0, 0, 143), (28, 0, 0, 255), (92, 0, 255, 255), (156, 255, 255, 0), (220, 255, 0, 0), (255, 116, 0, 0))


def write_share(home: Path) -> None:
    """Write color files and terminologies below `home`, where the logics of a Slicer with that home look."""
    colors = home / SHARE_DIRECTORY / "ColorFiles"
    colors.mkdir(parents=True)
    for name, anchors in PERCEPTUAL.items():
        rgb = np.array([list(bytes.fromhex(anchor)) for anchor in anchors.split()], dtype=float)
        _write_table(colors / f"{name}.txt", _interpolate(np.linspace(0, 255, len(rgb)), rgb))
    corners = np.array(RAINBOW, dtype=float)
    rainbow = _interpolate(corners[:, 0], corners[:, 1:])
    _write_table(colors / "ColdToHotRainbow.txt", rainbow)
    _write_table(colors / "HotToColdRainbow.txt", rainbow[::-1])
    labels = _label_colors(308)
    for name in ("GenericColors", "GenericAnatomyColors", "DarkBrightChartColors"):
        _write_table(colors / f"{name}.txt", labels, first_transparent=True)
    _write_terminologies(terminology_directory(home))


def module_share_directory(home: Path, module: str) -> Path:
    """Return the folder that the logic of a loadable module takes its own files from."""
    return home / SHARE_DIRECTORY / "qt-loadable-modules" / module


def terminology_directory(home: Path) -> Path:
    """Return the folder of the terminology files."""
    return module_share_directory(home, "Terminologies")


def _interpolate(position: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    index = np.arange(256)
    return np.stack([np.interp(index, position, rgb[:, channel]) for channel in range(3)], axis=1).round().astype(int)


def _label_colors(count: int) -> np.ndarray:
    """Distinct colors: hues a golden ratio apart, at three brightnesses."""
    golden = 0.6180339887498949
    rgb = [colorsys.hsv_to_rgb((index * golden) % 1, 0.55, (0.95, 0.8, 0.65)[index % 3]) for index in range(count)]
    return (np.array(rgb) * 255).round().astype(int)


def _write_table(path: Path, rgb: np.ndarray, first_transparent: bool = False) -> None:
    lines = [f"{index} {index} {red} {green} {blue} 255" for index, (red, green, blue) in enumerate(rgb)]
    if first_transparent:
        lines[0] = "0 0 0 0 0 0"
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _code(meaning: str, value: str, **more: object) -> dict:
    return {"CodeMeaning": meaning, "CodingSchemeDesignator": "SCT", "CodeValue": value, **more}


def _write_terminologies(folder: Path) -> None:
    """Write the three default contexts with the few SNOMED CT codes that breast lesions need."""
    folder.mkdir(parents=True)
    types = {
        ("Tissue", "85756007"): [_code("Tissue", "85756007", recommendedDisplayRGBValue=[128, 174, 128])],
        ("Anatomical Structure", "123037004"): [
            _code("Breast", "76752008", recommendedDisplayRGBValue=[255, 175, 78]),
        ],
        ("Morphologically Altered Structure", "49755003"): [
            _code("Mass", "4147007", recommendedDisplayRGBValue=[144, 238, 144]),
            _code("Neoplasm, Primary", "86049000", recommendedDisplayRGBValue=[253, 135, 192]),
            _code("Lesion", "52988006", recommendedDisplayRGBValue=[255, 0, 0]),
        ],
    }
    categories = [_code(*category, showAnatomy=True, Type=entries) for category, entries in types.items()]
    schemas = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/"
    for file_name, context in (
        ("SlicerGeneralAnatomy", "Segmentation category and type - 3D Slicer General Anatomy list"),
        ("DICOM-Master", "Segmentation category and type - DICOM master list"),
    ):
        document = {
            "SegmentationCategoryTypeContextName": context,
            "@schema": schemas + "segment-context-schema.json#",
            "SegmentationCodes": {"Category": categories},
        }
        path = folder / f"SegmentationCategoryTypeModifier-{file_name}.term.json"
        path.write_text(json.dumps(document), encoding="utf-8")
    document = {
        "AnatomicContextName": "Anatomic codes - DICOM master list",
        "@schema": schemas + "anatomic-context-schema.json#",
        "AnatomicCodes": {"AnatomicRegion": [_code("Breast", "76752008")]},
    }
    path = folder / "AnatomicRegionAndModifier-DICOM-Master.term.json"
    path.write_text(json.dumps(document), encoding="utf-8")

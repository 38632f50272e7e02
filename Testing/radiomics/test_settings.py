"""Settings: files in and out, and what they refuse."""

from __future__ import annotations

import json

import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib.settings import PRESETS, Settings, read_settings, settings_from_dict, write_settings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_file_and_say_why(name, tmp_path):
    write_settings(PRESETS[name], tmp_path / "settings.json")
    assert read_settings(tmp_path / "settings.json") == PRESETS[name] == read_settings(name.upper())
    assert len(PRESETS[name].reason) > 40


@pytest.mark.parametrize(
    "data, message",
    [
        ({"bin_widht": 5}, "unknown name 'bin_widht'"),
        ({"spacing_kji_mm": [1, 1]}, "three voxel sizes"),
        ({"spacing_kji_mm": 1.0}, "three voxel sizes"),
        ({"spacing_kji_mm": [1, 1, 0]}, "three voxel sizes above 0"),
        ({"interpolation": "nearest"}, "'linear' or 'cubic'"),
        ({"round_intensities": "yes"}, "true or false"),
        ({"lower": 5, "upper": 5}, "below upper"),
        ({"lower": "low"}, "lower has to be a finite number"),
        ({"upper": float("inf")}, "upper has to be a finite number"),
        ({"outlier_sigma": 0}, "outlier_sigma has to be above 0"),
        ({"discretization": "bins"}, "discretization is"),
        ({"discretization": "bin_width", "bin_width": -1}, "bin_width has to be above 0"),
        ({"bin_count": 5000}, "bin_count has to be a whole number, 2 to 1024"),
        ({"ivh_discretization": "bin_width"}, "ivh_bin_width has to be above 0"),
        ({"aggregations": ["4D"]}, "aggregations are some of 2D_avg"),
        ({"aggregations": []}, "aggregations are some of"),
        ([1, 2], "one JSON object"),
    ],
)
def test_bad_settings_say_what_is_wrong(data, message, tmp_path):
    with pytest.raises(InputError, match=message):
        settings_from_dict(data)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=f"'mine.json': .*{message}"):
        read_settings(path)


def test_files_that_are_no_settings(tmp_path):
    with pytest.raises(InputError, match="is no preset"):
        read_settings("mri")
    with pytest.raises(InputError, match="does not exist"):
        read_settings(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="'broken.json' is not JSON"):
        read_settings(tmp_path / "broken.json")


def test_left_out_values_keep_their_defaults():
    assert settings_from_dict({"bin_count": 64}) == Settings(bin_count=64)

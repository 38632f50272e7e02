"""Parameter files of pyradiomics, its filtered images, and the command that reproduces a study made with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import write_volume
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.pyradiomics_mode import NAMES, PyradiomicsSettings
from RadiomicsPanelLib.roi import read_cases
from RadiomicsPanelLib.yaml_pyradiomics import (
    PyradiomicsParameters,
    extract_like_pyradiomics,
    extract_with_pyradiomics,
    parameters_from_dict,
    parameters_to_dict,
    read_parameters,
    write_parameters,
)

DATA = Path(__file__).parent / "data"
EXAMPLE = """
# a comment
imageType:
  Original: {}
  LoG:
    sigma: [1.0, 2.5]
    binWidth: 5
  Wavelet:
featureClass:
  shape:
  firstorder: []
  glcm:
    - Contrast
    - JointEnergy
setting:
  binCount: 16
  label: 2
  interpolator: 'sitkBSpline'
  resampledPixelSpacing: [1, 1, 0]
  resegmentRange: [-3, 3]
  resegmentMode: sigma
  weightingNorm: no_weighting
  minimumROIDimensions: 1
  additionalInfo: true
"""


def test_filtered_images_are_those_of_pyradiomics(shared_data):
    """LoG, wavelets, square, root, logarithm, exponential and gradient, against values it gave itself."""
    stem = shared_data / "segmentation" / "pyradiomics" / "breast1"
    (case,) = read_cases(f"{stem}_image.nrrd", f"{stem}_label.nrrd")
    kinds = {name: {} for name in ("Square", "SquareRoot", "Logarithm", "Exponential", "Gradient")}
    parameters = parameters_from_dict(
        {
            "imageType": {"LoG": {"sigma": [1.0, 2.5]}, "Wavelet": {"wavelet": "coif1", "binWidth": 10}, **kinds},
            "setting": {"binWidth": 25, "voxelArrayShift": 100},
        }
    )
    ours = extract_like_pyradiomics(case, parameters)
    with (DATA / "pyradiomics_filtered_breast1.csv").open() as file:
        expected = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert len(expected) == 15 * 8
    assert {name: ours[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert not any("_shape_" in name for name in ours)


def test_reading_a_parameter_file(tmp_path):
    (tmp_path / "params.yaml").write_text(EXAMPLE)
    parameters = read_parameters(tmp_path / "params.yaml")
    assert parameters.settings == PyradiomicsSettings(
        bin_count=16,
        spacing_ijk_mm=(1.0, 1.0, 0.0),
        resegment_range=(-3.0, 3.0),
        resegment_mode="sigma",
        merged=True,
    )
    assert parameters.label == 2
    assert list(parameters.image_types) == ["Original", "LoG", "Wavelet"]
    classes = {name.split("_")[0] for name in parameters.features}
    assert classes == {"shape", "firstorder", "glcm"}
    assert [n for n in parameters.features if n.startswith("glcm")] == ["glcm_Contrast", "glcm_JointEnergy"]


def test_a_written_file_reads_back(tmp_path):
    (tmp_path / "params.yaml").write_text(EXAMPLE)
    parameters = read_parameters(tmp_path / "params.yaml")
    write_parameters(parameters, tmp_path / "again.yml")
    assert read_parameters(tmp_path / "again.yml") == parameters
    assert parameters_from_dict(parameters_to_dict(PyradiomicsParameters())) == PyradiomicsParameters()
    assert parameters_from_dict({}) == PyradiomicsParameters()
    shifted = PyradiomicsParameters(PyradiomicsSettings(voxel_array_shift=100.0))
    assert parameters_to_dict(shifted)["setting"] == {"binWidth": 25.0, "voxelArrayShift": 100}


def test_json_is_yaml_too(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps({"setting": {"binWidth": 10}}))
    assert read_parameters(tmp_path / "params.json").settings.bin_width == 10


@pytest.mark.parametrize(
    "data, message",
    [
        ([1], "holds imageType, featureClass and setting"),
        ({"settings": {}}, "'settings' is no part"),
        ({"setting": [1]}, "'setting' has to hold names"),
        ({"setting": {"binwidth": 5}}, "'binwidth' is not reproduced"),
        ({"setting": {"binWidth": "wide"}}, "'binWidth' cannot be 'wide'"),
        ({"setting": {"binWidth": 0}}, "above 0"),
        ({"setting": {"binCount": 2.5}}, "'binCount' cannot be 2.5"),
        ({"setting": {"normalize": 1}}, "'normalize' cannot be 1"),
        ({"setting": {"resampledPixelSpacing": [1, 1]}}, "three sizes"),
        ({"setting": {"resegmentRange": [1, 2, 3]}}, "one or two values"),
        ({"setting": {"resegmentMode": "percent"}}, "'resegmentMode' cannot be 'percent'"),
        ({"setting": {"interpolator": "sitkLinear"}}, "'interpolator' is not reproduced with 'sitkLinear'"),
        ({"setting": {"distances": [1, 2]}}, r"'distances' is not reproduced with \[1, 2\], only with \[1\]"),
        ({"setting": {"weightingNorm": "euclidean"}}, "'weightingNorm' is not reproduced"),
        ({"setting": {"label": 0}}, "'label' cannot be 0"),
        ({"imageType": {"LBP3D": {}}}, "'LBP3D' is not reproduced; these are: Original, LoG"),
        ({"imageType": {"LoG": {"sigmas": [1]}}}, "'LoG' has the setting 'sigmas'"),
        ({"imageType": {"Square": {"binWidth": -1}}}, "above 0"),
        ({"featureClass": {"shape2D": None}}, "'shape2D' is not reproduced; these are: firstorder, glcm"),
        ({"featureClass": {"glcm": ["Homogeneity1"]}}, "'Homogeneity1' of 'glcm' is not reproduced"),
        ({"voxelSetting": {"kernelRadius": 2}}, "voxelSetting is not reproduced"),
    ],
)
def test_what_is_not_reproduced_is_refused(data, message, tmp_path):
    yaml = pytest.importorskip("yaml")
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=f"'params.yaml': .*{message}"):
        read_parameters(path)


def test_files_that_are_no_parameters(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1\nb: {")
    with pytest.raises(InputError, match="'bad.yaml' is not YAML"):
        read_parameters(tmp_path / "bad.yaml")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="'code.yaml' is not YAML"):
        read_parameters(tmp_path / "code.yaml")
    with pytest.raises(InputError, match="does not exist"):
        read_parameters(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "kinds, message",
    [
        ({"LoG": {}}, "LoG needs 'sigma'"),
        ({"LoG": {"sigma": [-1]}}, "LoG needs 'sigma'"),
        ({"LoG": {"sigma": [500.0]}}, "too small for LoG with a sigma of 500 mm"),
        ({"Wavelet": {"wavelet": "sym4"}}, "the first level of haar, db2, db3, coif1 only"),
        ({"Wavelet": {"level": 2}}, "the first level of"),
    ],
)
def test_filters_that_cannot_be_reproduced(lump, kinds, message):
    with pytest.raises(InputError, match=message):
        extract_like_pyradiomics(lump(), parameters_from_dict({"imageType": kinds}))


@pytest.fixture
def files(tmp_path, lump):
    case = lump()
    write_volume(case.image, tmp_path / "breast.nrrd")
    labels = case.mask.array.astype(np.uint8)
    labels[:8] *= 2
    write_volume(case.mask.with_array(labels), tmp_path / "mask.nrrd")
    (tmp_path / "params.yaml").write_text(EXAMPLE)
    return tmp_path


def test_command(files, capsys):
    options = ["pyradiomics", "--image", str(files / "breast.nrrd"), "--mask", str(files / "mask.nrrd"), "--json"]
    parameters = ["--parameters", str(files / "params.yaml"), "--write-parameters", str(files / "used.yaml")]
    assert main([*options, *parameters, "--output", str(files / "out.csv")]) == 0
    figures = json.loads(capsys.readouterr().out)
    with (files / "out.csv").open() as file:
        (row,) = csv.DictReader(file)  # the parameter file chooses label 2
    assert (row["case"], row["segment"]) == ("breast", "label 2")
    assert row["program"].endswith("as published (pyradiomics)")
    assert figures["features"] == len(row) - 3
    assert {"original_shape_Sphericity", "log-sigma-2-5-mm-3D_glcm_Contrast", "wavelet-HHL_firstorder_Mean"} <= set(row)
    assert "wavelet-HHL_shape_Sphericity" not in row
    assert read_parameters(files / "used.yaml") == read_parameters(files / "params.yaml")
    assert main([*options, "--output", str(files / "all.csv")]) == 0
    with (files / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["segment"] for row in rows] == ["label 1", "label 2"]
    assert len(rows[0]) == 3 + len(NAMES)


def test_comparing_needs_pyradiomics(lump):
    """Where it is installed its values are those of the same study; here it says what is missing."""
    try:
        import radiomics.featureextractor  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pyradiomics is not installed"):
            extract_with_pyradiomics(lump(), PyradiomicsParameters())
        return
    textures = {name: None for name in ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")}
    for setting in ({}, {"force2D": True}):
        parameters = parameters_from_dict({"featureClass": textures, "setting": setting})
        theirs = extract_with_pyradiomics(lump(), parameters)
        assert extract_like_pyradiomics(lump(), parameters) == pytest.approx(theirs, rel=1e-9)
    case = lump()
    case.mask.array[:] = False
    with pytest.raises(InputError, match="pyradiomics refuses segment 'lump' of 'case'"):
        extract_with_pyradiomics(case, parameters)

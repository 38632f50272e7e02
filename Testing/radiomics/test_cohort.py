"""Cohorts: manifests, failures that do not stop the rest, resuming after being killed, one and several processes."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import write_volume
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.cohort import FAILURE_COLUMNS, extract_cohort
from RadiomicsPanelLib.extract import extract_all
from RadiomicsPanelLib.filters import LaplacianOfGaussian, Mean
from RadiomicsPanelLib.manifest import read_manifest
from RadiomicsPanelLib.perturb import draw_perturbations
from RadiomicsPanelLib.roi import read_cases
from RadiomicsPanelLib.settings import Settings
from RadiomicsPanelLib.study import read_study
from RadiomicsPanelLib.table import wide_columns, wide_rows

FAST = Settings(name="fast", bin_count=8)
FEW = ("stat", "ih")


@pytest.fixture
def study(tmp_path, lump):
    """Return a function that writes `count` tiny cases, each with labels 1 and 2, and their manifest."""

    def make(count: int):
        folder = tmp_path / "study"
        lines = ["case,image,mask,segments,age"]
        for n in range(count):
            case = lump(seed=n, shape=(7, 9, 11))
            labels = case.mask.array.astype(np.uint8)
            labels[:4] *= 2
            write_volume(case.image, folder / f"image{n}.nrrd")
            write_volume(case.mask.with_array(labels), folder / f"mask{n}.nrrd")
            lines.append(f"P{n},image{n}.nrrd,mask{n}.nrrd,,{40 + n}")
        (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
        return folder / "manifest.csv"

    return make


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_line(manifest, text):
    manifest.write_text(manifest.read_text() + text + "\n")


def test_the_table_is_what_single_extractions_give(study, tmp_path):
    manifest = study(3)
    made = extract_cohort(manifest, FAST, tmp_path / "out", names=FEW, workers=1)
    with made.table.open(newline="") as file:
        table = list(csv.reader(file))
    expected = []
    for n in range(3):
        folder = manifest.parent
        cases = read_cases(folder / f"image{n}.nrrd", folder / f"mask{n}.nrrd")
        extractions = extract_all(cases, FAST, names=FEW)
        expected += [[f"P{n}", *map(str, row[1:])] for row in wide_rows(extractions)]
        columns = wide_columns(extractions)
    assert table == [list(columns), *[["" if cell == "None" else cell for cell in row] for row in expected]]
    record = json.loads(made.provenance.read_text())
    assert record["settings"]["name"] == "fast"
    assert [(s["case"], s["segment"]) for s in record["segments"]] == [(row[0], row[1]) for row in table[1:]]
    assert set(table[0]) == {"case", "segment", "filter", *record["columns"], "notes"}
    assert (made.row_count, made.failure_count, made.reused_count) == (6, 0, 0)
    assert made.failures.read_text().strip() == ",".join(FAILURE_COLUMNS)


def test_filtered_images_are_rows_of_their_own_and_made_once_per_image(study, tmp_path, monkeypatch):
    import RadiomicsPanelLib.extract as extract

    filtered = []
    real = extract.filter_around
    monkeypatch.setattr(extract, "filter_around", lambda *a: filtered.append(a[-1].label) or real(*a))
    settings = replace(FAST, filters=(Mean(size=3), LaplacianOfGaussian(sigma_mm=2.0)))
    made = extract_cohort(study(1), settings, tmp_path / "out", names=("morph", "stat"), workers=1)
    labels = [f.label for f in settings.filters]
    assert filtered == labels, "not once per segment"
    rows = rows_of(made.table)
    assert [(r["segment"], r["filter"]) for r in rows] == [
        (f"label {n}", f) for n in (1, 2) for f in ("original", *labels)
    ]
    assert len({r["stat_mean"] for r in rows}) == 6
    joined = read_study(made.table)
    assert joined.cases == ("P0", "P0")
    assert {"original_morph_mesh_volume", "original_stat_mean", f"{labels[0]}_stat_mean"} < set(joined.columns)
    assert not any(c.startswith(f"{labels[0]}_morph") for c in joined.columns), "a filter does not change shape"


def test_tissue_to_leave_out_around_the_segments(study, tmp_path, lump):
    manifest = study(1)
    case = lump(shape=(7, 9, 11))
    left = np.zeros(case.mask.shape, np.uint8)
    left[:, :, :4] = 1
    write_volume(case.mask.with_array(left), manifest.parent / "air.nrrd")
    rows = [
        {"case": name, "image": "image0.nrrd", "mask": "mask0.nrrd", "exclude": e}
        for name, e in (("A", "air.nrrd"), ("B", ""))
    ]
    (manifest.parent / "m.json").write_text(json.dumps(rows))
    made = extract_cohort(manifest.parent / "m.json", FAST, tmp_path / "out", workers=1)
    (with_air, _, without, _) = rows_of(made.table)
    assert with_air["depth_ring_mean"] != without["depth_ring_mean"]
    assert with_air["stat_mean"] == without["stat_mean"]


def test_parquet_equals_csv(study, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    made = extract_cohort(study(2), FAST, tmp_path / "out", names=("stat",), workers=1)
    table = parquet.read_table(made.parquet)
    rows = rows_of(made.table)
    assert table.column_names == list(rows[0])
    assert str(table.schema.field("stat_mean").type) == "double"
    for name in ("stat_mean", "stat_variance"):
        assert table.column(name).to_pylist() == [float(row[name]) for row in rows]
    assert table.column("segment").to_pylist() == [row["segment"] for row in rows]


def test_without_pyarrow_there_is_csv_only_and_it_is_said(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    made = extract_cohort(study(1), FAST, tmp_path / "out", names=("stat",), workers=1)
    assert made.parquet is None
    assert "pyarrow is not installed: the table was written as CSV only" in made.notes
    assert not (tmp_path / "out" / "features.parquet").exists()
    assert len(rows_of(made.table)) == 2


def test_bad_cases_are_listed_with_their_line_and_the_rest_goes_on(study, tmp_path, lump):
    manifest = study(2)
    folder = manifest.parent
    (folder / "broken.nrrd").write_bytes((folder / "image0.nrrd").read_bytes()[:2000])
    case = lump(shape=(7, 9, 11))
    one = np.zeros(case.mask.shape, np.uint8)
    one[3, 4, 5] = 1
    one[0, 0, :4] = 2
    write_volume(case.mask.with_array(one), folder / "one.nrrd")
    hole = case.image.with_array(np.where(case.mask.array, np.nan, case.image.array))
    write_volume(hole, folder / "nan.nrrd")
    for line in (
        "P2,broken.nrrd,mask0.nrrd",  # 4
        "P3,,mask0.nrrd",
        "P4,absent.nrrd,mask0.nrrd",
        "P5,image0.nrrd,one.nrrd",
        "P6,image0.nrrd,mask0.nrrd,7",
        "P7,nan.nrrd,mask0.nrrd",
        "P8,image0.nrrd,mask0.nrrd,1,50,too,many",
        "P0,image0.nrrd,mask0.nrrd",  # repeats line 2
        "P9,image1.nrrd,mask1.nrrd,rim=2;label 1",
        "P9,image0.nrrd,mask0.nrrd,1",  # the same segment of the same case again
    ):
        add_line(manifest, line)
    made = extract_cohort(manifest, FAST, tmp_path / "out", names=("stat",), workers=1)
    measured = [(row["case"], row["segment"]) for row in rows_of(made.table)]
    assert measured == [
        ("P0", "label 1"),
        ("P0", "label 2"),
        ("P1", "label 1"),
        ("P1", "label 2"),
        ("P5", "label 2"),
        ("P9", "rim"),
        ("P9", "label 1"),
    ]
    failures = {(row["where"], row["segment"]): row["reason"] for row in rows_of(made.failures)}
    for where, segment, reason in (
        ("line 4", "", "'broken.nrrd' is damaged or incomplete"),
        ("line 5", "", "line 5: 'image' is empty"),
        ("line 6", "", "absent.nrrd' does not exist"),
        ("line 7", "label 1", "has 1 voxel on the analysis grid"),
        ("line 8", "7", "has no segment '7'; it holds 'label 1' (label 1), 'label 2' (label 2)"),
        ("line 9", "label 1", "are not a number"),
        ("line 9", "label 2", "are not a number"),
        ("line 10", "", "7 cells for 5 columns"),
        ("line 11", "", "line 11 repeats line 2"),
        ("line 13", "label 1", "is already in line 12"),
    ):
        assert reason in failures.pop((where, segment))
    assert not failures


def test_a_bug_in_one_case_does_not_cost_the_others(study, tmp_path, monkeypatch):
    import RadiomicsPanelLib.cohort as cohort

    real = cohort.extract_all

    def fails_once(cases, *rest, **more):
        if cases[0].name == "P0":
            raise ZeroDivisionError("surprise")
        return real(cases, *rest, **more)

    monkeypatch.setattr(cohort, "extract_all", fails_once)
    made = extract_cohort(study(2), FAST, tmp_path / "out", names=("stat",), workers=1)
    assert {row["case"] for row in rows_of(made.table)} == {"P1"}
    assert "unexpected ZeroDivisionError: surprise" in rows_of(made.failures)[0]["reason"]


def test_changed_inputs_and_settings_are_measured_again_and_nothing_else(study, tmp_path, lump):
    manifest = study(3)
    out = tmp_path / "out"
    first = extract_cohort(manifest, FAST, out, names=("stat",), workers=1)
    before = rows_of(first.table)
    again = extract_cohort(manifest, FAST, out, names=("stat",), workers=1)
    assert (again.reused_count, rows_of(again.table)) == (3, before)
    write_volume(lump(seed=99, shape=(7, 9, 11)).image, manifest.parent / "image1.nrrd")
    changed = extract_cohort(manifest, FAST, out, names=("stat",), workers=1)
    assert changed.reused_count == 2
    differing = {a["case"] for a, b in zip(before, rows_of(changed.table), strict=True) if a != b}
    assert differing == {"P1"}
    other = extract_cohort(manifest, Settings(name="other", bin_count=8, upper=200.0), out, names=("stat",), workers=1)
    assert other.reused_count == 0


def test_a_damaged_result_is_measured_again(study, tmp_path):
    manifest = study(2)
    made = extract_cohort(manifest, FAST, tmp_path / "out", names=("stat",), workers=1)
    before = made.table.read_text()
    results = sorted((tmp_path / "out" / "results").glob("*.json"))
    damaged = next(path for path in results if ".about" not in path.name)
    damaged.write_text(damaged.read_text()[:100])
    again = extract_cohort(manifest, FAST, tmp_path / "out", names=("stat",), workers=1)
    assert (again.reused_count, again.table.read_text()) == (1, before)


def test_killed_at_a_random_moment_and_resumed_nothing_is_lost_or_doubled(study, tmp_path):
    manifest = study(8)
    whole = extract_cohort(manifest, FAST, tmp_path / "whole", names=FEW, workers=1)
    command = [
        *(sys.executable, "-m", "RadiomicsPanelLib", "cohort", "--manifest", str(manifest), "--workers", "1"),
        *("--settings", str(tmp_path / "fast.json"), "--feature", "stat", "--feature", "ih"),
        *("--output", str(tmp_path / "killed"), "--json"),
    ]
    (tmp_path / "fast.json").write_text(json.dumps({"name": "fast", "bin_count": 8}))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    results = tmp_path / "killed" / "results"
    rng = random.Random(5)
    for wanted in (1, 4):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 120
        while len(list(results.glob("*[0-9a-f].json"))) <= wanted and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert not (tmp_path / "killed" / "features.csv").exists(), "killed before the tables"
    there = len([path for path in results.glob("*.json") if ".about" not in path.name])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    figures = json.loads(done.stdout)
    assert 0 < figures["reused"] == there < 8
    assert (tmp_path / "killed" / "features.csv").read_bytes() == whole.table.read_bytes()


def test_cancelled_between_cases_it_goes_on_from_there(study, tmp_path):
    manifest = study(3)

    def stop(fraction, message):
        if "2 of 3" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        extract_cohort(manifest, FAST, tmp_path / "out", progress=stop, names=("stat",), workers=1)
    assert extract_cohort(manifest, FAST, tmp_path / "out", names=("stat",), workers=1).reused_count == 2


@pytest.mark.parametrize("existing_scheduler", [False, True], ids=["own processes", "existing scheduler"])
def test_with_dask_the_same_table(study, tmp_path, existing_scheduler):
    distributed = pytest.importorskip("distributed")
    manifest = study(4)
    add_line(manifest, "P9,absent.nrrd,mask0.nrrd")
    alone = extract_cohort(manifest, FAST, tmp_path / "alone", names=("stat",), workers=1)
    if existing_scheduler:
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False
        ) as own:
            address = own.scheduler.listeners[0].contact_address
            made = extract_cohort(manifest, FAST, tmp_path / "dask", scheduler=address, names=("stat",))
            assert made.workers == 1
    else:
        made = extract_cohort(manifest, FAST, tmp_path / "dask", names=("stat",), workers=2)
        assert made.workers == 2
    assert made.table.read_bytes() == alone.table.read_bytes()
    assert made.failures.read_bytes() == alone.failures.read_bytes()


def test_no_scheduler_at_the_address(study, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="'nowhere at all' cannot be reached"):
        extract_cohort(study(1), FAST, tmp_path / "out", scheduler="nowhere at all")


def test_without_dask_one_process_works_and_it_is_said(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    made = extract_cohort(study(2), FAST, tmp_path / "out", names=("stat",), workers=2)
    assert made.workers == 1
    assert "dask is not installed: one process worked instead of 2" in made.notes
    with pytest.raises(InputError, match="A scheduler needs the packages dask and distributed"):
        extract_cohort(study(1), FAST, tmp_path / "out", scheduler="tcp://127.0.0.1:1")


def test_perturbed_copies_have_a_column_of_their_own(study, tmp_path):
    made = extract_cohort(
        study(1),
        FAST,
        tmp_path / "out",
        names=("stat",),
        workers=1,
        perturbations=draw_perturbations(3, kinds=("shift", "noise")),
    )
    rows = rows_of(made.table)
    assert [(row["segment"], row["copy"]) for row in rows] == [
        (f"label {label}", str(copy)) for label in (1, 2) for copy in (1, 2, 3)
    ]
    assert len({row["stat_mean"] for row in rows}) == 6
    record = json.loads(made.provenance.read_text())
    assert len(record["perturbations"]) == 3
    assert record["segments"][1]["noise"] is True


def test_manifests_as_json_and_as_a_folder(study, tmp_path):
    manifest = study(2)
    folder = manifest.parent
    rows = [{"case": 1, "image": "image0.nrrd", "mask": "mask0.nrrd", "segments": [2, "label 1"]}, "nonsense"]
    (folder / "m.json").write_text(json.dumps(rows))
    (entry,), (failure,) = read_manifest(folder / "m.json")
    assert (entry.case, entry.segments, entry.image) == ("1", ("2", "label 1"), folder / "image0.nrrd")
    assert (failure.where, failure.reason) == ("entry 2", "entry 2: not an object with case, image, mask.")
    tree = tmp_path / "tree"
    for n, names in enumerate((("t1.nrrd", "lesion-seg.nrrd"), ("t1.nrrd", "t2.nrrd"))):
        for name in names:
            (tree / f"P{n}").mkdir(parents=True, exist_ok=True)
            (tree / f"P{n}" / name).write_bytes((folder / "mask0.nrrd").read_bytes())
    (entry,), (failure,) = read_manifest(tree)
    assert (entry.case, entry.image.name, entry.mask.name) == ("P0", "t1.nrrd", "lesion-seg.nrrd")
    assert "one image and one mask are needed in folder P1; it holds t1.nrrd, t2.nrrd" in failure.reason


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("m.csv", "case,image\nA,b\n", "has no column 'mask' in line 1; it has case, image"),
        ("m.csv", "case;image;mask\nA;b;c\n", "Separate columns by commas"),
        ("m.csv", "case,image,mask,image\n", "names a column twice"),
        ("m.csv", "", "has no column 'case'"),
        ("m.csv", "case,image,mask\n", "names no case"),
        ("m.csv", b"case,image,mask\n\xff\xfe,a,b\n", "is not UTF-8"),
        ("m.csv", "case,image,mask\n" + "x" * 200_000 + ",a,b\n", "is not CSV from line"),
        ("m.json", "{", "is not JSON"),
        ("m.json", "{}", "has to be a JSON list"),
        ("m.json", "[" * 100_000, "is not JSON"),
        ("m.txt", "case", "has to be a folder, a .csv or a .json file"),
    ],
)
def test_unusable_manifests(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / name)


def test_command_line(study, tmp_path, capsys):
    manifest = study(1)
    add_line(manifest, "P8,image0.nrrd,")
    arguments = ["cohort", "--manifest", str(manifest), "--output", str(tmp_path / "out"), "--workers", "1"]
    arguments += ["--feature", "stat", "--json"]
    assert main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["rows"], figures["failures"], figures["workers"]) == (2, 1, 1)
    manifest.write_text("case,image,mask\nP8,image0.nrrd,\n")
    assert main(arguments) == 2
    assert "Nothing could be measured" in capsys.readouterr().err
    assert main([*arguments, "--workers", "0"]) == 2
    assert "0 worker processes cannot work" in capsys.readouterr().err

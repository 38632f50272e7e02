"""Features of a whole cohort: resumable, in parallel, with a table of what failed and why.

Each manifest entry becomes one file in `results/`, renamed into place when it is complete and named by a hash of the
settings and the content of its inputs. Resuming is looking whether that file is there; the tables are written from
these files, one entry in memory at a time.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from BreastBiomarkersLib.progress import Cancelled, Progress, ignore_progress
from BreastBiomarkersLib.volume import read_volume

from RadiomicsPanelLib.catalog import select_features
from RadiomicsPanelLib.extract import VERSION, Extraction, extract_all, provenance
from RadiomicsPanelLib.manifest import Failure, ManifestEntry, read_entry, read_manifest
from RadiomicsPanelLib.perturb import Perturbation, perturb
from RadiomicsPanelLib.roi import Case
from RadiomicsPanelLib.settings import Settings, settings_to_dict
from RadiomicsPanelLib.table import wide_columns, wide_rows

logger = logging.getLogger(__name__)

FAILURE_COLUMNS = ("where", "case", "segment", "reason")
_DETACHED = (".nhdr", ".mhd")  # headers whose voxels lie in other files
_TEXT_COLUMNS = ("case", "segment", "filter", "notes")
_ROWS_PER_GROUP = 256
_ABANDONED_S = 3600.0


@dataclass(frozen=True)
class CohortTable:
    """What a cohort run wrote.

    Attributes
    ----------
    table, provenance, failures : Path
        `features.csv`, `features.provenance.json`, `failures.csv`.
    parquet : Path or None
        `features.parquet`; None without pyarrow.
    row_count, failure_count, entry_count, reused_count : int
        Rows of both tables, manifest entries, and entries whose result was there already.
    workers : int
        Processes that measured.
    notes : tuple of str
        What the user should know.
    """

    table: Path
    provenance: Path
    failures: Path
    parquet: Path | None
    row_count: int
    failure_count: int
    entry_count: int
    reused_count: int
    workers: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """What to do with every entry, and where its result goes."""

    settings: Settings
    names: tuple[str, ...] | None
    perturbations: tuple[Perturbation, ...]
    folder: Path

    def key(self, *inputs: object) -> str:
        about = {
            "version": VERSION,
            "settings": settings_to_dict(self.settings),
            "names": self.names,
            "perturbations": [asdict(p) for p in self.perturbations],
            "inputs": inputs,
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:40]

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


@dataclass(frozen=True)
class _Measured:
    """An entry that has a result file (key) or none, what failed in it, and whether the file was there before."""

    key: str | None
    failures: tuple[Failure, ...]
    reused: bool = False


@dataclass(frozen=True)
class _Copy:
    """One measurement of a segment in all filters, as it is or perturbed."""

    extractions: list[Extraction]
    number: int = 0
    perturbation: Perturbation | None = None


def extract_cohort(
    manifest: str | Path,
    settings: Settings,
    output: str | Path,
    scheduler: str | None = None,
    progress: Progress = ignore_progress,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    perturbations: Sequence[Perturbation] = (),
) -> CohortTable:
    """Measure every case of a manifest; write the tables, their provenance and the failures into a folder.

    What cannot be measured becomes a row of `failures.csv`, and the rest goes on. Stopped at any moment, the same call
    goes on where it was. Called from a script, local processes need ``if __name__ == "__main__":`` around it.

    Parameters
    ----------
    manifest : str or Path
        See `read_manifest`.
    settings : Settings
    output : str or Path
        Folder; `results/` inside holds one file per entry.
    scheduler : str, optional
        Address of a running Dask scheduler whose workers see the same files; default processes of this computer.
    progress : Progress
    names : sequence of str, optional
        Families or features; default all.
    workers : int, optional
        Processes of this computer; default one less than its cores. 1 works in this process, without Dask.
    perturbations : sequence of Perturbation
        With them each segment is measured once per perturbation instead of as it is; the column `copy` counts them.

    Raises
    ------
    InputError
        If the manifest or the output folder cannot be used, the scheduler cannot be reached, a feature is unknown, or
        nothing at all could be measured.
    """
    select_features(names)
    if workers is not None and workers < 1:
        raise InputError(f"{workers} worker processes cannot work. Give 1 or more.")
    progress(0.0, "Reading the manifest")
    entries, failures = read_manifest(manifest)
    output = Path(output)
    plan = _Plan(
        settings, None if names is None else tuple(names), tuple(perturbations), (output / "results").resolve()
    )
    _prepare_folder(plan.folder)
    notes: list[str] = []
    measured: dict[str, _Measured] = {}
    with _workers(scheduler, workers, len(entries), plan, notes) as (client, count):
        for n, (entry, result) in enumerate(_measure_all(entries, plan, client, count), 1):
            measured[entry.where] = result
            progress(0.95 * n / len(entries), f"{entry.case} ({n} of {len(entries)})")
    failures += [failure for entry in entries for failure in measured[entry.where].failures]
    done = [(entry, key) for entry in entries if (key := measured[entry.where].key) is not None]
    progress(0.95, "Writing the tables")
    row_count, parquet, beside = _write_tables(output, plan, done, failures, notes)
    failure_path = _write_failures(output, failures)
    if row_count == 0:
        reason = failures[0].reason if failures else "no segment was found"
        raise InputError(f"Nothing could be measured; see '{failure_path}'. The first reason: {reason}")
    progress(1.0, "Done")
    return CohortTable(
        output / "features.csv",
        beside,
        failure_path,
        parquet,
        row_count,
        len(failures),
        len(entries),
        sum(m.reused for m in measured.values()),
        count,
        tuple(notes),
    )


def measure_entry(entry: ManifestEntry, plan: _Plan) -> _Measured:
    """Measure one entry unless its result is there, and write the result; runs in a worker.

    Never raises for the entry's own sake: what is wrong with it is part of the answer.
    """
    try:
        inputs = [path for path in (entry.image, entry.mask, entry.exclusion) if path is not None]
        key = plan.key(entry.case, entry.segments, *map(_content_hash, inputs))
        result = _read_result(plan.path(key))
        if result is not None and not result["failures"]:
            return _Measured(key, (), reused=True)
        cases, failures = read_entry(entry)
        columns: Sequence[str] = ()
        segments = []
        for case, measured in _measure_segments(cases, plan):
            if isinstance(measured, InputError):
                failures.append(Failure(entry.where, entry.case, case.segment, str(measured)))
            else:
                columns, rows, records = _as_rows(measured)
                segments.append({"segment": case.segment, "rows": rows, "records": records})
                _write_about(plan, measured[0].extractions)
        if not segments:
            return _Measured(None, tuple(failures))
        content = {
            "case": entry.case,
            "columns": columns,
            "segments": segments,
            "failures": [(f.segment, f.reason) for f in failures],
        }
        with atomic_path(plan.path(key)) as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        return _Measured(key, tuple(failures))
    except Cancelled:
        raise
    except InputError as error:
        return _Measured(None, (Failure(entry.where, entry.case, "", str(error)),))
    except Exception as error:  # a bug in one case must not cost the other cases
        logger.exception("Case '%s' failed unexpectedly", entry.case)
        reason = f"unexpected {type(error).__name__}: {error}. Please report it."
        return _Measured(None, (Failure(entry.where, entry.case, "", reason),))


def _measure_segments(cases: Sequence[Case], plan: _Plan) -> Iterator[tuple[Case, list[_Copy] | InputError]]:
    """Yield each segment with its copies (one, if nothing is perturbed), or with what is wrong with it.

    Together, so that each image is filtered once; one by one where a segment cannot be measured.
    """
    if not plan.perturbations and len(cases) > 1:
        try:
            extractions = extract_all(cases, plan.settings, names=plan.names)
        except InputError:
            logger.info("A segment of '%s' cannot be measured; measuring them one by one", cases[0].name)
        else:
            count = 1 + len(plan.settings.filters)
            for n, case in enumerate(cases):
                yield case, [_Copy(extractions[n * count : (n + 1) * count])]
            return
    for case in cases:
        try:
            yield case, [_measure_copy(case, plan, n, p) for n, p in enumerate(plan.perturbations or (None,), 1)]
        except InputError as error:
            yield case, error


def _measure_copy(case: Case, plan: _Plan, number: int, perturbation: Perturbation | None) -> _Copy:
    if perturbation is None:
        return _Copy(extract_all([case], plan.settings, names=plan.names))
    try:
        changed, settings = perturb(case, plan.settings, perturbation)
        return _Copy(extract_all([changed], settings, names=plan.names), number, perturbation)
    except InputError as error:
        raise InputError(f"Copy {number}: {error}") from error


def _as_rows(copies: Sequence[_Copy]) -> tuple[Sequence[str], list[list[Any]], list[dict[str, Any]]]:
    """Return columns, rows (one per filter and copy) and provenance records of one segment."""
    columns = wide_columns(copies[0].extractions)
    rows: list[list[Any]] = []
    records: list[dict[str, Any]] = []
    for copy in copies:
        new = [list(row) for row in wide_rows(copy.extractions)]
        about = provenance(copy.extractions)["segments"]
        if copy.perturbation is None:
            rows, records = rows + new, records + about
        else:
            rows += [[*row[:3], copy.number, *row[3:]] for row in new]
            records += [record | {"copy": copy.number} | asdict(copy.perturbation) for record in about]
    if copies[0].perturbation is not None:
        columns = (*columns[:3], "copy", *columns[3:])
    return columns, rows, records


def _write_about(plan: _Plan, extractions: Sequence[Extraction]) -> None:
    """Write what holds for all entries (versions, settings, meaning of the columns) once per plan."""
    path = plan.folder / f"{plan.key()}.about.json"
    if not path.exists():
        about = provenance(extractions)
        del about["segments"]
        about["settings"] = settings_to_dict(plan.settings)
        about["perturbations"] = [asdict(p) for p in plan.perturbations]
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(about, allow_nan=False), encoding="utf-8")


def _content_hash(path: Path) -> str:
    require_file(path, "image")
    if path.suffix.lower() in _DETACHED:
        volume = read_volume(path)
        digest = hashlib.sha256(volume.array.tobytes())
        digest.update(volume.ijk_to_ras.tobytes())
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_result(path: Path) -> dict[str, Any] | None:
    """Return a result, or None if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write to '{folder.parent}': {error.strerror}. Choose another output folder."
        ) from error
    for left in folder.glob(".writing-*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _workers(
    scheduler: str | None, workers: int | None, entry_count: int, plan: _Plan, notes: list[str]
) -> Iterator[tuple[Any, int]]:
    """Give a Dask client and its number of processes; None and 1 for this process."""
    wanted = min(workers or max((os.cpu_count() or 1) - 1, 1), max(entry_count, 1))
    if scheduler is None and wanted == 1:
        yield None, 1
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        if scheduler is not None:
            raise InputError("A scheduler needs the packages dask and distributed. Install them.") from error
        notes.append(f"dask is not installed: one process worked instead of {wanted}")
        yield None, 1
        return
    with ExitStack() as stack:
        if scheduler is None:
            cluster = LocalCluster(
                n_workers=wanted, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            try:
                client = stack.enter_context(Client(scheduler, timeout=10))
            except (OSError, ValueError) as error:
                raise InputError(f"The scheduler '{scheduler}' cannot be reached ({error}).") from error
            _check_workers(client, scheduler, plan)
        yield client, sum(client.ncores().values())


def _check_workers(client: Any, scheduler: str, plan: _Plan) -> None:
    """Refuse a cluster whose workers lack the program, in this version, or do not see the output folder."""
    try:
        answers = client.run(_describe_worker, str(plan.folder))
    except Exception as error:
        raise InputError(
            f"The workers of '{scheduler}' cannot run RadiomicsPanelLib ({error}). Install version {VERSION} there."
        ) from error
    if not answers:
        raise InputError(f"The scheduler '{scheduler}' has no workers. Start some.")
    for worker, (version, sees_folder) in answers.items():
        if version != VERSION:
            raise InputError(f"Worker '{worker}' has RadiomicsPanelLib {version}, this program {VERSION}.")
        if not sees_folder:
            raise InputError(f"Worker '{worker}' does not see '{plan.folder}'. Use a folder that all computers share.")


def _describe_worker(folder: str) -> tuple[str, bool]:
    return VERSION, Path(folder).is_dir()


def _measure_all(
    entries: Sequence[ManifestEntry], plan: _Plan, client: Any, workers: int
) -> Iterator[tuple[ManifestEntry, _Measured]]:
    """Yield each entry with its outcome as it is done; only a few are with the workers at a time."""
    if client is None:
        for entry in entries:
            yield entry, measure_entry(entry, plan)
        return
    from distributed import as_completed

    waiting = iter(entries)
    running: dict[Any, ManifestEntry] = {}
    completed = as_completed()

    def submit() -> None:
        entry = next(waiting, None)
        if entry is not None:
            future = client.submit(measure_entry, entry, plan, pure=False)
            running[future] = entry
            completed.add(future)

    for _ in range(4 * workers):
        submit()
    for future in completed:
        entry = running.pop(future)
        if future.status == "finished":
            yield entry, future.result()
        elif future.status == "error":
            reason = f"the worker was lost ({future.exception()}). Does the case need too much memory?"
            yield entry, _Measured(None, (Failure(entry.where, entry.case, "", reason),))
        else:
            raise InputError("The connection to the scheduler was lost. Run again to go on from here.")
        submit()


def _write_tables(
    output: Path,
    plan: _Plan,
    done: Sequence[tuple[ManifestEntry, str]],
    failures: list[Failure],
    notes: list[str],
) -> tuple[int, Path | None, Path]:
    """Write features.csv, features.parquet and the provenance from the results; return the number of rows first."""
    beside = output / "features.provenance.json"
    if not done:
        return 0, None, beside
    first = _require_result(plan, done[0][1])
    parquet: Path | None = output / "features.parquet"
    count, owners = 0, dict[tuple[str, str], str]()
    with ExitStack() as stack:
        file = stack.enter_context(
            stack.enter_context(atomic_path(output / "features.csv")).open("w", newline="", encoding="utf-8")
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(first["columns"])
        records = stack.enter_context(stack.enter_context(atomic_path(beside)).open("w", encoding="utf-8"))
        about = json.loads((plan.folder / f"{plan.key()}.about.json").read_text(encoding="utf-8"))
        records.write(json.dumps(about, indent=1)[:-2] + ',\n "segments": [')
        try:
            groups = stack.enter_context(_parquet_writer(output / "features.parquet", first["columns"]))
        except ImportError:
            notes.append("pyarrow is not installed: the table was written as CSV only")
            parquet, groups = None, None
        for entry, key in done:
            result = _require_result(plan, key)
            if result["columns"] != first["columns"]:
                raise InputError(
                    f"The results in '{plan.folder}' do not fit together. Delete that folder and run again."
                )
            for segment in result["segments"]:
                owner = owners.setdefault((entry.case, segment["segment"]), entry.where)
                if owner != entry.where:
                    reason = (
                        f"segment '{segment['segment']}' of '{entry.case}' is already in {owner}. "
                        "Name it in 'segments' by NAME=LABEL."
                    )
                    failures.append(Failure(entry.where, entry.case, segment["segment"], reason))
                    continue
                writer.writerows(["" if cell is None else cell for cell in row] for row in segment["rows"])
                if groups is not None:
                    groups.add(segment["rows"])
                for record in segment["records"]:
                    records.write(("" if count == 0 else ",") + "\n  " + json.dumps(record))
                    count += 1
        records.write("\n ]\n}\n")
    return count, parquet, beside


def _require_result(plan: _Plan, key: str) -> dict[str, Any]:
    result = _read_result(plan.path(key))
    if result is None:
        raise InputError(f"The result '{plan.path(key)}' has disappeared. Run again.")
    return result


class _RowGroups:
    """Collects rows and writes them to a Parquet file group by group."""

    def __init__(self, writer: Any, columns: Sequence[str]) -> None:
        self.writer, self.columns, self.rows = writer, columns, list[list[Any]]()

    def add(self, rows: Sequence[list[Any]]) -> None:
        """Take rows; write when there are enough."""
        self.rows += rows
        if len(self.rows) >= _ROWS_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        import pyarrow

        if self.rows:
            arrays = [
                pyarrow.array(list(values), type=field.type)
                for values, field in zip(zip(*self.rows, strict=True), self.writer.schema, strict=True)
            ]
            self.writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self.writer.schema))
            self.rows = []


@contextmanager
def _parquet_writer(path: Path, columns: Sequence[str]) -> Iterator[_RowGroups]:
    import pyarrow
    from pyarrow import parquet

    def kind(column: str) -> Any:
        if column in _TEXT_COLUMNS:
            return pyarrow.string()
        return pyarrow.int32() if column == "copy" else pyarrow.float64()

    schema = pyarrow.schema([(column, kind(column)) for column in columns])
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        groups = _RowGroups(writer, columns)
        yield groups
        groups.flush()


def _write_failures(output: Path, failures: Sequence[Failure]) -> Path:
    path = output / "failures.csv"
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FAILURE_COLUMNS)
        writer.writerows((f.where, f.case, f.segment, f.reason) for f in failures)
    return path

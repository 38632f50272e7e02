"""Files appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from BreastBiomarkersLib.errors import InputError


def require_file(path: str | Path, what: str) -> Path:
    """Return `path` as a Path if a readable file is there.

    Raises
    ------
    InputError
        If nothing, or a folder, is at `path`; `what` names the file's role ("image", "points").
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"The {what} file '{path}' does not exist. Check the path.")
    if not path.is_file():
        raise InputError(f"The {what} '{path}' is a folder. Give the file itself.")
    return path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder; on success it replaces `path`, on failure it is removed.

    The temporary name ends in the same suffixes, so that writers which choose the format by name work.

    Raises
    ------
    InputError
        If the folder cannot be created or written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error.strerror}. Choose another output.") from error
    try:
        yield folder / path.name
        (folder / path.name).replace(path)
    except OSError as error:
        raise InputError(
            f"Writing '{path}' failed: {error.strerror or error}. The previous file is unchanged."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success its files move into `path`, on failure nothing is left.

    An existing output folder keeps what is in it, except files of the same names.

    Raises
    ------
    InputError
        If `path` is a file, or cannot be created or written to.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"The output '{path}' is a file, not a folder. Choose another output folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-writing-", dir=path.parent))
    except OSError as error:
        raise InputError(f"Cannot write to '{path}': {error.strerror}. Choose another output folder.") from error
    try:
        yield folder
        if not path.exists():
            folder.chmod(0o755)
            folder.replace(path)
        else:
            for item in sorted(folder.rglob("*")):
                target = path / item.relative_to(folder)
                if item.is_dir():
                    target.mkdir(exist_ok=True)
                else:
                    item.replace(target)
    except InputError as error:  # of a file in the temporary folder, whose name means nothing to the user
        raise InputError(str(error).replace(str(folder), str(path))) from error
    except OSError as error:
        raise InputError(f"Writing to '{path}' failed: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)

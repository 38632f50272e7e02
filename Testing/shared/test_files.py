"""Whole or nothing, whatever interrupts the writing."""

import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder, atomic_path, require_file


class Interrupted(Exception):
    pass


def test_success_replaces(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(Interrupted), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise Interrupted
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "a"


def test_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("half")
        raise Interrupted
    assert list(tmp_path.iterdir()) == []


def test_failure_within_a_folder_names_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(InputError) as caught, atomic_folder(tmp_path / "out") as temporary:
        with atomic_path(temporary / "a.txt"):
            raise OSError(28, "No space left on device")
    assert str(tmp_path / "out" / "a.txt") in str(caught.value)
    assert "-writing-" not in str(caught.value)


def test_existing_folder_keeps_other_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "a.txt").write_text("old")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("new")
    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {"mine.txt": "mine", "a.txt": "new"}


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("file")
    with pytest.raises(InputError, match="not a folder"), atomic_folder(tmp_path / "out"):
        pytest.fail("entered although a file is in the way")
    with pytest.raises(InputError, match="Cannot write"), atomic_path(tmp_path / "out" / "a.txt"):
        pytest.fail("entered although the parent is a file")


def test_require_file(tmp_path):
    with pytest.raises(InputError, match="points file .* does not exist"):
        require_file(tmp_path / "none", "points")
    with pytest.raises(InputError, match="is a folder"):
        require_file(tmp_path, "points")

"""Checkpoints that are damaged or of another kind end in one sentence."""

import pytest
from BreastBiomarkersLib.errors import InputError

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from BreastBiomarkersLib.training import read_checkpoint, write_checkpoint  # noqa: E402 - needs torch


def test_round_trip(tmp_path):
    write_checkpoint(tmp_path / "m.safetensors", {"a": torch.arange(6.0)}, {"kind": "test"})
    tensors, record = read_checkpoint(tmp_path / "m.safetensors")
    assert record == {"kind": "test"}
    assert torch.equal(tensors["a"], torch.arange(6.0))


@pytest.mark.parametrize("record", [None, "{", "[1]", '"text"', "[" * 100_000])
def test_records_of_another_kind(tmp_path, record):
    from safetensors.torch import save_file

    metadata = None if record is None else {"record": record}
    save_file({"a": torch.zeros(3)}, tmp_path / "m.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=r"'m\.safetensors' is not a checkpoint written by this extension"):
        read_checkpoint(tmp_path / "m.safetensors")


@pytest.mark.parametrize("size", [0, 5, 40, -4])
def test_truncated_files(tmp_path, size):
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, {"a": torch.arange(600.0)}, {"kind": "test"})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="truncated or no safetensors file"):
        read_checkpoint(path)

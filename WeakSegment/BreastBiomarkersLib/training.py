"""What every training shares: device, seeds, parallel processes, and checkpoints that hold tensors and nothing to run.

Needs torch, so only training and prediction files import this one at their top.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file

_RECORD = "record"
_PATIENCE = timedelta(hours=12)
"""How long processes wait for the one that prepares the cases."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together; one, unless started by torchrun.

    Attributes
    ----------
    rank, count : int
        Number of this process, and how many there are. Only rank 0 writes files.
    device : torch.device
        Where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            distributed.barrier()

    def average(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
            values = values / self.count
        return values

    def average_gradients(self, network: torch.nn.Module) -> None:
        """Replace each gradient by its mean over all processes, so that their networks stay equal."""
        if self.count > 1:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count


@contextmanager
def joined_processes(device: str | None = None) -> Iterator[Processes]:
    """Give the processes that train together, as torchrun's environment says; alone without it.

    Parameters
    ----------
    device : str, optional
        Such as "cpu" or "cuda:1"; a GPU if there is one (under torchrun each process takes its own).

    Raises
    ------
    InputError
        If there is no such device.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, chosen)
    finally:
        distributed.destroy_process_group()


def choose_device(name: str | None = None, number: int = 0) -> torch.device:
    """Return the named device, or the GPU of that number if there are any, or the CPU.

    Raises
    ------
    InputError
        If this computer or this torch has no such device.
    """
    if name is None:
        return torch.device("cuda", number % torch.cuda.device_count()) if torch.cuda.is_available() else _CPU
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"There is no device '{name}' here. Use cpu, or cuda with a GPU build of torch.") from error
    return device


_CPU = torch.device("cpu")


@contextmanager
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and, on the CPU, allow only deterministic algorithms inside the block; leave its state as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(device.type == "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def write_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able record as one safetensors file, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from safetensors.torch import save

    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={_RECORD: json.dumps(record, allow_nan=False)},
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the record of a checkpoint. Reading one runs no code in it.

    Raises
    ------
    InputError
        If the file is missing, truncated, or not a checkpoint of these modules.
    """
    from safetensors import SafetensorError, safe_open

    path = require_file(path, "checkpoint")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            record = dict(json.loads((file.metadata() or {})[_RECORD]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise InputError(f"The checkpoint '{path.name}' is truncated or no safetensors file. Copy it again.") from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"'{path.name}' is not a checkpoint written by this extension.") from error
    return tensors, record


def load_weights(network: torch.nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Put weights into a network.

    Parameters
    ----------
    network : torch.nn.Module
    tensors : mapping of str to Tensor
        By the network's own parameter names.
    name : str
        What to call the checkpoint in messages.

    Raises
    ------
    InputError
        If they belong to a network of another architecture, or hold a value that is not a number.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != given:
        key = next(key for key in sorted(wanted | given) if wanted.get(key) != given.get(key))
        raise InputError(
            f"'{name}' belongs to a network of another architecture: '{key}' is {given.get(key, 'missing')} in it and "
            f"{wanted.get(key, 'unknown')} here."
        )
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(f"'{name}' holds a weight that is not a number in '{key}'. Train again, or copy it again.")
    network.load_state_dict(dict(tensors))

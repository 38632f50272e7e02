"""Training of a network on simulated phantoms, in a folder in which a stopped training goes on where it was.

What happens in an epoch depends on the settings, the data sets and the number of the epoch alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.training import (
    Processes,
    joined_processes,
    load_weights,
    read_checkpoint,
    reproducible,
    write_checkpoint,
)
from torch import Tensor, nn

from NIRSTReconstructionLib.hybrid import hybrid_loss
from NIRSTReconstructionLib.model_card import write_model_card
from NIRSTReconstructionLib.network_data import (
    PhantomSet,
    concentrations,
    look,
    model_of,
    read_phantom_set,
    reference_light,
)
from NIRSTReconstructionLib.network_settings import OUTPUTS, NetworkSettings
from NIRSTReconstructionLib.networks import (
    MODEL,
    Eyes,
    LightScale,
    eyes_of,
    make_network,
    network_record,
    relative_to_standard,
    run,
)

STATE = "state.safetensors"
_TOGETHER = {"cpu": 8, "cuda": 256}  # phantoms looked at together
_WARM_UP = 0.25  # share of the training in which the learning rate rises
_LONGEST_GRADIENT = 5.0
_BETAS = (0.9, 0.999)
_FIGURES = ("epoch", "loss", "mse", "validation_mse", *(f"validation_psnr_{name}" for name in OUTPUTS), "rate")


@dataclass(frozen=True, eq=False)
class _Pool:
    """Phantoms of one set-up, and the looks at them that are kept on the device."""

    phantoms: PhantomSet
    eyes: Eyes
    body: Tensor
    looks: dict[int, dict[str, Tensor]]
    report: Callable[[str], None]
    rank: int


def train(
    folders: list[str | Path],
    output: str | Path,
    settings: NetworkSettings,
    progress: Progress = ignore_progress,
    device: str | None = None,
    epochs_now: int | None = None,
) -> dict[str, Any]:
    """Train a network in a folder, or go on with the training that is in it; return its key figures.

    Parameters
    ----------
    folders : list of str or Path
        Data sets (`dataset.generate_dataset`); networks of raw data need the 16-fiber ring on the disc.
    output : str or Path
        Gets settings.json, history.csv, curves.png and state.safetensors after every epoch, and at the end
        model.safetensors and model_card.md.
    settings : NetworkSettings
    progress : Progress
        Called per batch; may raise `Cancelled`, after which the next call goes on from the last epoch.
    device : str, optional
        "cpu", "cuda" ...; a GPU if there is one.
    epochs_now : int, optional
        Stop after this many epochs, to be continued.

    Raises
    ------
    InputError
        If a data set is damaged or does not fit the network, the folder holds another training, or the loss is not a
        number.
    """
    output = Path(output)
    with joined_processes(device) as processes, reproducible(settings.seed, processes.device):
        sets = [read_phantom_set(folder) for folder in folders]
        _check_sets(sets, settings)
        _open_folder(output, settings, sets, processes)
        progress(0.0, "preparing the light")
        scale = None if settings.network == "hybrid" else light_scale(sets)
        lost = settings.variation.fibers_lost[1] > 0
        split = [_split(phantoms, settings.validation_share) for phantoms in sets]
        learned, watched = zip(*split, strict=True)
        eyes = [eyes_of(phantoms, settings, scale, processes.device, lost) for phantoms in sets]
        at = [0.0]  # the share that is done, for reports from within an epoch

        def report(message: str) -> None:
            progress(at[0], message)

        training = [_pool(phantoms, e, processes, report) for phantoms, e in zip(learned, eyes, strict=True)]
        validation = [_pool(phantoms, e, processes, report) for phantoms, e in zip(watched, eyes, strict=True)]

        network = make_network(settings, sets[0].log_amplitude.shape[1])
        network = network.to(processes.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(network.parameters(), betas=_BETAS)
        history = _restore(output / STATE, network, optimizer)
        last = settings.epochs if epochs_now is None else min(settings.epochs, len(history) + epochs_now)
        for epoch in range(len(history), last):
            batches = _batches(training, settings, epoch)
            sums = torch.zeros(2, device=processes.device)
            for n, (pool, index, turn) in enumerate(batches):
                done = epoch + n / len(batches)
                rate = _one_cycle(done / settings.epochs, settings.learning_rate)
                at[0] = min(done / settings.epochs, 0.999)
                report(f"epoch {epoch + 1} of {settings.epochs}")
                seen = {k: v[index] for k, v in _looked(pool, settings, epoch % settings.looks).items()}
                seen = _turned(seen, turn) if settings.network == "hybrid" else seen
                network.train()
                loss, mse = _losses(network, seen, pool.body, settings, processes.device)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                processes.average_gradients(network)
                nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                sums += torch.stack([loss.detach(), mse.detach()])
            mean_loss, mean_mse = (processes.average(sums) / len(batches)).tolist()
            if not math.isfinite(mean_loss):
                raise InputError(f"The loss is no number in epoch {epoch + 1}. Train anew with a lower learning rate.")
            row = {"epoch": epoch + 1, "loss": mean_loss, "mse": mean_mse, "rate": rate}
            history.append(row | _validate(network, validation, settings, processes))
            _save(output, network, optimizer, history, processes)
            _forget(training, settings, epoch)
            progress((epoch + 1) / settings.epochs, _in_words(history[-1], settings.epochs))
        if len(history) == settings.epochs and processes.rank == 0:
            record = network_record(settings, sets, scale, settings.epochs) | {"history": history[-1]}
            write_checkpoint(output / MODEL, network.state_dict(), record)
            write_model_card(output / "model_card.md", record, sum(p.numel() for p in network.parameters()))
        processes.wait_for_all()
    return {"network": settings.network, **history[-1], "output": str(output)}


def _losses(
    network: nn.Module, seen: dict[str, Tensor], body: Tensor, settings: NetworkSettings, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the loss to descend and the plain mean squared error in standardized units."""
    inputs = {
        name: values.float().contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values.float()
        for name, values in seen.items()
        if name not in ("truth", "lesion")
    }
    truth = seen["truth"].float()
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16 or device.type == "cuda"):
        found = network(inputs["images"]) if "images" in inputs else network(inputs["light"], inputs["mri"])
    if settings.network == "hybrid":
        relative, log_sd = (values.float() for values in found)
        base = relative_to_standard(torch.zeros_like(truth), inputs["bulk"])
        at_one = relative_to_standard(torch.ones_like(truth), inputs["bulk"])
        true_relative = (truth - base) / (at_one - base)
        lesion = seen["lesion"]
        return hybrid_loss(relative, log_sd, inputs["bulk"], true_relative, lesion, body, settings.lesion_weight)
    mse = (found.float() - truth)[..., body].square().mean()
    return mse, mse


def _looked(pool: _Pool, settings: NetworkSettings, number: int) -> dict[str, Tensor]:
    """Return what the network sees of a pool's phantoms in look `number` (-1: the look of validation); kept."""
    if number not in pool.looks:
        device = pool.body.device
        parts = []
        for first in range(0, len(pool.phantoms), _TOGETHER[device.type]):
            generator = torch.Generator(device).manual_seed(_seed(settings.seed, pool, number, first))
            pool.report(f"{pool.phantoms.name}: looking at phantom {first + 1} of {len(pool.phantoms)}")
            some = pool.phantoms.take(slice(first, first + _TOGETHER[device.type]))
            looks = look(some, settings.pixels, settings.variation, generator)
            parts.append(pool.eyes.see(looks) | {"truth": looks.truth, "lesion": looks.lesion})
        kept = {"images": torch.float16, "truth": torch.float16, "mri": torch.float16}
        pool.looks[number] = {
            name: torch.cat([part[name].to(kept.get(name, part[name].dtype)) for part in parts]) for name in parts[0]
        }
    return pool.looks[number]


def _forget(pools: list[_Pool], settings: NetworkSettings, epoch: int) -> None:
    """Drop looks that will not come again."""
    if epoch + settings.looks >= settings.epochs:
        for pool in pools:
            pool.looks.pop(epoch % settings.looks, None)


def _batches(pools: list[_Pool], settings: NetworkSettings, epoch: int) -> list[tuple[_Pool, Tensor, int]]:
    """Return the batches of an epoch in random order: pool, phantoms, and one of eight turns.

    A batch is of one pool; a remainder of one phantom is left out.
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    batches = []
    for pool in pools:
        shuffled = torch.randperm(len(pool.phantoms), generator=generator)
        batches += [(pool, index.to(pool.body.device)) for index in shuffled.split(settings.batch) if len(index) > 1]
    order = torch.randperm(len(batches), generator=generator).tolist()
    turns = torch.randint(8, (len(batches),), generator=generator).tolist()
    return [(*batches[n], turn) for n, turn in zip(order, turns, strict=True)]


def _turned(seen: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
    """Return images mirrored (bits 0 and 1) and, where they are square, transposed (bit 2); other tensors as they are.

    The hybrid sees images, which a mirror changes into equally good ones.
    """
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if turn & bit]
    result = {}
    for name, values in seen.items():
        if values.ndim < 3:
            result[name] = values
            continue
        mirrored = values.flip(axes) if axes else values
        square = values.shape[-1] == values.shape[-2]
        result[name] = mirrored.mT if turn & 4 and square else mirrored
    return result


def _validate(
    network: nn.Module, pools: list[_Pool], settings: NetworkSettings, processes: Processes
) -> dict[str, float]:
    """Return mean squared error (standardized) and mean PSNR (dB, over the body) of the watched phantoms."""
    network.eval()
    totals = torch.zeros(5, device=processes.device)
    for pool in pools:
        looked = _looked(pool, settings, -1)
        for some in torch.arange(len(pool.phantoms), device=pool.body.device).split(settings.batch):
            seen = {name: values[some].float() for name, values in looked.items()}
            with torch.no_grad():
                found = run(network, {k: v for k, v in seen.items() if k not in ("truth", "lesion")})[0].float()
            truth = seen["truth"][..., pool.body]
            difference = found[..., pool.body] - truth
            squared = (concentrations(found)[..., pool.body] - concentrations(seen["truth"])[..., pool.body]).square()
            peak = concentrations(seen["truth"])[..., pool.body].amax(dim=-1)
            psnr = 10 * torch.log10(peak.square() / squared.mean(dim=-1).clamp(min=1e-12))
            totals[0] += difference.square().mean(dim=(1, 2)).sum()
            totals[1:4] += psnr.sum(dim=0)
            totals[4] += len(some)
    totals = processes.average(totals)
    return dict(zip(_FIGURES[3:7], (totals[:4] / totals[4]).tolist(), strict=True))


def _one_cycle(done: float, highest: float) -> float:
    """Return the learning rate after a share of the training: up by a cosine, down by a longer one, nearly to 0."""
    if done < _WARM_UP:
        return highest * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / _WARM_UP)))
    return highest * (1e-4 + 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))))


def _split(phantoms: PhantomSet, share: float) -> tuple[PhantomSet, PhantomSet]:
    """Return what is learned from and what is watched: the last `share`."""
    watched = max(1, round(share * len(phantoms)))
    if len(phantoms) - watched < 2:
        raise InputError(f"The data set '{phantoms.name}' of {len(phantoms)} phantoms is too small to train on.")
    return phantoms.take(slice(0, -watched)), phantoms.take(slice(-watched, None))


def _pool(phantoms: PhantomSet, eyes: Eyes, processes: Processes, report: Callable[[str], None]) -> _Pool:
    """Return the part of a set that this process looks at; all processes get equally many."""
    even = len(phantoms) - len(phantoms) % processes.count
    if even < 2 * processes.count and processes.count > 1:
        raise InputError(f"The data set '{phantoms.name}' is too small for {processes.count} processes.")
    mine = phantoms.take(slice(processes.rank, even, processes.count)).to(processes.device)
    return _Pool(mine, eyes, torch.as_tensor(eyes.body, device=processes.device), {}, report, processes.rank)


def _seed(seed: int, pool: _Pool, number: int, first: int) -> int:
    """Return the seed of one draw; that of a single process is the one of the first of several."""
    entropy = [seed, pool.phantoms.settings.seed, number + 1, first, len(pool.phantoms)]
    entropy += [pool.rank] if pool.rank else []
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def light_scale(sets: list[PhantomSet]) -> LightScale:
    """Return mean and standard deviation per wavelength of the noise-free log ratios."""
    ratios = [phantoms.log_amplitude - torch.as_tensor(reference_light(phantoms.settings)) for phantoms in sets]
    every = torch.cat(ratios).double().transpose(0, 1).flatten(1)
    return LightScale(tuple(every.mean(dim=1).tolist()), tuple(every.std(dim=1).tolist()))


def _check_sets(sets: list[PhantomSet], settings: NetworkSettings) -> None:
    if not sets:
        raise InputError("Give at least one data set to train on.")
    first = model_of(sets[0].settings)
    for phantoms in sets:
        model = model_of(phantoms.settings)
        if not np.array_equal(model.spectra.wavelengths_nm, first.spectra.wavelengths_nm):
            raise InputError(f"The data set '{phantoms.name}' has other wavelengths than '{sets[0].name}'.")
        if model.spectra.table_name != first.spectra.table_name:
            raise InputError(f"The data set '{phantoms.name}' uses another extinction table than '{sets[0].name}'.")
        if settings.network != "hybrid" and not phantoms.is_ring:
            raise InputError(
                f"The network '{settings.network}' reads raw data of 16 fibers around a disc; the data set "
                f"'{phantoms.name}' has {phantoms.settings.fiber_count} fibers, half axes "
                f"{phantoms.settings.half_axes_mm} mm. Train the hybrid network on it."
            )


def _open_folder(output: Path, settings: NetworkSettings, sets: list[PhantomSet], processes: Processes) -> None:
    """Write what this training is, or check that the folder holds the same."""
    description = {
        "settings": asdict(settings),
        "data": [asdict(phantoms.settings) for phantoms in sets],
        "processes": processes.count,
    }
    wanted = json.loads(json.dumps(description))
    path = output / "settings.json"
    if processes.rank == 0 and not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    processes.wait_for_all()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}). Choose another output folder.") from error
    if found != wanted:
        raise InputError(f"'{output}' holds a training with other settings or data. Choose another output folder.")


def _restore(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Put the saved state into network and optimizer; return the history, empty for a new training."""
    if not path.exists():
        return []
    tensors, record = read_checkpoint(path)

    def part(name: str) -> dict[str, Tensor]:
        return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}

    load_weights(network, part("weights"), path.name)
    first, second = part("first"), part("second")
    for name, parameter in network.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(record["steps"])),
            "exp_avg": torch.empty_like(parameter, requires_grad=False).copy_(first[name]),
            "exp_avg_sq": torch.empty_like(parameter, requires_grad=False).copy_(second[name]),
        }
    return list(record["history"])


def _save(
    output: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    processes: Processes,
) -> None:
    if processes.rank != 0:
        return
    tensors = {f"weights.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
    steps = int(next(iter(optimizer.state.values()))["step"])
    with atomic_path(output / "history.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _FIGURES)
        writer.writeheader()
        writer.writerows(history)
    _draw_curves(history, output / "curves.png")
    write_checkpoint(output / STATE, tensors, {"history": history, "steps": steps})


def _draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Draw loss and PSNR against the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    left.semilogy(epochs, [row["mse"] for row in history], label="training")
    left.semilogy(epochs, [row["validation_mse"] for row in history], label="validation")
    left.set(xlabel="epoch", ylabel="mean squared error, standardized")
    for name in OUTPUTS:
        right.plot(epochs, [row[f"validation_psnr_{name}"] for row in history], label=name)
    right.set(xlabel="epoch", ylabel="PSNR of validation, dB")
    for axes in (left, right):
        axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _in_words(row: dict[str, float], epochs: int) -> str:
    psnr = ", ".join(f"{row[f'validation_psnr_{name}']:.1f}" for name in OUTPUTS)
    return f"epoch {row['epoch']:.0f} of {epochs}: validation error {row['validation_mse']:.4f}, PSNR {psnr} dB"

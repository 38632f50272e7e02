"""Training from six points per case, in the three stages of SimPLe: train, fine-tune by propagation, retrain.

Zhong and Wang, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54. A run lives in a folder and goes on where it was stopped:
nothing it does depends on anything but the settings, the cohort, and the number of the iteration.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.training import (
    Processes,
    joined_processes,
    load_weights,
    read_checkpoint,
    reproducible,
    write_checkpoint,
)
from numpy.typing import NDArray
from torch import Tensor

from WeakSegmentLib.cohort import CohortCase, PreparedCase, cohort_fingerprint, load_cohort, prepare_cohort
from WeakSegmentLib.losses import contrastive_loss, crf_loss, partial_cross_entropy
from WeakSegmentLib.patches import draw_patches
from WeakSegmentLib.predict import KIND, TUMOR_ABOVE, make_network, slide
from WeakSegmentLib.propagation import propagate_labels, propagation_loss
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.training_history import TrainingHistory
from WeakSegmentLib.training_pictures import draw_curves, draw_pseudo_masks
from WeakSegmentLib.training_settings import TrainingSettings
from WeakSegmentLib.unet import Output, UNet

_log = logging.getLogger(__name__)

STAGES = ("train", "finetune", "retrain")
MODEL = "model.safetensors"
FORMAT = 1
"""Of the files of a run; raised when an older run cannot be continued."""

_WATCHED = 20
_FEWEST, _MOST = 0.01, 0.9
"""A vote that chooses less or more than these shares of the unlabeled voxels, this many times in a row, has failed."""

_DRAW_EVERY_SECONDS = 20.0
"""Curves are drawn again at a saved state, but not more often: drawing costs a few iterations."""

Loss = Callable[[UNet, np.random.Generator], dict[str, Tensor]]
"""Draws a batch and returns what the history shows of it, the loss to descend under "loss"."""


@dataclass(frozen=True, eq=False)
class Run:
    """A training in its folder.

    Attributes
    ----------
    folder : Path
    settings : TrainingSettings
    cohort : str
        Fingerprint of the cohort.
    case_names : tuple of str
    history : TrainingHistory
    processes : Processes
    progress : Progress
        Of all iterations of all stages.
    """

    folder: Path
    settings: TrainingSettings
    cohort: str
    case_names: tuple[str, ...]
    history: TrainingHistory
    processes: Processes
    progress: Progress

    @property
    def writes(self) -> bool:
        """Whether this process writes the files."""
        return self.processes.rank == 0

    @property
    def stages(self) -> dict[str, int]:
        """The stages of the method and their iterations."""
        lengths = [getattr(self.settings, f"{stage}_iterations") for stage in STAGES]
        stages = dict(zip(STAGES, lengths, strict=True))
        return stages if self.settings.method == "simple" else {"train": stages["train"]}

    def record(self, stage: str) -> dict[str, Any]:
        """Return what a checkpoint tells of its making."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "stage": stage,
            "settings": asdict(self.settings),
            "cohort": self.cohort,
            "cases": self.case_names,
            "processes": self.processes.count,
            "torch": torch.__version__,
        }


def train(
    cases: Sequence[CohortCase],
    folder: str | Path,
    settings: TrainingSettings,
    progress: Progress = ignore_progress,
    device: str | None = None,
) -> dict[str, Any]:
    """Train a network in a folder, or go on with the training that is in it; return its key figures.

    Parameters
    ----------
    cases : sequence of CohortCase
    folder : str or Path
        Gets settings.json; while it runs history.csv and curves.png (losses) and state.safetensors (of the running
        stage); one checkpoint per stage, pseudo_masks.png, the prepared cases in cache/, and at the end
        model.safetensors.
    settings : TrainingSettings
    progress : Progress
        Called per case and iteration; may raise `Cancelled`, after which the next call goes on from the last state.
    device : str, optional
        "cpu", "cuda" ...; a GPU if there is one.

    Raises
    ------
    InputError
        If a case cannot be used, the folder holds a training with other settings or cases, or the loss is not a number.
    """
    with joined_processes(device) as processes, reproducible(settings.seed, processes.device):
        run = open_run(Path(folder), cases, settings, processes, portion(progress, 0.1, 1.0))
        if run.writes:
            prepare_cohort(cases, settings, run.folder / "cache", portion(progress, 0.0, 0.1))
        processes.wait_for_all()
        prepared = load_cohort(cases, run.folder / "cache")
        network = train_from_points(run, prepared)
        if settings.method == "simple":
            network = finetune_by_propagation(run, prepared, network)
            prepared = relabel(run, prepared, network)
            network = retrain_on_new_labels(run, prepared)
        if run.writes:
            _finish(run, network, prepared)
        processes.wait_for_all()
        return _key_figures(run)


def open_run(
    folder: Path, cases: Sequence[CohortCase], settings: TrainingSettings, processes: Processes, progress: Progress
) -> Run:
    """Return the run of a folder, new or to be continued.

    Raises
    ------
    InputError
        If it holds a run with other settings, cases or number of processes.
    """
    names = tuple(case.name for case in cases)
    run = Run(folder, settings, cohort_fingerprint(cases), names, TrainingHistory(None), processes, progress)
    record = run.record("")
    kept = ("format", "settings", "cohort", "cases", "processes")
    description: dict[str, Any] = json.loads(json.dumps({key: record[key] for key in kept}))
    path = folder / "settings.json"
    if run.writes and not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")
    processes.wait_for_all()
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{path}' cannot be read ({error}). Choose another output folder.") from error
    for key, value in description.items():
        if found.get(key) != value:
            raise InputError(
                f"'{folder}' holds a training with other {'files' if key == 'cohort' else key}"
                f"{_difference(found.get(key), value)}. Choose another output folder, or delete this one."
            )
    history = TrainingHistory(folder / "history.csv", writes=run.writes)
    processes.wait_for_all()  # all have read the history before one goes on writing it
    return replace(run, history=history)


def train_from_points(run: Run, cases: Sequence[PreparedCase]) -> UNet:
    """First stage: learn from the labeled voxels, with the method's second term.

    The loss is the partial cross entropy of patches around tumor and of patches around background voxels; to it comes
    the contrastive loss of tumor and background features, or the CRF loss, of the patches around tumor.
    """
    settings = run.settings

    def loss(network: UNet, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = _forward(run, network, cases, rng)
        parts = {"cross_entropy": batch.cross_entropy}
        if settings.method in ("simple", "contrastive"):
            parts["contrastive"] = _contrast(run, batch, rng)
        elif settings.method == "crf":
            parts["crf"] = settings.crf_weight * crf_loss(
                batch.tumor.logits,
                batch.tumor_image,
                settings.spacing_mm,
                settings.crf_radius,
                settings.crf_sigma_mm,
                settings.crf_sigma_intensity,
            )
        return _summed(parts)

    return _descend(run, "train", _new_network(run, "train"), loss, settings.learning_rate)


def finetune_by_propagation(run: Run, cases: Sequence[PreparedCase], network: UNet) -> UNet:
    """Second stage: tumor voxels vote on unlabeled ones, and those they choose are learned as tumor, too.

    Stops early when the vote chooses almost nothing, or almost everything, over and over: then it teaches nothing.
    """
    settings = run.settings

    def loss(network: UNet, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = _forward(run, network, cases, rng)
        parts = {"cross_entropy": batch.cross_entropy, "contrastive": _contrast(run, batch, rng)}
        at_tumor = _draw(batch.tumor_labels == Label.TUMOR, settings.samples, rng)
        at_open = np.argwhere(batch.tumor_labels == Label.UNLABELED)
        features = batch.tumor.features.detach()
        vote = propagate_labels(
            _take(features, at_tumor),
            _take(features, at_open),
            settings.agreement_above,
            settings.similarity_above,
            settings.similarity_quantile,
        )
        chosen = _take(batch.tumor.logits, at_open[vote.chosen.cpu().numpy()])
        parts["propagation"] = settings.propagation_weight * propagation_loss(chosen)
        similarity = math.nan if vote.similarity_above is None else vote.similarity_above
        shown = {"voted_share": vote.share, "similarity_above": similarity}
        return _summed(parts) | {key: torch.tensor(value, device=chosen.device) for key, value in shown.items()}

    return _descend(run, "finetune", network, loss, settings.finetune_learning_rate, vote_has_failed)


def retrain_on_new_labels(run: Run, cases: Sequence[PreparedCase]) -> UNet:
    """Third stage: learn the fine-tuned network's own masks from scratch; every voxel has a label now."""

    def loss(network: UNet, rng: np.random.Generator) -> dict[str, Tensor]:
        return _summed({"cross_entropy": _forward(run, network, cases, rng).cross_entropy})

    return _descend(run, "retrain", _new_network(run, "retrain"), loss, run.settings.learning_rate)


def relabel(run: Run, cases: Sequence[PreparedCase], network: UNet) -> list[PreparedCase]:
    """Return the cases with what the network finds inside their boxes as labels, and background outside.

    A case in which it finds nothing keeps the tumor label of its points; the log says so.
    """
    folder = run.folder / "cache"
    mine = [case for n, case in enumerate(cases) if n % run.processes.count == run.processes.rank]
    for n, case in enumerate(mine):
        path = folder / case.name / "new_labels.npy"
        if path.exists():
            continue
        _report(run, "retrain", 0, f"New labels of {case.name}, {n + 1} of {len(mine)}")
        found = slide(network, case.image, run.settings.patch, run.processes.device) > TUMOR_ABOVE
        labels = np.full(found.shape, Label.BACKGROUND, dtype=np.uint8)
        labels[case.box][found[case.box]] = Label.TUMOR
        if not labels.any():
            _log.warning("The network found nothing in the box of %s; it keeps the label of its points.", case.name)
            labels[case.labels == Label.TUMOR] = Label.TUMOR
        with atomic_path(path) as temporary:
            np.save(temporary, labels)
    run.processes.wait_for_all()
    relabeled = [case.with_labels(np.load(folder / case.name / "new_labels.npy", allow_pickle=False)) for case in cases]
    if run.writes:
        draw_pseudo_masks(cases, relabeled, run.folder / "pseudo_masks.png")
    return relabeled


@dataclass(frozen=True, eq=False)
class _Batch:
    """What the network says of a batch: patches around tumor voxels, and the cross entropy of both kinds."""

    tumor: Output
    tumor_image: Tensor
    tumor_labels: NDArray[np.int64]
    cross_entropy: Tensor


def _forward(run: Run, network: UNet, cases: Sequence[PreparedCase], rng: np.random.Generator) -> _Batch:
    settings, device = run.settings, run.processes.device
    entropy = []
    for label in (Label.BACKGROUND, Label.TUMOR):  # tumor last: the other terms are of its patches
        patches = draw_patches(cases, label, settings.batch, settings.patch, rng)
        image = torch.from_numpy(patches.image).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output: Output = network(image)
        entropy.append(partial_cross_entropy(output.logits, torch.from_numpy(patches.labels).to(device)))
    return _Batch(output, image, patches.labels, entropy[0] + entropy[1])


def _contrast(run: Run, batch: _Batch, rng: np.random.Generator) -> Tensor:
    samples = run.settings.samples
    tumor, background = (
        _take(batch.tumor.features, _draw(batch.tumor_labels == label, samples, rng))
        for label in (Label.TUMOR, Label.BACKGROUND)
    )
    return contrastive_loss(tumor, background, run.settings.temperature)


def _draw(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return up to `count` random voxels of a (B, K, J, I) mask as rows of indices."""
    flat = np.flatnonzero(mask)
    if len(flat) > count:
        flat = rng.choice(flat, count, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1)


def _take(values: Tensor, voxels: NDArray[np.int64]) -> Tensor:
    """Return the rows (n, C) of a (B, C, K, J, I) tensor at (n, 4) voxels (B, K, J, I)."""
    b, k, j, i = torch.from_numpy(np.ascontiguousarray(voxels.T)).to(values.device)
    return values[b, :, k, j, i]


def _summed(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": sum(parts.values(), start=torch.zeros((), device=parts["cross_entropy"].device)), **parts}


def _new_network(run: Run, stage: str) -> UNet:
    """Return a network with random weights that depend on seed and stage only."""
    with reproducible(run.settings.seed * len(STAGES) + STAGES.index(stage), torch.device("cpu")):
        return make_network(run.settings).to(run.processes.device)


def _descend(
    run: Run,
    stage: str,
    network: UNet,
    loss: Loss,
    learning_rate: float,
    has_failed: Callable[[list[dict[str, float]]], str | None] | None = None,
) -> UNet:
    """Return the network after a stage: stochastic gradient descent, continued from the saved state if there is one."""
    path = run.folder / f"{stage}.safetensors"
    is_done = path.exists()
    run.processes.wait_for_all()  # all have looked before one writes
    if is_done:
        load_weights(network, read_checkpoint(path)[0], path.name)
        return network
    settings = run.settings
    optimizer = torch.optim.SGD(
        network.parameters(), learning_rate, settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )  # fmt: skip
    iterations = run.stages[stage]
    first = _restore(run, stage, network, optimizer)
    network.train()
    drawn = -math.inf
    for iteration in range(first, iterations):
        failure = has_failed(run.history.rows(stage)) if has_failed is not None else None
        if failure is not None:
            _log.warning("Stage '%s' stopped after %d iterations: %s", stage, iteration, failure)
            break
        rate = learning_rate * (1 - iteration / iterations) ** settings.poly_power
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([settings.seed, STAGES.index(stage), iteration, run.processes.rank])
        parts = loss(network, rng)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        run.processes.average_gradients(network)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_gradient_norm or math.inf)
        shown = _shown(run, parts) | {"gradient_norm": float(norm), "rate": rate}
        if not math.isfinite(shown["loss"]) or not math.isfinite(shown["gradient_norm"]):
            raise InputError(
                f"The loss of stage '{stage}' is not a number in iteration {iteration + 1}: training diverged. Start "
                "again, in another folder, with a lower learning rate or a lower max_gradient_norm."
            )
        optimizer.step()
        run.history.append(stage, iteration, shown)
        if (iteration + 1) % settings.checkpoint_every == 0:
            _save(run, stage, iteration + 1, network, optimizer)
            if run.writes and time.monotonic() - drawn > _DRAW_EVERY_SECONDS:
                draw_curves(run.history, run.folder / "curves.png")
                drawn = time.monotonic()
        _report(run, stage, iteration + 1, f"{stage} {iteration + 1} of {iterations}, loss {shown['loss']:.3f}")
    if run.writes:
        draw_curves(run.history, run.folder / "curves.png")
        write_checkpoint(path, network.state_dict(), run.record(stage))
    run.processes.wait_for_all()
    return network


def _shown(run: Run, parts: dict[str, Tensor]) -> dict[str, float]:
    """Return the mean of each part over all processes; of a figure that one of them could not tell, nothing."""
    values = torch.stack([value.detach().float() for value in parts.values()])
    means = dict(zip(parts, run.processes.average(values).tolist(), strict=True))
    return {key: mean for key, mean in means.items() if key == "loss" or not math.isnan(mean)}


def vote_has_failed(rows: list[dict[str, float]]) -> str | None:
    """Return why propagation teaches nothing, judged by the last rows of its history, or None."""
    shares = [row["voted_share"] for row in rows[-_WATCHED:]]
    if len(shares) < _WATCHED:
        return None
    if max(shares) < _FEWEST:
        return f"the tumor voxels chose under {_FEWEST:.0%} of the unlabeled ones {_WATCHED} times in a row."
    if min(shares) > _MOST:
        return f"the tumor voxels chose over {_MOST:.0%} of the unlabeled ones {_WATCHED} times in a row."
    return None


def _save(run: Run, stage: str, done: int, network: UNet, optimizer: torch.optim.Optimizer) -> None:
    if run.writes:
        tensors = {f"weights.{name}": value for name, value in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"]
        write_checkpoint(run.folder / "state.safetensors", tensors, run.record(stage) | {"done": done})


def _restore(run: Run, stage: str, network: UNet, optimizer: torch.optim.Optimizer) -> int:
    """Put the saved state of a stage into network and optimizer; return the iterations it has seen."""
    path = run.folder / "state.safetensors"
    done = 0
    if path.exists():
        tensors, record = read_checkpoint(path)
        if record["stage"] == stage:
            done = record["done"]
            weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
            load_weights(network, weights, path.name)
            for name, parameter in network.named_parameters():
                momentum = tensors[f"momentum.{name}"].to(parameter.device)
                optimizer.state[parameter]["momentum_buffer"] = momentum
    run.history.forget_from(stage, done)
    return done


def _report(run: Run, stage: str, done: int, message: str) -> None:
    lengths = list(run.stages.values())
    before = sum(lengths[: list(run.stages).index(stage)])
    run.progress((before + done) / sum(lengths), message)


def _finish(run: Run, network: UNet, cases: Sequence[PreparedCase]) -> None:
    """Write the final checkpoint, and the picture of labels if no stage has."""
    last = list(run.stages)[-1]
    if run.settings.method != "simple":
        draw_pseudo_masks(cases, None, run.folder / "pseudo_masks.png")
    write_checkpoint(run.folder / MODEL, network.state_dict(), run.record(last))
    (run.folder / "state.safetensors").unlink(missing_ok=True)


def _key_figures(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = {"model": str(run.folder / MODEL), "cases": len(run.case_names)}
    for stage in run.stages:
        rows = run.history.rows(stage)
        figures[f"{stage}_loss"] = float(np.mean([row["loss"] for row in rows[-_WATCHED:]]))
        if stage == "finetune":
            figures["finetune_iterations"] = len(rows)
            figures["voted_share"] = float(np.mean([row["voted_share"] for row in rows]))
    return figures


def _difference(found: Any, wanted: Any) -> str:
    """Return the first setting that differs, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return f" ({key} {found.get(key)} there, {wanted.get(key)} now)"
    return ""

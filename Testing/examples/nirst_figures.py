"""Draw simulated breasts as the shipped networks and two model-based methods see them.

python Testing/examples/nirst_figures.py Docs/nirst-networks.png
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction")]

METHODS = {"znet": "Z-Net", "hybrid": "hybrid network", "dri": "DRI", "adaptive": "adaptive"}
KINDS = {"none": "MRI and light agree", "mri-invisible": "MRI does not show the lesion"}
SEED = 7


def reconstructed_cases() -> list[tuple[str, dict]]:
    """Return for each kind of phantom its title, MRI, true HbO and that of every method, as images of one grid."""
    import numpy as np
    from NIRSTReconstructionLib.dataset import DatasetSettings
    from NIRSTReconstructionLib.fibers import Fibers
    from NIRSTReconstructionLib.images import sample_on_grid
    from NIRSTReconstructionLib.meshing import circle_contour
    from NIRSTReconstructionLib.noise import NoiseModel
    from NIRSTReconstructionLib.phantoms import BODY_RADIUS_MM, draw_phantom, simulate_case
    from NIRSTReconstructionLib.plane import Plane, slice_grid
    from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct

    model = DatasetSettings(count=1).model()
    plane = Plane(np.eye(4))
    tips = np.column_stack([model.optodes.detectors, np.zeros(len(model.optodes.detectors))])
    grid = slice_grid(plane, model.optodes.detectors, 0.82)
    body = (np.hypot(*grid.points_mm.T) <= BODY_RADIUS_MM).reshape(grid.shape)
    cases = []
    for mismatch, title in KINDS.items():
        rng = np.random.default_rng(SEED)
        phantom = draw_phantom(rng, mismatch=mismatch)
        case = simulate_case(phantom, model, NoiseModel(), rng)
        images = {"true HbO": phantom.values(grid.points_mm)[0].reshape(grid.shape)}
        for method, name in METHODS.items():
            result = reconstruct(
                case.measured,
                Fibers(tips, tips),
                circle_contour(BODY_RADIUS_MM),
                model.spectra,
                ReconstructionSettings(method),
                plane=plane,
                reference=case.reference,
                images=[case.mri],
            )
            chi = np.sqrt(np.mean(result.chi**2))
            images[f"{name}, residual {chi:.1f}"] = sample_on_grid(result, grid)["hbo"].array[0]
        gray = case.mri.array[0].astype(float)
        pictures = {"MRI": np.where(gray > 0, gray, np.nan)}
        pictures |= {name: np.where(body, image, np.nan) for name, image in images.items()}
        cases.append((title, pictures))
    return cases


def draw(path: Path) -> None:
    """Draw one row for each phantom; the residual is that of the light in units of its noise."""
    import numpy as np
    from matplotlib.figure import Figure

    cases = reconstructed_cases()
    columns = len(cases[0][1])
    figure = Figure(figsize=(2.1 * columns + 0.6, 2.5 * len(cases)), layout="constrained")
    for axes, (title, pictures) in zip(figure.subplots(len(cases), columns), cases, strict=True):
        truth = pictures["true HbO"]
        low, high = 0.8 * np.nanmin(truth), 1.1 * np.nanmax(truth)
        for ax, (name, image) in zip(axes, pictures.items(), strict=True):
            if name == "MRI":
                ax.imshow(image, cmap="gray", origin="lower")
                ax.set_ylabel(title)
            else:
                shown = ax.imshow(image, cmap="viridis", origin="lower", vmin=low, vmax=high)
            ax.set_title(name, fontsize=9)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        figure.colorbar(shown, ax=list(axes), label="HbO (uM)", shrink=0.85)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

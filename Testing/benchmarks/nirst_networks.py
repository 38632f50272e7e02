"""Networks: CPU time for one plane, of the network alone and from the click to the images.

    python Testing/benchmarks/nirst_networks.py [--repeats 5]

CPU time of one process and one thread, the fastest of the repeats. Weights do not matter to time: the published sizes
get random ones. "Click to images" is the whole of `reconstruct` on a simulated case: mesh, calibration, bulk fit, and
the method; for the hybrid its physics, network, and the light of the images for their residual.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction")]

import numpy as np  # noqa: E402 - after the number of threads and the path
import torch  # noqa: E402
from NIRSTReconstructionLib.dataset import DatasetSettings  # noqa: E402
from NIRSTReconstructionLib.fibers import Fibers  # noqa: E402
from NIRSTReconstructionLib.forward import SOURCE_MODELS  # noqa: E402
from NIRSTReconstructionLib.hybrid import CHANNELS, HybridNet  # noqa: E402
from NIRSTReconstructionLib.meshing import circle_contour  # noqa: E402
from NIRSTReconstructionLib.noise import NoiseModel  # noqa: E402
from NIRSTReconstructionLib.phantoms import draw_phantom, simulate_case  # noqa: E402
from NIRSTReconstructionLib.plane import Plane  # noqa: E402
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct  # noqa: E402
from NIRSTReconstructionLib.ynet import YNet  # noqa: E402
from NIRSTReconstructionLib.znet import ZNet  # noqa: E402


def make_case(source_model):
    """Return a simulated case of the disc and its model."""
    model = DatasetSettings(count=1, source_model=source_model).model()
    rng = np.random.default_rng(0)
    return simulate_case(draw_phantom(rng), model, NoiseModel(), rng), model


class Inference:
    """One plane, batch of one; full size, and the hybrid's input at 100 pixels."""

    def setup(self):
        torch.set_num_threads(1)
        self.light, self.mri = torch.rand(1, 9, 16, 15), torch.rand(1, 1, 100, 100)
        self.images = torch.rand(1, CHANNELS, 100, 100)
        self.znet, self.ynet, self.hybrid = ZNet().eval(), YNet().eval(), HybridNet().eval()

    def time_znet(self):
        with torch.no_grad():
            self.znet(self.light, self.mri)

    def time_ynet(self):
        with torch.no_grad():
            self.ynet(self.light, self.mri)

    def time_hybrid(self):
        with torch.no_grad():
            self.hybrid(self.images)


class ClickToImages:
    """Everything between the click and the picture, by method and light; the case is of the same light."""

    params = (("hybrid", "znet", "hard-prior", "dri", "adaptive"), SOURCE_MODELS)
    param_names = ("method", "source_model")

    def setup(self, method, source_model):
        torch.set_num_threads(1)
        self.case, self.model = make_case(source_model)
        tips = np.column_stack([self.model.optodes.detectors, np.zeros(16)])
        self.fibers = Fibers(tips, tips)
        gray = self.case.mri.array
        bright = gray > 1.3 * np.median(gray[gray > 0])
        self.lesion = self.case.mri.with_array(bright.astype(np.int16), "lesion") if method == "hard-prior" else None
        self.time_reconstruct(method, source_model)  # compiles the solver

    def time_reconstruct(self, method, source_model):
        reconstruct(
            self.case.measured,
            self.fibers,
            circle_contour(41.0),
            self.model.spectra,
            ReconstructionSettings(method, source_model=source_model),
            plane=Plane(np.eye(4)),
            reference=self.case.reference,
            images=[self.case.mri],
            regions=self.lesion,
        )


def fastest(call, repeats):
    """Return the least CPU time of a number of calls, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    inference = Inference()
    inference.setup()
    for name in ("znet", "ynet", "hybrid"):
        call = getattr(inference, f"time_{name}")
        call()
        print(f"{name:28s} {1000 * fastest(call, options.repeats):8.1f} ms")
    for method, light in itertools.product(*ClickToImages.params):
        whole = ClickToImages()
        whole.setup(method, light)
        seconds = fastest(lambda: whole.time_reconstruct(method, light), options.repeats)  # noqa: B023 - called at once
        print(f"{f'{method}, {light} light, click to images':40s} {seconds:8.2f} s")


if __name__ == "__main__":
    main()

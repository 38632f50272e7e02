"""Draw the pictures of the README into Docs/: `python Testing/examples/make_pictures.py`.

The real case is drawn where ../shared/data lies beside the checkout; everything else is synthetic.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REAL_CASE = ROOT.parent / "shared" / "data" / "segmentation" / "breast_dce_UCSF-BR-08"
SEED = 1

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.append(str(ROOT / "Testing"))

from host.application import start  # noqa: E402 - the folder is on the path now


def main() -> None:
    """Draw all pictures."""
    host = start()
    modules = {}
    for name in ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel"):
        host.load_module(ROOT / name / f"{name}.py")
        modules[name] = getattr(sys.modules[name], f"{name}Logic")()
    docs = ROOT / "Docs"
    docs.mkdir(exist_ok=True)
    if REAL_CASE.is_dir():
        (docs / "weaksegment.png").write_bytes(draw_real_case())
    draw_synthetic_exam(host, modules, docs)


def draw_real_case() -> bytes:
    """Return the segmentation of UCSF-BR-08 from the six extreme points of its published mask."""
    from BreastBiomarkersLib.report import draw_three_planes
    from BreastBiomarkersLib.volume import read_volume
    from WeakSegmentLib.points import extreme_points_of_mask
    from WeakSegmentLib.segmentation import segment_by_random_walk

    image, reference = (read_volume(REAL_CASE / f"UCSF-BR-08_{name}.nrrd") for name in ("post1", "lesion_clean"))
    found = segment_by_random_walk(image, extreme_points_of_mask(reference))
    return draw_three_planes(image, {"WeakSegment": found.mask, "published tumor volume, cleaned": reference})


def draw_synthetic_exam(host, modules, docs: Path) -> None:
    """Draw the light images of a synthetic exam and the three panels working on it."""
    import slicer
    from BreastBiomarkersLib.report import PlaneImage, draw_plane_images

    weak, nirst = modules["WeakSegment"], modules["NIRSTReconstruction"]
    exam = weak.simulateCase(SEED, "spiculated", 22.0)
    image = exam.postNodes[0]
    panel = host.enter("WeakSegment")
    panel.parameters.image, panel.parameters.preContrast = image, exam.preNode
    panel.parameters.points = exam.pointsNode
    panel.ui.applyButton.click()
    host.grab("WeakSegment", docs / "weaksegment-panel.png")
    lesion = weak.lesion(exam.pointsNode).segment()

    plane = nirst.planeFromLesion(*lesion, image)
    optodes = nirst.placeRing(plane, image)
    truth = (exam.truthSegmentationNode, exam.truthSegmentId)
    simulated = nirst.simulate(image, plane, optodes, *truth, tissueNode=exam.tissueNode, seed=SEED)
    light = nirst.reconstruct(image, plane, optodes, simulated.measurements, simulated.reference, "dri", *lesion)
    sampled = light.sample(simulated.truth)
    titles = sys.modules["NIRSTReconstruction"].IMAGE_TITLES
    units = {row.quantity: row.unit for row in light.contrast}
    images = [PlaneImage(titles[n], units[n], v, sampled[n]) for n, v in light.plane.values.items()]
    axes = light.grid.plane.plane_to_ras[:3, :2]
    picture = draw_plane_images(
        images, light.plane.mri, light.plane.pixel_mm, axes, light.plane.lesion, light.plane.optodes_mm
    )
    (docs / "nirst.png").write_bytes(picture)

    panel = host.enter("RadiomicsPanel")
    panel.parameters.image, panel.parameters.segmentation = image, lesion[0]
    panel.parameters.segmentIds = [lesion[1]]
    panel.ui.applyButton.click()
    host.grab("RadiomicsPanel", docs / "radiomicspanel.png")
    slicer.mrmlScene.Clear()


if __name__ == "__main__":
    main()

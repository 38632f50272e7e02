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
        picture, distances = draw_real_case()
        (docs / "weaksegment.png").write_bytes(picture)
        (docs / "weaksegment-distance.png").write_bytes(distances)
    draw_synthetic_exam(host, modules, docs)
    draw_light_panel(host, docs)


def draw_real_case() -> tuple[bytes, bytes]:
    """Return UCSF-BR-08 segmented from the six extreme points of its published mask, in slices and as a surface."""
    from BreastBiomarkersLib.report import draw_three_planes
    from BreastBiomarkersLib.volume import read_volume
    from WeakSegmentLib.points import extreme_points_of_mask
    from WeakSegmentLib.segmentation import segment_by_random_walk

    image, reference = (read_volume(REAL_CASE / f"UCSF-BR-08_{name}.nrrd") for name in ("post1", "lesion_clean"))
    found = segment_by_random_walk(image, extreme_points_of_mask(reference))
    masks = {"WeakSegment": found.mask, "published tumor volume, cleaned": reference}
    return draw_three_planes(image, masks), draw_distance_surface(found.mask, reference)


def draw_distance_surface(mask, reference) -> bytes:
    """Return the surface of a mask from two sides, colored by its distance to that of the reference."""
    from io import BytesIO

    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection
    from WeakSegmentLib.surfaces import distance_surface

    surface = distance_surface(mask, reference)
    corners = surface.points_ras[surface.triangles]
    distance = surface.distance_mm[surface.triangles].mean(axis=1)
    reach = float(np.percentile(np.abs(distance), 98))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(-reach, reach), "coolwarm")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for n, (title, azimuth) in enumerate((("from the front", 90), ("from the left", 180))):
        axes = figure.add_subplot(1, 2, n + 1, projection="3d")
        toward = np.array([np.cos(np.deg2rad(azimuth)), np.sin(np.deg2rad(azimuth)), 0.35])
        light = 0.55 + 0.45 * np.clip(normals @ toward / np.linalg.norm(toward), 0, 1)
        colors = scale.to_rgba(distance)
        colors[:, :3] *= light[:, None]
        axes.add_collection3d(Poly3DCollection(corners, facecolors=colors, linewidths=0, antialiased=False))
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]), title=title)
        axes.set_box_aspect(high - low)
        axes.view_init(elev=15, azim=azimuth)
        axes.set_axis_off()
    bar = figure.colorbar(scale, ax=figure.axes, shrink=0.8)
    bar.set_label("outside (+) or inside (-) the reference [mm]")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_synthetic_exam(host, modules, docs: Path) -> None:
    """Draw the light images of a synthetic exam and the three panels working on it."""
    import slicer
    from BreastBiomarkersLib.report import PlaneImage, draw_plane_images
    from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES as titles

    weak, nirst = modules["WeakSegment"], modules["NIRSTReconstruction"]
    exam = weak.simulateCase(SEED, "spiculated", 22.0)
    image = exam.postNodes[0]
    panel = host.enter("WeakSegment")
    panel.parameters.image, panel.parameters.preContrast = image, exam.preNode
    panel.parameters.points = exam.pointsNode
    panel.ui.applyButton.click()
    panel.parameters.reference, panel.parameters.referenceSegmentId = exam.truthSegmentationNode, exam.truthSegmentId
    host.wait_until(lambda: not panel.measuring.busy, 60)
    host.grab("WeakSegment", docs / "weaksegment-panel.png")
    lesion = weak.lesion(exam.pointsNode).segment()

    plane = nirst.planeFromLesion(*lesion, image)
    optodes = nirst.placeRing(plane, image)
    truth = (exam.truthSegmentationNode, exam.truthSegmentId)
    simulated = nirst.simulate(image, plane, optodes, *truth, tissueNode=exam.tissueNode, seed=SEED)
    light = nirst.reconstruct(image, plane, optodes, simulated.measurements, simulated.reference, "adaptive", *lesion)
    sampled = light.sample(simulated.truth)
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
    panel.parameters.allSettings = True
    panel.refresh()
    panel.showPage("preparationPage")
    host.wait_until(lambda: not any(getattr(getattr(page, "live", None), "busy", False) for page in panel.pages), 60)
    host.grab("RadiomicsPanel", docs / "radiomicspanel-preparation.png")
    slicer.mrmlScene.Clear()


def draw_light_panel(host, docs: Path) -> None:
    """Draw NIRSTReconstruction with its sample exam, reconstructed and assessed."""
    import slicer

    import NIRSTReconstruction

    NIRSTReconstruction.loadSyntheticExam()
    panel = host.enter("NIRSTReconstruction")
    host.wait_until(lambda: not (panel.optodesSection.busy or panel.qualitySection.busy), 120)
    panel.ui.applyButton.click()
    host.wait_until(lambda: not panel.job.running, 600)
    for section in ("inputs", "plane", "optodes", "data", "method"):
        getattr(panel.ui, f"{section}CollapsibleButton").collapsed = True
    host.grab("NIRSTReconstruction", docs / "nirst-panel.png")
    slicer.mrmlScene.Clear()


if __name__ == "__main__":
    main()

"""Go through the tutorial of WeakSegment and draw its pictures: `python Testing/examples/tutorial_weaksegment.py`.

Every picture shows the panel as it is after the step, and the views as the scene has them: slices of the image with the
points and the outline of the segment, and the surface in 3D.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "Docs" / "tutorial"
SEED = 1
MARGIN_MM = 32.0
PIXEL_MM = 0.4
VIEWS = {"Red": "#f34a33", "Yellow": "#ecd54a", "Green": "#6eb04b"}
NEAR_MM = 1.5  # a point is drawn in a slice that is not farther away

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.append(str(ROOT / "Testing"))


def main(folder: Path = DOCS) -> None:
    """Draw all pictures into a folder."""
    from host.application import start

    host = start()
    for name in ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel"):
        host.load_module(ROOT / name / f"{name}.py")
    host.startup_completed()
    folder.mkdir(parents=True, exist_ok=True)
    Tutorial(host, folder).run()


class Tutorial:
    """The steps, in the order of Docs/tutorial-weaksegment.md."""

    def __init__(self, host, folder: Path):
        self.host, self.folder = host, folder

    def run(self) -> None:
        """Do the steps and draw each."""
        self.load_sample()
        self.place_points()
        self.segment()
        self.correct()
        self.measure()
        self.send_on()

    def load_sample(self) -> None:
        import SampleData

        (source,) = [s for s in SampleData.SampleDataLogic.sources["BreastBiomarkers"] if "MRI" in s.sampleName]
        nodes = source.customDownloader(source)
        self.pre, self.post = nodes[0], nodes[1]
        given, self.truth, self.tissue = nodes[-3:]
        count = given.GetNumberOfControlPoints()
        self.clicked = {
            given.GetNthControlPointLabel(n): given.GetNthControlPointPositionWorld(n) for n in range(count)
        }
        self.widget = self.host.enter("WeakSegment")
        assert self.widget.parameters.image is self.post
        assert self.widget.parameters.points is given
        self.widget.ui.removeLesionButton.click()  # the case comes with its points; here they are placed anew
        self.shown = [self.truth]
        self.draw("1-sample-data", ["inputs"])

    def place_points(self) -> None:
        import numpy as np

        ui = self.widget.ui
        ui.addLesionButton.click()
        self.points = self.widget.parameters.points
        self.shown = []
        for n, name in enumerate(("Left", "Right", "Anterior", "Posterior", "Inferior", "Superior")):
            assert ui.pointsPlaceWidget.placeModeEnabled
            self.points.SetNthControlPointPositionWorld(n, *self.clicked[name])
            if n == 3:
                self.draw("2-place-points", ["lesions"], np.array(self.clicked[name]))
        assert not ui.pointsPlaceWidget.placeModeEnabled

    def segment(self) -> None:
        self.widget.ui.applyButton.click()
        self.shown = [self.widget.parameters.output]
        self.draw("3-segment", ["lesions"])

    def correct(self) -> None:
        """Click on the deepest place that the segment wrongly holds or leaves out."""
        import numpy as np
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from scipy.ndimage import distance_transform_edt

        widget = self.widget
        found = mask_from_segment(*widget.segment(), self.post)
        true = mask_from_segment(self.truth, self.truth.GetSegmentation().GetNthSegmentID(0), self.post)
        depths = {
            tumor: distance_transform_edt(np.pad(wrong, 1), found.spacing)[1:-1, 1:-1, 1:-1]
            for tumor, wrong in ((True, true.array & ~found.array), (False, found.array & ~true.array))
        }
        tumor = depths[True].max() >= depths[False].max()
        k, j, i = np.unravel_index(depths[tumor].argmax(), found.shape)
        self.center = found.points_to_ras(np.array([[i, j, k]]))[0]
        button = widget.ui.tumorClicksButton if tumor else widget.ui.backgroundClicksButton
        button.click()
        widget.logic.addClick(self.points, self.center, tumor)
        button.click()
        widget.ui.applyButton.click()
        self.draw("4-correct", ["lesions"], self.center)

    def measure(self) -> None:
        p = self.widget.parameters
        p.reference, p.referenceSegmentId = self.truth, self.truth.GetSegmentation().GetNthSegmentID(0)
        self.host.process_events(0.2)
        self.host.wait_until(lambda: not self.widget.measuring.busy, 60)
        self.widget.ui.distanceButton.click()
        self.shown = [p.output, self.truth]
        self.draw("5-measure", ["measures"], surface="distance")

    def send_on(self) -> None:
        self.widget.ui.show3DButton.click()
        self.widget.ui.radiomicsButton.click()
        self.host.enter("RadiomicsPanel")
        self.host.widget("RadiomicsPanel").ui.applyButton.click()
        self.draw("6-send-on", None, module="RadiomicsPanel")

    # Drawing

    def draw(self, name, sections, center=None, surface="segment", module="WeakSegment") -> None:
        """Draw the panel with these sections open beside the views."""
        from PIL import Image

        if sections is not None:
            for section in ("inputs", "lesions", "advanced", "measures"):
                getattr(self.widget.ui, f"{section}CollapsibleButton").collapsed = section not in sections
        path = self.folder / f"{name}.png"
        self.host.grab(module, path)
        panel = Image.open(path).convert("RGB").crop(box=None)
        panel = panel.crop((0, 0, panel.width, min(panel.height, 860)))
        views = Image.open(io.BytesIO(self.draw_views(center, surface))).convert("RGB")
        whole = Image.new("RGB", (panel.width + views.width, max(panel.height, views.height)), "#efefef")
        whole.paste(panel, (0, 0))
        whole.paste(views, (panel.width, 0))
        whole.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size // 1000} kB")

    def draw_views(self, center, surface) -> bytes:
        import numpy as np
        from BreastBiomarkersLib.inslicer.nodes import points_from_node, volume_from_node
        from matplotlib.figure import Figure

        post, pre = volume_from_node(self.post), volume_from_node(self.pre)
        positions = np.array(list(self.clicked.values()))
        center = positions.mean(axis=0) if center is None else center
        figure = Figure(figsize=(7.2, 7.2), dpi=100, facecolor="#1b1b22")
        placed = points_from_node(self.points) if hasattr(self, "points") else None
        window = np.percentile(post.array, (20, 99.8))
        for n, (view, color) in enumerate(VIEWS.items()):
            axes = figure.add_axes([0.5 * (n % 2) + 0.004, 0.5 * (n < 2) + 0.004, 0.492, 0.492])
            self.draw_slice(axes, view, color, post, center, window, placed)
        axes = figure.add_axes([0.504, 0.004, 0.492, 0.492])
        axes.axis("off")
        if not hasattr(self, "points"):
            self.draw_slice(axes, "Red", "#9a9aa5", pre, center, window, None, "before contrast")
        else:
            axes.imshow(self.draw_surface(surface))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
        return buffer.getvalue()

    def draw_slice(self, axes, view, color, volume, center, window, placed, title=None) -> None:
        """Draw a slice in the direction of a slice view, through a position."""
        import numpy as np
        import slicer
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from scipy.ndimage import map_coordinates

        matrix = slicer.util.arrayFromVTKMatrix(slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{view}").GetSliceToRAS())
        right, up, normal = (matrix[:3, n] / np.linalg.norm(matrix[:3, n]) for n in range(3))
        line = np.arange(-MARGIN_MM, MARGIN_MM, PIXEL_MM)
        grid = center + line[None, :, None] * right + line[:, None, None] * up
        kji = volume.points_to_ijk(grid.reshape(-1, 3))[:, ::-1].T
        shape = (len(line), len(line))
        extent = (line[0], line[-1], line[0], line[-1])
        picture = map_coordinates(volume.array.astype(np.float32), kji, order=1, cval=float(window[0])).reshape(shape)
        axes.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=extent)
        for node in self.shown:
            segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
            for segment in segmentation.GetSegmentIDs():
                if not display.GetSegmentVisibility(segment):
                    continue
                mask = mask_from_segment(node, segment, self.post).array.astype(np.float32)
                inside = map_coordinates(mask, kji, order=1).reshape(shape)
                if inside.max() > 0.5:
                    outline = segmentation.GetSegment(segment).GetColor()
                    axes.contour(inside, [0.5], colors=[outline], linewidths=1.8, extent=extent)
        if placed is not None:
            for label, position in zip(placed.labels, placed.positions_ras, strict=True):
                offset = position - center
                if abs(offset @ normal) < NEAR_MM:
                    axes.plot(offset @ right, offset @ up, "o", color="#ff5fa2", markersize=5)
                    axes.annotate(
                        label,
                        (offset @ right, offset @ up),
                        (5, 4),
                        textcoords="offset points",
                        color="white",
                        fontsize=8,
                    )
            for click in self.widget.logic.lesion(self.points).clicks():
                offset = np.array(click.position_ras) - center
                if abs(offset @ normal) < NEAR_MM:
                    axes.plot(
                        offset @ right, offset @ up, "o", color="#ff8c40" if click.tumor else "#4f9cff", markersize=7
                    )
        axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=3)
        words = title or ("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())]
        axes.text(0.03, 0.95, words, transform=axes.transAxes, color="white", fontsize=10, va="top")

    def draw_surface(self, surface):
        """Return the 3D view: the points, and the surface of the lesion, plain or colored by distance."""
        import numpy as np
        import slicer
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        renderer = vtk.vtkRenderer()
        renderer.SetBackground(0.76, 0.77, 0.91)
        renderer.SetBackground2(0.45, 0.47, 0.69)
        renderer.GradientBackgroundOn()
        lesion = self.widget.logic.lesion(self.points)
        node, segment = lesion.segment()
        if node is not None:
            model = lesion.output("distanceSurface") if surface == "distance" else None
            mesh = vtk.vtkPolyData()
            if model is None:
                copy = slicer.vtkSegmentation()
                copy.DeepCopy(node.GetSegmentation())
                copy.CreateRepresentation("Closed surface")
                mesh.DeepCopy(copy.GetSegment(segment).GetRepresentation("Closed surface"))
            else:
                mesh.DeepCopy(model.GetPolyData())
            mapper = vtk.vtkPolyDataMapper()
            mapper.SetInputData(mesh)
            mapper.SetScalarVisibility(model is not None)
            actor = vtk.vtkActor()
            actor.SetMapper(mapper)
            actor.GetProperty().SetColor(node.GetSegmentation().GetSegment(segment).GetColor())
            if model is not None:
                mapper.SetLookupTable(model.GetDisplayNode().GetColorNode().GetLookupTable())
                mapper.UseLookupTableScalarRangeOff()
                mapper.SetScalarRange(model.GetDisplayNode().GetScalarRange())
                bar = vtk.vtkScalarBarActor()
                bar.SetLookupTable(mapper.GetLookupTable())
                bar.SetTitle("to truth [mm]")
                bar.SetNumberOfLabels(5)
                bar.SetLabelFormat("%.1f")
                bar.SetUnconstrainedFontSize(True)
                for text in (bar.GetTitleTextProperty(), bar.GetLabelTextProperty()):
                    text.SetFontSize(13)
                    text.ItalicOff()
                bar.SetPosition(0.84, 0.08)
                bar.SetWidth(0.14)
                bar.SetHeight(0.8)
                renderer.AddViewProp(bar)
            renderer.AddActor(actor)
        for n in range(self.points.GetNumberOfControlPoints()):
            if self.points.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
                ball = vtk.vtkSphereSource()
                ball.SetCenter(self.points.GetNthControlPointPositionWorld(n))
                ball.SetRadius(0.7)
                mapper = vtk.vtkPolyDataMapper()
                mapper.SetInputConnection(ball.GetOutputPort())
                actor = vtk.vtkActor()
                actor.SetMapper(mapper)
                actor.GetProperty().SetColor(1.0, 0.37, 0.64)
                renderer.AddActor(actor)
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(4)
        window.SetSize(440, 440)
        window.AddRenderer(renderer)
        camera = renderer.GetActiveCamera()
        camera.SetPosition(0.6, 1.0, 0.35)  # from the front, a little to the right and above
        camera.SetFocalPoint(0, 0, 0)
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        camera.Zoom(1.2)
        window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _depth = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]
        window.Finalize()
        return np.ascontiguousarray(pixels)


if __name__ == "__main__":
    main()

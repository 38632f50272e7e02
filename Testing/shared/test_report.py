"""The report: one file, pictures inside, text escaped, and right of the patient on the left of the picture."""

import itertools

import numpy as np
import pytest
from BreastBiomarkersLib import report
from BreastBiomarkersLib.volume import Volume

pytest.importorskip("matplotlib", reason="pictures need matplotlib")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_views_follow_the_patient_not_the_file(order, signs):
    """A marker far to the right, back and top ends at the same place of every view, however the file is stored."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, list(order)] * np.array(signs) * [1.0, 1.5, 2.0]
    volume = Volume(np.zeros((8, 10, 12)), matrix)
    corners = np.array(list(itertools.product((0, 11), (0, 9), (0, 7))))
    ras = volume.points_to_ras(corners)
    target = corners[np.argmax(-ras[:, 0] - ras[:, 1] + ras[:, 2])]  # leftmost (low R), most posterior, most superior
    volume.array[tuple(target[::-1])] = 1
    axes, flips, spacing = report._to_ras_axes(volume)
    turned = report._reorient(volume.array, axes, flips)
    assert turned[0, 0, -1] == 1
    np.testing.assert_allclose(spacing, np.abs(matrix[:3, :3]).sum(axis=1))


def test_pictures_are_drawn_on_oblique_volumes(oblique_volume):
    mask = np.zeros(oblique_volume.shape, bool)
    mask[3:6, 4:9, 6:14] = True
    png = report.draw_three_planes(oblique_volume, {"lesion": oblique_volume.with_array(mask)}, "T1 <post>")
    assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_plane_pictures_show_the_right_on_the_left_and_the_head_on_top(signs):
    """The same coronal image, stored in four ways, gives the same picture."""
    pytest.importorskip("PIL", reason="comes with matplotlib")
    from io import BytesIO

    from PIL import Image

    def draw(signs):
        image = np.full((40, 60), np.nan)
        image[:, :] = 1.0
        image[25:, 40:] = 5.0  # right and superior
        axes = np.array([[1.0, 0], [0, 0], [0, 1.0]]) * signs
        image = image[:: signs[1], :: signs[0]]
        png = report.draw_plane_images([report.PlaneImage("HbO", "uM", image)], image * 0, 1.0, axes)
        return np.asarray(Image.open(BytesIO(png)).convert("L"), dtype=float)

    np.testing.assert_allclose(draw(signs), draw((1, 1)), atol=2)
    rows, columns = np.nonzero(draw((1, 1))[:, :200] < 250)  # the image, without the color bar on its right
    image = draw((1, 1))[rows.min() : rows.max(), columns.min() : columns.max()]
    height, width = image.shape
    quarters = {
        (v, h): np.median(image[v * height // 2 :][: height // 4, h * width // 2 :][:, : width // 8])
        for v in (0, 1)
        for h in (0, 1)
    }
    assert quarters[0, 0] > 150, "right and superior, at the top left"
    assert max(quarters[0, 1], quarters[1, 0], quarters[1, 1]) < 100


def test_page_is_self_contained_and_escaped(tmp_path):
    picture = report.Picture(report.draw_bars({"661 nm": 1.02}, "chi", expected=1.0), "Residual <per wavelength>")
    table = report.Table("Contrast", ["chromophore", "ratio [1]"], [["HbO", 1.23456], ["a<b", None]])
    section = report.Section("Light", ["Simulated & said so"], [picture], [table])
    report.write_report(report.Report("Case <1>", [section], ["Simulated data"]), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Case &lt;1&gt;" in html
    assert "a&lt;b" in html
    assert "Simulated &amp; said so" in html
    assert '<td class="number">1.235</td>' in html
    assert "data:image/png;base64," in html
    assert 'src="http' not in html

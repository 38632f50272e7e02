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

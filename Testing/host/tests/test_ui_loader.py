"""The .ui interpreter: everything of a panel arrives, and what Slicer would silently lose is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from host import pythonqt
from host.ui_loader import UiError, load_ui

PANEL = Path(__file__).with_name("panel.ui")


@pytest.fixture
def slicer(slicer_host):
    import slicer

    return slicer


@pytest.fixture
def panel(slicer):
    return slicer.util.loadUI(str(PANEL))


@pytest.fixture
def ui(slicer, panel):
    return slicer.util.childWidgetVariables(panel)


def load(tmp_path: Path, *body: str, rest: str = "") -> object:
    """Load a panel whose top widget holds `body`."""
    path = tmp_path / "panel.ui"
    top = f'<widget class="QWidget" name="P">{"".join(body)}</widget>'
    path.write_text(f'<ui version="4.0"><class>P</class>{top}{rest}</ui>', encoding="utf-8")
    return load_ui(path)


def widget(class_name: str, name: str = "a", inner: str = "") -> str:
    return f'<widget class="{class_name}" name="{name}">{inner}</widget>'


def string(name: str, value: str) -> str:
    return f'<property name="{name}"><string>{value}</string></property>'


def number(name: str, value: int) -> str:
    return f'<property name="{name}"><number>{value}</number></property>'


def enum(name: str, value: str) -> str:
    return f'<property name="{name}"><enum>{value}</enum></property>'


def test_properties_of_all_kinds_arrive(panel, ui):
    import qt

    assert panel.className() == "qMRMLWidget"
    assert (panel.width, panel.height) == (520, 900)
    assert ui.imageLabel.text == "&Image:"
    assert ui.imageLabel.buddy() == ui.imageSelector
    assert ui.imageSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert (ui.imageSelector.noneEnabled, ui.imageSelector.addEnabled) == (True, False)
    assert ui.imageSelector.toolTip == "Image to read."
    assert ui.imageSelector.SlicerParameterName == "image"
    assert (ui.betaSlider.value, ui.betaSlider.suffix, ui.betaSlider.decimals) == (2.5, " mm", 1)
    assert (ui.rangeWidget.minimumValue, ui.rangeWidget.maximumValue) == (10.0, 40.0)
    assert ui.colorButton.color == qt.QColor(200, 30, 60)
    assert (ui.applyButton.enabled, ui.applyButton.font.bold(), ui.applyButton.font.pointSize()) == (False, True, 11)
    assert ui.applyButton.sizePolicy.horizontalPolicy() == qt.QSizePolicy.Expanding
    assert ui.filePath.filters == 2
    assert ui.inputsLayout.fieldGrowthPolicy == qt.QFormLayout.AllNonFixedFieldsGrow


def test_items_and_pages_arrive(panel, ui):
    assert [ui.methodBox.itemText(i) for i in range(ui.methodBox.count)] == ["Tikhonov", "DRI"]
    assert (ui.methodBox.currentIndex, ui.tabs.currentIndex, ui.tabs.tabText(1)) == (1, 1, "Two")
    assert ui.familyBox.checkableModel().rowCount() == 2
    assert ui.resultTable.horizontalHeaderItem(1).text() == "Value"
    assert ui.resultTable.horizontalHeaderItem(1).toolTip() == "With its unit."
    assert ui.resultTable.horizontalHeader().stretchLastSection is True
    assert ui.resultTable.item(0, 0).text() == "volume"
    group = panel.findChild("QButtonGroup", "speed")
    assert group.buttons() == (ui.fast, ui.exact)


def test_layouts_arrive(panel, ui):
    import qt

    form = ui.inputsSection.layout()
    assert form.className() == "QFormLayout"
    assert form.itemAt(1, qt.QFormLayout.FieldRole).widget() == ui.segmentSelector
    assert form.itemAt(2, qt.QFormLayout.SpanningRole).widget() == ui.pointsTable
    grid = ui.settingsSection.layout()
    assert grid.itemAtPosition(0, 1).widget() == ui.betaSlider
    assert grid.itemAtPosition(5, 0).widget() == grid.itemAtPosition(5, 1).widget() == ui.tabs
    assert grid.columnStretch(1) == 1
    assert ui.colorLayout.count() == 3


def test_collapsed_section_hides_its_contents(panel, ui, slicer_host):
    panel.show()
    slicer_host.process_events(0)
    assert not ui.hiddenButton.isVisible()
    ui.advancedSection.collapsed = False
    assert ui.hiddenButton.isVisible()


def test_connections_work(panel, ui, slicer):
    ui.showBox.checked = False
    assert not ui.colorButton.enabled
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.imageSelector.nodeFromIndex(0) is node
    assert ui.pointsTable.markupsSelectorComboBox().mrmlScene() is slicer.mrmlScene


def test_panel_can_be_drawn(panel, ui, tmp_path, slicer_host):
    panel.show()
    slicer_host.grab(panel, tmp_path / "panel.png")
    import qt

    image = qt.QImage(str(tmp_path / "panel.png"))
    assert image.width() == 520
    colors = {image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 7)}
    assert len(colors) > 20


def test_containers(tmp_path, slicer):
    panel = load(
        tmp_path,
        widget("QScrollArea", "area", widget("QWidget", "inside")),
        widget("QStackedWidget", "stack", widget("QWidget", "p") + widget("QLabel", "q") + number("currentIndex", 1)),
        widget("QToolBox", "box", widget("QWidget", "page", '<attribute name="label"><string>L</string></attribute>')),
        f'<action name="act">{string("text", "Do")}</action>',
        widget("QToolButton", "tool", '<addaction name="act"/>'),
    )
    assert panel.area.widget().name == "inside"
    assert (panel.stack.count, panel.stack.currentIndex) == (2, 1)
    assert panel.box.itemText(0) == "L"
    assert panel.tool.actions()[0].text == "Do"


def test_spacer_and_nested_layout(tmp_path, slicer):
    inner = (
        f'<layout class="QHBoxLayout" name="inner"><item alignment="Qt::AlignRight">{widget("QLabel")}</item></layout>'
    )
    size = "<size><width>2</width><height>9</height></size>"
    spacer = enum("orientation", "Qt::Vertical") + enum("sizeType", "QSizePolicy::Fixed")
    panel = load(
        tmp_path,
        '<layout class="QVBoxLayout" name="outer" stretch="2,0">',
        number("leftMargin", 3) + number("spacing", 1),
        f"<item>{inner}</item>",
        f'<item><spacer name="s">{spacer}<property name="sizeHint" stdset="0">{size}</property></spacer></item>',
        "</layout>",
    )
    import qt

    outer = panel.layout()
    assert (outer.contentsMargins().left(), outer.spacing, outer.stretch(0)) == (3, 1, 2)
    assert outer.itemAt(0).layout().itemAt(0).alignment() == qt.Qt.AlignRight
    assert (outer.itemAt(1).sizeHint().height(), outer.itemAt(1).expandingDirections()) == (9, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (widget("QNoSuch"), "class QNoSuch is unknown"),
        (widget("qMRMLNoSuchWidget"), "class qMRMLNoSuchWidget is unknown"),
        (widget("QPoint"), "class QPoint is unknown"),
        (widget("qMRMLPlotView"), "no Qt Designer plugin"),
        (widget("QLabel", name=""), "a QLabel has no name"),
        (widget("QLabel", inner=string("txt", "x")), "no property txt"),
        (widget("QLabel", inner=number("width", 3)), "no property width that can be set"),
        (widget("qMRMLNodeComboBox", inner=string("nodeType", "x")), "no property nodeType"),
        (widget("qMRMLNodeComboBox", inner=string("nodeTypes", "x")), "does not accept"),
        (widget("QLabel", inner=enum("alignment", "Qt::AlignNowhere")), "enumerator Qt::AlignNowhere is unknown"),
        (widget("QLabel", inner=enum("alignment", "AlignLeft")), "enumerator AlignLeft is unknown"),
        (widget("QLabel", inner='<property name="buddy"><cstring>b</cstring></property>'), "no object named b"),
        (widget("QLabel", "a") + widget("QLabel", "a"), "two objects are named a"),
        (widget("QLabel", inner="<magic/>"), "<magic>"),
        (widget("QLabel", inner='<property name="text"><rune>x</rune></property>'), "<rune>"),
        (widget("QLabel", inner="<item/>"), "items of QLabel"),
        (
            widget(
                "QToolButton", inner='<property name="icon"><iconset><normaloff>no.png</normaloff></iconset></property>'
            ),
            "no.png does not exist",
        ),
        (
            widget("QRadioButton", inner='<attribute name="buttonGroup"><string>g</string></attribute>'),
            "no button group named g",
        ),
    ],
)
def test_what_slicer_would_lose_is_an_error(slicer, tmp_path, body, message):
    with pytest.raises(UiError, match=message) as caught:
        load(tmp_path, body)
    assert str(tmp_path / "panel.ui") in str(caught.value)


@pytest.mark.parametrize(
    ("signal", "slot"),
    [("toggle(bool)", "setEnabled(bool)"), ("toggled(bool)", "enable(bool)"), ("clicked()", "setEnabled(bool)")],
)
def test_connection_that_fails_is_an_error(slicer_host, tmp_path, signal, slot):
    connection = (
        f"<connections><connection><sender>a</sender><signal>{signal}</signal><receiver>b</receiver><slot>{slot}</slot>"
        "</connection></connections>"
    )
    with pytest.raises(UiError, match=r"cannot connect a\."):
        load(tmp_path, widget("QCheckBox", "a"), widget("QLabel", "b"), rest=connection)
    assert len(slicer_host.problems()) == 1
    slicer_host.forget_problems()


def test_broken_file(slicer, tmp_path):
    path = tmp_path / "broken.ui"
    path.write_text("<ui><widget", encoding="utf-8")
    with pytest.raises(UiError, match="not an XML file"):
        load_ui(path)
    path.write_text("<ui/>", encoding="utf-8")
    with pytest.raises(UiError, match="no widget"):
        load_ui(path)
    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI(str(tmp_path / "missing.ui"))


def test_top_widget_lives_as_long_as_its_wrapper(slicer):
    panel = load_ui(PANEL)
    button = panel.findChild("QPushButton", "applyButton")
    assert pythonqt.unwrap(button) is not None
    del panel
    assert not button

"""Parameter node wrapper: what is stored and how, packs, connectors, and that wrong declarations and values fail."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Optional, Union

import numpy as np
import pytest


@pytest.fixture
def wrapper(slicer_host):
    """Return a function that wraps a class around a new parameter node in the scene."""
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    def make(cls: type):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
        return parameterNodeWrapper(cls)(node)

    return make


class Method(enum.Enum):
    RANDOM_WALK = "random walk"
    REGION = "region"

    def label(self) -> str:
        return self.value.title()


def stored(parameters) -> dict[str, str]:
    node = parameters.parameterNode
    return {name: node.GetParameter(name) for name in node.GetParameterNames()}


# Storage


def test_plain_values_are_stored_as_slicer_stores_them(wrapper):
    class Plain:
        count: int = 3
        weight: float = 0.25
        name: str = "abc"
        on: bool = True
        path: pathlib.Path = pathlib.Path("a/b")
        method: Method = Method.REGION

    parameters = wrapper(Plain)
    assert stored(parameters) == {
        "count": "3",
        "weight": "0.25",
        "name": "abc",
        "on": "True",
        "path": str(pathlib.Path("a/b")),
        "method": "REGION",
    }
    parameters.weight = 2
    parameters.on = False
    assert stored(parameters)["weight"] == "2"
    assert stored(parameters)["on"] == "False"
    assert parameters.weight == 2.0
    assert parameters.method is Method.REGION


def test_implicit_defaults(wrapper):
    import slicer

    class Empty:
        count: int
        weight: float
        name: str
        on: bool
        items: list[int]
        table: dict[str, float]
        pair: tuple[int, str]
        maybe: Optional[float]  # noqa: UP045 - what module scripts have to write
        method: Method
        volume: slicer.vtkMRMLScalarVolumeNode

    Empty.__annotations__["volume"] = slicer.vtkMRMLScalarVolumeNode
    p = wrapper(Empty)
    assert (p.count, p.weight, p.name, p.on, p.maybe, p.volume) == (0, 0.0, "", False, None, None)
    assert p.items == []
    assert p.table == {}
    assert p.pair == (0, "")
    assert p.method is Method.RANDOM_WALK


def test_containers_are_stored_as_slicer_stores_them(wrapper):
    class Containers:
        items: list[int]
        pair: tuple[int, str] = (4, "x")
        table: dict[str, float]
        either: Union[int, str] = "text"  # noqa: UP007
        maybe: Optional[int]  # noqa: UP045

    p = wrapper(Containers)
    p.items = [5, 6]
    p.table = {"a": 1.5}
    p.maybe = 7
    assert stored(p) == {
        "items_len": "2",
        "items_0": "5",
        "items_1": "6",
        "pair_0": "4",
        "pair_1": "x",
        "table_len": "1",
        "table_0_0": "a",
        "table_0_1": "1.5",
        "either_1": "text",
        "maybe_0": "7",
    }
    p.items = [1]
    assert "items_1" not in stored(p)
    p.maybe = None
    assert stored(p)["maybe_1"] == "True"
    assert p.maybe is None


def test_lists_and_dicts_write_themselves(wrapper):
    class Containers:
        items: list[int]
        table: dict[str, int]

    p = wrapper(Containers)
    p.items.append(3)
    p.items += [4]
    p.items[0] = 9
    p.table["a"] = 1
    assert p.items == [9, 4]
    assert stored(p)["items_0"] == "9"
    assert p.table == {"a": 1}
    with pytest.raises(TypeError):
        p.items.append("x")
    assert p.items == [9, 4]
    with pytest.raises(TypeError):
        _ = p.items + [1]
    with pytest.raises(TypeError):
        p.table.get("b", 0)


def test_node_references(wrapper):
    import slicer

    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)))

    class Nodes:
        volume: Any  # noqa: F821 - set below
        several: list

    Nodes.__annotations__ = {
        "volume": slicer.vtkMRMLScalarVolumeNode,
        "several": list[slicer.vtkMRMLScalarVolumeNode],
    }
    p = wrapper(Nodes)
    p.volume = volume
    assert p.parameterNode.GetNodeReferenceID("volume") == volume.GetID()
    assert p.volume is volume
    p.several = [volume]
    assert p.parameterNode.GetNodeReferenceID("several_0") == volume.GetID()
    with pytest.raises(TypeError):
        p.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    stranger = slicer.vtkMRMLScalarVolumeNode()
    with pytest.raises(ValueError, match="not in the scene"):
        p.volume = stranger
    slicer.mrmlScene.RemoveNode(volume)
    assert p.volume is None


def test_two_wrappers_of_one_node_agree(wrapper):
    class Plain:
        count: int = 1

    first = wrapper(Plain)
    second = Plain(first.parameterNode)
    first.count = 5
    assert second.count == 5
    first.parameterNode.SetParameter("count", "8")
    assert first.count == second.count == 8


def test_stored_values_survive_a_new_wrapper_and_defaults_do_not_overwrite(wrapper):
    class Plain:
        count: int = 1

    first = wrapper(Plain)
    first.count = 5
    assert Plain(first.parameterNode).count == 5


def test_default_generator_makes_a_new_value_each_time(wrapper):
    from slicer.parameterNodeWrapper import Default

    calls = []

    class Generated:
        count: int

    Generated.__annotations__ = {"count": Annotated[int, Default(generator=lambda: len(calls.append(1) or calls))]}
    before = wrapper(Generated).count
    assert before >= 1
    assert wrapper(Generated2 := type("G", (), {"__annotations__": Generated.__annotations__})).count > before
    assert Generated2 is not Generated


def test_scene_close_restores_defaults(wrapper, slicer_host):
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Plain:
        count: int = 4

    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag("Closing")
    p = Plain(slicer.mrmlScene.AddNode(node))
    p.count = 9
    slicer_host.close_scene()
    assert p.count == 4


def test_modified_events(wrapper):
    import slicer
    import vtk

    class Plain:
        count: int
        weight: float

    p = wrapper(Plain)
    seen = []
    tag = p.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: seen.append((p.count, p.weight)))
    p.count = 1
    assert seen == [(1, 0.0)]
    with slicer.util.NodeModify(p):
        p.count = 2
        p.weight = 0.5
        assert len(seen) == 1
    assert seen[1:] == [(2, 0.5)]
    p.RemoveObserver(tag)
    p.count = 3
    assert len(seen) == 2


def test_unreadable_value_in_the_node_is_seen(wrapper, slicer_host):
    class Plain:
        method: Method

    p = wrapper(Plain)
    with slicer_host.expected_error(ValueError, "OLD_NAME"):
        p.parameterNode.SetParameter("method", "OLD_NAME")


# Wrong values


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("count", 1.5, TypeError),
        ("count", "1", TypeError),
        ("count", True, TypeError),
        ("count", None, ValueError),
        ("count", np.int64(3), TypeError),
        ("weight", "1", TypeError),
        ("weight", None, ValueError),
        ("name", 3, TypeError),
        ("on", 1, TypeError),
        ("method", "REGION", TypeError),
        ("path", "a/b", TypeError),
        ("items", ["a"], TypeError),
        ("items", "abc", TypeError),
        ("pair", (1,), ValueError),
        ("either", 1.5, TypeError),
    ],
)
def test_wrong_value_raises_and_changes_nothing(wrapper, name, value, error):
    class Plain:
        count: int
        weight: float
        name: str
        on: bool
        method: Method
        path: pathlib.Path
        items: list[int]
        pair: tuple[int, int]
        either: Union[int, str]  # noqa: UP007

    p = wrapper(Plain)
    before = stored(p)
    with pytest.raises(error):
        setattr(p, name, value)
    assert stored(p) == before


def test_unknown_name_raises(wrapper):
    class Plain:
        count: int

    p = wrapper(Plain)
    with pytest.raises(AttributeError, match="cuont"):
        p.cuont = 3
    with pytest.raises(ValueError, match="cuont"):
        p.setValue("cuont", 3)


def test_annotated_limits(wrapper):
    from slicer.parameterNodeWrapper import Choice, Exclude, Maximum, Minimum, WithinRange

    class Limited:
        pass

    Limited.__annotations__ = {
        "a": Annotated[float, WithinRange(0, 1)],
        "b": Annotated[int, Minimum(0)],
        "c": Annotated[int, Maximum(5)],
        "d": Annotated[str, Choice(["x", "y"])],
        "e": Annotated[int, Exclude([13])],
        "f": list[Annotated[int, Minimum(0)]],
    }
    Limited.d = "x"
    p = wrapper(Limited)
    for name, value in (("a", 1.01), ("a", float("nan")), ("b", -1), ("c", 6), ("d", "z"), ("e", 13), ("f", [1, -1])):
        with pytest.raises(ValueError, match=r"Value"):
            setattr(p, name, value)
    p.a = 1.0
    assert p.a == 1.0


# Wrong declarations


def test_wrong_declarations_fail_when_the_class_is_made(slicer_host):
    from slicer.parameterNodeWrapper import Minimum, parameterNodeWrapper

    def declare(annotation, **members) -> type:
        return parameterNodeWrapper(type("P", (), {"__annotations__": {"x": annotation}, **members}))

    for unsupported in (set[int], object, list, tuple, int | None, np.ndarray, complex):
        with pytest.raises(TypeError, match="Unable to create serializer"):
            declare(unsupported)
    with pytest.raises(ValueError, match="default"):
        declare(int, x="three")
    with pytest.raises(ValueError, match="default"):
        declare(Annotated[int, Minimum(5)])
    for reserved in ("getValue", "Modified", "connectGui", "allParameters", "default"):
        with pytest.raises(ValueError, match="reserved"):
            parameterNodeWrapper(type("P", (), {"__annotations__": {reserved: int}}))


def test_what_is_wrapped_must_be_a_scripted_module_node(slicer_host):
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    cls = parameterNodeWrapper(type("P", (), {"__annotations__": {"x": int}}))
    with pytest.raises(TypeError):
        cls(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode"))
    with pytest.raises(TypeError):
        cls(x=3)


def test_own_connectors_and_serializers_are_not_emulated(slicer_host):
    with pytest.raises(ImportError):
        exec("from slicer.parameterNodeWrapper import parameterNodeGuiConnector")


# Packs


def test_pack_is_stored_by_member_and_writes_itself(wrapper):
    from slicer.parameterNodeWrapper import parameterPack

    @parameterPack
    class Point:
        x: float = 1.0
        y: float

    class Holder:
        pass

    Holder.__annotations__ = {"point": Point, "points": list[Point]}
    p = wrapper(Holder)
    assert stored(p)["point.x"] == "1.0"
    p.point.y = 3.0
    assert stored(p)["point.y"] == "3.0"
    assert p.point == Point(1.0, 3.0)
    p.setValue("point.x", 8.0)
    assert p.getValue("point.x") == 8.0
    p.points = [Point(1.0, 2.0)]
    p.points[0].x = 7.0
    assert p.points[0] == Point(7.0, 2.0)
    for wrong in ({"x": "a"}, {"z": 1.0}):
        with pytest.raises(TypeError):
            Point(**wrong)
    with pytest.raises(AttributeError):
        p.point.z = 1.0


def test_float_range(wrapper):
    from slicer.parameterNodeWrapper import FloatRange, RangeBounds

    class Holder:
        pass

    Holder.__annotations__ = {"band": Annotated[FloatRange, RangeBounds(0, 10)]}
    p = wrapper(Holder)
    p.band = FloatRange(2.0, 5.0)
    assert stored(p) == {"band._minimum": "2.0", "band._maximum": "5.0"}
    assert (p.band.minimum, p.band.maximum) == (2.0, 5.0)
    with pytest.raises(ValueError, match="minimum <= maximum"):
        FloatRange(3.0, 1.0)
    with pytest.raises(ValueError, match="within"):
        p.band = FloatRange(2.0, 50.0)


# Widgets


def bound(widget, name: str):
    widget.setProperty("SlicerParameterName", name)
    return widget


def test_every_connector_goes_both_ways(wrapper):
    import ctk
    import qt
    import slicer
    from slicer.parameterNodeWrapper import FloatRange, RangeBounds, WithinRange

    class All:
        pass

    ranged_float, ranged_int = Annotated[float, WithinRange(0, 10)], Annotated[int, WithinRange(0, 10)]
    cases = [
        (qt.QCheckBox, bool, "checked", True),
        (ctk.ctkCheckBox, bool, "checked", True),
        (ctk.ctkCheckablePushButton, bool, "checked", True),
        (qt.QSpinBox, int, "value", 3),
        (qt.QSlider, ranged_int, "value", 3),
        (qt.QDoubleSpinBox, float, "value", 2.5),
        (ctk.ctkSliderWidget, ranged_float, "value", 2.5),
        (ctk.ctkSliderWidget, ranged_int, "value", 4),
        (slicer.qMRMLSliderWidget, ranged_float, "value", 2.5),
        (ctk.ctkDoubleSlider, ranged_float, "value", 2.5),
        (ctk.ctkDoubleSpinBox, float, "value", 2.5),
        (slicer.qMRMLSpinBox, float, "value", 2.5),
        (qt.QLineEdit, str, "text", "abc"),
        (qt.QTextEdit, str, "plainText", "abc"),
        (ctk.ctkPathLineEdit, pathlib.Path, "currentPath", "/a/b"),
        (ctk.ctkDirectoryButton, pathlib.Path, "directory", str(pathlib.Path(__file__).parent)),
    ]
    All.__annotations__ = {f"p{index}": case[1] for index, case in enumerate(cases)}
    All.__annotations__["band"] = Annotated[FloatRange, RangeBounds(0, 10)]
    p = wrapper(All)
    widgets = {f"p{index}": bound(case[0](), f"p{index}") for index, case in enumerate(cases)}
    widgets["band"] = bound(ctk.ctkRangeWidget(), "band")
    gui = type("Gui", (), {})()
    vars(gui).update(widgets)
    p.connectGui(gui)
    for index, (_, datatype, name, value) in enumerate(cases):
        setattr(widgets[f"p{index}"], name, value)
        expected = pathlib.Path(value) if datatype is pathlib.Path else value
        assert getattr(p, f"p{index}") == expected, cases[index]
    widgets["band"].setValues(2.0, 4.0)
    assert p.band == FloatRange(2.0, 4.0)
    p.p0, p.p3, p.p6, p.p12 = False, 7, 9.5, "later"
    p.band = FloatRange(1.0, 9.0)
    assert widgets["p0"].checked is False
    assert (widgets["p3"].value, widgets["p6"].value, widgets["p12"].text) == (7, 9.5, "later")
    assert (widgets["band"].minimumValue, widgets["band"].maximumValue) == (1.0, 9.0)


def test_types_stay_what_they_are(wrapper):
    import ctk
    from slicer.parameterNodeWrapper import WithinRange

    class Typed:
        pass

    Typed.__annotations__ = {"count": Annotated[int, WithinRange(0, 10)]}
    p = wrapper(Typed)
    slider = ctk.ctkSliderWidget()
    p.connectParametersToGui({"count": slider})
    slider.value = 4
    assert type(p.count) is int


def test_label_shows_but_does_not_write(wrapper):
    import qt

    class Plain:
        text: str

    p = wrapper(Plain)
    label = qt.QLabel()
    tag = p.connectParametersToGui({"text": label})
    p.text = "shown"
    assert label.text == "shown"
    p.disconnectGui(tag)


def test_connecting_overrides_the_limits_of_the_widget(wrapper):
    import qt
    from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange

    class Limited:
        free: float = 500.0

    Limited.__annotations__["ranged"] = Annotated[float, WithinRange(0, 1), Decimals(4), SingleStep(0.01)]
    p = wrapper(Limited)
    free, ranged = qt.QDoubleSpinBox(), qt.QDoubleSpinBox()
    free.maximum = 10
    p.connectParametersToGui({"free": free, "ranged": ranged})
    assert free.value == 500.0
    assert (ranged.minimum, ranged.maximum, ranged.decimals, ranged.singleStep) == (0, 1, 4, 0.01)


def test_slider_without_range_raises(wrapper):
    import ctk
    import qt

    class Plain:
        weight: float
        count: int

    p = wrapper(Plain)
    for mapping in ({"weight": ctk.ctkSliderWidget()}, {"count": qt.QSlider()}, {"count": ctk.ctkSliderWidget()}):
        with pytest.raises(RuntimeError, match="without a range"):
            p.connectParametersToGui(mapping)


def test_unsupported_pairs_raise(wrapper):
    import ctk
    import qt
    import slicer

    class Plain:
        weight: float
        text: str
        on: bool
        items: list[int]

    p = wrapper(Plain)
    pairs = [
        ("weight", qt.QLineEdit()),
        ("weight", qt.QSpinBox()),
        ("text", qt.QDoubleSpinBox()),
        ("text", qt.QPlainTextEdit()),
        ("on", qt.QRadioButton()),
        ("on", qt.QToolButton()),
        ("items", qt.QLineEdit()),
        ("text", slicer.qMRMLSegmentSelectorWidget()),
        ("items", ctk.ctkCheckableComboBox()),
    ]
    for name, widget in pairs:
        with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
            p.connectParametersToGui({name: widget})
    with pytest.raises(RuntimeError, match="Choice"):
        p.connectParametersToGui({"text": qt.QComboBox()})
    with pytest.raises(RuntimeError, match="RangeBounds"):
        from slicer.parameterNodeWrapper import FloatRange

        class Holder:
            pass

        Holder.__annotations__ = {"band": FloatRange}
        wrapper(Holder).connectParametersToGui({"band": ctk.ctkRangeWidget()})


def test_python_subclass_of_a_supported_widget_is_not_supported(wrapper):
    import qt

    class MyCheckBox(qt.QCheckBox):
        pass

    class Plain:
        on: bool

    with pytest.raises(RuntimeError, match="MyCheckBox"):
        wrapper(Plain).connectParametersToGui({"on": MyCheckBox()})


def test_combo_box_items_come_from_the_type(wrapper):
    import qt
    from slicer.parameterNodeWrapper import Choice

    class Chosen:
        method: Method

    Chosen.__annotations__["size"] = Annotated[int, Choice([8, 16, 32])]
    Chosen.size = 16
    p = wrapper(Chosen)
    method, size = qt.QComboBox(), qt.QComboBox()
    method.addItem("from the .ui file")
    p.connectParametersToGui({"method": method, "size": size})
    assert [method.itemText(i) for i in range(method.count)] == ["Random Walk", "Region"]
    assert size.currentText == "16"
    method.currentIndex = 1
    size.currentIndex = 2
    assert (p.method, p.size) == (Method.REGION, 32)


def test_node_selector(wrapper):
    import slicer

    class Nodes:
        pass

    Nodes.__annotations__ = {"volume": slicer.vtkMRMLScalarVolumeNode}
    p = wrapper(Nodes)
    box = slicer.qMRMLNodeComboBox()
    box.noneEnabled = True
    box.nodeTypes = ["vtkMRMLTableNode"]
    box.setMRMLScene(slicer.mrmlScene)
    p.connectParametersToGui({"volume": box})
    assert tuple(box.nodeTypes) == ("vtkMRMLScalarVolumeNode",)
    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)))
    assert p.volume is None
    box.setCurrentNode(volume)
    assert p.volume is volume
    p.volume = None
    assert box.currentNode() is None
    p.volume = volume
    slicer.mrmlScene.RemoveNode(volume)
    assert box.currentNode() is None
    assert p.volume is None


def test_value_rounded_by_the_widget_is_not_written_back(wrapper):
    import qt

    class Plain:
        weight: float
        count: int

    p = wrapper(Plain)
    box = qt.QDoubleSpinBox()
    p.connectParametersToGui({"weight": box})
    p.weight = 0.123456
    p.count = 3
    assert box.value == 0.12
    assert p.weight == 0.123456


def test_disconnect(wrapper):
    import qt

    class Plain:
        count: int

    p = wrapper(Plain)
    box = qt.QSpinBox()
    tag = p.connectParametersToGui({"count": box})
    p.disconnectGui(tag)
    box.value = 5
    assert p.count == 0
    p.count = 7
    assert box.value == 5
    p.disconnectGui(None)


def test_dotted_names_bind_members_of_packs(wrapper):
    import qt
    from slicer.parameterNodeWrapper import parameterPack

    @parameterPack
    class Point:
        x: float
        y: float

    class Holder:
        pass

    Holder.__annotations__ = {"point": Point}
    p = wrapper(Holder)
    parent = qt.QWidget()
    box = bound(qt.QDoubleSpinBox(parent), "point.y")
    p.connectGui(parent)
    box.value = 4
    assert p.point == Point(0.0, 4.0)


def test_wrong_and_double_names_in_the_panel_raise(wrapper):
    import qt

    class Plain:
        count: int

    p = wrapper(Plain)
    parent = qt.QWidget()
    bound(qt.QSpinBox(parent), "cuont")
    with pytest.raises(ValueError, match="cuont"):
        p.connectGui(parent)
    parent = qt.QWidget()
    for _ in range(2):
        bound(qt.QSpinBox(parent), "count")
    with pytest.raises(ValueError, match="Two widgets"):
        p.connectGui(parent)


def test_find_child_widget_for_parameter(wrapper):
    import qt
    from slicer.parameterNodeWrapper import findChildWidgetForParameter

    parent = qt.QWidget()
    box = bound(qt.QSpinBox(parent), "count")
    assert findChildWidgetForParameter(parent, "count") == box
    assert findChildWidgetForParameter(parent, "other") is None

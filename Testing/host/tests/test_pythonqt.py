"""PythonQt's rules: for each one, code that is wrong in Slicer fails here, and the right code works."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
from host import pythonqt


@pytest.fixture
def qt(slicer_host):
    import qt

    return qt


@pytest.fixture
def ctk(slicer_host):
    import ctk

    return ctk


@pytest.fixture
def slicer(slicer_host):
    import slicer

    return slicer


# 1: a property hides its getter


def test_property_is_a_value_not_a_method(qt):
    button, box = qt.QPushButton("Apply"), qt.QComboBox()
    box.addItems(["a", "b"])
    assert (button.text, button.enabled, box.currentText, box.count) == ("Apply", True, "a", 2)
    for call in (lambda: button.text(), lambda: button.enabled(), lambda: box.currentText(), lambda: box.count()):
        with pytest.raises(TypeError, match="not callable"):
            call()


def test_getter_that_is_no_property_is_a_method(qt):
    parent = qt.QWidget()
    box = qt.QComboBox(parent)
    box.addItem("a")
    assert (box.isVisible(), box.isEnabled(), box.itemText(0)) == (False, True, "a")
    assert box.parent() == parent
    assert parent.layout() is None


def test_setters_exist_for_qt_but_only_as_slots_for_slicer_and_ctk(qt, ctk, slicer):
    label = qt.QLabel()
    label.setText("text")
    label.setToolTip("tip")
    assert (label.text, label.toolTip) == ("text", "tip")
    slider = ctk.ctkSliderWidget()
    slider.setDecimals(3)  # a slot
    slider.maximum = 5
    assert (slider.decimals, slider.maximum) == (3, 5.0)
    selector = slicer.qMRMLNodeComboBox()
    for call in (
        lambda: slider.setMaximum(5),
        lambda: selector.setNodeTypes(["vtkMRMLNode"]),
        lambda: selector.setAddEnabled(False),
    ):
        with pytest.raises(AttributeError, match="has no attribute"):
            call()


# 2: assignment


def test_unknown_name_cannot_be_assigned(qt):
    button = qt.QPushButton()
    button.toolTip = "right"
    with pytest.raises(AttributeError, match="creating new attributes on C"):
        button.tooltip = "misspelled"
    with pytest.raises(AttributeError, match="creating new attributes on C"):
        button.native = "an attribute of the host's own classes must not be reachable either"
    with pytest.raises(AttributeError, match="no attribute"):
        _ = button.native


@pytest.mark.parametrize(
    ("name", "message"),
    [("width", "not writable"), ("setText", "Slot"), ("update", "Slot"), ("clicked", "Signal"), ("show", "Slot")],
)
def test_read_only_property_slot_and_signal_cannot_be_assigned(qt, name, message):
    class Derived(qt.QPushButton):
        pass

    for button in (qt.QPushButton(), Derived()):
        with pytest.raises(AttributeError, match=message):
            setattr(button, name, 1)


def test_enumerator_cannot_be_assigned(qt):
    with pytest.raises(AttributeError, match="Enum"):
        qt.QFrame().StyledPanel = 3


def test_python_subclass_may_have_attributes(qt):
    class Derived(qt.QWidget):
        pass

    derived = Derived()
    derived.remembered = 3
    assert derived.remembered == 3


def test_existing_dynamic_property_can_be_assigned(qt):
    widget = qt.QWidget()
    with pytest.raises(AttributeError):
        widget.SlicerParameterName = "beta"
    widget.setProperty("SlicerParameterName", "beta")
    assert widget.SlicerParameterName == "beta"
    widget.SlicerParameterName = "gamma"
    assert widget.property("SlicerParameterName") == "gamma"


# 3: conversion of assigned values


def test_property_conversion_is_lax(qt):
    label, spin, button = qt.QLabel(), qt.QSpinBox(), qt.QPushButton()
    label.text = None
    assert label.text == "None"
    label.text = 2.5
    assert label.text == "2.5"
    spin.minimum = -9.0
    spin.value = -2.5
    assert spin.value == -3  # floor
    button.enabled = []
    assert button.enabled is False


@pytest.mark.parametrize("value", ["3", None, [3]])
def test_number_property_refuses_other_types(qt, value):
    for widget in (qt.QSpinBox(), qt.QDoubleSpinBox()):
        widget.value = 3
        with pytest.raises(AttributeError, match="does not accept"):
            widget.value = value


@pytest.mark.parametrize(
    ("name", "value"), [("icon", None), ("icon", "file.png"), ("font", 3), ("sizePolicy", 3), ("minimumSize", (1, 2))]
)
def test_object_property_refuses_other_types(qt, name, value):
    with pytest.raises(AttributeError, match="does not accept"):
        setattr(qt.QPushButton(), name, value)


def test_surface_property_refuses_other_types(ctk, slicer):
    with pytest.raises(AttributeError, match="does not accept"):
        ctk.ctkColorPickerButton().color = "red"
    with pytest.raises(AttributeError, match="does not accept"):
        slicer.qMRMLNodeComboBox().nodeTypes = "vtkMRMLModelNode"
    with pytest.raises(AttributeError, match="does not accept"):
        ctk.ctkSliderWidget().value = None


def test_lists_read_as_tuples(qt, slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLModelNode"]
    assert selector.nodeTypes == ("vtkMRMLModelNode",)
    parent = qt.QWidget()
    child = qt.QLabel(parent)
    assert parent.children() == (child,)


def test_null_string_reads_as_empty(qt, slicer):
    assert qt.QLabel().text == ""
    assert slicer.qMRMLNodeComboBox().currentNodeID == ""


# 4: wrong calls


@pytest.mark.parametrize(
    "call",
    [
        lambda qt: qt.QLabel().setText(5),
        lambda qt: qt.QLabel().setText(None),
        lambda qt: qt.QLabel().setText("a", "b"),
        lambda qt: qt.QLabel().setText(),
        lambda qt: qt.QLabel(3.5),
        lambda qt: qt.QWidget().setLayout("QVBoxLayout"),
        lambda qt: qt.QVBoxLayout().addWidget(None, "stretch"),
        lambda qt: qt.QLabel("text", parent=None),
        lambda qt: qt.QLabel().setText(text="keyword"),
        lambda qt: qt.QTimer.singleShot("later", print),
    ],
)
def test_wrong_call_raises_value_error(qt, call):
    with pytest.raises(ValueError, match="wrong argument|matching overload|keyword"):
        call(qt)


def test_wrong_call_of_a_slicer_class_raises_value_error(slicer, ctk):
    selector = slicer.qMRMLNodeComboBox()
    for call in (
        lambda: selector.setMRMLScene(selector),
        lambda: selector.setCurrentNode(5),
        lambda: selector.setCurrentNode(slicer.mrmlScene),
        lambda: selector.addAttribute("vtkMRMLModelNode"),
        lambda: selector.currentNode(1),
        lambda: slicer.qMRMLNodeComboBox("parent"),
        lambda: slicer.qSlicerApplication(),
        lambda: ctk.ctkCheckBox("text"),
    ):
        with pytest.raises(ValueError, match="wrong argument|matching overload|No constructors"):
            call()


def test_int_is_taken_for_an_enum(qt):
    label = qt.QLabel()
    label.setAlignment(4)
    assert label.alignment == qt.Qt.AlignHCenter


# 5: signals


def test_wrong_signature_prints_and_connects_nothing(qt, slicer, slicer_host, capsys):
    called = []
    button, selector = qt.QPushButton(), slicer.qMRMLNodeComboBox()
    for sender, signature in (
        (button, "pushed()"),
        (button, "clicked"),
        (button, "clicked(int)"),
        (button, "clicked( bool )"),
        (selector, "currentNodeChanged(vtkMRMLNode *)"),
        (selector, "currentNodeChanged(QObject*)"),
        (selector, "currentNodeChanged()"),
    ):
        assert sender.connect(signature, called.append) is False
        assert "No such signal" in capsys.readouterr().err
    button.click()
    assert called == []
    assert len(slicer_host.problems()) == 7
    slicer_host.forget_problems()


def test_both_signatures_of_clicked_exist(qt):
    button, received = qt.QPushButton(), []
    assert button.connect("clicked()", lambda *args: received.append(args))
    assert button.connect("clicked(bool)", lambda *args: received.append(args))
    button.click()
    assert sorted(received) == [(), (False,)]


def test_signal_object_takes_the_first_overload(slicer):
    selector, received = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLModelNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    selector.currentNodeChanged.connect(lambda node: received.append(node))
    selector.connect("currentNodeChanged(bool)", lambda valid: received.append(valid))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    assert received == [node, True]


def test_connect_needs_a_callable_or_a_slot(qt, slicer_host, capsys):
    button, other = qt.QPushButton(), qt.QPushButton()
    with pytest.raises(ValueError, match="wrong argument"):
        button.connect("clicked()", None)
    assert button.connect("clicked()", other, "noSlot()") is False
    assert "No such slot" in capsys.readouterr().err
    assert button.connect("clicked()", other, "setChecked(bool)") is False
    assert "Incompatible" in capsys.readouterr().err
    assert len(slicer_host.problems()) == 2
    slicer_host.forget_problems()
    other.checkable = True
    assert button.connect("clicked()", other, "toggle()")
    button.click()
    assert other.checked


def test_signal_can_be_emitted(qt, slicer):
    received = []
    action, widget = qt.QAction(), slicer.qMRMLWidget()
    action.connect("triggered(bool)", lambda checked: received.append(checked))
    action.triggered(True)
    widget.mrmlSceneChanged.connect(lambda scene: received.append(scene))
    widget.mrmlSceneChanged.emit(slicer.mrmlScene)
    assert received == [True, slicer.mrmlScene]
    with pytest.raises(ValueError, match="wrong argument"):
        widget.mrmlSceneChanged.emit()


def test_blocked_signals_are_not_emitted(qt, slicer):
    widget, received = slicer.qMRMLWidget(), []
    widget.mrmlSceneChanged.connect(lambda: received.append(1))
    widget.blockSignals(True)
    widget.setMRMLScene(slicer.mrmlScene)
    assert received == []


# 6: arguments of a connected function


def test_arguments_are_cut_to_the_parameters(qt):
    button, received = qt.QPushButton(), {}

    class Panel:
        def on_click(self):
            received["method"] = ()

        def on_click_with_default(self, node=None):
            received["method with default"] = node

    def none():
        received["none"] = ()

    panel = Panel()
    bound_in_loop = [lambda i=i: received.__setitem__("loop variable", i) for i in (7,)][0]
    for function in (
        none,
        panel.on_click,
        panel.on_click_with_default,
        bound_in_loop,
        lambda *args: received.__setitem__("any", args),
        functools.partial(lambda fixed, *args: received.__setitem__("partial", (fixed, args)), 1),
    ):
        button.connect("clicked(bool)", function)
    button.click()
    assert received == {
        "none": (),
        "method": (),
        "method with default": False,  # not None: the parameter counts although it has a default
        "loop variable": False,  # not 7
        "any": (False,),
        "partial": (1, (False,)),
    }


def test_partial_and_builtins_are_not_cut(qt, slicer_host, capsys):
    button = qt.QPushButton()
    button.connect("clicked(bool)", functools.partial(lambda: None))
    button.click()
    with slicer_host.expected_error(TypeError, "positional argument"):
        pass
    button.disconnect("clicked(bool)")
    button.connect("clicked(bool)", qt.QWidget().close)
    button.click()
    with slicer_host.expected_error(ValueError, "close"):
        pass


# 7: exceptions and references


def test_exception_in_a_slot_is_printed_and_swallowed(qt, slicer_host, capsys):
    button, reached = qt.QPushButton(), []

    def fail():
        raise ZeroDivisionError("in a slot")

    button.connect("clicked()", fail)
    button.connect("clicked()", lambda: reached.append("next"))
    button.click()
    assert reached == ["next"]
    assert "ZeroDivisionError: in a slot" in capsys.readouterr().err
    assert [type(error) for error in pythonqt.slot_errors] == [ZeroDivisionError]
    with slicer_host.expected_error(ZeroDivisionError):
        pass


def test_unexpected_slot_error_fails_the_test_that_uses_the_host(qt, slicer_host, capsys):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert any("ZeroDivisionError" in problem for problem in slicer_host.problems())
    slicer_host.forget_problems()


def test_connection_keeps_its_target_alive(qt):
    class Panel:
        def on_click(self):
            pass

    button, panel = qt.QPushButton(), Panel()
    reference = weakref.ref(panel)
    button.connect("clicked()", panel.on_click)
    del panel
    gc.collect()
    assert reference() is not None
    assert button.disconnect("clicked()", reference().on_click)
    gc.collect()
    assert reference() is None


def test_connection_ends_with_its_sender(qt):
    class Panel:
        def on_click(self):
            pass

    button, panel = qt.QPushButton(), Panel()
    reference = weakref.ref(panel)
    button.connect("clicked()", panel.on_click)
    del panel, button
    gc.collect()
    assert reference() is None


def test_disconnect_needs_the_same_callable(qt):
    button, received = qt.QPushButton(), []

    def make():
        return lambda: received.append(1)

    connected = make()
    button.connect("clicked()", connected)
    assert button.disconnect("clicked()", make()) is False
    button.click()
    assert button.disconnect("clicked()", connected) is True
    button.click()
    assert received == [1]


def test_connected_twice_is_called_twice(qt):
    button, received = qt.QPushButton(), []
    function = received.append
    for _ in range(2):
        button.connect("clicked(bool)", function)
    button.click()
    button.disconnect("clicked(bool)", function)
    button.click()
    assert received == [False] * 3


# 8: flat classes


def test_wrapper_classes_are_flat(qt, ctk, slicer):
    for made in (qt.QPushButton(), ctk.ctkPushButton(), slicer.qMRMLWidget()):
        assert not isinstance(made, qt.QWidget)
        assert made.inherits("QWidget")
        assert made.inherits(made.className())
    assert not isinstance(ctk.ctkPushButton(), qt.QPushButton)
    assert ctk.ctkPushButton().inherits("QPushButton")
    assert type(qt.QPushButton()) is qt.QPushButton
    assert not qt.QLabel().inherits("QPushButton")


# 9: lifetime


def test_deleted_object(qt):
    parent = qt.QWidget()
    child = qt.QLabel("text", parent)
    assert child
    parent.delete()
    assert not child
    assert child == None  # noqa: E711 - this is what PythonQt defines
    with pytest.raises(ValueError, match="destroyed"):
        _ = child.text
    with pytest.raises(ValueError, match="destroyed"):
        child.setText("late")
    with pytest.raises(AttributeError, match="destroyed"):
        child.text = "late"


def test_delete_later(qt, slicer_host):
    label = qt.QLabel()
    label.deleteLater()
    assert label
    slicer_host.process_events(0)
    assert not label


def test_widget_without_parent_or_reference_is_deleted_at_once(qt, slicer):
    deleted = []
    for cls in (qt.QWidget, slicer.qMRMLWidget, slicer.qSlicerSimpleMarkupsWidget):
        widget = cls()
        widget.connect("destroyed()", lambda: deleted.append(1))
        deleted.clear()
        del widget
        assert deleted == [1]


def test_layout_and_parent_own_a_widget(qt):
    parent = qt.QWidget()
    qt.QVBoxLayout(parent)
    parent.layout().addWidget(qt.QLabel("kept"))
    label = parent.findChild(qt.QLabel)
    assert label.text == "kept"
    label.setParent(None)
    assert parent.findChild(qt.QLabel) is None


def test_python_object_lives_with_its_c_plus_plus_parent(qt):
    class Derived(qt.QWidget):
        pass

    parent = qt.QWidget()
    derived = Derived(parent)
    derived.objectName, derived.remembered = "derived", 3
    del derived
    gc.collect()
    assert type(parent.derived) is Derived
    assert parent.derived.remembered == 3
    reference = weakref.ref(parent.derived)
    parent.derived.setParent(None)
    assert reference() is None


def test_python_subclass_of_a_slicer_class_dies_with_its_wrapper(qt, slicer):
    class Derived(slicer.qMRMLWidget):
        pass

    parent = qt.QWidget()
    derived = Derived(parent)
    derived.objectName = "derived"
    del derived
    assert type(parent.derived) is slicer.qMRMLWidget


def test_forgotten_base_constructor_is_an_error(qt):
    class Derived(qt.QWidget):
        def __init__(self):
            self.before = 1

    assert not Derived()
    with pytest.raises(ValueError, match="destroyed"):
        Derived().show()


# 10: VTK objects


def test_vtk_objects_cross_as_they_are(slicer):
    widget, received = slicer.qMRMLWidget(), []
    assert widget.mrmlScene() is None
    widget.connect("mrmlSceneChanged(vtkMRMLScene*)", lambda scene: received.append(scene))
    widget.setMRMLScene(slicer.mrmlScene)
    assert widget.mrmlScene() is slicer.mrmlScene
    widget.setMRMLScene(None)
    assert received == [slicer.mrmlScene, None]


# 11: enums


def test_enums_are_ints_of_the_class(qt, slicer):
    assert qt.Qt.WaitCursor == 3
    assert (qt.QProcess.NotRunning, qt.QProcess.Running) == (0, 2)
    assert qt.QMessageBox.Ok | qt.QMessageBox.Cancel == 0x400400
    assert qt.QProcess().state() == qt.QProcess.NotRunning
    assert slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups == 3
    assert isinstance(qt.QSizePolicy.Expanding, int)
    assert isinstance(qt.Qt.AlignLeft, qt.Qt.AlignmentFlag)
    with pytest.raises(AttributeError):
        _ = qt.Qt.NoSuchEnumerator


def test_enums_can_be_combined_and_passed(qt):
    label, item = qt.QLabel(), qt.QTableWidgetItem("text")
    label.alignment = qt.Qt.AlignRight | qt.Qt.AlignTop
    assert label.alignment & qt.Qt.AlignTop
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    assert not item.flags() & qt.Qt.ItemIsEditable
    assert item.flags() & qt.Qt.ItemIsSelectable


# 12: timers


def test_timer(qt, slicer_host):
    called = []
    qt.QTimer.singleShot(0, lambda: called.append("once"))
    timer = qt.QTimer()
    timer.setSingleShot(True)
    assert timer.isSingleShot()
    with pytest.raises(AttributeError):
        timer.singleShot = True
    timer.interval = 0
    timer.connect("timeout()", lambda: called.append("timer"))
    timer.start()
    slicer_host.process_events(0.02)
    assert called == ["once", "timer"]
    qt.QTimer.singleShot(0, lambda: 1 / 0)
    slicer_host.process_events(0.02)
    with slicer_host.expected_error(ZeroDivisionError):
        pass


# Lookup order


def test_lookup_order(qt):
    class Derived(qt.QWidget):
        windowTitle = "attribute of the class"

    derived = Derived()
    assert derived.windowTitle == "attribute of the class"
    parent = qt.QWidget()
    child, hidden = qt.QLabel(parent), qt.QLabel(parent)
    child.objectName, hidden.name = "resultLabel", "enabled"
    assert parent.resultLabel == child
    assert parent.enabled is True  # the property comes before a child of that name
    assert (hidden.name, hidden.objectName) == ("enabled", "enabled")
    parent.setProperty("resultLabel", "dynamic")
    assert parent.resultLabel == "dynamic"
    grandchild = qt.QLabel(child)
    grandchild.objectName = "deep"
    with pytest.raises(AttributeError, match="no attribute named 'deep'"):
        _ = parent.deep


def test_find_children(qt):
    parent = qt.QWidget()
    inner = qt.QGroupBox(parent)
    for name in ("a", "b"):
        qt.QLabel(inner).objectName = name
    assert [label.name for label in parent.findChildren(qt.QLabel)] == ["a", "b"]
    assert parent.findChild(qt.QLabel, "b").name == "b"
    assert parent.findChild("QLabel", "b").name == "b"
    assert parent.findChild(qt.QPushButton) is None
    assert len(parent.findChildren(qt.QWidget)) == 3  # subclasses count, in C++ terms


def test_same_object_has_the_same_wrapper(qt):
    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    assert parent.layout() is layout
    table = qt.QTableWidget(1, 1)
    item = qt.QTableWidgetItem("text")
    table.setItem(0, 0, item)
    assert table.item(0, 0) is item
    assert table.item(0, 0).text() == "text"  # no QObject, so no property


# Subclasses


def test_virtual_functions_can_be_overridden(qt, slicer_host):
    seen = []

    class Window(qt.QWidget):
        def closeEvent(self, event):
            seen.append(event.className())
            qt.QWidget.closeEvent(self, event)

        def sizeHint(self):
            return qt.QSize(123, 45)

    class Filter(qt.QObject):
        def eventFilter(self, watched, event):
            if event.type() == qt.QEvent.Show:
                seen.append(watched.className())
            return False

    window, event_filter = Window(), Filter()
    window.installEventFilter(event_filter)
    window.show()
    window.close()
    assert seen == ["Window", "QCloseEvent"]
    assert not window.isVisible()
    assert window.sizeHint().width() == 123  # the attribute of the Python class comes first
    assert pythonqt.unwrap(window).sizeHint().width() == 123


def test_exception_in_an_overridden_function_is_kept(qt, slicer_host, capsys):
    class Window(qt.QWidget):
        def closeEvent(self, event):
            raise ZeroDivisionError

    window = Window()
    window.show()
    window.close()
    with slicer_host.expected_error(ZeroDivisionError):
        pass
    assert not window.isVisible()


# What PySide6 and Qt 6 add


@pytest.mark.parametrize(
    "use",
    [
        lambda qt: qt.Signal,
        lambda qt: qt.QtCore,
        lambda qt: qt.QRegExp,
        lambda qt: qt.QCheckBox().checkStateChanged,
        lambda qt: qt.QFormLayout().setRowVisible,
        lambda qt: qt.QPushButton().emit,
        lambda qt: qt.QWidget.staticMetaObject,
    ],
)
def test_names_that_slicer_does_not_have(qt, use):
    with pytest.raises(AttributeError):
        use(qt)


def test_signal_that_came_with_qt6_is_refused(qt, slicer_host):
    assert qt.QCheckBox().connect("checkStateChanged(Qt::CheckState)", print) is False
    assert len(slicer_host.problems()) == 1
    slicer_host.forget_problems()


def test_dialog_that_waits_for_a_person_is_an_error(qt, ctk):
    with pytest.raises(RuntimeError, match="waits for a person"):
        qt.QMessageBox.question(None, "title", "text")
    with pytest.raises(RuntimeError, match="waits for a person"):
        qt.QFileDialog.getOpenFileName()
    with pytest.raises(RuntimeError, match="waits for a person"):
        ctk.ctkPathLineEdit().browse()


# Classes generated from the API list


def test_member_without_behavior_says_so(slicer):
    with pytest.raises(NotImplementedError, match="look-alike of qMRMLTableView"):
        slicer.qMRMLTableView().plotSelection()


def test_every_constructible_class_can_be_made_and_inherits_its_listed_bases(slicer_host):
    from host import generated

    for name, cls in generated.CLASSES.items():
        native = cls._native
        bases = {c.__name__ for c in native.native_class.__mro__}
        assert set(generated._lineage(name)) <= bases, name
        if "python_constructor" in native.surface[0]:
            assert cls().inherits(name)
            for described in native.surface[0].get("properties", ()):
                getattr(cls(), described["name"])
        else:
            with pytest.raises(ValueError, match="No constructors"):
                cls()


def test_process_and_byte_array(qt):
    process, finished = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: finished.append((code, status)))
    process.start("echo", ["text"])
    process.waitForFinished()
    assert finished == [(0, qt.QProcess.NormalExit)]
    output = process.readAllStandardOutput()
    assert (output.data(), str(output)) == (b"text\n", "text\n")


def test_settings(qt):
    settings = qt.QSettings()
    settings.setValue("BreastBiomarkers/threads", 3)
    assert int(qt.QSettings().value("BreastBiomarkers/threads")) == 3
    assert qt.QSettings().value("BreastBiomarkers/missing", "default") == "default"


def test_grab_writes_a_png(qt, tmp_path):
    label = qt.QLabel("text")
    label.resize(40, 20)
    pythonqt.grab(label, tmp_path / "label.png")
    assert (tmp_path / "label.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OSError, match="cannot write"):
        pythonqt.grab(label, tmp_path / "no" / "folder.png")

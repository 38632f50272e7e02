"""The base classes of scripted modules: module, widget, logic and test.

Written from Slicer's documentation of `slicer.ScriptedLoadableModule`; `application.start` installs it there.
"""

from __future__ import annotations

import logging
import os
import sys
import unittest

import ctk
import qt
import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]

TEMPLATE_HELP = "This module was created from a template and the help section has not yet been updated."
TEMPLATE_CONTRIBUTORS = ("the authors of the module template",)


def _resource(script: str, filename: str) -> str:
    return os.path.join(os.path.dirname(script), "Resources", filename)


class ScriptedLoadableModule:
    """What the application knows of a module before its panel is shown."""

    def __init__(self, parent) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = list(TEMPLATE_CONTRIBUTORS)
        parent.helpText = TEMPLATE_HELP
        parent.acknowledgementText = ""
        for extension in (".svg", ".png"):
            icon = _resource(parent.path, f"Icons/{self.moduleName}{extension}")
            if os.path.isfile(icon):
                parent.icon = qt.QIcon(icon)
                break
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return _resource(self.parent.path, filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        if docPage:
            url = slicer.app.documentationBaseUrl + docPage
        else:
            url = slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs) -> None:
        """Run the class `<Module>Test` of the script as it is now, that is after a reload the new one."""
        name = f"{self.moduleName}Test"
        test_class = getattr(sys.modules[type(self).__module__], name, None)
        if test_class is None:
            raise AssertionError(f"Test case class not found: {type(self).__module__}.{name}")
        test = test_class()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The panel of a module; `parent` is the Qt widget that the application shows."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent:
            self.parent = parent
            self.layout = parent.layout()
        else:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
            self.layout = self.parent.layout()
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return _resource(slicer.util.modulePath(self.moduleName), filename)

    def setup(self) -> None:
        self.setupDeveloperSection()

    def cleanup(self) -> None:
        """Overridden by modules; runs when the application exits and before the panel is made anew by Reload."""

    def setupDeveloperSection(self) -> None:
        """Add the Reload & Test area when the user setting Developer/DeveloperMode is on."""
        if not self.developerMode:
            return
        self.reloadCollapsibleButton = ctk.ctkCollapsibleButton()
        self.reloadCollapsibleButton.text = "Reload && Test"
        self.layout.addWidget(self.reloadCollapsibleButton)
        form = qt.QFormLayout(self.reloadCollapsibleButton)
        row = qt.QHBoxLayout()
        self.reloadButton = self._developer_button("Reload", "Reload this module.", self.onReload)
        self.reloadTestButton = self._developer_button(
            "Reload and Test", "Reload this module and run its tests.", self.onReloadAndTest
        )
        self.editSourceButton = self._developer_button("Edit", "Edit the source code.", self.onEditSource)
        self.restartButton = self._developer_button("Restart Slicer", "Restart Slicer.", slicer.app.restart)
        for button in (self.reloadButton, self.reloadTestButton, self.editSourceButton, self.restartButton):
            row.addWidget(button)
        form.addRow(row)

    def _developer_button(self, text: str, tool_tip: str, callback):
        button = qt.QPushButton(text)
        button.toolTip = tool_tip
        button.connect("clicked()", callback)
        return button

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs) -> None:
        with slicer.util.tryWithErrorDisplay("Test failed."):
            slicer.selfTests[self.moduleName](msec=0, **kwargs)

    def onReloadAndTest(self, **kwargs) -> None:
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            slicer.selfTests[self.moduleName](msec=0, **kwargs)

    def onEditSource(self) -> None:
        raise NotImplementedError("the test host opens no editor")

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """The part of a module that needs no panel; it owns the parameter nodes."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """Return the parameter node of this module; it is made on the first call."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                # Closing the scene resets a singleton and with it this attribute.
                if node.GetAttribute("ModuleName") != self.moduleName:
                    node.SetAttribute("ModuleName", self.moduleName)
                return node
        else:
            nodes = self.getAllParameterNodes()
            if nodes:
                return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        if slicer.mrmlScene is None:
            return None
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of the tests that run inside the application; every method whose name contains "test" counts as one."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.enableScreenshots = False
        self.screenshotScaleFactor = 1.0

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def tearDown(self) -> None:
        """Overridden by modules."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        delays = (getattr(self, "messageDelay", None), msec, requestedDelay, 100)
        slicer.util.delayDisplay(message, next(delay for delay in delays if delay is not None))

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        raise NotImplementedError("the test host has no views to take a picture of")

    def runTest(self) -> None:
        """Run every method whose name contains "test", each on a fresh scene."""
        names = [name for name in dir(self) if "test" in name]
        if not names:
            logging.warning("No test is defined in %s", type(self).__name__)
        for name in names:
            method = getattr(self, name)
            if not callable(method):
                continue
            self.setUp()
            try:
                method()
            finally:
                self.tearDown()

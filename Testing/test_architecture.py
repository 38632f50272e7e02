"""What the layout promises: who imports whom, what ships, and that nothing overwrites anything after installation."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel")
SHARED = "BreastBiomarkersLib"
LIBRARIES = {
    SHARED: ROOT / "WeakSegment" / SHARED,
    **{f"{module}Lib": ROOT / module / f"{module}Lib" for module in MODULES},
}
BUNDLED = {"numpy", "scipy", "SimpleITK", "packaging"}  # what Slicer ships; the only ones a file may import at its top
APPLICATION = {"slicer", "qt", "ctk", "vtk"}
TORCH_FILES = {  # networks: torch at the top; nothing else imports them at its top
    f"{SHARED}/training.py",
    *(f"WeakSegmentLib/{name}.py" for name in ("unet", "losses", "propagation", "train", "predict", "network_method")),
    *(
        f"NIRSTReconstructionLib/{name}.py"
        for name in ("znet", "ynet", "hybrid", "one_step", "network_data", "networks", "train", "predict", "evaluate")
    ),
}
NOT_BUNDLED = APPLICATION | {
    "torch",
    "numba",
    "matplotlib",
    "skimage",
    "sklearn",
    "pandas",
    "h5py",
    "dask",
    "distributed",
    "lifelines",
    "pyarrow",
    "highdicom",
    "pydicom",
    "jinja2",
    "safetensors",
}


def library_files():
    return [
        pytest.param(name, path, id=str(path.relative_to(ROOT)))
        for name, folder in LIBRARIES.items()
        for path in sorted(folder.rglob("*.py"))
    ]


def imported(tree: ast.AST) -> set[str]:
    """Return the top-level names of everything a piece of code imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def imported_at_top(tree: ast.Module) -> set[str]:
    """Return what importing the file imports: statements outside functions, type-checking blocks left out."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        names |= imported(node)
    return names


@pytest.mark.parametrize("library, path", library_files())
def test_import_directions(library, path):
    tree = ast.parse(path.read_text())
    everywhere = imported(tree)
    in_slicer = path.parent.name == "inslicer"
    allowed_libraries = {library, SHARED}
    assert not everywhere & (set(LIBRARIES) - allowed_libraries), "libraries exchange files and nodes, not imports"
    assert not everywhere & set(MODULES), "nothing imports a module script"
    assert not everywhere & {"host"}, "the product does not know the test host"
    if not in_slicer:
        assert not everywhere & {"slicer", "qt", "ctk"}, "science runs without Slicer"
        outside = imported_at_top(tree) - set(sys.stdlib_module_names) - BUNDLED - set(LIBRARIES)
        if f"{library}/{path.relative_to(LIBRARIES[library])}" in TORCH_FILES:
            outside -= {"torch"}
        assert not outside, "imported inside the function that needs it"
    if path.name == "__init__.py":
        assert len(tree.body) == 1, "a package's __init__ is a docstring and nothing more"


def test_every_library_file_imports_without_the_application():
    names = [
        ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        for folder in LIBRARIES.values()
        for path in sorted(folder.rglob("*.py"))
        if path.parent.name != "inslicer"
        and path.name not in ("__init__.py", "__main__.py")
        and str(path.relative_to(folder.parent)) not in TORCH_FILES
    ]
    assert len(names) > 20
    program = f"""
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_BUNDLED!r}:
            raise ImportError(f"{{name}} is not there")
sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
"""
    environment_path = [str(folder.parent) for folder in LIBRARIES.values()]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {environment_path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_module_script_starts_with_what_slicer_ships(module):
    tree = ast.parse((ROOT / module / f"{module}.py").read_text())
    outside = imported_at_top(tree) - set(sys.stdlib_module_names) - BUNDLED - APPLICATION - {f"{module}Lib", SHARED}
    assert not outside
    assert not imported(tree) & (set(LIBRARIES) - {f"{module}Lib", SHARED}), "modules exchange nodes, not imports"
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {module, f"{module}Widget", f"{module}Logic", f"{module}Test"} <= classes


@pytest.mark.parametrize("module", MODULES)
def test_widget_does_not_compute(module):
    tree = ast.parse((ROOT / module / f"{module}.py").read_text())
    widget = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == f"{module}Widget")
    assert not imported(widget) & {"numpy", "scipy", "SimpleITK", f"{module}Lib"}
    assert not {
        n.value.id for n in ast.walk(widget) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    } & {
        "np",
        "scipy",
        "sitk",
    }


def listed(module: str) -> set[str]:
    """Return every file that a module's CMakeLists.txt installs."""
    text = re.sub(r"#.*", "", (ROOT / module / "CMakeLists.txt").read_text())
    files = set()
    for name in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"):
        body = re.search(rf"set\({name}(.*?)\)", text, re.DOTALL).group(1)
        files |= {entry.replace("${MODULE_NAME}", module) for entry in body.split()}
    return files


@pytest.mark.parametrize("module", MODULES)
def test_install_list_equals_the_folder(module):
    folder = ROOT / module
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    made_by_python = {"__pycache__", ".mypy_cache", ".ruff_cache"}
    present = {str(path) for path in files if not made_by_python & set(path.parts)} - {"CMakeLists.txt"}
    assert listed(module) == present


def test_no_two_modules_ship_the_same_path():
    everything = [entry for module in MODULES for entry in listed(module)]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("module", MODULES)
def test_resources_carry_the_module_name(module):
    names = {entry for entry in listed(module) if entry.startswith("Resources/")}
    assert {f"Resources/UI/{module}.ui", f"Resources/Icons/{module}.svg"} <= names
    assert f"Resources/{module}-requirements.txt" in names
    assert all(module in entry for entry in names)


@pytest.mark.parametrize("module", MODULES)
def test_panel_file_is_complete(module):
    root = ElementTree.parse(ROOT / module / "Resources" / "UI" / f"{module}.ui").getroot()
    top = root.find("widget")
    assert top.get("class") == "qMRMLWidget"
    names = [widget.get("name") for widget in root.iter("widget")]
    assert len(names) == len(set(names)), "two widgets of one name: only the later is found"
    receivers = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
    }
    scene_widgets = {
        widget.get("name")
        for widget in root.iter("widget")
        if widget.get("class").startswith("qMRML") and widget is not top
    } - {
        widget.get("name")
        for widget in root.iter("widget")
        if widget.get("class") in ("qMRMLSliderWidget", "qMRMLSpinBox")
    }
    assert scene_widgets <= receivers, "a scene widget without the scene stays empty"
    without_tip = [
        widget.get("name")
        for widget in root.iter("widget")
        if re.search(r"ComboBox|CheckBox|SpinBox|Slider|LineEdit|PushButton|Selector", widget.get("class"))
        and not any(
            p.get("name") == "toolTip" and (p.findtext("string") or "").strip() for p in widget.findall("property")
        )
    ]
    assert not without_tip, "every input has a tool tip"


def test_catalog_entry():
    entry = json.loads((ROOT / "BreastBiomarkers.json").read_text())
    allowed = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "dicom_support_rule"}
    assert set(entry) <= allowed | {"build_subdirectory", "enabled", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert b"\r" not in (ROOT / "BreastBiomarkers.json").read_bytes()
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert "project(BreastBiomarkers)" in cmake
    depends = re.search(r'set\(EXTENSION_DEPENDS "(.*?)"\)', cmake).group(1)
    assert ([] if depends == "NA" else depends.split()) == entry["build_dependencies"]
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS"):
        assert re.search(rf'^set\(EXTENSION_{name} ".+"\)$', cmake, re.MULTILINE), "one line with double quotes each"
    assert re.findall(r"^add_subdirectory\((.*)\)", cmake, re.MULTILINE) == list(MODULES)
    pictures = re.findall(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/([^\s\"]+)", cmake)
    assert len(pictures) >= 2, "icon and screenshots"
    assert not [name for name in pictures if not (ROOT / name).is_file()], "the catalog downloads them"


def test_python_packages_are_listed_for_pip():
    import tomllib

    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    present = {
        ".".join(path.parent.relative_to(folder.parent).parts)
        for folder in LIBRARIES.values()
        for path in folder.rglob("__init__.py")
    }
    assert set(setup["packages"]) == present
    assert {ROOT / value for value in setup["package-dir"].values()} == set(LIBRARIES.values())


def test_nothing_of_this_machine_is_in_the_repository():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    own_home = re.compile("|".join(["/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/", "/t" + r"mp/(?!\$)"]))
    found = [
        name
        for name in files
        if (ROOT / name).suffix in (".py", ".md", ".txt", ".toml", ".json", ".ui", ".cmake", ".csv", "")
        and (ROOT / name).is_file()
        for line in (ROOT / name).read_text(errors="ignore").splitlines()
        if own_home.search(line)
    ]
    assert not found

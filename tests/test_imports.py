"""The package's modules form levels, and importing it loads nothing that it does not need yet."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "imagedata_xr"
LOADED_ON_USE = {
    *("holoviews", "panel", "bokeh", "matplotlib"),  # viewers
    *("pynetdicom", "fsspec.implementations.http", "requests"),  # network
    *("nibabel", "SimpleITK", "PIL", "imagecodecs", "scipy", "h5netcdf", "zarr", "tqdm"),  # formats and tools
    *("pydicom", "dask"),  # needed soon, but not to import
}


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def documented_levels() -> dict[str, tuple[int, int]]:
    """Return for each module in the table of docs/architecture.md its level and place within the level.

    Only arrows order modules of one level: ``a`` → ``b`` means that b may import a.
    """
    levels = {}
    table = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    for level, cell in re.findall(r"^\| (\d+) \| (.*) \|$", table, flags=re.MULTILINE):
        cell = re.sub(r"\([^)]*\)", "", cell)
        for chain in re.split("[,;]", cell):
            for place, link in enumerate(chain.split("→")):
                for name in re.findall(r"`([\w.]+)`", link):
                    levels[name] = (int(level), place)
    return levels


LEVELS = documented_levels()


def level_of(module: str) -> tuple[int, int]:
    """Return a module's level; a module of a package that the table names as a whole has the package's."""
    name = module
    while name not in LEVELS:
        name, dot, _ = name.rpartition(".")
        assert dot, f"the table of docs/architecture.md has no level for {module}"
    return LEVELS[name]


def imports(file: Path) -> set[str]:
    """Return the modules of the package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {file}, line {node.lineno}"
            base = node.module or ""
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.removeprefix("imagedata_xr.") for name in names if name.startswith("imagedata_xr.")}
    return (ours & MODULES.keys()) - {module_name(file)}


@pytest.mark.parametrize("module", [name for name in MODULES if name and MODULES[name].name != "__init__.py"])
def test_a_module_imports_only_from_lower_levels(module: str) -> None:
    here, package = level_of(module), module.rpartition(".")[0]
    for other in imports(MODULES[module]):
        if MODULES[other].name == "__init__.py" and package.startswith(other):
            continue  # the package that the module is in
        same_package = package and other.startswith(f"{package}.") and level_of(other) == here
        assert same_package or level_of(other) < here, f"{module} {here} imports {other} {level_of(other)}"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imports(file) for name, file in MODULES.items() if file.name != "__init__.py"}
    done: set[str] = set()
    while graph.keys() - done:
        free = {name for name in graph.keys() - done if not (graph[name] & graph.keys()) - done}
        assert free, f"modules that import each other: {sorted(graph.keys() - done)}"
        done |= free


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 500


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_a_module_has_what_it_lists(module: str) -> None:
    found = importlib.import_module(f"imagedata_xr.{module}".rstrip("."))
    assert [name for name in getattr(found, "__all__", ()) if not hasattr(found, name)] == []


def test_importing_the_package_loads_no_viewer_network_or_format_package() -> None:
    code = "import json, sys, imagedata_xr; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(run.stdout))
    code = "import json, sys, xarray; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (loaded - set(json.loads(run.stdout))) & LOADED_ON_USE

"""The rooms of the design: who may know whom, and which library lives behind which gate."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pyramidai_mpi"

ENTRANCES = {"__init__", "__main__", "api"}
"""What lies at the package's root: it may import any room, and no room imports it."""

# Where a heavy library may be imported: a module, or a folder when the name ends in a dot.
GATES = {
    "openslide": ["slides.readers.openslide_reader"],
    "onnxruntime": [
        "models.engines.onnx_engine",
        "models.quantisation.graph",
        "models.stain.engine",
    ],  # the last: a type
    "onnx": [
        "models.backward.",
        "models.check",
        "models.dense.",
        "models.quantisation.",
        "models.stain.graph",
        "training.slides.package_encoder",
    ],
    "simplejpeg": ["slides.readers.tile_codecs"],
    "imagecodecs": ["slides.readers.tile_codecs", "synth.pyramid"],
    "openvino": ["models.engines.openvino_engine"],
    "h5py": ["store.results.", "store.explanations.", "store.patches.", "export.coordinate_file", "patches.formats."],
    "jinja2": ["export.page"],
    "skimage": ["slides.hsv_otsu", "evaluation.lesions", "classification.features", "truth.nuclei", "explain."],
    "scipy": [
        "slides.segmentation",
        "slides.optical_density",
        "slides.pieces",
        "evaluation.lesions",
        "tuning.full_maps",
        "explain.",
        "export.outlines",
        "training.whole.tissue_recipe",
    ],
    "sklearn": ["classification.forest", "classification.classifier"],
    "matplotlib": ["base.figures"],
    "skops": ["classification.storage"],
    "timm": ["training.convert.timm_gate"],
    "torchvision": ["training.convert.timm_gate"],
    "safetensors": ["training.convert.state_file"],
    "torch": ["training."],
    "shapely": ["truth.", "export.outlines"],  # truth, and what was found
    "mpi4py": ["sched.transport", "ranks.", "store.results.writer", "cli.", "api"],
}


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, and whether only type checkers see it."""

    importer: str
    imported: str
    for_types_only: bool
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    """Dotted name below the package; a folder's ``__init__`` is the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """All imports of a module, inside functions too, by absolute name."""
    found: list[Import] = []

    def visit(node: ast.AST, for_types_only: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, for_types_only)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(module, alias.name, for_types_only, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ["pyramidai_mpi", *module.split(".")]
                above = above[: len(above) - node.level + (1 if is_package else 0)]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                is_module = whole.removeprefix("pyramidai_mpi.") in MODULES
                found.append(Import(module, whole if is_module else base, for_types_only, node.lineno))
        for child in ast.iter_child_nodes(node):
            visit(child, for_types_only)

    visit(ast.parse(source), False)
    return found


IMPORTS = [
    one
    for name, path in MODULES.items()
    for one in imports_of(name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
]


def room_of(module: str) -> str:
    return module.split(".")[0]


def declared(room: Path) -> tuple[str, tuple[str, ...]]:
    """First line of a room's docstring, and the rooms that it says it may import."""
    tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["MAY_IMPORT"]:
            return (ast.get_docstring(tree) or "").splitlines()[0], ast.literal_eval(node.value)
    raise AssertionError(f"{room.name}/__init__.py does not say which rooms it may import: MAY_IMPORT = (...)")


ROOMS = {path.name: declared(path) for path in sorted(PACKAGE.iterdir()) if (path / "__init__.py").is_file()}


def height(room: str) -> int:
    """Longest way down from a room."""
    return 1 + max((height(below) for below in ROOMS[room][1]), default=0)


def rooms_table() -> str:
    """The table of the design page, made from what the rooms say."""
    rows = ["| room | what is in it | may import |", "| --- | --- | --- |"]
    for room in sorted(ROOMS, key=lambda room: (height(room), room)):
        says, below = ROOMS[room]
        rows.append(f"| `{room}/` | {says} | {' '.join(sorted(below, key=height)) or 'nothing'} |")
    return "\n".join(rows)


def inner(imported: str) -> str | None:
    """Name below the package of an imported module of ours, "" for the package itself; None for another library."""
    if imported == "pyramidai_mpi":
        return ""
    return imported.removeprefix("pyramidai_mpi.") if imported.startswith("pyramidai_mpi.") else None


def inner_imports() -> list[tuple[Import, str]]:
    return [(one, name) for one in IMPORTS if (name := inner(one.imported)) and room_of(one.importer) not in ENTRANCES]


def test_the_walk_sees_imports_of_every_kind():
    source = """
import numpy.typing as npt, h5py
from . import sibling
from .base import Engine
from ..errors import InputError
from pyramidai_mpi.slides import pyramid
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from mpi4py import MPI
def late():
    import torch
"""
    found = {(one.imported, one.for_types_only) for one in imports_of("models.onnx_engine", source)}
    assert found == {
        ("numpy.typing", False),
        ("h5py", False),
        ("pyramidai_mpi.models", False),
        ("pyramidai_mpi.models.base", False),
        ("pyramidai_mpi.errors", False),
        ("pyramidai_mpi.slides.pyramid", False),
        ("typing", False),
        ("mpi4py", True),
        ("torch", False),
    }
    assert len(MODULES) > 40
    assert len(inner_imports()) > 100


def test_nothing_lies_loose_at_the_root():
    assert {module for module in MODULES if "." not in module and module not in ROOMS} == ENTRANCES


def test_rooms_are_in_layers():
    graphlib.TopologicalSorter({room: below for room, (_, below) in ROOMS.items()}).prepare()
    assert {below for _, rooms in ROOMS.values() for below in rooms} <= ROOMS.keys()


def test_a_room_imports_what_it_says_it_may():
    strays = [
        str(one)
        for one, name in inner_imports()
        if name.split(".")[0] != room_of(one.importer)
        and room_of(name) not in ROOMS[room_of(one.importer)][1]
        and name != "__version__"
    ]
    assert not strays


def test_no_room_says_more_than_it_needs():
    needed: dict[str, set[str]] = {room: set() for room in ROOMS}
    for one, name in inner_imports():
        needed[room_of(one.importer)].add(room_of(name))
    assert {
        room: sorted(set(below) - needed[room]) for room, (_, below) in ROOMS.items() if set(below) - needed[room]
    } == {}


def test_the_table_of_the_design_is_what_the_rooms_say():
    page = (PACKAGE / "DESIGN.md").read_text(encoding="utf-8")
    table = rooms_table()
    assert table in page, f"put this table into DESIGN.md:\n{table}"


def test_there_are_no_cycles_between_modules():
    graph: dict[str, set[str]] = {}
    for one, name in inner_imports():
        if name != one.importer:
            graph.setdefault(one.importer, set()).add(name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as cycle:
        pytest.fail(" -> ".join(reversed(cycle.args[1])))


def test_the_state_machine_has_no_clock_and_no_mpi_in_it():
    strays = [
        str(one)
        for one in IMPORTS
        if one.importer in {"sched.state", "sched.events", "sched.policy", "sched.termination", "sched.task_queue"}
        and one.imported.split(".")[0] in {"time", "datetime", "threading", "mpi4py", "asyncio"}
    ]
    assert not strays


def test_what_works_from_a_stored_result_never_sees_the_scheduler():
    strays = [
        str(one)
        for one, name in inner_imports()
        if room_of(one.importer) in {"store", "export", "tuning", "evaluation", "classification"}
        and room_of(name) == "sched"
    ]
    assert not strays


def test_the_method_opens_no_files_and_starts_no_mpi():
    heavy = {*GATES, "torch", "PIL", "tifffile", "imagecodecs", "pathlib", "os", "io", "yaml"}
    strays = [str(one) for one in IMPORTS if room_of(one.importer) == "pyramid" and one.imported.split(".")[0] in heavy]
    assert not strays


def strays_into(folder: str, *others: str) -> list[str]:
    """Imports of these top-level packages by the modules below a folder of the repository."""
    return [
        str(one)
        for path in sorted((PACKAGE.parent / folder).rglob("*.py"))
        for one in imports_of(str(path.relative_to(PACKAGE.parent)), path.read_text(encoding="utf-8"))
        if one.imported.split(".")[0] in others
    ]


def test_the_benches_know_the_package_and_the_package_neither_benches_nor_tests():
    assert strays_into("bench", "tests") == []
    assert strays_into("pyramidai_mpi", "tests", "bench") == []
    assert strays_into("tests", "bench") != []  # it would be seen


@pytest.mark.parametrize("library", GATES)
def test_a_heavy_library_is_imported_behind_its_gate_only(library):
    strays = [
        str(one)
        for one in IMPORTS
        if one.imported.split(".")[0] == library
        and not (library in {"mpi4py", "torch", "matplotlib"} and one.for_types_only)
        and not any(f"{one.importer}.".startswith(gate) if gate[-1] == "." else one.importer == gate
                    for gate in GATES[library])
    ]  # fmt: skip
    assert not strays


HEAVY = ["mpi4py", "numpy", "h5py", "onnx", "onnxruntime", "openslide", "skimage", "scipy", "sklearn", "skops",
         "matplotlib", "torch", "PIL", "tifffile"]  # fmt: skip


def loaded_by(*arguments: str) -> set[str]:
    """Heavy libraries that a Python process has loaded when it ends."""
    watch = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch + arguments[0], *arguments[1:]],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split("LOADED", 1)[1].split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import pyramidai_mpi") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []], ids=" ".join)
def test_asking_for_help_loads_nothing_heavy(arguments):
    run = "import runpy; runpy.run_module('pyramidai_mpi', run_name='__main__', alter_sys=True)"
    assert loaded_by(run, *arguments) == set()


@pytest.mark.parametrize(
    "command", ["run", "digest", "info", "export", "train", "evaluate", "classify", "simulate", "patches"]
)
def test_asking_for_help_on_a_command_starts_no_mpi_and_no_library_of_its_work(command):
    run = "import runpy; runpy.run_module('pyramidai_mpi', run_name='__main__', alter_sys=True)"
    assert loaded_by(run, command, "--help") == set()


def test_the_watch_would_see_a_heavy_library():
    assert "numpy" in loaded_by("import pyramidai_mpi.pyramid.grid")


def test_no_module_is_two_rooms():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 450}
    assert not long, "a module of more than about 400 lines is two rooms"


def test_no_module_is_named_after_nothing():
    assert not [name for name in MODULES if name.split(".")[-1] in {"utils", "util", "helpers", "common", "misc"}]

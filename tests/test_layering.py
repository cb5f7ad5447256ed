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

# Section 3 of the design. A name is a module or a folder right under the package.
LAYERS = [
    ["errors", "last_words", "types", "config", "provenance", "stopping", "slide_list", "heap", "quick_exit"],
    ["grid", "tissue", "segmentation", "decision", "tree", "ledger", "metrics", "labelled", "stain", "dealing"],
    ["slides", "inference", "store", "analyser", "shipped", "trial"],
    ["sched", "gather", "feature_exchange", "survival", "simulate"],
    [
        "pipeline",
        "cohort",
        "job",
        "networks",
        "tile_workload",
        "stain_sampling",
        "assembly",
        "recording",
        "claiming",
        "resuming",
        "annotations",
        "tuning",
        "evaluation",
        "classification",
        "export",
        "training",
        "synth",
        "sampling",
        "regions",
        "quantisation",
    ],
    ["cli", "notebook", "testing"],
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
ENTRANCES = {"__init__", "__main__"}

# Where a heavy library may be imported: a module, or a folder when the name ends in a dot.
GATES = {
    "openslide": ["slides.openslide_reader"],
    "onnxruntime": ["inference.onnx_engine", "inference.quantise", "inference.stain_engine"],  # the last: a type
    "onnx": [
        "inference.network_check",
        "inference.quantise",
        "inference.average_pooling",
        "inference.stain_graph",
        "training.weights",
    ],
    "simplejpeg": ["slides.tile_codecs"],
    "imagecodecs": ["slides.tile_codecs", "synth.pyramid"],
    "openvino": ["inference.openvino_engine"],
    "h5py": ["store."],
    "jinja2": ["export.report"],
    "skimage": ["segmentation", "evaluation.lesions", "classification.features"],  # tissue; lesions; shapes of regions
    "scipy": ["evaluation.lesions"],
    "sklearn": ["classification.forest", "classification.classifier"],
    "matplotlib": ["evaluation.plots", "simulate.plot", "tuning.plots"],
    "skops": ["classification.storage"],
    "timm": ["training.timm_network"],
    "torchvision": ["training.timm_network"],
    "shapely": ["annotations.", "export.outlines"],  # truth, and what was found
    "mpi4py": ["sched.transport", "gather", "store.", "cli.", "notebook"],
}

# For type checkers alone: a workload is told of a progress, an outcome holds tasks.
KNOWN_CYCLES = {("sched.workload", "sched.outcome")}


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
    found = {(one.imported, one.for_types_only) for one in imports_of("inference.onnx_engine", source)}
    assert found == {
        ("numpy.typing", False),
        ("h5py", False),
        ("pyramidai_mpi.inference", False),
        ("pyramidai_mpi.inference.base", False),
        ("pyramidai_mpi.errors", False),
        ("pyramidai_mpi.slides.pyramid", False),
        ("typing", False),
        ("mpi4py", True),
        ("torch", False),
    }
    assert len(MODULES) > 40
    assert len(inner_imports()) > 100


def test_every_room_has_its_layer():
    unknown = sorted({room_of(module) for module in MODULES} - LAYER.keys() - ENTRANCES)
    assert not unknown, f"new rooms {unknown}: give each its layer in LAYERS of {Path(__file__).name} and in the design"


def test_imports_go_downwards_only():
    upwards = [
        f"{one} (layer {LAYER[importer]} -> {LAYER[imported]})"
        for one, name in inner_imports()
        if {importer := room_of(one.importer), imported := room_of(name)} <= LAYER.keys()
        and LAYER[imported] > LAYER[importer]
    ]
    assert not upwards


def test_there_are_no_cycles_between_modules():
    graph: dict[str, set[str]] = {}
    for one, name in inner_imports():
        if name != one.importer and (one.importer, name) not in KNOWN_CYCLES:
            graph.setdefault(one.importer, set()).add(name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as cycle:
        pytest.fail(" -> ".join(reversed(cycle.args[1])))


def test_there_are_no_cycles_between_rooms():
    graph: dict[str, set[str]] = {}
    for one, name in inner_imports():
        if room_of(name) != room_of(one.importer):
            graph.setdefault(room_of(one.importer), set()).add(room_of(name))
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as cycle:
        pytest.fail(" -> ".join(reversed(cycle.args[1])))


def test_the_scheduler_knows_nothing_but_errors_and_how_to_leave():
    strays = [str(one) for one, name in inner_imports() if room_of(one.importer) == "sched"
              and room_of(name) not in {"sched", "errors", "last_words", "quick_exit"}]  # fmt: skip
    assert not strays


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


def test_pure_rooms_open_no_files_and_start_no_mpi():
    heavy = {*GATES, "torch", "PIL", "tifffile", "imagecodecs", "pathlib", "os", "io", "yaml"}
    strays = [
        str(one)
        for one in IMPORTS
        if room_of(one.importer) in set(LAYERS[1])
        and one.imported.split(".")[0] in heavy - ({"skimage"} if one.importer == "segmentation" else set())
    ]
    assert not strays


@pytest.mark.parametrize("library", GATES)
def test_a_heavy_library_is_imported_behind_its_gate_only(library):
    strays = [
        str(one)
        for one in IMPORTS
        if one.imported.split(".")[0] == library
        and not (library == "mpi4py" and one.for_types_only)
        and not any(f"{one.importer}.".startswith(gate) if gate[-1] == "." else one.importer == gate
                    for gate in GATES[library])
    ]  # fmt: skip
    assert not strays


def test_torch_is_imported_in_training_alone():
    importers = {one.importer for one in IMPORTS if one.imported.split(".")[0] == "torch" and not one.for_types_only}
    assert {room_of(name) for name in importers} == {"training"}, importers


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


@pytest.mark.parametrize("command", ["run", "digest", "info", "export", "evaluate", "classify", "simulate"])
def test_asking_for_help_on_a_command_starts_no_mpi_and_no_library_of_its_work(command):
    run = "import runpy; runpy.run_module('pyramidai_mpi', run_name='__main__', alter_sys=True)"
    assert loaded_by(run, command, "--help") <= {"numpy"}


def test_the_watch_would_see_a_heavy_library():
    assert "numpy" in loaded_by("import pyramidai_mpi.grid")


def test_no_module_is_two_rooms():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 450}
    assert not long, "a module of more than about 400 lines is two rooms"


def test_no_module_is_named_after_nothing():
    assert not [name for name in MODULES if name.split(".")[-1] in {"utils", "util", "helpers", "common", "misc"}]

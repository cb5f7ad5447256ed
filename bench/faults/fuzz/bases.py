"""Sound files that inputs are changes of: a result, one of windows at a stride, files of patches, an explanation.

    python -m bench.faults.fuzz.bases

makes them anew, with the program as it is, which is needed when the format of one of them changes. They are small: of a
slide of 256 x 192 pixels.
"""

from __future__ import annotations

import lzma
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = Path(__file__).parent / "bases"
SLIDE = "slide.tif"
RESULTS = ("plain.h5", "strided.h5")
PATCHES = ("stored.patches.h5", "jpeg.patches.h5", "none.patches.h5")
EXPLAINED = "explained.h5"
COORDINATES = "coordinates.h5"


@cache
def base(name: str) -> bytes:
    """The bytes of a file."""
    return lzma.decompress((_FOLDER / f"{name}.xz").read_bytes())


def make(folder: Path) -> Iterator[Path]:
    """Make all of them in an empty folder."""
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.api import analyse, explain_tiles
    from pyramidai_mpi.cli.main import run_command_line
    from pyramidai_mpi.export.clam import write_clam
    from pyramidai_mpi.synth import SynthSpec, write_slide

    slide = folder / SLIDE
    write_slide(SynthSpec(256, 192, seed=0), slide)
    yield slide
    package = write_tiny_package(folder / "model", tile_size=32, thresholds=(0.5, 0.4, 0.4), n_features=3)
    for name, more in zip(RESULTS, ({"features": True}, {"stride": 16, "stride_mode": "adaptive"}), strict=True):
        analyse(slide, package, output=folder / name, compiled_cache=False, **more)  # type: ignore[arg-type]
        yield folder / name
    for name, pixels in zip(PATCHES, ("stored", "jpeg:50", "none"), strict=True):
        made = folder / pixels.partition(":")[0]
        made.mkdir()
        words = ["patches", "extract", slide, "--size", 32, "--level", 0, "--pixels", pixels, "-o", made]
        assert run_command_line([str(word) for word in words]) == 0
        yield (made / "slide.patches.h5").replace(folder / name)
    explain_tiles(folder / RESULTS[0], "top:3", package, output=folder / "explained", slide=slide, method="occlusion")
    yield next((folder / "explained").glob("*.h5")).replace(folder / EXPLAINED)
    write_clam(folder / RESULTS[0], folder / "clam")
    yield next((folder / "clam").rglob("*.h5")).replace(folder / COORDINATES)


def _make_anew() -> None:
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for path in make(Path(folder)):
            packed = lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
            (_FOLDER / f"{path.name}.xz").write_bytes(packed)
            print(f"{path.name}: {path.stat().st_size} bytes, {len(packed)} packed")
    if shutil.which("git"):
        print("see that `pytest tests/faults/test_corpus.py` still reads them, and commit them")


if __name__ == "__main__":
    _make_anew()

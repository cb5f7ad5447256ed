"""What `bench.faults.chaos` runs: the slides, the command, and what comes of it undisturbed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tifffile

from bench.faults.slowed_ranks import BATCH
from pyramidai_mpi.store.patches.record import patch_file
from pyramidai_mpi.testing.launch import started

SIDE, SIDE_OF_SEVERAL = 1024, 640
THRESHOLDS = (0.65, 0.62, 0.6)
COMMANDS = ("run", "extract")


@dataclass(frozen=True)
class Undisturbed:
    """What comes of a run that nobody disturbs: names of all files, digests of the results, tiles in all of them."""

    files: list[str]
    digests: dict[str, str]
    n_tiles: int


@dataclass(frozen=True)
class Case:
    """What is run: slides and a command of `COMMANDS`, in a folder of its own; of extractions, what pixels are kept."""

    folder: Path
    ranks: int
    slides: int
    command: str
    pixels: str = "stored"

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return self.folder / "out"

    def outputs(self) -> list[Path]:
        """The result files, or files of patches."""
        if self.command == "extract":
            return [self.results / patch_file(slide) for slide in self.inputs()]
        return [self.results / f"{slide.stem}.h5" for slide in self.inputs()]

    def unfinished(self) -> int:
        """How many slides have no result."""
        return sum(not output.exists() for output in self.outputs())

    def inputs(self) -> list[Path]:
        """The slides."""
        return [self.folder / f"{number}.tif" for number in range(self.slides)]

    def arguments(self, results: Path, *options: str) -> list[str]:
        """Of the command."""
        slides = list(map(str, self.inputs()))
        if self.command == "extract":
            which = ["--size", "48", "--stride", "32", "--level", "0", "--pixels", self.pixels]
            return ["patches", "extract", *slides, "-o", str(results), *which, "--quiet", *options]
        where = ["-o", str(results / "0.h5")] if self.slides == 1 else ["--results-dir", str(results)]
        common = ["--model", str(self.folder / "model"), "--batch-size", str(BATCH), "--quiet"]
        return ["run", *slides, *where, *common, *options]

    def account(self, output: Path) -> tuple[str, int]:
        """Digest of a result and the tiles that were analysed for it.

        Raises
        ------
        PyramidError
            When it is none.
        """
        if self.command == "extract":
            from pyramidai_mpi.patches.database import open_patches

            with open_patches(output) as patches:
                wrong = patches.check()
                digest = patches.digest if not wrong else f"{patches.digest}, but {wrong[0]}"
                return digest, len(patches) + len(patches.failed)
        from pyramidai_mpi.store.results.reader import read_digest
        from pyramidai_mpi.store.results.summary import read_account

        return read_digest(output), sum(read_account(output).tiles)

    def journals(self) -> list[Path]:
        """Files of the journals."""
        return list(self.results.glob("*.journal/*.tiles"))

    def trace(self) -> Path:
        """An empty folder for what a run says of itself."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def prepare(case: Case) -> Undisturbed:
    """Make slides and, for a run, a model; do what is to be done undisturbed."""
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.synth import SynthSpec, write_slide

    side = SIDE if case.slides == 1 else SIDE_OF_SEVERAL
    for seed, slide in enumerate(case.inputs(), 1):
        write_slide(SynthSpec(side, side, seed=seed, tumor_share=0.3), slide)
        wipe_fullest_tile(slide)
    if case.command == "run":
        write_tiny_package(case.folder / "model", tile_size=32, thresholds=THRESHOLDS)
    undisturbed = case.folder / "undisturbed"
    for folder in (case.results, undisturbed):
        folder.mkdir()
    with started(None, ["-m", "pyramidai_mpi", *case.arguments(undisturbed)]) as job:
        code = job.wait()
        if code != 3:  # the slides have an unreadable part
            raise SystemExit(f"the undisturbed run ended with {code}\n{job.output()}")
    accounts = {output.name: case.account(undisturbed / output.name) for output in case.outputs()}
    return Undisturbed(
        names_in(undisturbed),
        {name: digest for name, (digest, _) in accounts.items()},
        sum(n_tiles for _, n_tiles in accounts.values()),
    )


def names_in(folder: Path) -> list[str]:
    """Names of all that is in a folder, but for the accounts that each start of several slides leaves."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("run_metadata_"))


def wipe_fullest_tile(path: Path) -> None:
    """Overwrite the stored tile with most bytes, which holds tissue: it cannot be read any more."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        n_bytes, offset = max(zip(page.databytecounts, page.dataoffsets, strict=True))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(n_bytes))

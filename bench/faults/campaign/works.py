"""What the campaign disturbs: small inputs, the command, and what comes of it when nobody does."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.faults.slowed_ranks import BATCH, TRACE
from pyramidai_mpi.testing.launch import started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = 800
THRESHOLDS = (0.65, 0.62, 0.6)
QUIET = "--quiet"
PREPARING_S = 600.0


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    Attributes
    ----------
    name
        In tables and plans.
    slides
        How many at most.
    weight
        How often it is drawn, in relation to others.
    success
        Exit code of an undisturbed end.
    trains
        Whether it is a training: it needs torch, and its state is a file, not journals.
    exports
        Whether files are exported in the end.
    """

    name: str
    slides: int
    weight: float
    success: int = 3
    trains: bool = False
    exports: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("slide", 1, 5, exports=True),
        Kind("cohort", 3, 5),
        Kind("patches", 2, 4),
        Kind("dense map", 1, 3, exports=True),
        Kind("explain", 1, 3, success=0),
        Kind("train", 6, 1.5, success=0, trains=True),
        Kind("train-whole", 3, 1.5, success=0, trains=True),
        Kind("train-slides", 8, 1.5, success=0, trains=True),
    )
}


@dataclass(frozen=True)
class Undisturbed:
    """What comes of work that nobody disturbs.

    Attributes
    ----------
    names
        Of all files and folders that are left, see `names_in`.
    digests, pieces
        Of each result, by its name.
    done
        Pieces that were done for all of them; of a training units of steps.
    most_again
        Pieces that a kill may let be done again; 0 where that is a batch of each rank.
    """

    names: list[str]
    digests: dict[str, str]
    pieces: dict[str, int]
    done: int
    most_again: int = 0


@dataclass(frozen=True)
class Work:
    """One kind of work on so many slides, whose inputs lie in `folder`."""

    kind: Kind
    slides: int
    folder: Path

    def inputs(self) -> list[Path]:
        """The slides."""
        ending = "png" if self.kind.name == "train-slides" else "tif"
        return [self.folder / f"s{number}.{ending}" for number in range(self.slides)]

    def outputs(self, results: Path) -> list[Path]:
        """What is to be there in the end."""
        if self.kind.trains:
            return [results / "package"]
        ending = {"patches": ".patches.h5", "explain": ".explained.h5"}.get(self.kind.name, ".h5")
        return [results / f"{slide.stem}{ending}" for slide in self.inputs()]

    def arguments(self, results: Path, *options: str) -> list[str]:
        """Of the command."""
        return [*_WORDS[self.kind.name](self, results), QUIET, *options]

    def account(self, output: Path) -> tuple[str, int]:
        """Digest of a result that is there, and pieces in it; 0 where it does not say.

        Raises
        ------
        PyramidError
            When it is none.
        """
        if self.kind.trains:
            found = sorted([*output.glob("*.onnx"), output / "log.csv"])
            return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in found)).hexdigest(), 0
        if self.kind.name == "patches":
            from pyramidai_mpi.patches.database import open_patches

            with open_patches(output) as patches:
                wrong = patches.check()
                digest = patches.digest if not wrong else f"{patches.digest}, but {wrong[0]}"
                return digest, len(patches) + len(patches.failed)
        if self.kind.name == "explain":
            from pyramidai_mpi.store.explanations.reader import read_explanation

            return read_explanation(output).digest, 0
        from pyramidai_mpi.store.results.reader import read_digest
        from pyramidai_mpi.store.results.summary import read_account

        return read_digest(output), sum(read_account(output).tiles)


def _run(work: Work, results: Path) -> list[str]:
    where = ["-o", str(results / "s0.h5"), "--export", "csv"]
    if work.kind.name == "cohort":
        where = ["--results-dir", str(results)]
    stride = ["--stride", "16"] if work.kind.name == "dense map" else []
    model = ["--model", str(work.folder / "model"), "--backend", "onnxruntime", "--batch-size", str(BATCH)]
    return ["run", *map(str, work.inputs()), *where, *stride, *model]


def _patches(work: Work, results: Path) -> list[str]:
    which = ["--size", "48", "--stride", "32", "--level", "0", "--pixels", "stored"]
    return ["patches", "extract", *map(str, work.inputs()), "-o", str(results), *which]


def _explain(work: Work, results: Path) -> list[str]:
    how = ["--tiles", "top:3", "--method", "rise", "--masks", "768", "--no-faithfulness"]
    words = ["explain", str(work.folder / "result" / "s0.h5"), "--slide", str(work.folder), *how]
    return [*words, "--model", str(work.folder / "model"), "-o", str(results)]


def _training(results: Path) -> list[str]:
    return ["-o", str(results / "package"), "--work", str(results / "package.work"), "--save-every", "0"]


def _train(work: Work, results: Path) -> list[str]:
    how = ["--epochs", "2", "--batch-size", "8", "--micro-batch", "2", "--learning-rate", "0.003"]
    return ["train", "--patches", str(work.folder / "patches"), *how, *_training(results)]


def _train_whole(work: Work, results: Path) -> list[str]:
    how = ["--masks", "tissue-recipe", "--crop", "256x256", "--block", "160x160", "--epochs", "2", "--steps", "3"]
    return ["train-whole", *map(str, work.inputs()), *how, *_training(results)]


def _train_slides(work: Work, results: Path) -> list[str]:
    how = ["--labels", str(work.folder / "labels.csv"), "--mpp", "0.25", "--tiles", "4", "--tile-size", "64"]
    how += ["--chunk", "2", "--epochs", "2", "--accumulate", "2"]
    return ["train-slides", *map(str, work.inputs()), *how, *_training(results)]


_WORDS: dict[str, Callable[[Work, Path], list[str]]] = {
    "slide": _run,
    "cohort": _run,
    "patches": _patches,
    "dense map": _run,
    "explain": _explain,
    "train": _train,
    "train-whole": _train_whole,
    "train-slides": _train_slides,
}


def prepared(folder: Path, name: str, slides: int) -> tuple[Work, Undisturbed]:
    """Inputs of one kind of work, made unless they are there, and what comes of it undisturbed."""
    kind = KINDS[name]
    work = Work(kind, slides, folder / f"{name.replace(' ', '-')}-{slides}")
    said = work.folder / "undisturbed.json"
    if not said.exists():
        shutil.rmtree(work.folder, ignore_errors=True)
        work.folder.mkdir(parents=True)
        _make_inputs(work)
        said.write_text(json.dumps(asdict(_undisturbed(work))))
    return work, Undisturbed(**json.loads(said.read_text()))


def _make_inputs(work: Work) -> None:
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.synth import SynthSpec, write_slide

    name = work.kind.name
    if name == "train-slides":
        return _make_pictures(work)
    side = {"cohort": 512, "dense map": 400, "explain": 400, "train": 512, "train-whole": 400}.get(name, SIDE)
    for seed, slide in enumerate(work.inputs(), 1):
        mpp = 1.0 if name == "train-whole" else 0.25
        write_slide(SynthSpec(side, side, seed=seed, mpp=mpp, tumor_share=0.3), slide, threads=1)
        if work.kind.success == 3:
            wipe_fullest_tile(slide)
    if not work.kind.trains:
        write_tiny_package(
            work.folder / "model", tile_size=32, thresholds=(0.6, 0.5, 0.4) if name == "slide" else THRESHOLDS
        )
    slides = list(map(str, work.inputs()))
    if name == "train":
        (work.folder / "patches").mkdir()
        cells = ["--size", "64", "--stride", "64", "--level", "0", "--truth", str(work.folder)]
        _do(["patches", "extract", *slides, *cells, "-o", str(work.folder / "patches"), QUIET])
    if name == "explain":
        (work.folder / "result").mkdir()
        words = ["-o", str(work.folder / "result" / "s0.h5"), "--backend", "onnxruntime"]
        _do(["run", *slides, "--model", str(work.folder / "model"), *words, QUIET])
    return None


def _make_pictures(work: Work) -> None:
    """Slides of noise in the colours of tissue, every second darker, and their labels."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = ["slide,label,split"]
    for number, path in enumerate(work.inputs()):
        pixels = np.full((256, 320, 3), 244, np.uint8)
        colour = (150, 70, 160) if number % 2 else (205, 120, 180)
        pixels[20:230, 20:300] = np.clip(colour + rng.normal(0, 25, (210, 280, 1)), 0, 255)
        Image.fromarray(pixels).save(path)
        part = ("train", "train", "validation", "test")[number * 4 // work.slides]
        rows.append(f"{path.name},{'tumor' if number % 2 else 'normal'},{part}")
    (work.folder / "labels.csv").write_text("\n".join(rows))


def _do(words: list[str]) -> None:
    with started(None, ["-m", "pyramidai_mpi", *words]) as job:
        code = job.wait(PREPARING_S)
        if code not in {0, 3}:
            raise SystemExit(f"{' '.join(words)}: ended with {code}\n{job.output()}")


def _undisturbed(work: Work) -> Undisturbed:
    """Do the work on one rank, with what the disturbed ones have as well."""
    results, trace = work.folder / "undisturbed", work.folder / "trace"
    results.mkdir()
    trace.mkdir()
    with started(None, ["-m", "bench.faults.slowed_ranks", *work.arguments(results)], {TRACE: str(trace)}) as job:
        code = job.wait(PREPARING_S)
        if code != work.kind.success:
            raise SystemExit(f"{work.kind.name}: the undisturbed run ended with {code}\n{job.output()}")
    accounts = {output.name: work.account(output) for output in work.outputs(results)}
    done, _ = pieces_done(trace)
    pieces = {name: n or done for name, (_, n) in accounts.items()}
    if len(pieces) == 1:  # the finest level's windows are not what a map's blocks are
        pieces = dict.fromkeys(pieces, done)
    most_again = 0
    if work.kind.trains:
        steps = {"train": 4, "train-whole": 4, "train-slides": 8}
        most_again = 2 * steps[work.kind.name]
    elif sum(pieces.values()) != done:
        raise SystemExit(f"{work.kind.name}: {done} pieces were done, and the results hold {pieces}")
    return Undisturbed(
        names_in(results), {name: digest for name, (digest, _) in accounts.items()}, pieces, done, most_again
    )


def pieces_done(trace: Path) -> tuple[int, int]:
    """Pieces that the processes of a start have done; of these, how many were of the last batch of each."""
    batches = [np.frombuffer(path.read_bytes(), "<u4") for path in trace.glob("done-*")]
    return sum(int(one.sum()) for one in batches), sum(int(one[-1]) for one in batches if len(one))


def names_in(folder: Path) -> list[str]:
    """Paths of all that is in a folder, but for the accounts that each start of several slides leaves."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return sorted(name for name in found if not name.startswith("run_metadata_"))


def wipe_fullest_tile(path: Path) -> None:
    """Overwrite the stored tile with most bytes, which holds tissue: it cannot be read any more."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        n_bytes, offset = max(zip(page.databytecounts, page.dataoffsets, strict=True))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(n_bytes))

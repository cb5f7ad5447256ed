"""Chosen thresholds written into a model package, with how they came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError, UsageError
from pyramidai_mpi.models.decision_entry import decision_entry
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.write import document_of, write_package
from pyramidai_mpi.store.files.placing import check_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.refining import Band
    from pyramidai_mpi.tuning.labelled_slides import SlideId


@dataclass(frozen=True)
class TuningRecord:
    """How thresholds came about, for the package's ``tuning`` block.

    Attributes
    ----------
    strategy
        Name of the strategy.
    objective
        Retention asked for; NaN where a miss rate was guaranteed instead.
    min_share, from_below
        Share of a tile's tissue that had to be tumour; whether above level 0 any positive descendant counted instead.
    retention, speedup
        Retention and speedup in tiles, means over the training slides.
    slides
        The training slides.
    created, software_version
        Time of the choice, as ISO 8601 has it, and the version of this program that made it.
    alpha
        Expected miss rate guaranteed; NaN for none.
    calibration
        The slides that the guarantee stands on.
    """

    strategy: str
    objective: float
    min_share: float
    from_below: bool
    retention: float
    speedup: float
    slides: Sequence[SlideId]
    created: str
    software_version: str
    alpha: float = math.nan
    calibration: Sequence[SlideId] = ()

    def to_mapping(self) -> dict[str, Any]:
        """The block as it is written; what does not apply is left out."""
        block: dict[str, Any] = {
            "strategy": self.strategy,
            "objective": self.objective,
            "guaranteed_miss_rate": self.alpha,
            "positive_from_tumor_share": self.min_share,
            "positive_where_any_descendant_is": self.from_below,
            "training_retention": round(self.retention, 6),
            "training_speedup": round(self.speedup, 4),
            "software_version": self.software_version,
            "created": self.created,
            "slides": [{"name": slide.name, "quickhash": slide.quickhash} for slide in self.slides],
            "calibration_slides": [slide.name for slide in self.calibration],
        }
        return _what_applies(block)


@dataclass(frozen=True)
class BandRecord:
    """How a band came about, for the package's ``tuning`` block.

    Attributes
    ----------
    objective
        IoU with the full maps asked for; NaN where a loss was guaranteed instead.
    iou, windows_share
        IoU, and windows looked at over those of the full map; means over the training slides.
    n_lesions
        Lesions of the truth that had to be kept; 0 without truth.
    slides, created, software_version, calibration
        As of `TuningRecord`.
    alpha
        Expected share of positive cells lost that is guaranteed; NaN for none.
    """

    objective: float
    iou: float
    windows_share: float
    n_lesions: int
    slides: Sequence[SlideId]
    created: str
    software_version: str
    alpha: float = math.nan
    calibration: Sequence[SlideId] = ()

    def to_mapping(self) -> dict[str, Any]:
        """The block as it is written; what does not apply is left out."""
        return _what_applies(
            {
                "objective_iou": self.objective,
                "guaranteed_loss": self.alpha,
                "training_iou": round(self.iou, 6),
                "training_windows_share": round(self.windows_share, 6),
                "lesions": self.n_lesions,
                "software_version": self.software_version,
                "created": self.created,
                "slides": [{"name": slide.name, "quickhash": slide.quickhash} for slide in self.slides],
                "calibration_slides": [slide.name for slide in self.calibration],
            }
        )


def _what_applies(block: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in block.items()
        if not (isinstance(value, float) and math.isnan(value)) and value != []
    }


def tuning_in_words(package: ModelPackage) -> str:
    """How a package's thresholds came about, in a line; empty where it does not say that they were tuned.

    The block may have been written by hand, or by a later version: what is not there, or of another kind, is left out.
    """
    block = document_of(package).get("tuning")
    if not block:
        return ""

    def number(name: str) -> float | None:
        value = block.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def length(name: str) -> int:
        value = block.get(name)
        return len(value) if isinstance(value, list) else 0

    if set(block) == {"band"}:
        return _band_in_words(block["band"])
    words = [str(block.get("strategy", "by a method that it does not name"))]
    if (objective := number("objective")) is not None:
        words.append(f"mean retention of at least {objective:g} wanted")
    if (alpha := number("guaranteed_miss_rate")) is not None:
        calibrating = counted(length("calibration_slides"), "slide")
        words.append(
            f"at most {alpha:g} of a new slide's positive tiles missed in expectation, calibrated on {calibrating}"
        )
    if n_slides := length("slides"):
        words.append(f"chosen on {counted(n_slides, 'slide')}")
    retention, speedup = number("training_retention"), number("training_speedup")
    if retention is not None and speedup is not None:
        words.append(f"retention there {retention:.4g}, speedup in tiles {speedup:.3g}")
    if created := block.get("created"):
        words.append(f"{created:.40}" if isinstance(created, str) else str(created))
    if "band" in block:
        words.append(_band_in_words(block["band"]))
    return "; ".join(words)


def _band_in_words(block: Any) -> str:
    if not isinstance(block, dict):
        return "band by a method that it does not name"
    words = ["band over strides"]
    for name, said in (
        ("objective_iou", "mean IoU with the full maps of at least {:g} wanted"),
        ("guaranteed_loss", "at most {:g} of a new slide's positive cells lost in expectation"),
        ("training_iou", "IoU {:.4g} on the slides it was chosen on"),
        ("training_windows_share", "with {:.3g} of the windows"),
    ):
        value = block.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            words.append(said.format(value))
    return ", ".join(words)


def output_folder(output: Path) -> Path:
    """The package's folder of ``-o``: a folder, or its ``model.yaml``.

    Raises
    ------
    UsageError
        When it is another YAML file, which no command would look for.
    """
    if output.suffix.lower() in {".yaml", ".yml"}:
        if output.name != YAML_NAME:
            raise UsageError(f"-o {output}: a package's description is called {YAML_NAME}; name that, or a folder")
        return output.parent
    return output


def check_output(source: ModelPackage, folder: Path, *, overwrite: bool) -> None:
    """Find out before the work whether the package could be written after it.

    Raises
    ------
    OutputExistsError
        When a description is there and `overwrite` is not set, or another file has the name of a network.
    StorageError
        When the folder cannot be written.
    """
    if folder.exists():
        check_target(folder / YAML_NAME, overwrite=overwrite)
        for level in source.levels:
            there = folder / level.onnx_path.name
            if there.exists() and not there.samefile(level.onnx_path) and _differ(there, level.onnx_path):
                raise OutputExistsError(f"{there}: is another network than {level.onnx_path}; name another folder")
    elif not folder.parent.is_dir():
        raise StorageError(f"{folder.parent}: no such folder; make it first or name another")


def write_tuned(
    source: ModelPackage, folder: Path, thresholds: Sequence[float], record: TuningRecord, *, overwrite: bool
) -> Path:
    """Write the package with other thresholds; the networks go along where they are not there yet.

    Parameters
    ----------
    source
        The package that the results were made with.
    folder
        Folder of the new package, or of the old one with `overwrite`.
    thresholds
        The threshold of each level, level 0 first; one that stops nothing is written as 0.

    Returns
    -------
    Path
        The description written; it was read back and found in order.

    Raises
    ------
    InputError
        When the networks are no longer those of `source`.
    OutputExistsError, StorageError
        See `check_output`.
    """
    document = document_of(source)
    for entry in document["levels"]:
        entry["threshold"] = max(float(thresholds[entry["level"]]), 0.0)
    band = (document.get("tuning") or {}).get("band")  # it stays, and so does what says how it came about
    document["tuning"] = record.to_mapping() | ({} if band is None else {"band": band})
    return _write_changed(source, folder, document, overwrite=overwrite)


def write_band(
    source: ModelPackage,
    folder: Path,
    strides: Sequence[int],
    band: Band,
    record: BandRecord,
    *,
    overwrite: bool,
) -> Path:
    """Write the package with a band over strides in place of its own; thresholds stay. As `write_tuned`."""
    document = document_of(source)
    document["decision"] = decision_entry(band, strides)
    document["tuning"] = (document.get("tuning") or {}) | {"band": record.to_mapping()}
    return _write_changed(source, folder, document, overwrite=overwrite)


def _write_changed(source: ModelPackage, folder: Path, document: dict[str, Any], *, overwrite: bool) -> Path:
    check_output(source, folder, overwrite=overwrite)
    aggregator = None if source.aggregator is None else source.aggregator.onnx_path
    networks = [level.onnx_path for level in source.levels]
    path = write_package(folder, document, networks, aggregator, overwrite=overwrite)
    check_source(load_package(folder), [level.sha256 for level in source.levels])
    return path


def check_source(package: ModelPackage, level_sha256: Sequence[str]) -> None:
    """See that a package is the one that results were made with.

    Raises
    ------
    InputError
        When its networks are others.
    """
    if tuple(level.sha256 for level in package.levels) != tuple(level_sha256):
        raise InputError(
            f"{package.folder}: holds other networks than those that made the results; give their package with --model"
        )


def _differ(one: Path, other: Path) -> bool:
    return one.stat().st_size != other.stat().st_size or one.read_bytes() != other.read_bytes()

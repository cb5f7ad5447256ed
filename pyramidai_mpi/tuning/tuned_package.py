"""Chosen thresholds written into a model package, with how they came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError, UsageError
from pyramidai_mpi.models.package import YAML_NAME, load_package
from pyramidai_mpi.models.write import document_of, write_package
from pyramidai_mpi.store.files.placing import check_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
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
        return {
            key: value
            for key, value in block.items()
            if not (isinstance(value, float) and math.isnan(value)) and value != []
        }


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
    check_output(source, folder, overwrite=overwrite)
    document = document_of(source)
    for entry in document["levels"]:
        entry["threshold"] = max(float(thresholds[entry["level"]]), 0.0)
    document["tuning"] = record.to_mapping()
    path = write_package(folder, document, [level.onnx_path for level in source.levels], overwrite=overwrite)
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

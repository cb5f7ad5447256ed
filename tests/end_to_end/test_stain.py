"""A package that asks for stain normalisation gets it, the same on every rank and in every kind of run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide
import pytest
import yaml

from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.stain.map import MacenkoTarget, StainMap
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, kill, started
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.packages import colour_probability, write_package
from tests.stains import densities_of, normaliser_of, plain_macenko

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def normalising(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, asking for Macenko's normalisation."""
    folder = tmp_path_factory.mktemp("model") / "macenko"
    shutil.copytree(model, folder)
    document = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(document | {"stain": {"method": "macenko"}}, sort_keys=False))
    return folder


def test_networks_see_normalised_pixels_on_every_rank_of_every_run(
    slide: Path, pyramid_run: Path, normalising: Path, tmp_path: Path
) -> None:
    alone, shared, folder = tmp_path / "alone.h5", tmp_path / "shared.h5", tmp_path / "both"
    folder.mkdir()
    twin = shutil.copy(slide, tmp_path / "twin.tif")
    options = ["--model", normalising]
    assert pyramidai(slide, "-o", alone, *options).returncode == 0
    assert pyramidai(slide, "-o", shared, *options, ranks=3).returncode == 0
    assert pyramidai(slide, twin, "--results-dir", folder, *options, ranks=2).returncode == 0
    digests = {digest_of(path) for path in (alone, shared, *folder.glob("*.h5"))}
    assert len(digests) == 1
    assert digests != {digest_of(pyramid_run)}
    with h5py.File(alone) as file, openslide.OpenSlide(slide) as pixels:
        assert file["model"].attrs["stain"] == "macenko"
        normalise = normaliser_of(StainMap.from_json(file["execution"].attrs["stain_map"]))
        roots = file["levels/2/coords"][:6]
        package = load_package(normalising)
        downsample = int(file["levels/2"].attrs["downsample"])
        tiles = []
        for l0_x, l0_y in roots.tolist():
            level = int(file["levels/2"].attrs["patch_level"])
            assert pixels.level_downsamples[level] == downsample
            tile = pixels.read_region((l0_x, l0_y), level, (package.tile_size, package.tile_size))
            white = np.full((package.tile_size, package.tile_size, 3), 255, np.uint8)
            there = np.asarray(tile)[..., 3:] == 255
            tiles.append(normalise(np.where(there, np.asarray(tile)[..., :3], white)))
        expected, _ = OnnxEngine(package.levels[2], package).predict(np.stack(tiles))
        np.testing.assert_array_equal(file["levels/2/probability"][:6], expected)


@pytest.fixture(scope="module")
def speckled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small slide, and a model of 64 px tiles that asks for each tile's own stain."""
    folder = tmp_path_factory.mktemp("speckled")
    write_slide(SynthSpec(1500, 1200, seed=3), folder / "slide.tif")
    for per in ("slide", "tile"):
        entry = {"stain": {"method": "macenko", "per": per}}
        write_package(folder / per, side=64, thresholds=(0.5, 0.4, 0.3), yaml_changes=entry)
    return folder


def words_of(folder: Path, output: Path, *options: str) -> list[str | Path]:
    return ["run", folder / "slide.tif", "--model", folder / "tile", "-o", output, "--mode", "exhaustive", *options]


@pytest.fixture(scope="module")
def alone(speckled: Path) -> Path:
    """What one rank without mpirun finds of it; some tiles have too little tissue."""
    assert pyramidai(*words_of(speckled, speckled / "alone.h5")).returncode == 3
    return speckled / "alone.h5"


def test_each_tiles_own_stain_gives_the_same_on_any_ranks_in_any_batches(
    speckled: Path, alone: Path, tmp_path: Path
) -> None:
    for ranks, batch in ((1, 1), (3, 5), (3, 64)):
        output = tmp_path / f"{ranks}-{batch}.h5"
        assert pyramidai(*words_of(speckled, output, "--batch-size", str(batch)), ranks=ranks).returncode == 3
        assert digest_of(output) == digest_of(alone)
    of_slide = tmp_path / "slide.h5"
    done = pyramidai(*words_of(speckled, of_slide, "--model", str(speckled / "slide")))
    assert done.returncode == 0
    assert digest_of(of_slide) != digest_of(alone)


def test_killed_and_resumed_it_is_the_same_too(speckled: Path, alone: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    slowly = REPOSITORY / "tests" / "faults" / "run_slowly.py"
    words = [str(word) for word in words_of(speckled, output, "--batch-size", "8")]
    with started(3, [slowly, "0.02", *words]) as job:
        journal = tmp_path / "out.h5.journal"
        assert job.wait_until(lambda: sum(file.stat().st_size for file in journal.glob("*.tiles")) > 2000), job.output()
        kill(job.ranks()[1])
        assert job.wait() != 0
    done = pyramidai(*words, "--resume", ranks=2)
    assert done.returncode == 3
    assert "going on from the journal" in done.stderr
    assert digest_of(output) == digest_of(alone)


def test_a_tile_with_too_little_tissue_is_unreadable_and_the_others_are_of_their_own_stain(
    speckled: Path, alone: Path
) -> None:
    with h5py.File(alone) as file, openslide.OpenSlide(speckled / "slide.tif") as slide:
        assert file["execution"].attrs["stain_per"] == "tile"
        assert "stain_map" not in file["execution"].attrs
        reasons = {(row["level"], row["col"], row["row"]): row["reason"].decode() for row in file["failed"][:]}
        few = 0
        for level in range(3):
            table = file[f"levels/{level}"]
            patch_level = int(table.attrs["patch_level"])
            assert slide.level_downsamples[patch_level] == table.attrs["downsample"]
            for l0_corner, (col, row), found in zip(
                table["coords"][:].tolist(), table["index"][:].tolist(), table["probability"][:], strict=True
            ):
                rgba = np.asarray(slide.read_region(tuple(l0_corner), patch_level, (64, 64)))
                tile = np.where(rgba[..., 3:] == 255, rgba[..., :3], 255).astype(np.uint8)
                n_stained = len(densities_of(tile.reshape(-1, 3)))
                if n_stained < 1000:
                    few += 1
                    assert reasons[level, col, row] == (
                        f"its stain cannot be estimated: {n_stained} stained pixels in its tissue are too few, "
                        "it takes 1000"
                    )
                    assert np.isnan(found).all()
                elif (level, col, row) in reasons:
                    assert "degrees apart" in reasons[level, col, row]
                else:
                    seen = np.rint(plain_macenko(tile, tile.reshape(-1, 3), MacenkoTarget()))
                    # a pixel may round to the grey value beside
                    assert np.abs(found - colour_probability(seen[np.newaxis], gain=1 + level / 4)).max() < 1e-3
        assert 0 < few < sum(len(file[f"levels/{level}/index"]) for level in range(3)) / 2


def test_windows_of_a_block_are_normalised_together_by_the_stain_of_all_that_is_read_for_it(
    speckled: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone.h5", tmp_path / "shared.h5"
    words = ["run", speckled / "slide.tif", "--model", speckled / "tile", "--mode", "reference", "--stride", "32"]
    assert pyramidai(*words, "-o", alone).returncode == 3
    assert pyramidai(*words, "-o", shared, ranks=3).returncode == 3
    assert digest_of(alone) == digest_of(shared)
    n_read = n_failed = 0
    with h5py.File(alone) as file, openslide.OpenSlide(speckled / "slide.tif") as slide:
        table = file["levels/0"]
        cell, n = int(table.attrs["cell_px"]), int(table.attrs["block_cells"])
        side = (n - 1) * cell + 64
        reasons = {tuple(row)[1:3]: row["reason"].decode() for row in file["failed"][:]}
        for k in range(0, len(table["coords"]), 7):
            rgba = np.asarray(slide.read_region(tuple(table["coords"][k].tolist()), 0, (side, side)))
            region = np.where(rgba[..., 3:] == 255, rgba[..., :3], 255).astype(np.uint8)
            there = table["state"][k] == 1
            if len(densities_of(region.reshape(-1, 3))) < 1000:
                n_failed += 1
                assert "its stain cannot be estimated: " in reasons[tuple(table["index"][k].tolist())]
                assert not there.any()
                continue
            n_read += 1
            seen = np.rint(plain_macenko(region, region.reshape(-1, 3), MacenkoTarget()))
            for row, col in np.argwhere(there).tolist():
                window = seen[row * cell : row * cell + 64, col * cell : col * cell + 64]
                expected = colour_probability(window[np.newaxis])[0, 1]
                assert abs(table["score"][k][row, col] - expected) < 1e-3
    assert n_read > n_failed > 0

"""Which concepts networks have learnt on generated slides: the shipped one, and two trained with and without their cue.

python -m bench.explain.concepts [--folder DIR] [--slides N] [--epochs N] [--ranks N]

Generated tumour has larger nuclei with coarser chromatin. ``synth --no-nuclear-cue`` draws the same tissue with nuclei
whose look follows a map of its own. On slides of either kind a small network is trained by ``train``, of the same
seeds and as long. All three are looked into by ``concepts`` on slides that none was trained on, with their known
nuclei: on slides with the cue, where whatever tells tumour foretells size too, and on slides without it, where size and
tumour have nothing to do with each other, so that only who measures size can foretell it. Then how well nuclei are
found. With --folder what is made stays, and is not made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bench.command_line import command_line
from pyramidai_mpi.explain.concepts.measures import measure
from pyramidai_mpi.explain.concepts.nuclei import Agreement, agreement, find_nuclei
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.truth.nuclei import open_nuclei

KINDS = {"cue": (), "no cue": ("--no-nuclear-cue",)}
SPACINGS = (0.25, 0.5, 1.0)
CONCEPTS = ("area", "contrast", "asm", "correlation", "eccentricity", "count", "colourfulness")
_MPP = 0.5
_TRAINING_SEED, _LOOKED_AT_SEED = 700, 900


def command(*words: object) -> None:
    """Run ``pyramidai`` and let it say what goes wrong."""
    subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", *map(str, words)], check=True, stdout=subprocess.DEVNULL, timeout=3600
    )


def slides(folder: Path, first_seed: int, count: int, side: int, options: tuple[str, ...]) -> Path:
    """A folder of generated slides with outlines and nuclei."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for seed in range(first_seed, first_seed + count):
            size, path = f"{side}x{side}", folder / f"s{seed}.tif"
            command("synth", path, "--size", size, "--seed", seed, "--tumor-share", 0.4, "--nuclei", "-q", *options)
    return folder


def patches(folder: Path, of: Path, mpp: float, *options: object) -> Path:
    """A folder of files of patches of a folder of slides."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        command("patches", "extract", of, "--size", 224, "--mpp", mpp, "-o", folder, "-q", *options)
    return folder


def network(root: Path, kind: str, options: tuple[str, ...], n_slides: int, epochs: int, ranks: int) -> Path:
    """A package of one small network, trained on slides of a kind."""
    package = root / f"trained, {kind}"
    if not package.is_dir():
        tissue = slides(root / f"training, {kind}", _TRAINING_SEED, n_slides, 3072, options)
        tiles = patches(root / f"training patches, {kind}", tissue, _MPP, "--stride", 160, "--truth", tissue)
        way = ("--epochs", epochs, "--learning-rate", 0.001, "--augment", "turns,stain=0.2,brightness=0.1")
        command("train", "--patches", tiles, "-o", package, *way, "--ranks", ranks, "-q")
    return package


def test_auc(package: Path) -> str:
    """What ``train`` says of its test patches."""
    rows = [line.split("|") for line in (package / "README.md").read_text().splitlines() if line.startswith("| ")]
    head = next(row for row in rows if any("test AUC" in cell for cell in row))
    at = next(n for n, cell in enumerate(head) if "test AUC" in cell)
    return next(row[at].strip() for row in rows[rows.index(head) + 1 :] if row[1].strip() == "0")


def findings(out: Path) -> list[dict[str, Any]]:
    """What ``concepts`` has found."""
    found: list[dict[str, Any]] = json.loads((out / "concepts.json").read_text())["findings"]
    return found


def shown(found: list[dict[str, Any]], concept: str) -> str:
    """A cell of the table: the layer that foretells a concept best."""
    ours = [one for one in found if one["concept"] == concept and "r2" in one]
    if not ours:
        return "not measured"
    best = max(ours, key=lambda one: one["r2"]["value"])
    r2 = best["r2"]
    cell = f"{best['verdict']}: R2 {r2['value']:.2f} [{r2['low']:.2f}, {r2['high']:.2f}] in {best['layer']}"
    if best["tcav"] is None:
        return cell
    tcav, br = best["tcav"], best["br"]
    cell += f", TCAV {tcav['value']:.2f} [{tcav['low']:.2f}, {tcav['high']:.2f}]"
    return cell if br["value"] is None else cell + f", Br {br['value']:.2f} [{br['low']:.2f}, {br['high']:.2f}]"


def by_layer(found: list[dict[str, Any]], concept: str) -> str:
    """R2 of a concept in each layer, and its random directions' 97.5 %."""
    cells = []
    for one in found:
        if one["concept"] == concept and "r2" in one:
            high = np.quantile([value for value in one["random"]["r2"] if value is not None], 0.975)
            br = one["br"]["value"] if one["br"] is not None else None
            cells.append(f"{one['r2']['value']:.2f} ({high:.2f}{'' if br is None else f'; {br:.2f}'})")
    return " | ".join(cells)


def found_nuclei(root: Path, tissue: Path) -> list[str]:
    """Rows of the table on nuclei that are found: by spacing, against known ones."""
    rows = []
    for mpp in SPACINGS:
        total, ours, theirs, seconds, count = Agreement(0, 0, 0, 0, 0, 0), [], [], 0.0, 0
        for path in sorted(patches(root / f"patches at {mpp}", tissue, mpp, "--sample", "random:12").iterdir()):
            with open_patches(path) as opened:
                header = opened.header
                known = open_nuclei(tissue, header.slide.name, header.slide.l0_size, path)
                for number, pixels in enumerate(opened):
                    place = opened.table[number]
                    corner = (float(place["l0_x"]), float(place["l0_y"]))
                    labels = known.window(corner, header.settings.downsample, 224, number)
                    started = time.process_time()
                    found = find_nuclei(pixels, mpp)
                    seconds, count = seconds + time.process_time() - started, count + 1
                    total += agreement(found, labels)
                    ours.append(measure(pixels, found, mpp))
                    theirs.append(measure(pixels, labels, mpp))
        pairs = []
        for name in CONCEPTS[:-1]:
            both = np.array([(one[name], other[name]) for one, other in zip(ours, theirs, strict=True)])
            pairs.append(f"{np.corrcoef(both[np.isfinite(both).all(axis=1)].T)[0, 1]:.2f}")
        rows.append(
            f"| {mpp:g} | {count} | {total.n_known} | {total.n_found} | {total.f1:.2f} | {total.dice:.2f} | "
            f"{' | '.join(pairs)} | {1000 * seconds / count:.0f} |"
        )
    return rows


def main() -> None:
    """Make slides and networks, look into them, and print the tables."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep what is made here")
    parser.add_argument("--slides", type=int, default=12, metavar="N", help="slides of each kind to train on")
    parser.add_argument("--looked-at", type=int, default=10, metavar="N", help="slides of each kind to look at")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--ranks", type=int, default=1, metavar="N")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        networks: dict[str, Path | str] = {"shipped small": "small"}
        for kind, words in KINDS.items():
            package = network(root, kind, words, options.slides, options.epochs, options.ranks)
            networks[f"trained, {kind}"] = package
            print(f"{package.name}: AUC {test_auc(package)} on test patches of its kind")
        everything: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for kind, words in KINDS.items():
            tissue = slides(root / f"looked at, {kind}", _LOOKED_AT_SEED, options.looked_at, 2048, words)
            tiles = patches(root / f"looked at patches, {kind}", tissue, _MPP)
            for name, package in networks.items():
                out = root / f"{name} on {kind}"
                if not out.is_dir():
                    way = ("--nuclei", tissue, "--no-plots", "--ranks", options.ranks, "-q")
                    command("concepts", package, "--patches", tiles, *way, "-o", out)
                everything.setdefault(kind, {})[name] = findings(out)
            with (out / "patches.csv").open(newline="") as file:
                print(f"\n{sum(1 for _ in file) - 1} patches of {options.looked_at} slides, {kind}\n")
            print(f"| concept | {' | '.join(networks)} |\n| --- |{' --- |' * len(networks)}")
            for concept in CONCEPTS:
                print(f"| {concept} | {' | '.join(shown(everything[kind][name], concept) for name in networks)} |")
        layers = list(dict.fromkeys(one["layer"] for one in everything["cue"]["shipped small"]))
        print("\nR2 by layer (97.5 % of random directions; Br where it is defined)\n")
        print(f"| slides | network | concept | {' | '.join(layers)} |\n| --- | --- | --- |{' --- |' * len(layers)}")
        for kind, of_kind in everything.items():
            for name, found in of_kind.items():
                for concept in ("area", "contrast"):
                    print(f"| {kind} | {name} | {concept} | {by_layer(found, concept)} |")
        print("\nNuclei found by `auto`, against known ones; correlation of what is then measured of a patch\n")
        print(f"| µm/px | patches | known | found | F1 | Dice | {' | '.join(CONCEPTS[:-1])} | ms a patch |")
        print(f"| --- | --- | --- | --- | --- | --- |{' --- |' * len(CONCEPTS)}")
        for row in found_nuclei(root, root / "looked at, cue"):
            print(row)
        if options.json:
            options.json.write_text(json.dumps(everything))


if __name__ == "__main__":
    main()

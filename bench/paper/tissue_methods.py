"""How much tissue each program's way to find it looks at: thumbnails of real slides with references.

    python -m bench.paper.tissue_methods [--thumbnails DIR] [--pictures DIR] [--overview FILE.png] [--json FILE]

Ours and the default ways of three programs, written anew after their sources, at 8 um per pixel. CLAM itself works at
1/64 of a slide and keeps 8 holes a piece at most; TIAToolbox's kernel is an ellipse, ours a square:

* CLAM: saturation, median over 7 pixels, above 8 of 255, closed by 4, pieces of 100 and holes of 16 patches of 512 px;
* TIAToolbox: Otsu on grey (`otsu`), and that without specks, dilated (`morphological`, kernel of 32 um);
* LazySlide: (red - green) x (blue - green) where both are above 0, modulo 256 as there, after a median over 17 pixels
  of 4 um, Otsu, closed three times by 7, pieces above 0.1 % of the picture.

Looked at is what lies in root tiles of 28 pixels with at least 5 % of mask, and in them in level-0 tiles of 7 with any,
as with the shipped model. A thumbnail NAME.jpg has a reference NAME.reference.png: 255 tissue for sure, 0 glass for
sure, 128 neither (edges, fat, specks).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.color import rgb2gray, rgb2hsv
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from bench.command_line import command_line
from bench.figures import Figure, print_table, report
from pyramidai_mpi.export.contour import draw_contour
from pyramidai_mpi.slides.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Rgb = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

_THUMBNAILS = Path(__file__).parents[2].parent / "shared" / "data" / "tissue"
_ROOT, _TILE, _LEAST = 28, 7, 0.05
_L0_PER_PIXEL = 32
_SMALL = 260


def ours(method: str) -> Callable[[Rgb], Mask]:
    """One of this program's methods."""
    return lambda rgb: Segmentation(method).segment(rgb, np.ones(rgb.shape[:2], bool))


def clam(rgb: Rgb) -> Mask:
    """CLAM's `create_patches_fp.py` without options."""
    saturation = ndimage.median_filter((255 * rgb2hsv(rgb)[..., 1]).astype(np.uint8), 7)
    mask = ndimage.binary_closing(np.pad(saturation > 8, 4), np.ones((4, 4)))[4:-4, 4:-4]
    patch = (512 / _L0_PER_PIXEL) ** 2
    return remove_small_holes(remove_small_objects(mask, max_size=int(100 * patch)), max_size=int(16 * patch))


def tiatoolbox_otsu(rgb: Rgb) -> Mask:
    """TIAToolbox's OtsuTissueMasker."""
    grey = (255 * rgb2gray(rgb)).astype(np.uint8)
    return np.asarray(grey < threshold_otsu(grey))


def tiatoolbox_morphological(rgb: Rgb) -> Mask:
    """TIAToolbox's MorphologicalMasker at 8 um per pixel."""
    mask = remove_small_objects(tiatoolbox_otsu(rgb), max_size=15)
    return np.asarray(ndimage.binary_dilation(mask, np.ones((4, 4))))


def lazyslide(rgb: Rgb) -> Mask:
    """LazySlide's `pp.find_tissues` without options."""
    red, green, blue = np.moveaxis(ndimage.median_filter(rgb, (9, 9, 1)).astype(np.int64), -1, 0)
    heat = (np.maximum(red - green, 0) * np.maximum(blue - green, 0) % 256).astype(np.uint8)
    mask = np.pad(heat > threshold_otsu(heat), 16)
    mask = ndimage.binary_closing(mask, np.ones((3, 3)), iterations=3)[16:-16, 16:-16]
    return remove_small_objects(mask, max_size=mask.size // 1000)


WAYS: dict[str, Callable[[Rgb], Mask]] = {
    "od": ours("od"),
    "hsv-otsu": ours("hsv-otsu"),
    "CLAM": clam,
    "TIAToolbox otsu": tiatoolbox_otsu,
    "TIAToolbox morphological": tiatoolbox_morphological,
    "LazySlide": lazyslide,
}


def tile_shares(mask: Mask, side: int) -> npt.NDArray[np.float64]:
    """Share of the mask in the tile of each pixel, float64 (H, W)."""
    rows, cols = (-(-extent // side) for extent in mask.shape)
    padded = np.zeros((rows * side, cols * side))
    padded[: mask.shape[0], : mask.shape[1]] = mask
    share = padded.reshape(rows, side, cols, side).mean(axis=(1, 3))
    return share.repeat(side, 0).repeat(side, 1)[: mask.shape[0], : mask.shape[1]]


def looked_at(mask: Mask) -> Mask:
    """Pixels in the tiles that a run would look at."""
    return (tile_shares(mask, _ROOT) >= _LEAST) & (tile_shares(mask, _TILE) > 0)


def darkened(rgb: Rgb, seen: Mask, way: str) -> Image.Image:
    """A small picture with what is not looked at in the dark."""
    image = Image.fromarray(np.where(seen[..., None], rgb, rgb // 3).astype(np.uint8))
    image.thumbnail((_SMALL, _SMALL))
    canvas = Image.new("RGB", (_SMALL + 4, _SMALL + 4), (255, 255, 255))
    canvas.paste(image, (2, 2))
    ImageDraw.Draw(canvas).text((8, 8), way, fill=(255, 255, 0), font=ImageFont.load_default(16))
    return canvas


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--thumbnails", type=Path, default=_THUMBNAILS, metavar="DIR")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write NAME.WAY.png, outlines over thumbnails")
    parser.add_argument("--overview", type=Path, metavar="FILE.png", help="one picture of what each way looks at")
    arguments = parser.parse_args()
    names = sorted(path.stem for path in arguments.thumbnails.glob("*.jpg"))
    if not names:
        raise SystemExit(f"no thumbnails in {arguments.thumbnails}: name a folder with --thumbnails")
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    figures: list[Figure] = []
    overview: list[list[Image.Image]] = []
    for name in names:
        rgb = np.asarray(Image.open(arguments.thumbnails / f"{name}.jpg").convert("RGB"))
        reference = np.asarray(Image.open(arguments.thumbnails / f"{name}.reference.png"))
        overview.append([])
        for way, find in WAYS.items():
            begun = time.process_time()
            mask = find(rgb)
            seconds = time.process_time() - begun
            seen = looked_at(mask)
            shares = {
                "tissue looked at": seen[reference == 255].mean(),
                "glass looked at": seen[reference == 0].mean(),
                "neither, in the mask": mask[reference == 128].mean(),
                "neither, looked at": seen[reference == 128].mean(),
            }
            figures += [Figure(key, float(value), "", {"slide": name, "way": way}) for key, value in shares.items()]
            figures.append(Figure("CPU seconds", seconds, "s", {"slide": name, "way": way}))
            rows.append([name, way, *(f"{value:.4f}" for value in shares.values()), f"{seconds:.2f}"])
            overview[-1].append(darkened(rgb, seen, way))
            if arguments.pictures is not None:
                drawn = Image.fromarray(draw_contour(rgb, ndimage.binary_dilation(mask) | mask))
                drawn.save(arguments.pictures / f"{name}.{way.replace(' ', '_')}.png")
    if arguments.overview is not None:
        rows_of = [np.concatenate([np.asarray(image) for image in row], axis=1) for row in overview]
        Image.fromarray(np.concatenate(rows_of)).quantize(64).save(arguments.overview, optimize=True)
    if arguments.json is not None:
        report(figures, arguments.json)
    heads = ["tissue looked at", "glass looked at", "neither, in the mask", "neither, looked at", "CPU s"]
    print_table(["slide", "way", *heads], rows)


if __name__ == "__main__":
    main()

"""Files made to exhaust or to confuse whoever reads them are refused in one line, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.label_mask import open_mask
from pyramidai_mpi.truth.png_mask import open_png_mask
from pyramidai_mpi.truth.truth import read_truth
from tests.truth.files import SQUARE, asap, feature, geojson

SIZE = (1000, 700)
MASK = np.random.default_rng(0).random((70, 100)) < 0.5

READ_IN_1_GIB = """
import resource, sys
from pathlib import Path
import numpy, shapely, tifffile, PIL.Image
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.truth import read_truth
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (1 << 30),) * 2)
try:
    read_truth(Path(sys.argv[1]), "slide", (1000, 700)).coverage((7, 10), 100.0)
except InputError as error:
    print(error)
"""


def refusal_in_1_gib(path) -> str:
    """What a process says that may take 1 GiB of addresses for it."""
    done = subprocess.run([sys.executable, "-c", READ_IN_1_GIB, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return done.stdout


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_truth(path, "slide", SIZE)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000 + len(str(path))
    return str(caught.value)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 4000, "1e400", "-1e309", "1e300", "NaN", "1" * 5000])
def test_numbers_that_no_slide_reaches_are_refused(tmp_path, number) -> None:
    ring = f"[[10,10],[90,10],[{number},90],[10,90]]"
    (tmp_path / "slide.geojson").write_text(f'{{"type":"Polygon","coordinates":[{ring}]}}')
    assert "JSON" in refusal(tmp_path / "slide.geojson")
    (tmp_path / "slide.json").write_text(f'{{"slide":{{"positive":[{ring}]}}}}')
    assert "JSON" in refusal(tmp_path / "slide.json") or "[x, y] rings" in refusal(tmp_path / "slide.json")
    assert "bad coordinate" in refusal(asap(tmp_path / "slide.xml", [("", [[10, 10], [90, 10], [number, 90]])]))


@pytest.mark.parametrize("depth", [400, 900, 5000, 100_000, 3_000_000])
def test_deep_nests_are_refused(tmp_path, depth) -> None:
    inner = json.dumps(feature([SQUARE])["geometry"])
    nest = '{"type":"GeometryCollection","geometries":[' * depth + inner + "]}" * depth
    nests = {
        "lists": "[" * depth + "]" * depth,
        "objects": '{"a":' * depth + "1" + "}" * depth,
        "ring": f'{{"type":"Polygon","coordinates":{"[" * depth}{"]" * depth}}}',
        "children": '{"type":"Feature","geometry":null,"properties":{"childObjects":[' * depth + "]}}" * depth,
        "geometries": nest,
    }
    for kind, text in nests.items():
        (tmp_path / "slide.geojson").write_text(text)
        if kind == "geometries" and depth < 900:
            assert read_truth(tmp_path / "slide.geojson", "slide", SIZE).tumor.shape.area == 6400
        else:
            refusal(tmp_path / "slide.geojson")
    (tmp_path / "slide.xml").write_text("<ASAP_Annotations>" + "<a>" * depth)
    refusal(tmp_path / "slide.xml")


def test_what_2_mb_of_gzip_unpack_to_is_not_all_unpacked(tmp_path) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        for _ in range(600):  # MiB; a file of 4 GiB differs in its length alone, and takes the test longer to write
            file.write(b" " * (1 << 20))
    for name in ("slide.geojson.gz", "slide.xml"):
        (tmp_path / name).write_bytes(packed.getvalue())
        assert "holds more than 256 MiB of text" in refusal_in_1_gib(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 5, 12, 40])
def test_cut_and_damaged_gzip_is_refused(tmp_path, cut) -> None:
    path = geojson(tmp_path / "slide.json", feature([SQUARE]))
    packed = bytearray(gzip.compress(path.read_bytes()))
    (tmp_path / "slide.json.gz").write_bytes(packed[:-cut])
    assert "cannot be unpacked" in refusal(tmp_path / "slide.json.gz")
    packed[-cut] ^= 0xFF
    (tmp_path / "slide.json.gz").write_bytes(packed)
    refusal(tmp_path / "slide.json.gz")


def test_entities_that_multiply_are_refused(tmp_path) -> None:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    (tmp_path / "slide.xml").write_text(
        f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{entities}]><ASAP_Annotations Name="&a12;">&a12;</ASAP_Annotations>'
    )
    assert "not valid XML" in refusal_in_1_gib(tmp_path / "slide.xml")


@pytest.mark.parametrize("n_corners", [500, 20_000])
def test_an_outline_that_crosses_itself_all_over_is_refused_before_it_is_repaired(tmp_path, n_corners) -> None:
    corners = (np.random.default_rng(0).random((n_corners, 2)) * 700).tolist()
    # 500 corners: 90 s in shapely's make_valid; 20000: days
    message = refusal_in_1_gib(geojson(tmp_path / "slide.geojson", feature([corners])))
    assert "crosses itself more than 3000 times" in message


def test_names_of_any_length_and_number_stay_one_line(tmp_path) -> None:
    refusal(geojson(tmp_path / "slide.geojson", *(feature([SQUARE], f"{n}" * 2000) for n in range(300))))
    refusal(geojson(tmp_path / "slide.geojson", feature([SQUARE], "a\nb")).rename(tmp_path / "slide.json"))
    (tmp_path / "slide.geojson").write_text(json.dumps({"type": "x" * 100_000}))
    refusal(tmp_path / "slide.geojson")
    refusal(asap(tmp_path / "slide.xml", [("", [])], kind="k" * 100_000))
    (tmp_path / "slide.xml").write_text(f"<{'x' * 100_000}/>")
    refusal(tmp_path / "slide.xml")


def png(mode: str) -> bytes:
    image = {
        "1": Image.fromarray(MASK),
        "L": Image.fromarray(MASK.astype(np.uint8) * 255),
        "P": Image.fromarray(MASK.astype(np.uint8)).convert("P"),
        "I;16": Image.fromarray(MASK.astype(np.uint16) * 40000),
    }[mode]
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_a_png_mask_that_is_cut_is_refused_or_has_all_its_pixels(tmp_path, mode) -> None:
    whole, path = png(mode), tmp_path / "mask.png"
    n_refused, lengths = 0, [*range(8, 120), *range(120, len(whole), 13)]
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            assert np.array_equal(open_png_mask(path, SIZE).marked, MASK)
        except InputError as error:
            assert "not a readable PNG" in str(error)
            n_refused += 1
    assert n_refused >= len(lengths) - 2  # all but a cut among the last checksums


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_a_png_mask_with_other_bytes_is_one_or_is_refused_in_one_line(tmp_path, mode) -> None:
    whole, path, rng = png(mode), tmp_path / "mask.png", np.random.default_rng(1)
    for _ in range(1000):
        data = bytearray(whole)
        for place in rng.integers(8, len(whole) if rng.random() < 0.5 else 60, rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert open_png_mask(path, SIZE).marked.shape == (70, 100)
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_a_png_mask_that_lacks_rows_is_refused(tmp_path, bits, interlaced) -> None:
    # the bytes of all passes: counted by hand for 100 x 70 px
    sizes = [(13, 9), (12, 9), (25, 9), (25, 18), (50, 17), (50, 35), (100, 35)] if interlaced else [(100, 70)]
    n_bytes = sum(rows * (1 + (cols * bits + 7) // 8) for cols, rows in sizes)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 70, bits, 0, 0, 0, interlaced))
    for missing in (0, 1, n_bytes // 2, n_bytes - 1):
        pixels = chunk(b"IDAT", zlib.compress(bytes(n_bytes - missing)))
        (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))
        if missing:
            with pytest.raises(InputError, match="not a readable PNG"):
                open_png_mask(tmp_path / "mask.png", SIZE)
        else:
            assert not open_png_mask(tmp_path / "mask.png", SIZE).marked.any()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_png_of_few_bytes_that_claims_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 70_000, 8, 0, 0, 0, 0))
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))))
    with pytest.raises(InputError, match="too large for a PNG mask"):
        open_png_mask(tmp_path / "mask.png", (100_000, 70_000))


def tiff(path, **how) -> bytes:
    tifffile.imwrite(path, MASK.astype(np.uint8), compression="zlib", **how)
    return path.read_bytes()


@pytest.mark.parametrize("how", [{"tile": (16, 16)}, {"rowsperstrip": 8}, {}], ids=["tiles", "strips", "one strip"])
def test_a_tiff_mask_that_is_cut_is_refused(tmp_path, how) -> None:
    whole = tiff(tmp_path / "mask.tif", **how)
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        (tmp_path / "mask.tif").write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a readable TIFF"):
            open_mask(tmp_path / "mask.tif", SIZE)


@pytest.mark.parametrize("how", [{"tile": (16, 16)}, {"rowsperstrip": 8}, {}], ids=["tiles", "strips", "one strip"])
def test_a_tiff_mask_with_other_bytes_is_one_or_is_refused_in_one_line(tmp_path, how) -> None:
    path, rng = tmp_path / "mask.tif", np.random.default_rng(2)
    whole = tiff(path, **how)
    for _ in range(600):
        data = bytearray(whole)
        for place in rng.integers(4, len(whole) if rng.random() < 0.3 else 300, rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            open_mask(path, SIZE).coverage((7, 10), 100.0)
        except InputError as error:
            assert "\n" not in str(error)


def test_a_tiff_whose_one_piece_claims_the_whole_of_a_huge_slide_is_refused(tmp_path) -> None:
    path = tmp_path / "slide.tif"
    tiff(path, rowsperstrip=70)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in (("ImageWidth", 60_000), ("ImageLength", 42_000), ("RowsPerStrip", 42_000)):
            file.pages[0].tags[name].overwrite(value, dtype=4)
    with pytest.raises(InputError, match=r"pieces of 60000 x 42000 px.*save it in tiles"):
        read_truth(path, "slide", (60_000, 42_000))

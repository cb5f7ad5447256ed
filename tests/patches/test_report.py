"""The page of a file of patches stands alone, and says and shows what the file holds."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.patches import places
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.label_colours import label_colours
from pyramidai_mpi.patches.report import write_patch_report
from pyramidai_mpi.patches.sheet import draw_sheet
from pyramidai_mpi.store.patches.record import PATCH_DTYPE, listed_table
from tests.colour_vision import least_difference
from tests.html_pages import Page, decoded
from tests.patch_files import labelled, order_of, write_patches_of, write_pictures_of
from tests.patches.conftest import LABELS, label_of
from tests.tiffs import drop_tile, stored_tile, textured, write_slide

LABEL = label_of(192)


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(page_of_kept):
    return read(page_of_kept)


def cards(path):
    """Numbers of the patches of the sheet, in the page's order."""
    return [int(number) for number in re.findall(r'data-number="(\d+)"', path.read_text(encoding="utf-8"))]


def test_it_refers_to_nothing_outside_itself_and_allows_no_script_but_its_own(page, page_of_kept):
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    text = page_of_kept.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|fetch\(|https?://(?!www\.w3\.org)", text)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_names_are_text_and_never_markup(page, page_of_kept):
    assert "<i>odd & ends</i> 3 of 3" in page.text
    assert "<u>1</u>" in page.text
    text = page_of_kept.read_text(encoding="utf-8")
    assert "<i>odd" not in text
    assert "<u>" not in text


def test_no_name_can_break_out_of_the_text(tmp_path, lossless_slide):
    def renamed(content):
        return replace(content, slide=replace(content.slide, name="</title><script>x\n\u202ey.tif"))

    path = write_patches_of(lossless_slide, tmp_path / "'\"><b>.patches.h5", order_of(), change=renamed)
    write_patch_report(path, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert "<b>.patches" not in text
    assert "\u202e" not in text
    assert "</title><script>x\\n\\u202ey.tif" in read(tmp_path / "page.html").text


def test_the_sheet_shows_patches_of_each_label_with_what_is_known_of_them(page, page_of_kept, kept):
    numbers = cards(page_of_kept)
    by_label = {number: [n for n in numbers if LABEL[n] == number] for number in (0, 1, 2, -1)}
    assert {number: len(members) for number, members in by_label.items()} == {0: 9, 1: 9, 2: 3, -1: 9}
    assert numbers == [n for number in (0, 1, 2, -1) for n in sorted(set(by_label[number]))]
    with open_patches(kept) as patches:
        for n in numbers[::5]:
            patch = patches.table[n]
            share = "" if np.isnan(patch["tumor"]) else f"tumour {100 * patch['tumor']:.1f} % "
            x, y = int(patch["l0_x"]), int(patch["l0_y"])
            said = f"Patch {n} x {x}, y {y} px tissue 100.0 % {share}white {100 * patch['white']:.1f} %"
            assert said in page.text.replace("\xa0", " ")


def test_the_pictures_of_the_sheet_are_the_patches(page, page_of_kept, stored_images):
    padded = np.pad(stored_images[0], ((16, 16), (16, 16), (0, 0)), constant_values=255)
    numbers = cards(page_of_kept)
    assert len(page.tiles) == len(numbers)
    for n, address in zip(numbers, page.tiles, strict=True):
        col, row = n % 16, n // 16
        expected = padded[64 * row : 64 * row + 96, 64 * col : 64 * col + 96].astype(int)
        assert address.startswith("data:image/jpeg")
        assert np.abs(decoded(address)[..., :3] - expected).mean() < 6  # JPEG


def test_pictures_are_small_and_of_the_whole_patch(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression="zlib")
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(512, 512))
    write_patch_report(path, tmp_path / "a.html")
    found = read(tmp_path / "a.html")
    assert [decoded(address).shape for address in found.tiles] == [(128, 128, 4)] * 4
    reduced = Image.fromarray(stored_images[0][:512, :512]).resize((128, 128), Image.Resampling.BOX)
    assert np.abs(decoded(found.tiles[0])[..., :3].astype(int) - np.asarray(reduced)).mean() < 9


def test_the_draw_follows_from_seed_and_slide_and_a_smaller_one_is_part_of_a_larger_one():
    table = np.zeros(3000, PATCH_DTYPE)
    table["col"], table["row"] = np.arange(3000) % 60, np.arange(3000) // 60
    label = np.arange(3000) % 3
    few, many = (draw_sheet(table, label, 3, n, 1, "hash") for n in (5, 24))
    for number in range(3):
        assert len(set(many[number].tolist())) == 24
        assert (label[many[number]] == number).all()
        assert set(few[number].tolist()) < set(many[number].tolist())
    again, other, elsewhere = (draw_sheet(table, label, 3, 24, *way) for way in ((1, "hash"), (2, "hash"), (1, "else")))
    assert np.array_equal(np.concatenate(again), np.concatenate(many))
    assert not np.array_equal(np.concatenate(other), np.concatenate(many))
    assert not np.array_equal(np.concatenate(elsewhere), np.concatenate(many))
    # of many draws, each patch is shown about equally often: 400 draws of 100 of 1000
    shown = np.bincount(
        np.concatenate([draw_sheet(table, label, 3, 100, s, "")[0] for s in range(400)]), minlength=3000
    )
    assert shown[::3].min() > 10
    assert shown[::3].max() < 80


def test_however_many_labels_there_are_the_page_stays_small():
    table = np.zeros(2000, PATCH_DTYPE)
    table["col"] = np.arange(2000)
    for n_labels, most in ((3, 160), (100, 4), (1000, 1)):
        chosen = draw_sheet(table, np.arange(2000) % n_labels, n_labels, 480, 0, "")
        assert max(map(len, chosen)) == min(most, 2000 // n_labels)
        assert sum(map(len, chosen)) <= 480


def test_a_page_of_a_thousand_labels_says_what_it_leaves_out(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [textured(1024, 1024)])
    change = labelled(tuple(f"l{n}" for n in range(1000)), np.arange(4096) % 1000)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(16, 16, pixels="none"), change=change)
    write_patch_report(path, tmp_path / "a.html", slide)
    words = read(tmp_path / "a.html").text
    assert len(cards(tmp_path / "a.html")) == 480
    assert "There are 520 more labels, too many to show a patch of each." in words
    assert "and 800 more labels" in words
    assert (tmp_path / "a.html").stat().st_size < 2 << 20


def test_counts_and_means_are_those_of_the_table(page, kept):
    with open_patches(kept) as patches:
        table = patches.table
    words = page.text
    for number, name in ((0, "tumor"), (1, "normal"), (2, LABELS[2]), (-1, "unknown")):
        members = table[number == table["label"]]
        tumor = f"{100 * np.nanmean(members['tumor']):.1f} %"
        white = f"{100 * members['white'].mean(dtype=float):.1f} %"
        assert f"{name} {len(members)} 100.0 % {tumor} {white} not measured" in words
    assert "192 patches, dense" in words
    assert "patient 24" in words
    assert "size 96" in words
    with open_patches(kept) as patches:
        assert patches.digest in words


def test_the_bars_are_those_of_numpy_and_what_was_not_measured_is_said(page_of_kept, kept):
    with open_patches(kept) as patches:
        table = patches.table
    text = page_of_kept.read_text(encoding="utf-8")
    bars = re.findall(r"<title>(\d\.\d\d) to \d\.\d\d: (\d+) patches(?: \((.*?)\))?</title>", text)
    assert len(bars) == 3 * 20  # black has none
    for place, share in enumerate(("tissue", "tumor", "white")):
        known = table[share][~np.isnan(table[share])]
        expected, _ = np.histogram(known, 20, (0, 1))
        its = bars[20 * place : 20 * place + 20]
        assert [int(n) for _, n, _ in its] == expected.tolist()
        assert [
            sum(int(part.split()[0]) for part in parts.split(", ") if part) for *_, parts in its
        ] == expected.tolist()
    charts = text[text.index('class="charts"') :]
    assert re.search(r"Tumour, share of the cell&#39;s tissue <small>not measured of 10</small>", charts)
    assert re.search(r"Black, share of the patch</figcaption>\s*<p class=\"note\">not measured</p>", charts)


def layer(text, title):
    """A layer of places, by its label's title as the page escapes it: True where it is not clear."""
    number = re.search(rf'value="(\d+)"><i class="swatch" [^>]*></i>{re.escape(title)}</label>', text)[1]
    return decoded(re.search(rf'data-layer="{number}" alt="" src="([^"]+)"', text)[1])


def test_the_places_are_those_of_the_cells(page_of_kept, kept):
    text = page_of_kept.read_text(encoding="utf-8")
    with open_patches(kept) as patches:
        table = patches.table
    downsample = 1024 / 1000
    for number, title in ((0, "tumor"), (1, "normal"), (2, "&lt;i&gt;odd &amp; ends&lt;/i&gt;"), (-1, "unknown")):
        picture = layer(text, title)
        expected = np.zeros((750, 1000), bool)
        for patch in table[number == table["label"]]:
            (left, right), (top, bottom) = (
                [round((int(patch[name]) + add) / downsample) for add in (0, 64)] for name in ("cell_l0_x", "cell_l0_y")
            )
            expected[top:bottom, left:right] = True
        assert np.array_equal(picture[..., 3] > 0, expected)
        colour = label_colours([*LABELS, "unknown"])[LABELS[number] if number >= 0 else "unknown"]
        assert (picture[expected][:, :3] == colour).all()
    assert text.count('class="over"') == len(cards(page_of_kept))


def base_of(path):
    return re.search(r'class="base" alt="" src="([^"]+)" style="width:([\d.]+)%;height:([\d.]+)%"', path.read_text())


def thumbnail(image, size):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)).astype(int)


def test_the_kept_tiles_make_the_picture_below_and_what_is_not_kept_is_grey(tmp_path, lossless_slide, stored_images):
    mask = np.zeros((12, 16), bool)
    mask[:, :6] = True  # patches in columns 0 to 5: pixels up to 400, so tiles of 128 up to 512
    path = write_patches_of(lossless_slide, tmp_path / "a.patches.h5", order_of(), mask)
    write_patch_report(path, tmp_path / "a.html")
    assert "grey is not kept" in read(tmp_path / "a.html").text
    address, width, height = base_of(tmp_path / "a.html").groups()
    picture = decoded(address)[..., :3].astype(int)
    assert picture.shape == (750, 1000, 3)
    assert (float(width), float(height)) == pytest.approx((100, 100), abs=0.2)
    expected = thumbnail(stored_images[0], (1000, 750))
    assert np.abs(picture - expected)[:, :480].mean() < 12
    assert np.abs(picture[:, 520:] - (224, 228, 234)).mean() < 3


def test_a_file_without_pixels_has_all_but_the_pictures_and_says_so(bare, tmp_path):
    write_patch_report(bare, tmp_path / "bare.html")
    found = read(tmp_path / "bare.html")
    assert found.tiles == []
    assert len(cards(tmp_path / "bare.html")) == 24 + 24 + 3 + 20
    assert "The file keeps no pixels, so they cannot be shown" in found.text
    assert "with --slide SLIDE the slide is shown below the places" in found.text
    assert base_of(tmp_path / "bare.html") is None
    assert "tumor 24 of" in found.text
    assert layer((tmp_path / "bare.html").read_text(), "tumor")[..., 3].any()


def test_its_slide_lends_it_pixels(bare, kept, tmp_path, lossless_slide, stored_images):
    write_patch_report(bare, tmp_path / "bare.html", lossless_slide, per_label=9)
    write_patch_report(kept, tmp_path / "kept.html", lossless_slide, per_label=9)
    found = read(tmp_path / "bare.html")
    assert "these are of the slide" in found.text
    assert found.tiles == read(tmp_path / "kept.html").tiles
    assert len(found.tiles) == 30
    picture = decoded(base_of(tmp_path / "bare.html")[1])[..., :3].astype(int)
    assert np.abs(picture - thumbnail(stored_images[0], (1000, 750))).mean() < 12


@pytest.mark.parametrize("mpp", [0.7, 0.237])
def test_pixels_of_the_slide_are_those_that_a_file_would_keep_at_any_spacing(tmp_path, lossless_slide, mpp):
    tiles = []
    for pixels in ("stored", "none"):
        path = write_patches_of(lossless_slide, tmp_path / f"{pixels}.h5", order_of(48, 32, mpp=mpp, pixels=pixels))
        write_patch_report(path, tmp_path / f"{pixels}.html", lossless_slide)
        tiles.append(read(tmp_path / f"{pixels}.html").tiles)
    assert len(tiles[0]) == 24
    assert tiles[0] == tiles[1]


def test_another_slide_is_refused(bare, tmp_path):
    other = write_slide(tmp_path / "other.tif", [textured(1024, 768, seed=5)])
    with pytest.raises(InputError, match=r"is not the slide that .* was made from"):
        write_patch_report(bare, tmp_path / "page.html", other)
    with pytest.raises(InputError, match=r"gone\.tif"):
        write_patch_report(bare, tmp_path / "page.html", tmp_path / "gone.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["other.tif"]


def test_the_pictures_of_the_scanner_are_never_shown(tmp_path, stored_images, monkeypatch):
    # a red picture of the glass behind the levels: nothing on the page is red, whether of the file or of the slide
    macro = np.zeros((150, 200, 3), np.uint8)
    macro[..., 0] = 255
    slide = write_slide(tmp_path / "slide.tif", [*stored_images[:2], macro], compression="zlib")
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of())
    monkeypatch.setattr(places, "_LONG_SIDE", 150)  # so small that it would be taken for the level to read
    for way in (None, slide):
        write_patch_report(path, tmp_path / "a.html", way, overwrite=True)
        found = read(tmp_path / "a.html")
        pictures = [decoded(base_of(tmp_path / "a.html")[1]), *map(decoded, found.tiles)]
        assert len(pictures) == 25
        for picture in pictures:
            red = (picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] < 60)
            assert not red.any()


def test_patches_that_cannot_be_read_are_told_on_the_page(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", [stored_images[0]], compression="zlib")
    offset, n_bytes = stored_tile(slide, 3, 2)
    with slide.open("r+b") as file:  # a damage that only the decoder sees
        file.seek(offset + n_bytes // 2)
        file.write(bytes(64))
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of())
    write_patch_report(path, tmp_path / "a.html", per_label=480)
    found = read(tmp_path / "a.html")
    # tile column 3, row 2 is 384 to 512 across and 256 to 384 down; windows 64 * n - 16 to 64 * n + 80
    over = {(col, row) for col in range(16) for row in range(12) if 304 < 64 * col < 528 and 176 < 64 * row < 400}
    assert found.text.count("cannot be read Patch") == len(over) == 16
    assert len(found.tiles) == 192 - len(over)
    assert f"{len(over)} of the patches shown cannot be read" in found.text
    assert "1 tile of 48 cannot be decoded" in found.text
    assert "stored tile column 3, row 2 is damaged in the slide itself" in (tmp_path / "a.html").read_text()


def test_cells_that_could_not_be_read_are_listed_with_their_reason(tmp_path, stored_images):
    slide = drop(write_slide(tmp_path / "slide.tif", [stored_images[0]]))
    write_patch_report(write_patches_of(slide, tmp_path / "a.patches.h5", order_of()), tmp_path / "a.html")
    words = read(tmp_path / "a.html").text
    assert "16 cells of the slide could not be read." in words
    assert "column 5, row 3" in words
    assert words.count("stored tile column 3, row 2 of stored level 0 is not in the file") == 16


def drop(slide):
    drop_tile(slide, 3, 2)
    return slide


def test_a_file_without_patches_has_a_page_too(tmp_path, lossless_slide):
    path = write_patches_of(lossless_slide, tmp_path / "a.patches.h5", order_of(), np.zeros((3, 4), bool))
    write_patch_report(path, tmp_path / "a.html")
    found = read(tmp_path / "a.html")
    assert "The file has no patches." in found.text
    assert found.text.count("not measured") == 4


def test_patches_that_were_refused_and_cells_that_were_not_asked_for_are_counted(tmp_path, lossless_slide):
    def limited(content):
        settings = replace(content.settings, max_white=0.25, only_label="tumor", labels='["normal", "tumor"]')
        return replace(content, settings=settings, n_refused=7, n_cells=192)

    half = np.arange(16)[None].repeat(12, 0) < 8
    path = write_patches_of(lossless_slide, tmp_path / "a.patches.h5", order_of(pixels="none"), half, change=limited)
    write_patch_report(path, tmp_path / "a.html")
    words = read(tmp_path / "a.html").text
    assert "192 cells with 0.05 tissue or more 89 of these not asked for 7 refused as too white or too black" in words
    assert "max white 0.25" in words
    assert "only label tumor" in words


def test_a_page_is_not_replaced_unasked(bare, tmp_path):
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_patch_report(bare, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "mine"


def test_the_same_file_gives_the_same_page(kept, page_of_kept, tmp_path):
    write_patch_report(kept, tmp_path / "again.html", per_label=9)
    assert (tmp_path / "again.html").read_bytes() == page_of_kept.read_bytes()


def test_seven_labels_can_be_told_apart_by_everybody():
    names = ["normal", "tumor", "a", "b", "c", "d", "unknown"]
    colours = label_colours(names)
    assert len(set(colours.values())) == 7
    assert least_difference(list(colours.values())) > 16
    assert least_difference([colours[name] for name in ("normal", "tumor", "unknown")]) > 30
    many = label_colours([f"l{n}" for n in range(40)])
    assert len(set(many.values())) == 7
    assert label_colours(["b", "a"])["b"] == label_colours(["a", "b"])["a"]


def test_further_labels_share_a_layer(tmp_path, lossless_slide):
    names = tuple(f"l{n}" for n in range(10))
    path = write_patches_of(
        lossless_slide, tmp_path / "a.patches.h5", order_of(), change=labelled(names, np.arange(192) % 10)
    )
    write_patch_report(path, tmp_path / "a.html", per_label=1)
    found = read(tmp_path / "a.html")
    assert "4 further labels" in found.text
    assert (tmp_path / "a.html").read_text().count('class="places"') == 7
    assert all(f"{name} 1 of" in found.text for name in names)


def test_pictures_of_patches_are_put_together_to_one_of_the_slide(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (7, 3), np.uint8)
    pictures = [np.broadcast_to(colour, (200, 200, 3)).tobytes() for colour in colours]
    path = write_pictures_of(pictures, tmp_path / "a.patches.h5", 200, "raw")
    write_patch_report(path, tmp_path / "a.html")
    found = read(tmp_path / "a.html")
    picture = decoded(base_of(tmp_path / "a.html")[1])[..., :3].astype(int)
    assert picture.shape == (143, 1000, 3)
    for n, colour in enumerate(colours.astype(int)):
        assert np.abs(picture[20:-20, round(n * 1000 / 7) + 20 : round((n + 1) * 1000 / 7) - 20] - colour).max() < 4
    assert "put together from the patches" in found.text
    assert "one a patch (raw), 0.8 MB" in found.text
    seen = {tuple(decoded(address)[64, 64, :3].tolist()) for address in found.tiles}
    assert all(min(np.abs(np.subtract(colour.astype(int), one)).max() for one in seen) < 4 for colour in colours)


def test_pictures_of_no_known_slide_have_no_places(tmp_path, lossless_slide):
    def nowhere(content):
        settings = replace(content.settings, places="none")
        table = listed_table(settings, content.slide.l0_size, np.full((5, 2), -1))
        return replace(content, settings=settings, patches=table, n_cells=5)

    path = write_patches_of(lossless_slide, tmp_path / "a.patches.h5", order_of(pixels="none"), change=nowhere)
    write_patch_report(path, tmp_path / "a.html")
    words = read(tmp_path / "a.html").text
    assert "nobody has said where they lie" in words
    assert "Patch 4" in words
    assert "px tissue" not in words
    with pytest.raises(InputError, match="leave out --slide"):
        write_patch_report(path, tmp_path / "b.html", lossless_slide)

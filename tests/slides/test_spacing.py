"""The snapping rule: the slide's own grid within 2 %, exact resampling otherwise, no silent upsampling."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.spacing import nominal_downsample, plan_levels, square_spacing


def plan(stored, mpp, *, n_levels=3, base_mpp=0.25, f=2, **options):
    return plan_levels(stored, mpp, base_mpp=base_mpp, scale_factor=f, n_levels=n_levels, **options)


def read_from(plans):
    return [(p.stored_level, p.ratio) for p in plans]


def test_a_slide_at_the_models_spacing_is_read_as_it_is():
    plans = plan([1, 2, 4, 8], 0.25)
    assert read_from(plans) == [(0, 1), (1, 1), (2, 1)]
    assert [p.spacing for p in plans] == [0.25, 0.5, 1.0]


def test_a_spacing_of_0_2528_snaps_to_0_25_and_its_true_spacing_is_told():
    plans = plan([1, 2, 4, 8, 16], 0.2528)
    assert read_from(plans) == [(0, 1), (1, 1), (2, 1)]
    assert [p.spacing for p in plans] == pytest.approx([0.2528, 0.5056, 1.0112], rel=1e-12)
    assert [p.downsample for p in plans] == [1, 2, 4]


@pytest.mark.parametrize(("mpp", "snaps"), [(0.2549, True), (0.2551, False), (0.2451, True), (0.2449, False)])
def test_snapping_ends_at_2_percent(mpp, snaps):
    plans = plan([1, 2, 4], mpp)
    assert (plans[0].ratio == 1) is snaps
    if not snaps:
        assert [p.spacing for p in plans] == pytest.approx([0.25, 0.5, 1.0], rel=1e-12)


def test_a_scan_at_0_125_skips_its_finest_level():
    plans = plan([1, 2, 4, 8], 0.125)
    assert read_from(plans) == [(1, 1), (2, 1), (3, 1)]
    assert [p.downsample for p in plans] == [2, 4, 8]


def test_missing_powers_are_made_from_the_nearest_finer_stored_level():
    # Aperio stores 1, 4, 16
    assert read_from(plan([1, 4, 16], 0.25, n_levels=5)) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert read_from(plan([1, 4, 16], 0.125)) == [(0, 2), (1, 1), (1, 2)]


def test_a_single_level_at_0_499_is_not_enlarged_in_silence():
    with pytest.raises(InputError, match=r"0\.499.*--allow-upsampling") as caught:
        plan([1], 0.499, name="slide.svs")
    assert caught.value.exit_code == 65
    assert "slide.svs" in str(caught.value)


def test_a_single_level_at_0_499_is_the_grid_of_level_1_when_upsampling_is_allowed():
    plans = plan([1], 0.499, allow_upsampling=True)
    assert read_from(plans) == [(0, 0.5), (0, 1), (0, 2)]
    assert [p.spacing for p in plans] == pytest.approx([0.2495, 0.499, 0.998])


def test_a_single_level_at_0_499_serves_a_model_of_half_a_micrometre():
    assert read_from(plan([1], 0.499, base_mpp=0.5)) == [(0, 1), (0, 2), (0, 4)]


def test_a_spacing_that_is_no_power_is_resampled_to_exactly_what_the_model_asks_for():
    plans = plan([1, 2, 4, 8], 0.23)
    assert [p.stored_level for p in plans] == [0, 1, 2]
    assert [p.ratio for p in plans] == pytest.approx([25 / 23] * 3, rel=1e-12)
    assert [p.spacing for p in plans] == pytest.approx([0.25, 0.5, 1.0], rel=1e-12)


def test_a_coarser_stored_level_may_be_the_one_that_snaps():
    # stored at 0.23, and at 0.25 by a downsample of its own
    assert read_from(plan([1, 25 / 23, 50 / 23], 0.23, n_levels=2)) == [(1, 1), (2, 1)]


def test_ten_percent_of_upsampling_passes_and_more_needs_the_flag():
    assert plan([1, 2], 0.27, n_levels=2)[0].ratio == pytest.approx(0.25 / 0.27)
    assert plan([1, 2], 0.2749, n_levels=2)[0].ratio < 1
    with pytest.raises(InputError, match="--allow-upsampling"):
        plan([1, 2], 0.2751, n_levels=2)
    assert plan([1, 2], 0.3, n_levels=2, allow_upsampling=True)[0].ratio == pytest.approx(0.25 / 0.3)


def test_exactly_ten_percent_is_not_more_than_ten_percent():
    assert plan([1, 2], 0.275, n_levels=2)[0].ratio == pytest.approx(0.25 / 0.275)


def test_other_scale_factors_snap_to_their_own_powers():
    assert read_from(plan([1, 4, 16], 0.25, f=4)) == [(0, 1), (1, 1), (2, 1)]
    assert read_from(plan([1, 3, 9], 0.083, f=3, n_levels=2)) == [(1, 1), (2, 1)]
    # half of 0.25 is no power of 4 of it, so nothing snaps at level 0; the stored 0.25 does
    assert read_from(plan([1, 2, 8], 0.125, f=4, n_levels=2)) == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("found", "meant"),
    [(1.0, 1), (3.9996, 4), (4.0002, 4), (15.994, 16), (31.972, 32), (4.0143, 4), (1.5, 1.5), (3.9, 3.9)],
)
def test_a_rounded_level_size_stands_for_a_whole_downsample(found, meant):
    assert nominal_downsample(found) == meant


@given(
    mpp=st.floats(0.05, 2),
    base_mpp=st.sampled_from([0.25, 0.5, 1.0]),
    f=st.integers(2, 4),
    n_levels=st.integers(1, 5),
    stored=st.sets(st.sampled_from([2.0, 3.0, 4.0, 5.5, 8.0, 16.0, 32.0]), max_size=5),
)
def test_every_plan_keeps_the_rule(mpp, base_mpp, f, n_levels, stored):
    downsamples = [1.0, *sorted(stored)]
    spacings = [mpp * d for d in downsamples]
    powers = [math.log(s / base_mpp) / math.log(f) for s in spacings]
    off = [abs(s / (base_mpp * f ** round(p)) - 1) for s, p in zip(spacings, powers, strict=True)]
    assume(all(abs(o - 0.02) > 1e-6 for o in off))
    plans = plan(downsamples, mpp, base_mpp=base_mpp, f=f, n_levels=n_levels, allow_upsampling=True)
    for p in plans:
        assert p.level == plans.index(p)
        assert p.spacing == pytest.approx(mpp * p.stored_downsample * p.ratio)
        assert p.stored_downsample == downsamples[p.stored_level]
        finer = [d for d in downsamples if d <= p.downsample * (1 + 1e-6)]
        assert p.stored_downsample == (max(finer) if finer else 1.0)
        assert p.ratio >= 1 - 1e-6 or not finer
    for coarse, fine in zip(plans[1:], plans[:-1], strict=True):
        assert coarse.downsample == pytest.approx(f * fine.downsample, rel=1e-12)
    if any(o < 0.02 for o in off):
        decisive = next(i for i, o in enumerate(off) if o < 0.02)
        power = round(powers[decisive])
        if 0 <= power < n_levels:
            assert plans[power].ratio == 1
            assert plans[power].stored_level == decisive
    else:
        assert [p.spacing for p in plans] == pytest.approx([base_mpp * f**n for n in range(n_levels)])


@pytest.mark.parametrize(
    ("mpp", "counts"), [(0.02, True), (20.0, True), (0.019, False), (265.0, False), (1000.0, False)]
)
def test_what_no_microscope_has_is_no_spacing(mpp, counts):
    found, flaw = square_spacing(mpp, mpp)
    assert found == (mpp if counts else None)
    assert bool(flaw) is not counts

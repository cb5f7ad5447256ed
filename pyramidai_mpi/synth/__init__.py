"""Generated H&E-like slides with ground truth: see `write_slide`."""

from pyramidai_mpi.synth.polygons import fit_regions, read_regions, to_geojson
from pyramidai_mpi.synth.slide import WrittenSlide, write_slide
from pyramidai_mpi.synth.spec import Region, SynthSpec, parse_size

__all__ = [
    "Region",
    "SynthSpec",
    "WrittenSlide",
    "fit_regions",
    "parse_size",
    "read_regions",
    "to_geojson",
    "write_slide",
]

MAY_IMPORT = ("base",)

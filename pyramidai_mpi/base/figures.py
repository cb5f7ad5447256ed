"""The gate to matplotlib, which looks for fonts and settings while it is loaded, and keeps neither in the home."""

from __future__ import annotations

from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.libraries import passing_folders

require_extra("plots", "drawing curves")  # who draws loads this before the work
with passing_folders("MPLCONFIGDIR", "XDG_CACHE_HOME"):
    from matplotlib import rc_context
    from matplotlib.figure import Figure

__all__ = ["Figure", "rc_context"]

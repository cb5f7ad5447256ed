"""MkDocs hook: the site's pages are files of the repository, at their places in it, so that links between them hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

SHOWN = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "CITATION.cff",
    "docs/*.md",
    "docs/*.png",
    "docs/*.ipynb",
    "bench/README.md",
    "bench/*/*.png",
    "bench/scale/sge/*.sh",
    "bench/scale/slurm/*.sbatch",
    "containers/*",
    "pyramidai_mpi/DESIGN.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of the folder docs by those of the repository that are shown; the theme's stay."""
    root = Path(config.config_file_path).parent
    kept = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted(path.relative_to(root) for pattern in SHOWN for path in root.glob(pattern))
    shown = [File(path.as_posix(), str(root), config.site_dir, config.use_directory_urls) for path in paths]
    return Files([*kept, *shown])

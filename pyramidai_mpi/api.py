"""Runs and results from Python: ``pyramidai_mpi.analyse``, ``open_result`` and ``open_explanation``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.argument_types import (
    check_integers,
    check_levels,
    check_numbers,
    check_paths,
    check_switches,
    check_texts,
)
from pyramidai_mpi.base.hosts import Hosts
from pyramidai_mpi.base.odd_levels import OWN
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.base.python_errors import UsageError, raised_in_python
from pyramidai_mpi.base.settings import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_MIN_TISSUE,
    DEFAULT_POLICY,
    FEATURE_TYPES,
    STRIDE_MODES,
    TISSUE_METHODS,
    ModelChoice,
    Output,
    Regions,
    RunSettings,
    Schedule,
    SlideInput,
    Windows,
    check_choice,
)
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.export.explained.opened import Attribution, OpenExplanation, explained_dtype, opened_explanation
from pyramidai_mpi.export.opened import Heatmap, OpenResult, ResultLevel, opened, tile_dtype
from pyramidai_mpi.process.umask import keep_owners_rights
from pyramidai_mpi.store.explanations.contents import explained_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpi4py import MPI


__all__ = [
    "Attribution",
    "Heatmap",
    "OpenExplanation",
    "OpenResult",
    "ResultLevel",
    "analyse",
    "explain_tiles",
    "explained_dtype",
    "open_explanation",
    "open_result",
    "tile_dtype",
]


def open_result(path: str | os.PathLike[str]) -> OpenResult:
    """Open a result file for looking at it with numpy or pandas.

    Parameters
    ----------
    path
        What ``pyramidai run`` wrote.

    Raises
    ------
    InputError
        When it is no complete, undamaged result. When there is none, it is a `MissingInputError`, which is a
        FileNotFoundError, too.

    Examples
    --------
    >>> result = open_result("slide.h5")  # doctest: +SKIP
    >>> positive = result.levels[0].tiles["decision"] == 1  # doctest: +SKIP
    """
    return opened(Path(path))


def open_explanation(path: str | os.PathLike[str]) -> OpenExplanation:
    """Open explained tiles for looking at their maps with numpy; a notebook shows them stitched over the slide.

    Parameters
    ----------
    path
        What ``pyramidai explain`` wrote: ``NAME.explained.h5``.

    Raises
    ------
    InputError
        As `open_result`.

    Examples
    --------
    >>> explained = open_explanation("slide.explained.h5")  # doctest: +SKIP
    >>> better = explained.tiles["random_deletion_area"] - explained.tiles["deletion_area"]  # doctest: +SKIP
    """
    return opened_explanation(Path(path))


def analyse(
    slide: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    comm: MPI.Intracomm | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    accept_mixed: bool = False,
    mode: str = "pyramid",
    stride: int | None = None,
    overlap: float | None = None,
    stride_mode: str = STRIDE_MODES[0],
    allow_approximate: bool = False,
    thresholds: Mapping[int, float] | None = None,
    positive_class: str | None = None,
    mpp: float | None = None,
    levels: str = "mpp",
    allow_upsampling: bool = False,
    features: bool = False,
    feature_type: str = FEATURE_TYPES[0],
    encoder: str | os.PathLike[str] | None = None,
    backend: str = "onnxruntime",
    precision: str = "float32",
    compiled_cache: bool = True,
    roi: str | os.PathLike[str] | None = None,
    exclude: str | os.PathLike[str] | None = None,
    tissue_mask: str | os.PathLike[str] | None = None,
    no_tissue: bool = False,
    tissue: str | os.PathLike[str] = TISSUE_METHODS[0],
    tissue_limit: float | None = None,
    min_tissue: float = DEFAULT_MIN_TISSUE,
    reader: str = "auto",
    odd_levels: str = OWN,
    read_ahead: str = "auto",
    slide_sha256: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    policy: str = DEFAULT_POLICY,
    seed: int = 0,
    writer: str = "auto",
    audit: float = 0.0,
    own_disks: bool = False,
    send_slide: bool = False,
    scratch: str | os.PathLike[str] | None = None,
    time_limit: str | None = None,
    ranks: int | str | None = None,
    progress: bool | None = None,
) -> OpenResult:
    """Analyse a slide by the code of ``pyramidai run`` and with the same result.

    Every argument is the option of ``pyramidai run`` of its name, with the same default; ``--threshold`` is
    ``thresholds`` here.

    Parameters
    ----------
    slide
        Any slide that ``pyramidai run`` takes; a folder of the DICOM files of one slide, too.
    model
        Folder of a model package, or name of a shipped one; None takes the shipped demonstration model.
    comm
        The ranks to share the work; collective over them. None uses this process alone.
    output
        Result file to write; None keeps it in a temporary folder for as long as the returned object or one of its
        levels lives.
    overwrite
        Replace an existing output, and begin anew.
    resume, accept_mixed
        Go on from the journal of a run that was stopped or killed, where there is one, and though other versions have
        begun it; a finished result of the same run is opened.
    mode
        ``pyramid``, ``reference`` or ``exhaustive``.
    stride, overlap
        Pixels of the model's level 0 from one window to the next, or how much windows overlap as a share of their side.
    stride_mode
        ``window``, ``shared``, ``adaptive`` or ``adaptive-shared``: how windows at a stride are computed.
    allow_approximate
        Take shared passes of networks whose answers they change.
    thresholds, positive_class
        Replacements for the model's thresholds, by level; class whose probability decides, None takes the model's.
    mpp
        µm per level-0 pixel, where the slide does not say or is wrong.
    levels
        ``mpp`` finds the model's levels by µm per pixel, ``scale`` by scale factor alone.
    allow_upsampling
        Enlarge slides that are coarser than the model's level 0.
    features, feature_type
        Keep the networks' feature vectors, an encoder's in any case; in ``float32`` or ``float16``.
    encoder
        Folder of the package of an encoder that gives the features of level 0, on the tiles that the model reaches.
    backend, precision
        ``onnxruntime``, ``openvino`` or ``auto``; ``float32``, or ``bfloat16`` with OpenVINO.
    compiled_cache
        Keep networks that were compiled and tried in the user's cache.
    roi, exclude
        Files of outlines that the analysis is restricted to, and that are left out of it.
    tissue_mask, no_tissue
        Image of the tissue, instead of finding it; all of the slide is tissue.
    tissue
        How tissue is found: ``od``, ``hsv-otsu``, or the folder of a network that segments whole images.
    tissue_limit
        Least optical density of tissue, with ``od``; None takes 0.03.
    min_tissue
        Least tissue share of a lowest-resolution tile.
    reader, read_ahead
        What decodes the slide, and whether tiles are read before their turn; the result is the same.
    odd_levels
        How stored levels are read whose size is no whole fraction of level 0's: ``own``, ``interpolated``.
    slide_sha256
        Keep the SHA-256 of the whole slide in the result.
    batch_size, policy, seed, writer, audit
        How the work is spread, by whom it is written, and how many % of it is done twice; the result is the same.
    own_disks, send_slide, scratch
        The hosts of `comm` share no files; nor have they slide and model, which are sent there from rank 0's, into this
        folder. The result is on rank 0's host.
    time_limit
        Stop a minute before this time is up, for `resume` to go on: ``30m``, ``2h``, ``1:30:00``.
    ranks
        Start this many ranks on this machine, or ``auto`` for one a core, and wait for them: needs the extra ``[mpi]``,
        or another MPI with its ``mpirun``. None analyses in this process, or on the ranks of `comm`.
    progress
        Show a bar on standard error; None shows it on a terminal and in a notebook.

    Returns
    -------
    OpenResult
        On every rank. Where hosts share no files on rank 0 alone, and None on the others.

    Raises
    ------
    PyramidError
        Whatever ``pyramidai run`` would end with, on every rank, as one of `pyramidai_mpi.errors`: an argument that
        cannot be is a ValueError, no such slide a FileNotFoundError, an output that is there a FileExistsError.
    TypeError
        An argument is of another type than it can be.
    """
    if slide is None:
        raise TypeError("slide=None: expected a path, as text or pathlib.Path")
    check_paths(slide=slide, model=model, encoder=encoder, output=output, tissue=tissue)
    check_paths(roi=roi, exclude=exclude, tissue_mask=tissue_mask, scratch=scratch)
    check_switches(
        overwrite=overwrite,
        resume=resume,
        accept_mixed=accept_mixed,
        allow_upsampling=allow_upsampling,
        features=features,
        no_tissue=no_tissue,
        allow_approximate=allow_approximate,
        slide_sha256=slide_sha256,
        compiled_cache=compiled_cache,
        own_disks=own_disks,
        send_slide=send_slide,
    )
    if progress is not None:
        check_switches(progress=progress)
    check_numbers(mpp=mpp, tissue_limit=tissue_limit, min_tissue=min_tissue, overlap=overlap, audit=audit)
    check_integers(batch_size=batch_size, seed=seed, **({} if stride is None else {"stride": stride}))
    check_texts(positive_class=positive_class, time_limit=time_limit)
    check_levels(thresholds=thresholds)
    if output is not None and not Path(output).name:
        raise UsageError(f"output={os.fspath(output)!r}: names no file; expected the result file to write")
    if ranks is not None and comm is not None:
        raise UsageError("ranks starts ranks of its own, and comm are ranks that there are; give one")
    if output is None:
        if comm is not None and comm.size > 1:
            raise UsageError("analyse on several ranks needs an output that all of them can read; give output=")
        if resume or time_limit is not None:
            raise UsageError("resume and time_limit need an output, which outlives the call; give output=")
    keep_owners_rights()
    folder = tempfile.TemporaryDirectory(prefix="pyramidai-") if output is None else None
    target = (
        Path(output) if output is not None else Path(folder.name if folder else "", slide_stem(Path(slide)) + ".h5")
    )
    named = [Path(one) for one in (slide, model, encoder, roi, exclude, tissue_mask) if one is not None]
    with raised_in_python(*named):
        from pyramidai_mpi.cli.called import run_here, run_on, slide_of_all
        from pyramidai_mpi.cli.tissue_option import parse_tissue
        from pyramidai_mpi.models.shipped import find_model

        check_choice("--mode", mode, list(Mode))
        asked = (features, backend, precision, feature_type, _path(encoder), compiled_cache)
        network = parse_tissue(os.fspath(tissue)).network
        hosts = Hosts(own_disks, send_slide, _path(scratch))
        settings = RunSettings(
            SlideInput(
                slide_of_all(comm, Path(slide), is_sent=send_slide),
                mpp,
                levels,
                min_tissue,
                Regions(_path(roi), _path(exclude), _path(tissue_mask), no_tissue),
                allow_upsampling,
                reader,
                sha256=slide_sha256,
                tissue=TISSUE_METHODS[0] if network is not None else os.fspath(tissue),
                tissue_limit=tissue_limit,
                tissue_network=network,
                odd_levels=odd_levels,
            ),
            ModelChoice(
                find_model(_path(model), may_be_elsewhere=send_slide),
                dict(thresholds or {}),
                positive_class,
                *asked,
            ),
            Output(
                target,
                overwrite,
                resume,
                writer=writer,
                command_line="pyramidai_mpi.analyse",
                accept_mixed=accept_mixed,
            ),
            Schedule(policy, seed, batch_size, read_ahead, audit),
            Mode(mode),
            Windows(None if stride is None else int(stride), overlap, stride_mode, allow_approximate),
            hosts,
        )
        if ranks is None:
            run_here(comm, settings, time_limit, progress)
        else:
            run_on(str(ranks), settings, time_limit, progress)
    if hosts.are_apart and comm is not None and comm.rank != 0:
        return None  # type: ignore[return-value]  # as the docstring says; a union would burden all other callers
    return opened(target, folder)


def explain_tiles(
    source: str | os.PathLike[str],
    tiles: str | Sequence[str],
    model: str | os.PathLike[str] | None = None,
    comm: MPI.Intracomm | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    slide: str | os.PathLike[str] | None = None,
    method: str = "",
    layer: str = "",
    class_name: str = "",
    level: int = 0,
    masks: int | None = None,
    until: float | None = None,
    numbers: Mapping[str, float] | None = None,
    fill: str = "blur",
    faithfulness: bool = True,
    seed: int = 0,
    mpp: float | None = None,
    allow_upsampling: bool = False,
    reader: str = "auto",
    odd_levels: str = OWN,
    overwrite: bool = False,
    resume: bool = False,
) -> OpenExplanation:
    """Explain tiles of a result or a slide, by the code of ``pyramidai explain`` and with the same file.

    Every argument is the option of ``pyramidai explain`` of its name; ``--set`` is `numbers`, ``--class``
    `class_name` here.

    Parameters
    ----------
    source
        A result, or a slide.
    tiles
        ``top:N``, ``positive``, a table of tiles, or one or more ``l0:X,Y``.
    model
        The model that made the result: its folder, or name of a shipped one.
    comm
        The ranks to share the work; collective over them. None uses this process alone.
    output
        Folder for the file, which is named after the slide; None keeps none.
    slide
        Slide of the result; None looks for it beside the result.

    Raises
    ------
    PyramidError
        Whatever ``pyramidai explain`` would end with, as one of `pyramidai_mpi.errors`.
    TypeError
        An argument is of another type than it can be.
    """
    words = [tiles] if isinstance(tiles, str) else list(tiles)
    check_paths(source=source, model=model, output=output, slide=slide)
    check_switches(faithfulness=faithfulness, allow_upsampling=allow_upsampling, overwrite=overwrite, resume=resume)
    check_numbers(mpp=mpp, until=until)
    check_integers(level=level, seed=seed, **({} if masks is None else {"masks": masks}))
    check_texts(method=method, layer=layer, class_name=class_name, fill=fill)
    for word in words:
        check_texts(tiles=word)
    if output is None and (resume or (comm is not None and comm.size > 1)):
        raise UsageError(
            "resume, and explain_tiles on several ranks, need an output that all of them can read; give output="
        )
    keep_owners_rights()
    with tempfile.TemporaryDirectory(prefix="pyramidai-") as kept, raised_in_python(Path(source)):
        from pyramidai_mpi.base.explain_order import ExplainOrder, parse_tiles
        from pyramidai_mpi.cli.called import this_process
        from pyramidai_mpi.models.shipped import find_model
        from pyramidai_mpi.run.explaining import explain_one
        from pyramidai_mpi.run.explaining_sources import find_source

        found = find_source(Path(source), _path(slide))
        target = explained_file(Path(kept if output is None else output), slide_stem(found.slide))
        settings = RunSettings(
            SlideInput(found.slide, mpp, allow_upsampling=allow_upsampling, reader=reader, odd_levels=odd_levels),
            ModelChoice(find_model(_path(model))),
            Output(target, overwrite, resume, command_line="pyramidai_mpi.explain_tiles"),
        )
        asked = ExplainOrder(
            method, layer, class_name, level, until, masks, dict(numbers or {}), fill, faithfulness, seed
        )
        explain_one(this_process() if comm is None else comm, settings, asked, parse_tiles(words), found.result)
        return opened_explanation(target)


def _path(name: str | os.PathLike[str] | None) -> Path | None:
    return None if name is None else Path(name)

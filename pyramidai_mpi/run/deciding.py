"""What decides a run's result: one table.

From its rows are made the manifest of the journal, the answer to "is the finished result there of this run?", what
`/execution` of a result records of it, and the records of a cohort. A new option that decides the result is one more
row: in `facts_asked`, where settings and model say it, in `facts_of_slide`, where the open slide does, or in
`facts_at_work`, where it is known only then.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.odd_levels import INTERPOLATED
from pyramidai_mpi.base.settings import NETWORK_LIBRARIES
from pyramidai_mpi.models.stain.entry import stain_entry
from pyramidai_mpi.process.host import cpu_description, library_versions
from pyramidai_mpi.pyramid.tissue import METHODS, NETWORK, REGION_ROLES, pack_mask
from pyramidai_mpi.run.aggregation import FACT, keeps_features
from pyramidai_mpi.run.encoding import FLOAT32_FEATURES, NO_DESCRIPTION, NO_ENCODER, facts_of_encoding
from pyramidai_mpi.run.facts import Difference, Fact, Facts, Kind, description_hash
from pyramidai_mpi.run.strides import FACTS_OF_STRIDES, NO_STRIDE, plan_levels_of_run
from pyramidai_mpi.slides.readers.choice import READERS
from pyramidai_mpi.store.journal.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.settings import RunSettings, SlideInput
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.tissue import TissueSource
    from pyramidai_mpi.slides.readers.base import SlideInfo
    from pyramidai_mpi.store.results.reader import ResultOrigin

ALL_INTERPOLATED = Fact("odd_levels", "--odd-levels", INTERPOLATED, Kind.SLIDE)
"""Of a slide whose levels of odd size are not read by their own pixels, and of one that has none."""
_UNSAID = (NO_STRIDE, NO_ENCODER, NO_DESCRIPTION, FLOAT32_FEATURES, ALL_INTERPOLATED)
"""Facts that stand in the table only where they are others: older journals and results do not know of them."""
_STATED = {"stain_per": "slide", **{fact.name: fact.value for fact in _UNSAID}}
"""What such a journal or result says without words."""
_LIBRARIES = (
    "numpy",
    "onnxruntime",
    "openvino",
    "openslide-python",
    "openslide-bin",
    "simplejpeg",
    "imagecodecs",
    "pillow",
    "scikit-image",
    "scipy",
)
"""Libraries that can change a result. Of these only the ones that compute in a run are facts of it."""


def facts_asked(settings: RunSettings, package: ModelPackage) -> Facts:
    """What settings and model alone say. A backend that is left to the program is no fact yet.

    Two options are no facts: readers give the same pixels, and `allow_upsampling` decides whether a slide is refused,
    not how it is read.
    """
    model = settings.model
    plan = plan_levels_of_run(settings, package)
    target = "none" if package.stain_target is None else json.dumps(stain_entry(package.stain_target)["target"])
    stain_per = Fact("stain_per", "unit of the stain normalisation", package.stain_per, Kind.MODEL)
    facts = [
        Fact("level_sha256", "model", [level.sha256 for level in package.levels], Kind.MODEL, has_own_place=True),
        Fact("stain", "stain normalisation", package.stain, Kind.MODEL, has_own_place=True),
        Fact("stain_target", "target of the stain normalisation", target, Kind.MODEL),
        *([] if package.stain_per == _STATED["stain_per"] else [stain_per]),
        Fact("model_yaml_sha256", "model.yaml", description_hash(package.yaml_text), Kind.MODEL, has_own_place=True),
        Fact("positive_class", "positive class", package.positive_name, Kind.MODEL, has_own_place=True),
        Fact(
            "thresholds",
            "thresholds",
            [package.thresholds(model.thresholds)[n] for n in plan.levels.networks],
            Kind.SETTING,
            has_own_place=True,
        ),
        Fact("mode", "mode", str(settings.mode), Kind.SETTING),
        Fact("levels", "--levels", settings.slide.levels, Kind.SETTING),
        Fact("min_tissue", "least tissue share", float(settings.slide.min_tissue), Kind.SETTING),
        Fact("features", "features", keeps_features(settings, package), Kind.SETTING, has_own_place=True),
        Fact("precision", "precision", model.precision, Kind.SETTING),
        *_aggregator(package),
        *facts_of_encoding(settings, package),
        *part_facts(settings.slide),
        *plan.facts(settings.windows),
    ]
    return (*facts, *([] if model.backend == "auto" else [_backend(model.backend)]))


def part_facts(source: SlideInput) -> Facts:
    """Which part of the slide it is, where it is one: the journals of whole runs do not know of it."""
    return () if source.part is None else (Fact("part", "--part", str(source.part), Kind.SETTING),)


def facts_of_slide(slide: OpenSlide, source: TissueSource) -> Facts:
    """What the open slide says. Which tissue it has is known only at work, how that is found before."""
    hashes = {file.role: file.sha256 for file in source.files}
    info = slide.pyramid.reader.info
    return (
        Fact("quickhash", "slide", slide.quickhash, Kind.SLIDE, has_own_place=True),
        Fact("mpp", "µm/px", float(slide.mpp), Kind.SLIDE, has_own_place=True),
        # its reduced levels are resampled, where the slide's may be stored
        Fact("patches_digest", "file of patches in the slide's place", info.patches_digest, Kind.SLIDE),
        *odd_levels_fact(info),
        Fact("tissue_method", "tissue", source.method, Kind.SLIDE, has_own_place=True),
        *(Fact(_hash_of(role), _option(role), hashes.get(role, ""), Kind.SLIDE, True) for role in REGION_ROLES),
    )


def odd_levels_fact(info: SlideInfo) -> Facts:
    """How levels of odd size are read, where it is by their own pixels."""
    return (replace(ALL_INTERPOLATED, value=info.odd_levels),) if info.odd_levels else ()


def facts_before(settings: RunSettings, package: ModelPackage, slide: OpenSlide, source: TissueSource) -> Facts:
    """What is known before the work, in the table's order; `source` says how the tissue would be found."""
    asked = facts_asked(settings, package)
    backends = [fact.value for fact in asked if fact.name == "backend"] or NETWORK_LIBRARIES
    return (*facts_of_slide(slide, source), *asked, *_versions(package, slide, source, backends))


def facts_at_work(
    settings: RunSettings,
    package: ModelPackage,
    slide: OpenSlide,
    rule: TileRule,
    engines: Sequence[Engine],
    widths: Sequence[int],
) -> Facts:
    """The whole table.

    Parameters
    ----------
    settings, package
        What is asked, and of which model.
    slide, rule
        The slide, with its stain's map, and its tissue.
    engines
        The networks, level 0 first.
    widths
        Length of each level's feature vectors, 0 where none are kept.
    """
    source, backend = rule.tissue.source, engines[0].backend
    asked = [fact for fact in facts_asked(settings, package) if fact.name != "backend"]
    stain_map = "" if slide.stain is None else slide.stain.to_json()
    shapes = " ".join(str(engine.batch_shape) for engine in engines)
    return (
        *facts_of_slide(slide, source),
        Fact("mask_sha256", "tissue that was found", mask_hash(rule.tissue.mask), Kind.SLIDE, has_own_place=True),
        Fact("stain_map", "stain of the slide", stain_map, Kind.SLIDE),
        *asked,
        _backend(backend),
        Fact("feature_widths", "length of the features", list(widths), Kind.MODEL, has_own_place=True),
        # follows from the network and the library's version
        Fact("batch_shapes", "batch shapes", shapes, Kind.VERSION),
        *_versions(package, slide, source, [backend]),
        Fact("cpu", "processor", cpu_description(), Kind.PROCESSOR),
    )


def values_of(facts: Iterable[Fact], *kinds: Kind) -> dict[str, Any]:
    """Values by name, of facts of these kinds, or of all."""
    return {fact.name: fact.value for fact in facts if not kinds or fact.kind in kinds}


def values_in_result(origin: ResultOrigin) -> dict[str, Any]:
    """Values by name that a result file holds.

    Files of before the table do not say which libraries computed; versions are then not among the values, so that they
    count as finished whatever is installed now.
    """
    values = {name: value for name, value in origin.execution.items() if name not in {*_LIBRARIES, "cpu"}}
    # of a whole result, which is none of any part, and of one whose tiles are windows side by side
    values = {"part": "", **_STATED} | values
    values |= {
        "quickhash": origin.quickhash,
        "mpp": origin.mpp,
        "patches_digest": origin.execution.get("patches_digest", ""),
        "tissue_method": origin.tissue_method,
        "level_sha256": list(origin.level_sha256),
        "stain": origin.stain,
        "model_yaml_sha256": description_hash(origin.model_yaml),
        "positive_class": origin.positive_class,
        "thresholds": list(origin.thresholds),
        "features": any(origin.feature_widths) and not origin.encoder_sha256,
        NO_ENCODER.name: origin.encoder_sha256,
        NO_DESCRIPTION.name: description_hash(origin.encoder_yaml) if origin.encoder_sha256 else "",
        FLOAT32_FEATURES.name: origin.feature_type,
        **{_hash_of(role): origin.execution.get(_hash_of(role), "") for role in REGION_ROLES},
    }
    if computed := str(origin.execution.get("libraries", "")):
        values["software_version"] = origin.software_version
        values |= {name: origin.execution[name] for name in computed.split(", ") if name in origin.execution}
    return values


def differences(found: Mapping[str, Any], wanted: Iterable[Fact]) -> list[Difference]:
    """In what a run differs from what was found, of all that both sides know.

    A run whose tiles are windows side by side does not name its stride, but differs from one that does; and so on. Of
    another slide, only the hash may be known.
    """
    asked = {fact.name: fact for fact in wanted}
    unsaid = [fact for fact in _UNSAID if fact is not ALL_INTERPOLATED or "mpp" in asked]
    asked = {**{fact.name: fact for fact in unsaid}, **asked}
    found = {**{fact.name: fact.value for fact in unsaid}, **found}
    return [Difference(one, found[one.name]) for one in asked.values() if found.get(one.name, one.value) != one.value]


def check_same(
    what: str, found: Mapping[str, Any], wanted: Facts, *, accept_mixed: bool, otherwise: str
) -> list[Difference]:
    """See that what was found is of the run that is wanted.

    Parameters
    ----------
    what
        What was found, up to the word "other".
    found
        Values by name.
    wanted
        This run's facts.
    accept_mixed
        Versions may differ.
    otherwise
        What the user can do, beside that.

    Returns
    -------
    list of Difference
        What differs though it is the same run: processors, and versions where that is accepted.

    Raises
    ------
    InputError
        Names all other differences.
    """
    differing = differences(found, wanted)
    told = [one for one in differing if one.fact.kind is Kind.PROCESSOR]
    refused = [one for one in differing if one not in told]
    if all(one.fact.kind is Kind.VERSION for one in refused):
        if accept_mixed:
            return differing
        otherwise = f"accept a mixture with --accept-mixed, {otherwise}"
    if refused:
        raise InputError(f"{what} other {'; '.join(map(str, refused))}; {otherwise}")
    return told


def manifest_of(facts: Facts, replaces: tuple[int, int] | None = None) -> Manifest:
    """The manifest of a run that begins; `replaces` as there."""
    return Manifest(run_hash(facts), values_of(facts), replaces, word=secrets.token_hex(8))


def run_hash(facts: Facts) -> str:
    """SHA-256 of all that may not differ within a run."""
    fixed = values_of(facts, Kind.SLIDE, Kind.MODEL, Kind.SETTING)
    return _sha256(json.dumps(fixed, sort_keys=True, separators=(",", ":")).encode())


def joined_manifest(path: Path, found: Manifest, facts: Facts, *, accept_mixed: bool) -> tuple[Manifest, str]:
    """The manifest of a journal once this run goes on from it, and in words what is mixed by that, empty for nothing.

    Raises
    ------
    InputError
        When the journal at `path` is of another run, or knows other facts.
    """
    names = {fact.name for fact in facts}
    if (names ^ found.facts.keys()) - {*_LIBRARIES, *_STATED, *FACTS_OF_STRIDES}:
        raise InputError(
            f"{path}: written by another version of this program; finish with that one, or use --overwrite"
        )
    check_same(
        f"{path}: is the journal of a run with",
        {**_STATED, **found.facts},
        facts,
        accept_mixed=accept_mixed,
        otherwise="resume with the same, or start afresh with --overwrite",
    )
    own = values_of(facts, Kind.VERSION, Kind.PROCESSOR)
    starts = ({name: found.facts[name] for name in own if name in found.facts}, *found.later_starts)
    if own not in starts:
        starts = (*starts, own)
    joined = replace(found, later_starts=starts[1:])
    return joined, "; ".join(_mixtures(starts, facts))


def is_journal_of(manifest: Manifest, facts: Facts) -> bool:
    """Whether a journal is of the run with these facts, as far as they are known, if with other versions."""
    differing = differences({**_STATED, **manifest.facts}, facts)
    return all(one.fact.kind in {Kind.VERSION, Kind.PROCESSOR} for one in differing)


def _mixtures(starts: Sequence[Mapping[str, Any]], facts: Facts) -> list[str]:
    found = []
    for fact in facts:
        values = dict.fromkeys(str(start[fact.name]) for start in starts if fact.name in start)
        if len(values) > 1:
            found.append(f"{fact.words} {', '.join(values)}")
    return found


def attributes_of(facts: Facts, mixed: str = "") -> dict[str, str | int | float]:
    """What `/execution` says of the table: what has no other place in the file, and which libraries computed.

    Parameters
    ----------
    mixed
        See `joined_manifest`.
    """
    attributes = {fact.name: fact.value for fact in facts if not fact.has_own_place and fact.value != ""}
    attributes["libraries"] = ", ".join(fact.name for fact in facts if fact.name in _LIBRARIES)
    return attributes | ({"mixed": mixed} if mixed else {})


def run_facts(settings: RunSettings, slide: OpenSlide, ranks: npt.NDArray[np.void]) -> dict[str, str | int | float]:
    """What `/execution` says beside the table: settings, versions and hosts that do not decide the result."""
    return {
        "command_line": settings.output.command_line,
        "policy": settings.schedule.policy,
        "seed": settings.schedule.seed,
        "batch_size": settings.schedule.batch_size,
        "reader": slide.pyramid.reader.info.reader,
        **odd_levels_said(slide.pyramid.reader.info),
        "n_ranks": len(ranks),
        "hosts": ", ".join(sorted({host.decode() for host in ranks["host"].tolist()})),
        "python": sys.version.split()[0],
        **library_versions(),
    }


def odd_levels_said(info: SlideInfo) -> dict[str, str | int | float]:
    """What a file says of a slide's levels of odd size, where it has any."""
    if info.odd_levels:
        return {ALL_INTERPOLATED.name: info.odd_levels}
    return {} if all(info.stored_exact) else {ALL_INTERPOLATED.name: INTERPOLATED}


def _versions(package: ModelPackage, slide: OpenSlide, source: TissueSource, backends: Sequence[str]) -> list[Fact]:
    """Versions of the program, and of the libraries that compute in a run with any of these backends."""
    # onnxruntime runs the graph that normalises, and the one that aggregates
    has_own = package.stain_target is not None or package.aggregator is not None
    return versions_of(slide, source, [*backends, *(["onnxruntime"] if has_own else [])])


def _aggregator(package: ModelPackage) -> Facts:
    """Of a package that predicts slides, with what; a result says it with its prediction, and by the description."""
    if package.aggregator is None:
        return ()
    return (Fact(FACT, "aggregator", package.aggregator.sha256, Kind.MODEL, has_own_place=True),)


def versions_of(slide: OpenSlide, source: TissueSource, others: Iterable[str] = ()) -> list[Fact]:
    """Versions of the program, and of the libraries that read a slide and find its tissue, and of others."""
    info = slide.pyramid.reader.info
    used = {"numpy", *READERS[info.reader].libraries, *others}
    if info.odd_levels:  # whatever reads the other levels
        used.update(READERS["tiff"].libraries)
    if source.method.startswith(tuple(METHODS.values())):
        used |= {"scikit-image", "scipy"}
    if source.method.startswith(NETWORK):
        used.add("onnxruntime")
    versions = library_versions()
    return [
        Fact("software_version", "program version", __version__, Kind.VERSION, has_own_place=True),
        *(
            Fact(name, name, versions[name], Kind.VERSION, has_own_place=True)
            for name in _LIBRARIES
            if name in used and name in versions
        ),
    ]


def _backend(name: str) -> Fact:
    return Fact("backend", "backend", name, Kind.SETTING)


def _hash_of(role: str) -> str:
    return f"{role}_file_sha256"


def _option(role: str) -> str:
    return f"--{role.replace('_', '-')}"


def mask_hash(mask: npt.NDArray[np.bool_]) -> str:
    """SHA-256 of a tissue mask."""
    return _sha256(pack_mask(mask))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""What a run's audit takes from the run: its share, its ranks, networks loaded anew; and what a result says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyramidai_mpi.analyses.dense import Dense
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.on_demand import check_unchanged
from pyramidai_mpi.run.pool.witness import Audit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.analyses.classify import Classify
    from pyramidai_mpi.base.settings import RunSettings, Schedule
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.run.strides import LevelPlan


def audit_of(
    settings: RunSettings,
    package: ModelPackage,
    plan: LevelPlan,
    analysis: Classify | Dense,
    ranks: npt.NDArray[np.void],
) -> Audit | None:
    """What is audited in a run, None where nothing is.

    Parameters
    ----------
    settings
        With a settled backend.
    ranks
        `RANK_DTYPE` records of all ranks.
    """
    schedule = settings.schedule
    if not schedule.audit:
        return None
    hosts, processors = ([text.decode() for text in ranks[name].tolist()] for name in ("host", "cpu"))

    def fresh() -> Classify | Dense:
        return _loaded_anew(settings, package, plan, analysis)

    return Audit(schedule.audit / 100, schedule.seed, hosts, processors, fresh)


def _loaded_anew(
    settings: RunSettings, package: ModelPackage, plan: LevelPlan, analysis: Classify | Dense
) -> Classify | Dense:
    """The analysis with networks loaded anew; what normalises stain, and passes that windows share, stay the same."""
    classify = analysis.classify if isinstance(analysis, Dense) else analysis
    engines: dict[int, Engine] = {}
    for network, known in zip(plan.levels.networks, classify.engines, strict=True):
        if network not in engines:
            engines[network] = _engine_like(known, package.levels[network], package, settings)
    encoder = classify.encoder
    if encoder is not None and package.encoder is not None:
        encoder = _engine_like(encoder, package.encoder.levels[0], package.encoder, settings)
    anew = replace(classify, engines=[engines[network] for network in plan.levels.networks], encoder=encoder)
    return replace(analysis, classify=anew) if isinstance(analysis, Dense) else anew


def _engine_like(known: Engine, level: ModelLevel, package: ModelPackage, settings: RunSettings) -> Engine:
    model = settings.model
    check_unchanged(level)  # or the audit would say of a rank that it has lied
    engine = load_engine(level, package, model.backend, model.precision, probe=False)
    engine.use_batch_shape(known.batch_shape)
    engine.n_features = known.n_features
    return engine


def audit_facts(schedule: Schedule, n_audited: int) -> dict[str, int | float]:
    """What `/execution` says of a slide's audit."""
    return {"audit_percent": schedule.audit, "tiles_audited": n_audited} if schedule.audit else {}


def audit_of_parts(told: Sequence[Mapping[str, str | int | float]]) -> dict[str, int | float]:
    """What `/execution` says of the audits of parts that are joined: the least share, and all tiles."""
    if not any("tiles_audited" in each for each in told):
        return {}
    shares = [float(each.get("audit_percent", 0)) for each in told]
    return {"audit_percent": min(shares), "tiles_audited": sum(int(each.get("tiles_audited", 0)) for each in told)}


def audit_in_words(attributes: Mapping[str, str | int | float], n_tiles: int) -> str:
    """The same for people, empty where there was none."""
    if "tiles_audited" not in attributes:
        return ""
    return f"audit: {attributes['tiles_audited']} of {n_tiles} tiles were computed again, to the same bits"

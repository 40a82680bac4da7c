"""Every case, in the order of the page."""

from __future__ import annotations

from benchmarks import (
    api,
    calibration,
    corpora,
    cost,
    decisions,
    decoder,
    ensembles,
    essays,
    few_labels,
    gpu_hour,
    growth,
    import_full,
    load,
    many_servers,
    many_tasks,
    night,
    own_check,
    plans,
    quality,
    speed,
    training,
)
from benchmarks.case import Case
from benchmarks.peers import comparison

CASES: tuple[Case, ...] = (
    speed.profiles,
    speed.rank_classes,
    speed.served,
    speed.lone,
    comparison.peers,
    cost.cost,
    load.load,
    load.closed_loop,
    load.merged_calls,
    api.json_api,
    night.job,
    night.beside_jobs,
    essays.beside_essays,
    night.night,
    growth.growth,
    decisions.decisions,
    calibration.calibration,
    quality.recipes,
    corpora.corpora,
    few_labels.reference,
    few_labels.tricks,
    ensembles.ensembles,
    quality.trained,
    import_full.import_full,
    decoder.decoder,
    decoder.prefix,
    training.training,
    training.training_memory,
    plans.plans,
    gpu_hour.gpu_hour,
    many_tasks.start,
    own_check.own_check,
    own_check.wrong_products,
    many_tasks.store,
    many_tasks.wide,
    many_tasks.two_servers,
    many_servers.client,
    many_servers.through_door,
    many_servers.ray,
)


def case_of(name: str) -> Case:
    """Return the case of this name."""
    return next(case for case in CASES if case.name == name)

# SPDX-License-Identifier: Apache-2.0
"""One row of an evaluation: every method on the same cases, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from depth_sr_ros.evaluation import metrics
from depth_sr_ros.evaluation.baselines import Settings
from depth_sr_ros.evaluation.cases import Case
from depth_sr_ros.evaluation.network import Network, SparsificationCurves
from depth_sr_ros.evaluation.scoring import (
    INTERPOLATED,
    RAW,
    ScoreCache,
    Scores,
    applicable_baselines,
    best_settings,
    score_baseline,
    score_interpolated,
    score_raw,
)
from depth_sr_ros.evaluation.tuning import tuned_settings

# Metres: float32 rounds depths beyond 8 m to a micrometre, and engines round differently.
_ROUNDING = 1e-6


@dataclass
class Row:
    """
    Cases of one data set under one degradation; `tuned_as` chooses the baselines' settings.

    left_out: names of the frames without any depth.
    """

    name: str
    cases: list[Case]
    tuned_as: str
    left_out: list[str] = field(default_factory=list)


@dataclass
class MethodScores:
    """
    A method's scores on a row.

    kind: 'baseline', 'input' (the interpolated input or the raw sensor) or 'network'.
    """

    name: str
    kind: str
    images: list[Scores]
    settings: Settings = field(default_factory=dict)
    oracle_settings: Settings | None = None
    oracle: Scores | None = None
    sparsification: SparsificationCurves | None = None

    @property
    def mean(self) -> Scores:
        """Mean over images of each metric."""
        return metrics.aggregate(self.images)

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return everything, images by name."""
        values: dict[str, Any] = {'kind': self.kind, 'settings': self.settings, 'mean': self.mean}
        if self.oracle is not None:
            values |= {'oracle_settings': self.oracle_settings, 'oracle': self.oracle}
        if self.sparsification is not None:
            values['sparsification'] = {
                name: curve.tolist() for name, curve in vars(self.sparsification).items()
            }
        values['images'] = dict(zip(names, self.images, strict=True))
        return values


@dataclass
class Comparison:
    """All methods on one row."""

    row: Row
    methods: dict[str, MethodScores]
    tuned_on: str

    def mean(self, method: str, metric: str = 'rmse') -> float:
        """Mean over images of one metric, NaN where the method was not run."""
        scores = self.methods.get(method)
        return float('nan') if scores is None else scores.mean.get(metric, float('nan'))

    @property
    def reference(self) -> str:
        """Name of the method that gains are stated against: bilinear, or linear when sparse."""
        for name in ('bilinear', 'linear (Delaunay)', 'nearest'):
            if name in self.methods:
                return name
        return INTERPOLATED

    def best_baseline(self, metric: str = 'rmse') -> tuple[str, float]:
        """Name and mean of the best classical method, each with its tuned settings."""
        means = {
            name: scores.mean.get(metric, float('nan'))
            for name, scores in self.methods.items()
            if scores.kind == 'baseline'
        }
        means = {name: value for name, value in means.items() if np.isfinite(value)}
        if not means:
            return 'none', float('nan')
        name = min(means, key=lambda n: means[n])
        return name, means[name]

    def best_oracle(self, metric: str = 'rmse') -> tuple[str, float]:
        """Name and mean of the best classical method with settings chosen on the scored frames."""
        means = {
            name: scores.oracle.get(metric, float('nan'))
            for name, scores in self.methods.items()
            if scores.kind == 'baseline' and scores.oracle is not None
        }
        means = {name: value for name, value in means.items() if np.isfinite(value)}
        if not means:
            return self.best_baseline(metric)
        name = min(means, key=lambda n: means[n])
        return name, means[name]

    def worse_than_interpolated(self, method: str) -> list[str]:
        """Names of the images on which the method's RMSE exceeds the interpolated input's."""
        before, after = self.methods[INTERPOLATED].images, self.methods[method].images
        return [
            case.name
            for case, a, b in zip(self.row.cases, before, after, strict=True)
            if b['rmse'] > a['rmse'] + _ROUNDING
        ]

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        names = [case.name for case in self.row.cases]
        return {
            'row': self.row.name,
            'frames': names,
            'left_out': self.row.left_out,
            'baselines_tuned_on': self.tuned_on,
            'methods': {name: m.as_json(names) for name, m in self.methods.items()},
        }


def compare(
    row: Row,
    networks: Sequence[Network],
    cache: ScoreCache,
    *,
    oracle: bool = False,
    progress: Callable[[str], Any] = lambda step: None,
) -> Comparison:
    """Score every applicable baseline, the inputs and the networks on a row."""
    tuned_on, settings = tuned_settings(row.tuned_as)
    methods: dict[str, MethodScores] = {}
    for baseline in applicable_baselines(row.cases):
        progress(baseline.name)
        chosen = settings[baseline.name]
        images = [score_baseline(baseline, chosen, case, cache) for case in row.cases]
        entry = MethodScores(baseline.name, 'baseline', images, chosen)
        if oracle:
            found, _ = best_settings(baseline, row.cases, cache, windows=True)
            scores = metrics.aggregate(
                [score_baseline(baseline, found, case, cache) for case in row.cases]
            )
            # An oracle knows the tuned settings too.
            tuned_is_best = entry.mean['rmse'] <= scores['rmse']
            entry.oracle_settings = chosen if tuned_is_best else found
            entry.oracle = entry.mean if tuned_is_best else scores
        methods[baseline.name] = entry
    progress(INTERPOLATED)
    images = [score_interpolated(case, cache) for case in row.cases]
    methods[INTERPOLATED] = MethodScores(INTERPOLATED, 'input', images)
    raw = [score_raw(case, cache) for case in row.cases]
    if all(scores is not None for scores in raw):
        methods[RAW] = MethodScores(RAW, 'input', [s for s in raw if s is not None])
    for network in networks:
        images, curves = [], []
        for case in row.cases:
            progress(f'{network.label} {case.name}')
            scores, case_curves = network.score(case)
            images.append(scores)
            if case_curves is not None:
                curves.append(case_curves)
        entry = MethodScores(network.label, 'network', images)
        entry.sparsification = SparsificationCurves.mean(curves) if curves else None
        methods[network.label] = entry
    return Comparison(row, methods, tuned_on)

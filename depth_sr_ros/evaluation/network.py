# SPDX-License-Identifier: Apache-2.0
"""The pipeline as a method among others: run on a case, with any guide, confidence scored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_sr_ros.data.imitated_guide import imitate_guide
from depth_sr_ros.evaluation import metrics
from depth_sr_ros.evaluation.cases import Case, frame_generator
from depth_sr_ros.evaluation.scoring import Scores, score
from depth_sr_ros.model.interpolation import interpolate_depth
from depth_sr_ros.pipeline import DepthSRPipeline, DepthSRResult

GUIDES = ('own', 'off', 'imitated')
IMITATED_QUALITY = 0.9
WRONG_ABOVE = 0.05


@dataclass
class Network:
    """
    A pipeline and the guide it is given.

    guide: 'own' (whatever the pipeline was loaded with) or 'imitated' (made from the truth, seeded
    by the frame's name: what a large Depth Anything might give).
    """

    label: str
    pipeline: DepthSRPipeline
    guide: str = 'own'

    def run(self, case: Case) -> tuple[DepthSRResult, float]:
        """Return the result and the seconds it took."""
        start = time.perf_counter()
        if self.guide != 'imitated':
            result = self.pipeline(case.rgb, case.depth)
        else:
            result = self._with_imitated_guide(case)
        return result, time.perf_counter() - start

    def score(self, case: Case) -> tuple[Scores, SparsificationCurves | None]:
        """Return all metrics, those of the confidence among them, and its curves."""
        result, seconds = self.run(case)
        scores = score(result.depth, case)
        interpolated = interpolate_depth(case.depth, case.truth.shape)
        scores['added_detail'] = metrics.added_high_frequency_error(
            result.depth, interpolated, case.truth, case.mask
        )
        confidence, curves = confidence_scores(result, case)
        return {**scores, **confidence, 'seconds': seconds}, curves

    def _with_imitated_guide(self, case: Case) -> DepthSRResult:
        rng = frame_generator(0, case.name)
        relative = imitate_guide(case.truth, rng, IMITATED_QUALITY)
        return self.pipeline(case.rgb, case.depth, relative=relative)


@dataclass(frozen=True)
class SparsificationCurves:
    """Mean relative error of what remains as shares of the pixels are removed; both start at 1."""

    removed: NDArray
    by_confidence: NDArray
    by_oracle: NDArray

    @classmethod
    def mean(cls, curves: Sequence[SparsificationCurves]) -> SparsificationCurves:
        """Mean over images."""
        return cls(
            curves[0].removed,
            np.mean([c.by_confidence for c in curves], axis=0),
            np.mean([c.by_oracle for c in curves], axis=0),
        )


def confidence_scores(
    result: DepthSRResult, case: Case
) -> tuple[Scores, SparsificationCurves | None]:
    """
    Metrics of `result.confidence`, the predicted probability of a relative error below 5%.

    ause, ause_constant: area between the sparsification curves of the relative error by confidence
    and by oracle, and what a constant would score. brier: mean squared difference between the
    confidence and what came true. confidence_right, confidence_wrong: its mean where the error is
    below and above 5%. Without a pixel to score, ({}, None).
    """
    scored = metrics.scored_pixels(result.depth, case.truth, case.mask)
    if not scored.any():
        return {}, None
    truth = case.truth[scored].astype(np.float64)
    error = np.abs(result.depth[scored] - truth) / truth
    confidence = result.confidence[scored].astype(np.float64)
    right = error < WRONG_ABOVE
    curves = SparsificationCurves(*metrics.sparsification(error, confidence))

    def mean(values: NDArray) -> float:
        return float(values.mean()) if values.size else float('nan')

    scores = {
        'ause': mean(curves.by_confidence - curves.by_oracle),
        'ause_constant': mean(1 - curves.by_oracle),
        'brier': mean((confidence - right) ** 2),
        'confidence_right': mean(confidence[right]),
        'confidence_wrong': mean(confidence[~right]),
    }
    return scores, curves

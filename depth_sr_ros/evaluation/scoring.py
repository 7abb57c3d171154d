# SPDX-License-Identifier: Apache-2.0
"""Scoring baselines on cases: with tuned settings, with an oracle's, and never twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_sr_ros.evaluation import baselines, metrics
from depth_sr_ros.evaluation.baselines import BASELINES, Baseline, Settings
from depth_sr_ros.evaluation.cases import Case, cropped
from depth_sr_ros.model import interpolation
from depth_sr_ros.model.interpolation import interpolate_depth

INTERPOLATED = 'interpolated input'
RAW = 'raw sensor'
# With fewer holes than this it does not matter how a filter's input was filled.
NEGLIGIBLE_HOLES = 0.03
Scores = dict[str, float]


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Hash of the code that scores depend on: a change of it makes old caches void."""
    sha = hashlib.sha256()
    for module in (baselines, metrics, interpolation):
        sha.update(Path(str(module.__file__)).read_bytes())
    return sha.hexdigest()[:12]


class ScoreCache:
    """
    Scores by case, method and settings, in one JSON file per case.

    folder: created when needed; None keeps scores in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / _code_digest()
        self._cases: dict[str, dict[str, Any]] = {}

    def get(self, case: Case, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for `key` the first time."""
        scores = self._load(case)
        if key not in scores:
            scores[key] = make()
            self._store(case, scores)
        return scores[key]

    def _load(self, case: Case) -> dict[str, Any]:
        if case.digest not in self._cases:
            self._cases[case.digest] = {}
            if self._folder is not None:
                path = self._folder / f'{case.digest}.json'
                # Not there yet, or cut off by a kill: made again.
                with contextlib.suppress(FileNotFoundError, ValueError):
                    self._cases[case.digest] = json.loads(path.read_text())
        return self._cases[case.digest]

    def _store(self, case: Case, scores: dict[str, Any]) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f'{case.digest}.json'
        temporary = path.with_suffix(f'.{os.getpid()}')
        temporary.write_text(json.dumps(scores))
        temporary.replace(path)


def score(depth: NDArray, case: Case) -> Scores:
    """All metrics of one output on one case."""
    return metrics.image_metrics(depth, case.truth, measured=case.measured, mask=case.mask)


def applicable_baselines(cases: Sequence[Case]) -> list[Baseline]:
    """Baselines with a meaning of their own for at least one of the cases."""
    return [
        baseline
        for baseline in BASELINES.values()
        if any(baseline.applies(case.depth, case.rgb.shape[:2]) for case in cases)
    ]


def score_baseline(baseline: Baseline, settings: Settings, case: Case, cache: ScoreCache) -> Scores:
    """All metrics of a baseline, and `seconds`; from the cache where it has been scored before."""

    def make() -> Scores:
        start = time.perf_counter()
        output = baseline(case.rgb, case.depth, settings)
        seconds = time.perf_counter() - start
        return {**score(output, case), 'seconds': seconds}

    return cache.get(case, f'{baseline.name} {json.dumps(settings, sort_keys=True)}', make)


def score_interpolated(case: Case, cache: ScoreCache) -> Scores:
    """All metrics of the network's own starting point."""
    return cache.get(
        case, INTERPOLATED, lambda: score(interpolate_depth(case.depth, case.truth.shape), case)
    )


def score_raw(case: Case, cache: ScoreCache) -> Scores | None:
    """Metrics of the sensor's own depth where it has any; None at another resolution."""
    if case.depth.shape != case.truth.shape:
        return None
    return cache.get(case, RAW, lambda: score(case.depth, case))


def _rmse_of(baseline: Baseline, settings: Settings, case: Case, cache: ScoreCache) -> float:
    key = f'rmse {baseline.name} {json.dumps(settings, sort_keys=True)}'
    return cache.get(
        case,
        key,
        lambda: metrics.rmse(baseline(case.rgb, case.depth, settings), case.truth, case.mask),
    )


def distinct_settings(baseline: Baseline, cases: Sequence[Case]) -> list[Settings]:
    """Return the baseline's grid without settings that make no difference on these cases."""
    grid = baseline.grid
    if not grid[0]:
        return grid
    missing = max(1 - metrics.has_depth(case.depth).mean() for case in cases)
    if missing < NEGLIGIBLE_HOLES:
        grid = [s for s in grid if s.get('fill', 'nearest') == 'nearest']
    if all(case.depth.shape == case.rgb.shape[:2] for case in cases):
        grid = [s for s in grid if s.get('coarse', True)]
    return grid


def _window_of(case: Case) -> Case:
    """Half the height and width of a case; all of it where that holds nothing to score."""
    rows, columns = case.depth.shape
    height, width = case.truth.shape
    if height % rows or width % columns:
        return case
    window = cropped(case, (height // 2, width // 2))
    scored = metrics.has_depth(window.truth)
    if window.mask is not None:
        scored &= window.mask
    return window if scored.any() and metrics.has_depth(window.depth).any() else case


def best_settings(
    baseline: Baseline,
    cases: Sequence[Case],
    cache: ScoreCache,
    *,
    logarithmic: bool = False,
    rough_cases: int = 3,
    keep: int = 3,
    windows: bool = False,
    progress: Callable[[int], Any] = lambda steps: None,
) -> tuple[Settings, float]:
    """
    Find the settings with the lowest mean RMSE over `cases`: (settings, mean RMSE in metres).

    logarithmic: minimise the mean of log RMSE instead (and return its exponential), so that far
    scenes do not outweigh near ones. All settings are tried on `rough_cases` spread over the
    cases, or with `windows` on all of them, half their height and width (four times quicker each,
    and where few pixels are scored three cases tell little); the best `keep` of them on all.
    """

    def cost(settings: Settings, chosen: Sequence[Case]) -> float:
        errors = np.array([_rmse_of(baseline, settings, case, cache) for case in chosen])
        progress(len(chosen))
        return float(
            np.exp(np.log(np.maximum(errors, 1e-9)).mean()) if logarithmic else errors.mean()
        )

    grid = distinct_settings(baseline, cases)
    if len(grid) > keep and (windows or len(cases) > rough_cases):
        spread = np.linspace(0, len(cases) - 1, rough_cases).round().astype(int)
        rough = [_window_of(case) for case in cases] if windows else [cases[i] for i in spread]
        grid = sorted(grid, key=lambda settings: cost(settings, rough))[:keep]
    costs = [cost(settings, cases) for settings in grid]
    best = int(np.argmin(costs))
    return grid[best], costs[best]

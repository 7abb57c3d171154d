# SPDX-License-Identifier: Apache-2.0
"""Baseline settings tuned on rendered validation scenes: finding, storing and choosing them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from depth_sr_ros.data.degradation import VALIDATION_DEGRADATIONS, Degradation, parse_degradation
from depth_sr_ros.data.frame import RGBDFrame
from depth_sr_ros.evaluation.baselines import BASELINES, Settings
from depth_sr_ros.evaluation.cases import cropped, degraded_cases
from depth_sr_ros.evaluation.metrics import has_depth
from depth_sr_ros.evaluation.scoring import ScoreCache, applicable_baselines, best_settings

TUNED_FILE = 'tuned_baselines.json'
TUNED_DEGRADATIONS: dict[str, Degradation] = {
    **{
        text: parse_degradation(text)
        for text in (
            'scale=4',
            'scale=4,noise=0.02',
            'scale=8',
            'scale=8,noise=0.02',
            'scale=16',
            'scale=16,noise=0.02',
            'sparse=500',
            'rectangles=0.1',
        )
    },
    # Sensors only make sense at their own distances.
    'kinect': VALIDATION_DEGRADATIONS['kinect'],
    'glass': VALIDATION_DEGRADATIONS['glass_holes'],
}


def tune_baselines(
    frames: Iterable[RGBDFrame],
    cache: ScoreCache,
    *,
    seed: int = 0,
    degradations: Iterable[str] = tuple(TUNED_DEGRADATIONS),
    report: Callable[[str], Any] = lambda line: None,
) -> dict[str, dict[str, Settings]]:
    """
    Find the best settings of every baseline for every degradation.

    The measure is the geometric mean over frames of RMSE, on one window of each degraded frame
    (half its height and width), which is four times quicker and lets more scenes be seen. Returns
    {degradation: {baseline: settings}}; baselines without settings are left out.
    """
    frames = list(frames)
    tuned: dict[str, dict[str, Settings]] = {}
    for text in degradations:
        cases = [
            cropped(case, (case.truth.shape[0] // 2, case.truth.shape[1] // 2), seed)
            for case in degraded_cases(frames, TUNED_DEGRADATIONS[text], seed)
        ]
        # A window may show sky only, or lie in a hole.
        cases = [c for c in cases if has_depth(c.truth).any() and has_depth(c.depth).any()]
        tuned[text] = {}
        for baseline in applicable_baselines(cases):
            if len(baseline.grid) < 2:
                continue
            settings, error = best_settings(baseline, cases, cache, logarithmic=True)
            tuned[text][baseline.name] = settings
            report(f'{text}: {baseline.name} {settings} RMSE {error * 1e3:.1f} mm')
    return tuned


def write_tuned(path: Path, tuned: dict[str, dict[str, Settings]], origin: dict[str, Any]) -> None:
    """Write settings with where they come from (command, seed, frames)."""
    path.write_text(json.dumps({**origin, 'settings': tuned}, indent=1) + '\n')


@lru_cache(maxsize=1)
def load_tuned() -> dict[str, dict[str, Settings]]:
    """Load the package's tuned settings; empty when it holds none."""
    file = resources.files('depth_sr_ros.evaluation') / TUNED_FILE
    if not file.is_file():
        return {}
    return json.loads(file.read_text())['settings']


def _features(degradation: str) -> tuple[float, float, set[str]]:
    scale, noise, kinds = 1.0, 0.0, set()
    for item in degradation.split(','):
        name, _, value = item.partition('=')
        if name in ('scale', 'bicubic', 'nearest', 'tof', 'phone_lidar') and value:
            scale *= float(value)
        elif name in ('noise', 'noise_m') and value:
            noise = float(value)
        elif name:
            kinds.add(name)
    return scale, noise, kinds


def tuned_settings(degradation: str, tuned: dict[str, dict[str, Settings]] | None = None):
    """
    Settings of every baseline for `degradation`: those of the most similar one that was tuned.

    Returns (name of that degradation or '', {baseline: settings}). Baselines that were not tuned
    get the middle of their grid.
    """
    tuned = load_tuned() if tuned is None else tuned
    settings = {b.name: b.grid[len(b.grid) // 2] for b in BASELINES.values()}
    if not tuned:
        return '', settings
    scale, noise, kinds = _features(degradation)

    def distance(other: str) -> float:
        other_scale, other_noise, other_kinds = _features(other)
        return (
            abs(math.log2(scale / other_scale))
            + 50 * abs(noise - other_noise)
            + 4 * len(kinds ^ other_kinds) / max(len(kinds | other_kinds), 1)
        )

    nearest = min(tuned, key=distance)
    return nearest, {**settings, **tuned[nearest]}

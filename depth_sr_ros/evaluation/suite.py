# SPDX-License-Identifier: Apache-2.0
"""
`depth_sr evaluate --suite DIR`: every row and check of the project's accuracy goals.

DIR holds RGBDFolders: redwood_livingroom1 (dense truth), open3d_testdata (structured light, truth
in redwood_livingroom1), mosd_kinect (raw Kinect), cleargrasp (glass). Absent ones are named and
skipped. Smooth surfaces under strong textures are rendered. A check compares means over images;
where it says 'best filter' that is the best classical method of the row with settings tuned on
rendered scenes; the oracle is reported beside it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.frame import RGBDFrame
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.evaluation import metrics
from depth_sr_ros.evaluation.cases import (
    Case,
    degraded_cases,
    hidden_cases,
    paired_cases,
    suffix_pairs,
)
from depth_sr_ros.evaluation.comparison import Comparison, Row, compare
from depth_sr_ros.evaluation.evaluate import load_network, spread
from depth_sr_ros.evaluation.network import Network
from depth_sr_ros.evaluation.report import circumstances, write_pictures, write_report
from depth_sr_ros.evaluation.scoring import INTERPOLATED, RAW, ScoreCache

OURS, GUIDE_OFF, GUIDED = 'ours', 'ours, guide off', 'ours, good guide'
UPSAMPLING = tuple(f'scale={scale}{noise}' for scale in (4, 8, 16) for noise in ('', ',noise=0.02'))
GUIDE_ROWS = ('scale=8', 'scale=8,noise=0.02', 'scale=16,noise=0.02')


@dataclass(frozen=True)
class Check:
    """One goal: `figure` must stay at or below `limit` (as a share, or a count)."""

    name: str
    figure: float
    limit: float
    note: str = ''

    @property
    def passed(self) -> bool:
        """False for an undefined figure, too."""
        return self.figure <= self.limit

    def line(self) -> str:
        """Return one Markdown table row."""
        state = 'pass' if self.passed else 'SHORT'
        return f'| {state} | {self.name} | {self.figure:+.3g} | {self.limit:+.3g} | {self.note} |'


def _gain(value: float, reference: float) -> float:
    return value / reference - 1 if reference else math.nan


def _against_oracle(comparison: Comparison, metric: str = 'rmse') -> str:
    """Say what the gain would be against the best baseline with its settings on these frames."""
    if all(method.oracle is None for method in comparison.methods.values()):
        return ''
    name, oracle = comparison.best_oracle(metric)
    return f'; with oracle settings {_gain(comparison.mean(OURS, metric), oracle):+.1%} ({name})'


def upsampling_checks(comparison: Comparison) -> list[Check]:
    """Check a dense low-resolution row."""
    row, ours = comparison.row.name, comparison.mean(OURS)
    best_name, best = comparison.best_baseline()
    worse = comparison.worse_than_interpolated(OURS)
    edge = _gain(comparison.mean(OURS, 'rmse_edge'), comparison.mean('bilinear', 'rmse_edge'))
    return [
        Check(f'{row}: RMSE against bilinear', _gain(ours, comparison.mean('bilinear')), -0.30),
        Check(
            f'{row}: RMSE against the best filter',
            _gain(ours, best),
            -0.15,
            best_name + _against_oracle(comparison),
        ),
        Check(f'{row}: edge RMSE against bilinear', edge, -0.40),
        Check(f'{row}: frames worse than the interpolated input', len(worse), 0, ' '.join(worse)),
    ]


def hole_checks(comparison: Comparison) -> list[Check]:
    """Check a raw structured-light row, hole pixels included."""
    best_name, best = comparison.best_baseline()
    ours = comparison.mean(OURS)
    return [
        Check(
            f'{comparison.row.name}: RMSE against the best hole-filling baseline',
            _gain(ours, best),
            -0.40,
            best_name + _against_oracle(comparison),
        )
    ]


def sparse_checks(comparison: Comparison) -> list[Check]:
    """Check a sparse row."""
    linear = comparison.mean('linear (Delaunay)')
    worse = comparison.worse_than_interpolated(OURS)
    name = comparison.row.name
    return [
        Check(f'{name}: RMSE against linear', _gain(comparison.mean(OURS), linear), -0.30),
        Check(f'{name}: frames worse than the interpolated input', len(worse), 0, ' '.join(worse)),
    ]


def hidden_checks(comparison: Comparison) -> list[Check]:
    """Check that hidden pixels come out better than from every baseline."""
    best_name, best = comparison.best_baseline('rmse_hole')
    ours = comparison.mean(OURS, 'rmse_hole')
    return [
        Check(
            f'{comparison.row.name}: hidden pixels, RMSE against the best baseline',
            _gain(ours, best),
            0,
            best_name + _against_oracle(comparison, 'rmse_hole'),
        )
    ]


def glass_checks(comparison: Comparison) -> list[Check]:
    """Check real glass: hidden pixels, no harm to the raw sensor's, confidence low where wrong."""
    name = comparison.row.name
    raw = comparison.mean(RAW, 'rmse_measured')
    means = comparison.methods[OURS].mean
    return [
        *hidden_checks(comparison),
        Check(
            f'{name}: measured pixels of the glass, RMSE against the raw sensor',
            _gain(comparison.mean(OURS, 'rmse_measured'), raw),
            0,
        ),
        Check(
            f'{name}: confidence where the error is above 5% less that where it is below',
            means.get('confidence_wrong', math.nan) - means.get('confidence_right', math.nan),
            -0.2,
            f'AUSE {means.get("ause", math.nan):.3f}, '
            f'a constant {means.get("ause_constant", math.nan):.3f}',
        ),
    ]


def guide_checks(comparison: Comparison) -> list[Check]:
    """Check that a good guide helps and that without any the filters are still beaten."""
    row, best = comparison.row.name, comparison.best_baseline()
    guided = _gain(comparison.mean(GUIDED), comparison.mean(OURS))
    off = _gain(comparison.mean(GUIDE_OFF), best[1])
    return [
        Check(f'{row}: good imitated guide against the own one', guided, -0.10),
        Check(f'{row}: guide off against the best filter', off, 0, best[0]),
    ]


def texture_checks(comparison: Comparison) -> list[Check]:
    """Check that no texture is painted into smooth surfaces."""
    added, before = comparison.mean(OURS, 'added_detail'), comparison.mean(INTERPOLATED)
    worse = comparison.worse_than_interpolated(OURS)
    name = comparison.row.name
    return [
        Check(
            f'{name}: surfaces worse than the interpolated input',
            len(worse),
            0,
            f'of {len(comparison.row.cases)}; RMSE {comparison.mean(OURS) * 1e3:.2f} '
            f'against {before * 1e3:.2f} mm',
        ),
        Check(
            f'{name}: added high-frequency error over the interpolated RMSE',
            added / before if before else math.nan,
            0.10,
            f'{added * 1e3:.2f} of {before * 1e3:.2f} mm',
        ),
    ]


def scale_checks(name: str, cases: list[Case], network: Network) -> list[Check]:
    """Check that depths ten times smaller or larger leave the relative error as it is."""

    def error(factor: float) -> float:
        results = []
        for case in cases:
            truth = case.truth * np.float32(factor)
            scaled = Case(case.name, case.rgb, case.depth * np.float32(factor), truth)
            results.append(metrics.abs_rel(network.run(scaled)[0].depth, truth))
        return float(np.mean(results))

    reference = error(1.0)
    return [
        Check(
            f'{name}: change of AbsRel at depths x{factor:g}',
            abs(_gain(error(factor), reference)),
            0.02,
        )
        for factor in (0.1, 10.0)
    ]


@dataclass(frozen=True)
class _Goal:
    row: Row
    networks: tuple[Network, ...]
    checks: Callable[[Comparison], list[Check]]


def _goals(args: argparse.Namespace, networks: dict[str, Network]) -> tuple[list[_Goal], list[str]]:
    goals: list[_Goal] = []
    skipped: list[str] = []
    root: Path = args.dataset
    ours = (networks[OURS],)

    def folder(name: str) -> RGBDFolder | None:
        if (root / name).is_dir():
            return RGBDFolder(root / name)
        skipped.append(f'{root / name}: not there, its checks are skipped')
        return None

    redwood = folder('redwood_livingroom1')
    if redwood is not None:
        frames = spread(redwood, args.frames)
        for text in UPSAMPLING:
            row = Row(f'redwood {text}', _degraded(frames, text, args.seed), text)
            if text in GUIDE_ROWS:
                goals.append(
                    _Goal(
                        row,
                        tuple(networks.values()),
                        lambda c: upsampling_checks(c) + guide_checks(c),
                    )
                )
            else:
                goals.append(_Goal(row, ours, upsampling_checks))
        text = 'sparse=500'
        row = Row(f'redwood {text}', _degraded(frames, text, args.seed), text)
        goals.append(_Goal(row, ours, sparse_checks))
        raw = folder('open3d_testdata')
        if raw is not None:
            cases = paired_cases(spread(raw, args.frames), list(redwood))
            goals.append(_Goal(Row('open3d_testdata', cases, 'kinect'), ours, hole_checks))
    kinect = folder('mosd_kinect')
    if kinect is not None:
        cases = hidden_cases(spread(kinect, args.frames), args.seed)
        goals.append(_Goal(Row('mosd_kinect', cases, 'rectangles=0.1'), ours, hidden_checks))
    glass = folder('cleargrasp')
    if glass is not None:
        frames = list(glass)
        cases = suffix_pairs(frames, '_transparent', '_opaque', glass.mask)
        goals.append(_Goal(Row('cleargrasp glass', cases, 'glass'), ours, glass_checks))
        synthetic = [frame for frame in frames if frame.name.startswith('synth')]
        text = 'scale=8,noise=0.02'
        row = Row(f'cleargrasp synthetic {text}', _degraded(synthetic, text, args.seed), text)
        goals.append(_Goal(row, ours, upsampling_checks))
    textured = _textured_surfaces(args.texture_copying, skipped)
    for text in ('scale=8', 'scale=8,noise=0.02') if textured else ():
        row = Row(f'texture copying {text}', _degraded(textured, text, args.seed), text)
        goals.append(_Goal(row, ours, texture_checks))
    if not goals:
        raise ValueError(f'{root}: none of the data sets is there')
    return goals, skipped


def _textured_surfaces(count: int, skipped: list[str]) -> list[RGBDFrame]:
    """Render the fixed set that shows texture copying; seed 0, one view of each surface."""
    if count < 1:
        skipped.append('texture copying: not asked for')
        return []
    from depth_sr_ros.data.offscreen_renderer import RenderingUnavailableError
    from depth_sr_ros.data.rendered_scenes import RenderedScenes

    # Rendered here and not read from a folder: stored float16 depth is rounded to 1 mm, more than
    # what a good network paints.
    scenes = RenderedScenes(0, split='texture_copying', views=1, count=count)
    try:
        frames = list(scenes)
    except RenderingUnavailableError as error:
        skipped.append(f'texture copying: {error}')
        return []
    scenes.close()
    if not scenes.library.photographic:
        skipped.append('texture copying: no photographs found, procedural textures instead')
    return frames


def _degraded(frames: list, text: str, seed: int) -> list[Case]:
    return degraded_cases(frames, parse_degradation(text), seed)


def run_suite(args: argparse.Namespace) -> int:
    """Run every row and print one line per check; returns 1 when one falls short."""
    networks = {OURS: load_network(args, OURS, 'own')}
    if args.weights != 'interpolation':
        networks[GUIDE_OFF] = load_network(args, GUIDE_OFF, 'off')
        networks[GUIDED] = Network(GUIDED, networks[OURS].pipeline, 'imitated')
    goals, skipped = _goals(args, networks)
    cache = ScoreCache(args.out / 'cache')
    comparisons: list[Comparison] = []
    checks: list[Check] = []
    total = sum(len(goal.row.cases) * len(goal.networks) for goal in goals)
    with tqdm(total=total, unit='frame', desc='suite') as bar:

        def progress(step: str) -> None:
            bar.set_postfix_str(f'{goal.row.name}: {step}', refresh=False)
            bar.update(step.startswith(OURS))

        for goal in goals:
            comparison = compare(
                goal.row, goal.networks, cache, oracle=not args.no_oracle, progress=progress
            )
            found = goal.checks(comparison)
            comparisons.append(comparison)
            checks += found
            for check in found:
                bar.write(check.line())
        frames = goals[0].row.cases[:2]
        found = scale_checks(goals[0].row.name, frames, networks[OURS])
        checks += found
        for check in found:
            bar.write(check.line())
    short = [check for check in checks if not check.passed]
    head = '\n'.join(
        [
            '| | goal | figure | limit | |',
            '|---|---|---|---|---|',
            *(check.line() for check in checks),
            '',
            f'{len(checks) - len(short)} of {len(checks)} reached.',
            *skipped,
            '',
        ]
    )
    facts: dict[str, Any] = circumstances(
        list(networks.values()),
        seed=args.seed,
        checks=[{**vars(check), 'passed': check.passed} for check in checks],
        skipped=skipped,
    )
    write_report(args.out, comparisons, facts, head)
    for comparison, goal in zip(comparisons, goals, strict=True):
        write_pictures(args.out, comparison, goal.networks, args.pictures)
    print('\n'.join([f'{len(checks) - len(short)} of {len(checks)} goals reached', *skipped]))
    print(f'written: {args.out / "evaluation.md"}, {args.out / "pictures"}')
    return 1 if short else 0

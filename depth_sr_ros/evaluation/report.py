# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: tables in Markdown, figures in JSON, pictures for looking."""

from __future__ import annotations

import itertools
import json
import math
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from depth_sr_ros.evaluation.baselines import BASELINES
from depth_sr_ros.evaluation.comparison import Comparison
from depth_sr_ros.evaluation.metrics import DEPTH_BANDS, band_name, has_depth
from depth_sr_ros.evaluation.network import Network
from depth_sr_ros.evaluation.pictures import (
    Panel,
    Scale,
    depth_scale,
    line_chart,
    sheet,
    write_image,
)
from depth_sr_ros.evaluation.scoring import INTERPOLATED
from depth_sr_ros.machine import processor_name
from depth_sr_ros.model.interpolation import interpolate_depth

# Metric, heading, factor, decimals.
COLUMNS = (
    ('rmse', 'RMSE mm', 1e3, 1),
    ('mae', 'MAE mm', 1e3, 1),
    ('abs_rel', 'AbsRel %', 1e2, 2),
    ('delta_1.05', 'd1.05 %', 1e2, 1),
    ('delta_1.25', 'd1.25 %', 1e2, 2),
    ('rmse_edge', 'edge RMSE', 1e3, 1),
    ('rmse_flat', 'flat RMSE', 1e3, 1),
    ('edge_accuracy', 'edge acc. px', 1, 2),
    ('edge_completeness', 'edge compl. px', 1, 2),
    ('boundary_f1', 'F1', 1, 3),
    ('rmse_hole', 'hole RMSE', 1e3, 1),
    ('rmse_measured', 'measured RMSE', 1e3, 1),
    ('seconds', 's', 1, 2),
)


def _cell(value: float | None, factor: float = 1, decimals: int = 1) -> str:
    if value is None or not math.isfinite(value):
        return '-'
    return f'{value * factor:.{decimals}f}'


def change(value: float, reference: float) -> str:
    """How far a value is below (-) or above (+) its reference, in percent."""
    if not (math.isfinite(value) and math.isfinite(reference)) or reference == 0:
        return '-'
    return f'{100 * (value / reference - 1):+.1f}%'


def table(comparison: Comparison) -> str:
    """Markdown table of one row's methods, and under it what the networks gain."""
    oracle = any(m.oracle is not None for m in comparison.methods.values())
    columns = [
        column
        for column in COLUMNS
        if any(math.isfinite(m.mean.get(column[0], math.nan)) for m in comparison.methods.values())
    ]
    headings = ['method', f'vs {comparison.reference}', *(c[1] for c in columns)]
    if oracle:
        headings.insert(3, 'oracle RMSE')
    row = comparison.row
    count = f'{len(row.cases)} frames'
    if row.left_out:
        count += f', {len(row.left_out)} without depth left out'
    lines = [
        f'### {row.name} ({count})',
        '',
        '| ' + ' | '.join(headings) + ' |',
        '|' + '|'.join(['---'] * len(headings)) + '|',
    ]
    reference = comparison.mean(comparison.reference)
    for name, scores in comparison.methods.items():
        mean = scores.mean
        cells = [name, change(mean['rmse'], reference)]
        cells += [_cell(mean.get(key), factor, digits) for key, _, factor, digits in columns]
        if oracle:
            cells.insert(3, _cell(scores.oracle['rmse'], 1e3) if scores.oracle else '-')
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += ['', *_band_table(comparison), '', *summary(comparison), '']
    return '\n'.join(lines)


def _band_table(comparison: Comparison) -> list[str]:
    """RMSE by depth band: the far pixels rule the mean, this says how near ones fare."""
    bands = [band_name(low, high) for low, high in itertools.pairwise(DEPTH_BANDS)]
    bands = [b for b in bands if math.isfinite(comparison.mean(INTERPOLATED, b))]
    lines = [
        '| RMSE mm at | '
        + ' | '.join(b.removeprefix('rmse_').replace('_', '-') for b in bands)
        + ' |',
        '|' + '|'.join(['---'] * (len(bands) + 1)) + '|',
    ]
    for name, scores in comparison.methods.items():
        mean = scores.mean
        lines.append('| ' + ' | '.join([name, *(_cell(mean.get(b), 1e3) for b in bands)]) + ' |')
    return lines


def summary(comparison: Comparison) -> list[str]:
    """One line per network: gains on bilinear, on the best filter, and frames made worse."""
    lines = []
    for name, scores in comparison.methods.items():
        if scores.kind != 'network':
            continue
        value = scores.mean['rmse']
        best_name, best = comparison.best_baseline()
        oracle = ''
        if any(m.oracle is not None for m in comparison.methods.values()):
            oracle_name, oracle_rmse = comparison.best_oracle()
            oracle = f'{change(value, oracle_rmse)} with oracle settings ({oracle_name}), '
        worse = comparison.worse_than_interpolated(name)
        lines.append(
            f'{name}: RMSE {change(value, comparison.mean(comparison.reference))} against '
            f'{comparison.reference}, {change(value, best)} against the best filter ({best_name}), '
            f'{oracle}'
            f'{change(value, comparison.mean(INTERPOLATED))} against the interpolated input; '
            + (f'worse than it on {", ".join(worse)}' if worse else 'worse than it on no frame')
        )
        if 'ause' in scores.mean:
            mean = scores.mean
            lines.append(
                f'{name}: confidence AUSE {_cell(mean["ause"], 1, 3)} (a constant: '
                f'{_cell(mean["ause_constant"], 1, 3)}), Brier {_cell(mean["brier"], 1, 3)}, mean '
                f'{_cell(mean["confidence_right"], 1, 2)} where the error is below 5%, '
                f'{_cell(mean["confidence_wrong"], 1, 2)} elsewhere'
            )
    return lines


def circumstances(networks: Sequence[Network], **more: Any) -> dict[str, Any]:
    """Machine, command, versions and weights, to stand beside every figure."""
    import cv2
    import torch

    try:
        version = metadata.version('depth_sr_ros')
    except metadata.PackageNotFoundError:  # Run from a checkout that was not installed.
        version = 'not installed'
    return {
        'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        'machine': f'{processor_name()}, {torch.get_num_threads()} threads',
        'versions': {
            'depth_sr_ros': version,
            'python': platform.python_version(),
            'torch': torch.__version__,
            'numpy': np.__version__,
            'opencv': cv2.__version__,
        },
        'networks': {network.label: network.pipeline.description for network in networks},
        'aggregation': 'mean over images of the per-image metric',
        **more,
    }


def write_report(
    folder: Path, comparisons: Sequence[Comparison], facts: dict[str, Any], head: str = ''
) -> None:
    """Write evaluation.md and evaluation.json."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['# Evaluation', '', f'`{facts["command"]}`', '', f'Machine: {facts["machine"]}.', '']
    for label, description in facts['networks'].items():
        lines.append(f'{label}: {", ".join(f"{k} {v}" for k, v in description.items())}')
    lines += ['', f'All figures: {facts["aggregation"]}.', '', head]
    lines += [table(comparison) for comparison in comparisons]
    (folder / 'evaluation.md').write_text('\n'.join(lines) + '\n')
    values = {**facts, 'rows': [comparison.as_json() for comparison in comparisons]}
    (folder / 'evaluation.json').write_text(json.dumps(_finite(values), indent=1) + '\n')


def _finite(value: Any) -> Any:
    """JSON has no NaN: undefined becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_pictures(
    folder: Path, comparison: Comparison, networks: Sequence[Network], limit: int
) -> list[Path]:
    """
    Write a sheet per frame: RGB, input, truth, confidence; each method's depth and its error.

    Shown are the reference, the best classical filter, the interpolated input and the networks, for
    up to `limit` frames spread over the row.
    """
    cases = comparison.row.cases
    if limit <= 0:
        return []
    count = min(limit, len(cases))
    paths = []
    for index in np.unique(np.linspace(0, len(cases) - 1, count).round().astype(int)):
        case = cases[index]
        outputs = {}
        for name in dict.fromkeys((comparison.reference, comparison.best_baseline()[0])):
            if name in BASELINES:
                settings = comparison.methods[name].settings
                outputs[name] = BASELINES[name](case.rgb, case.depth, settings)
        outputs[INTERPOLATED] = interpolate_depth(case.depth, case.truth.shape)
        confidence = None
        for network in networks:
            result, _ = network.run(case)
            outputs[network.label] = result.depth
            confidence = result.confidence
        known = has_depth(case.truth)
        metres = depth_scale(np.where(known, case.truth, 0), case.depth)
        errors = {
            name: np.where(known, np.abs(output - case.truth), np.nan) * 1e3
            for name, output in outputs.items()
        }
        high = float(np.nanpercentile(errors[INTERPOLATED], 97)) if known.any() else 1.0
        millimetres = Scale(0, max(high, 1e-3), 'mm', 'error')
        first = [
            Panel('RGB', case.rgb),
            Panel('input {1}x{0}'.format(*case.depth.shape), case.depth, metres),
            Panel('truth', case.truth, metres),
        ]
        if confidence is not None:
            first.append(Panel('confidence', confidence, Scale(0, 1, '', 'confidence')))
        second = [Panel(name, output, metres) for name, output in outputs.items()]
        third = []
        for name, error in errors.items():
            rmse = comparison.methods[name].images[index]['rmse'] * 1e3
            third.append(Panel(f'error of {name}: RMSE {rmse:.1f} mm', error, millimetres))
        path = folder / 'pictures' / f'{_file_name(comparison, case.name)}.png'
        write_image(path, sheet([first, second, third]))
        paths.append(path)
    charts = {}
    for name, method in comparison.methods.items():
        if method.sparsification is not None:
            curves = method.sparsification
            charts[f'{name}, by confidence'] = (curves.removed, curves.by_confidence)
            charts[f'{name}, by oracle'] = (curves.removed, curves.by_oracle)
    if charts:
        path = folder / 'pictures' / f'{_file_name(comparison, "sparsification")}.png'
        chart = line_chart(
            charts,
            x_label=f'share of pixels removed ({comparison.row.name})',
            y_label='mean relative error of the rest / of all',
        )
        write_image(path, chart)
        paths.append(path)
    return paths


def _file_name(comparison: Comparison, what: str) -> str:
    return f'{comparison.row.name}_{what}'.replace('/', '_').replace(' ', '_')

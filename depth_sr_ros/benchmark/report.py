# SPDX-License-Identifier: Apache-2.0
"""The report of a benchmark as Markdown tables, as what it must reach, and as two charts."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from depth_sr_ros.benchmark.timing import STAGES

CHART_STAGES = ('decode', *STAGES, 'encode')
_COLOURS = {
    'decode': '#b8b8b8',
    'inspect': '#9a8c6b',
    'upload': '#f2b134',
    'preprocess': '#8fbc5a',
    'guide': '#4a7fb5',
    'fusion': '#d1495b',
    'network': '#8c6bb1',
    'download': '#e8894a',
    'encode': '#8c8c8c',
}
LARGEST_GROWTH = 2.2
_COMPARATOR = 'Prompt Depth Anything Small'


def rows_of(report: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    """The rows with these values."""
    return [row for row in report['rows'] if all(row[k] == v for k, v in wanted.items())]


def _as_asked(measured: dict[str, Any]) -> bool:
    """Whether a row or a point of the growth ran as its label says; only those are judged."""
    return not (measured['reduced'] or measured['fell_back'])


def _label(row: dict[str, Any]) -> str:
    """How it ran: what was asked for, and what it had to do without."""
    without = row['reduced'] or row['fell_back']
    if not without:
        return row['label']
    # A bar would end the cell.
    without = textwrap.shorten(without.replace('|', '/'), 160)
    return f'{row["label"]}, **not as asked**: {without}'


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return ''
    if value >= 100:
        return f'{value:.0f}'
    return f'{value:.{digits}f}'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|']
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
    return lines


def about(report: dict[str, Any]) -> str:
    """One sentence: machine, versions, what was shown."""
    a = report['about']
    # A run that was gone on with has rows of several days.
    days = sorted({row['date'] for row in report['rows']}) or [a['date']]
    dates = ' to '.join(dict.fromkeys((days[0], days[-1])))
    return (
        f'{a["device"]}; {a["machine"]}; Python {a["python"]}, torch {a["torch"]}, '
        f'{a["threads"]} threads; {dates}. RGB and depth of the demo clip, depth at a quarter '
        f'of the size with 1% noise.' + (' Interrupted: not all rows.' if a['interrupted'] else '')
    )


def markdown(report: dict[str, Any]) -> str:
    """All tables."""
    lines = [about(report), '']
    for size in dict.fromkeys(row['size'] for row in report['rows']):
        lines += [f'**{size}**', '', *_speed_table(report, size), '']
    lines += ['Per stage, milliseconds, median of each, the clock waiting at each:', '']
    lines += [*_stage_table(report), '']
    lines += [*_roofline_table(report), '']
    if report['scaling']:
        lines += [*_scaling_table(report), '']
    lines += ['What it must reach, and does here:', '']
    lines += [f'- {text}' for text in bars(report)]
    return '\n'.join(lines)


def _speed_table(report: dict[str, Any], size: str) -> list[str]:
    cuda = report['about']['cuda']

    def cells(row: dict[str, Any]) -> list[str]:
        parity = row['parity']
        return [
            row['subject'] + ('' if row['ours'] else ' (theirs)'),
            row['backbone_input'],
            _label(row) + (', **reference**' if row['reference'] else ''),
            str(row['frames']),
            _number(row['median_ms']),
            _number(row['p90_ms']),
            _number(row['p99_ms']),
            *([_number(row['device_ms'])] if cuda else []),
            _number(row['fps']),
            '' if row['ratio'] is None else f'{row["ratio"]:.2f}',
            _number(row['memory_mb'], 0),
            '' if parity is None else f'{parity["median"]:.2%} / {parity["p99"]:.2%}',
            '' if parity is None else f'{parity["rmse_ratio"]:.4f}',
        ]

    head = ['what', 'backbone sees', 'how', 'frames', 'median ms', 'p90', 'p99']
    head += [
        *(['GPU ms'] if cuda else []),
        'FPS',
        'x reference',
        'memory MB',
        'difference median / p99',
        'RMSE x reference',
    ]
    return _table(head, map(cells, rows_of(report, size=size)))


def _stage_table(report: dict[str, Any]) -> list[str]:
    def cells(row: dict[str, Any]) -> list[str]:
        stages = row_stages(report, row)
        shown = [_number(stages.get(stage), 2) for stage in CHART_STAGES]
        return [row['size'], row['subject'], row['label'], *shown]

    return _table(['size', 'what', 'how', *CHART_STAGES], map(cells, report['rows']))


def row_stages(report: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    """Stage -> milliseconds; for ours with the node's decoding and encoding of that size."""
    codec = report['codec'].get(row['size'], {}) if row['ours'] else {}
    return {**row['stages_ms'], **codec}


def _roofline_table(report: dict[str, Any]) -> list[str]:
    rates = report['rates']
    products = ', '.join(f'{k} {v / 1e12:.2f} TFLOP/s' for k, v in rates['flops'].items())
    lines = [
        f'Roofline. Measured here: copies {rates["bytes"] / 1e9:.1f} GB/s (read and written), '
        f'matrix products {products}'
        + (
            ''
            if math.isinf(rates['transfer'])
            else f', transfer {rates["transfer"] / 1e9:.1f} GB/s'
        )
        + '.',
        '',
    ]

    def cells(row: dict[str, Any]) -> list[str]:
        roofline = row['roofline']
        return [
            row['size'],
            row['subject'],
            row['label'],
            f'{roofline["flops"] / 1e9:.1f}',
            f'{roofline["bytes"] / 1e6:.0f}',
            f'{roofline["all_bytes"] / 1e6:.0f}',
            str(roofline['launches']),
            _number(roofline['bound_ms'], 2),
            f'{roofline["times_bound"]:.1f}',
        ]

    head = ['size', 'what', 'how', 'GFLOP', 'MB', 'MB unfused', 'operators', 'bound ms']
    head.append('time / bound')
    return lines + _table(head, map(cells, report['rows']))


def growths(points: list[dict[str, Any]]) -> list[float]:
    """Factor of the time for each doubling of the pixels, between neighbouring sizes."""
    factors = []
    for small, large in itertools.pairwise(points):
        doublings = math.log2(large['pixels'] / small['pixels'])
        factors.append((large['median_ms'] / small['median_ms']) ** (1 / doublings))
    return factors


def _scaling_table(report: dict[str, Any]) -> list[str]:
    lines = ['Growth with the size of the image:', '']
    rows = []
    for name, points in report['scaling'].items():
        factors = ['', *(f'x {factor:.2f}' for factor in growths(points))]
        for point, factor in zip(points, factors, strict=True):
            rows.append([name, point['size'], _number(point['median_ms'], 2), factor])
    return lines + _table(['what', 'size', 'median ms', 'per doubling of the pixels'], rows)


def _judged(report: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows_of(report, **wanted) if _as_asked(row)]


def _best(report: dict[str, Any], subject: str, size: str) -> dict[str, Any] | None:
    rows = _judged(report, subject=subject, size=size, reference=False)
    return min(rows, key=lambda row: row['median_ms'], default=None)


def bars(report: dict[str, Any]) -> list[str]:
    """What the project set itself, each with what this run measured."""
    found = _gpu_bars(report) if report['about']['cuda'] else _cpu_bars(report)
    for name, points in report['scaling'].items():
        worst = max(growths(points), default=None) if all(map(_as_asked, points)) else None
        text = f'{name}: doubling the pixels at most {LARGEST_GROWTH} times the time'
        found.append(_bar(text, worst, lambda w: f'at most {w:.2f}', lambda w: w <= LARGEST_GROWTH))
    return found


def _bar(text: str, value: Any, show: Callable[[Any], str], reached: Callable[[Any], bool]) -> str:
    if value is None:
        return f'{text}: not measured in this run'
    return f'{text}: {show(value)}, {"reached" if reached(value) else "**not reached**"}'


def _gpu_bars(report: dict[str, Any]) -> list[str]:
    def faster(size: str, fps: float) -> str:
        return _bar(
            f'29M configuration at {size}, at least {fps} FPS',
            _best(report, 'seed', size),
            lambda row: f'{row["fps"]:.0f} ({row["label"]})',
            lambda row: row['fps'] >= fps,
        )

    def beside(name: str, times: float) -> str:
        wanted = {'size': '1920x1080', 'label': 'float16 graph'}
        ours = _judged(report, subject=name, **wanted)
        theirs = _judged(report, subject=_COMPARATOR, **wanted)
        return _bar(
            f'{name} at 1920x1080, at most {times} times the time of {_COMPARATOR}, both as '
            'float16 graph',
            ours[0]['median_ms'] / theirs[0]['median_ms'] if ours and theirs else None,
            lambda share: f'{share:.2f}',
            lambda share: share <= times,
        )

    row = _best(report, 'seed', '1920x1080')
    return [
        faster('1920x1080', 120),
        _bar(
            'its p99 at most 1.5 times the median',
            row and row['p99_ms'] / row['median_ms'],
            lambda tail: f'{tail:.2f}',
            lambda tail: tail <= 1.5,
        ),
        faster('640x480', 400),
        _bar(
            'at least 4 times the reference at 1920x1080',
            row and row['ratio'],
            lambda ratio: f'{ratio:.1f}',
            lambda ratio: ratio >= 4,
        ),
        _bar(
            'its output within 0.1% at the median and 0.5% at the 99th percentile, RMSE +1%',
            row and row['parity'],
            lambda p: f'{p["median"]:.3%}, {p["p99"]:.3%}, {p["rmse_ratio"] - 1:+.2%}',
            lambda p: p['median'] <= 1e-3 and p['p99'] <= 5e-3 and p['rmse_ratio'] <= 1.01,
        ),
        beside('embedded', 1.0),
        beside('seed', 1.3),
        _bar(
            'within 3 times the roofline',
            row and row['roofline']['times_bound'],
            lambda times: f'{times:.1f}',
            lambda times: times <= 3,
        ),
    ]


def _cpu_bars(report: dict[str, Any]) -> list[str]:
    rows = _judged(report, subject='embedded', size='640x480')
    row = _best(report, 'embedded', '640x480')
    return [
        _bar(
            'embedded weights at 640x480 on 2 cores, at least 5 FPS',
            min(rows, key=lambda row: row['median_ms'], default=None),
            lambda row: f'{row["fps"]:.1f} ({row["label"]})',
            lambda row: row['fps'] >= 5,
        ),
        _bar(
            'at least 1.5 times eager float32 in the same run',
            row and row['ratio'],
            lambda ratio: f'{ratio:.2f} ({row and row["label"]})',
            lambda ratio: ratio >= 1.5,
        ),
        _bar(
            'its RMSE at most 2% worse than the reference',
            row and row['parity'],
            lambda parity: f'{parity["rmse_ratio"] - 1:+.2%}',
            lambda parity: parity['rmse_ratio'] <= 1.02,
        ),
    ]


def summary(report: dict[str, Any]) -> str:
    """One line: the fastest of our first configuration at its first size."""
    ours = [row for row in report['rows'] if row['ours']]
    if not ours:
        return 'nothing of ours was measured'
    subject, size = ours[0]['subject'], ours[0]['size']
    best = min(rows_of(report, subject=subject, size=size), key=lambda row: row['median_ms'])
    return (
        f'{subject} at {size}: {best["fps"]:.1f} FPS, median {best["median_ms"]:.1f} ms, '
        f'p99 {best["p99_ms"]:.1f} ms ({_label(best)})'
        + (f', {best["ratio"]:.2f} x the speed of plain float32' if best['ratio'] else '')
    )


def plot_stages(report: dict[str, Any], path: Path) -> None:
    """Write a stacked bar for every row, one panel for each size (PNG)."""
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(row['size'] for row in report['rows']))
    heights = [len(rows_of(report, size=size)) + 1 for size in sizes]
    figure = Figure(figsize=(10, 0.27 * sum(heights) + 1.3), layout='constrained')
    panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=heights)[:, 0]
    used = [s for s in CHART_STAGES if any(s in row_stages(report, r) for r in report['rows'])]
    for axes, size in zip(panels, sizes, strict=True):
        rows = rows_of(report, size=size)
        left = [0.0] * len(rows)
        for stage in used:
            widths = [row_stages(report, row).get(stage, 0.0) for row in rows]
            axes.barh(range(len(rows)), widths, left=left, color=_COLOURS[stage], label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for index, row in enumerate(rows):
            axes.annotate(
                f' {_number(row["fps"])} FPS',
                (left[index], index),
                va='center',
                fontsize=7,
            )
        axes.set_yticks(
            range(len(rows)), [f'{row["subject"]}, {row["label"]}' for row in rows], fontsize=7
        )
        axes.tick_params(axis='x', labelsize=7)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.set_title(size, loc='left', fontsize=9)
        axes.spines[['top', 'right']].set_visible(False)
    panels[-1].set_xlabel('milliseconds per frame', fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, ncols=len(used), loc='outside lower center', frameon=False, fontsize=8
    )
    figure.suptitle(report['about']['device'], fontsize=9, x=0.01, ha='left')
    figure.savefig(path, dpi=110)


def plot_scaling(report: dict[str, Any], path: Path) -> None:
    """Write time against pixels, both logarithmic, beside strict proportion (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout='constrained')
    axes = figure.subplots()
    for name, points in report['scaling'].items():
        pixels = [point['pixels'] / 1e6 for point in points]
        times = [point['median_ms'] for point in points]
        (line,) = axes.loglog(pixels, times, 'o-', label=f'{name} ({points[0]["label"]})')
        proportional = [times[-1] * p / pixels[-1] for p in pixels]
        axes.loglog(pixels, proportional, '--', color=line.get_color(), alpha=0.4)
        for point, x, y in zip(points, pixels, times, strict=True):
            axes.annotate(
                point['size'], (x, y), xytext=(4, -9), textcoords='offset points', fontsize=7
            )
    axes.set_xlabel('megapixels of RGB')
    axes.set_ylabel('median milliseconds per frame')
    axes.set_title(f'{report["about"]["device"]}; dashed: in proportion', loc='left', fontsize=9)
    axes.grid(alpha=0.3, which='both')
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)

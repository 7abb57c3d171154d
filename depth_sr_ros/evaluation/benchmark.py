# SPDX-License-Identifier: Apache-2.0
"""`depth_sr benchmark`: speed of the whole pipeline, beside references, in one run."""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depth_sr_ros.pipeline import DepthSRPipeline

STAGES = ('upload', 'guide', 'preprocess', 'fusion', 'download')
DEFAULT_SIZES = ('640x480', '1280x720', '1920x1080')
# What the ratio of every row is taken to.
REFERENCE = 'reference'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `depth_sr benchmark`."""
    parser.add_argument(
        '--weights',
        default='embedded',
        help="weights (embedded); with --ros also 'pass-through': the node's own work alone",
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (auto)')
    parser.add_argument(
        '--size', action='append', metavar='WxH', help='RGB size; repeatable (three common ones)'
    )
    parser.add_argument('--frames', type=int, default=100, help='timed frames per row (100)')
    parser.add_argument('--json', metavar='FILE', help='write all figures')
    parser.add_argument('--plot', metavar='FILE', help='write the stacked bar chart (PNG)')
    parser.add_argument(
        '--ros', action='store_true', help='measure the node through DDS instead of the pipeline'
    )
    parser.add_argument('--rate', type=float, default=30.0, help='camera rate with --ros, Hz (30)')
    parser.add_argument('--seconds', type=float, default=20.0, help='length with --ros (20)')


def parse_size(text: str) -> tuple[int, int]:
    """'640x480' -> (640, 480).

    Raises:
        ValueError: for anything else.
    """
    try:
        width, height = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise ValueError(f'--size is {text!r}: expected WxH, such as 640x480') from None
    return width, height


def run(args: argparse.Namespace) -> int:
    """Measure and report."""
    if args.frames < 1:
        raise ValueError(f'--frames is {args.frames}: expected 1 or more')
    sizes = [parse_size(text) for text in args.size or DEFAULT_SIZES]
    if args.ros:
        return _measure_node(args, sizes)
    report = measure(args.weights, args.device, sizes, args.frames)
    print(markdown(report))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + '\n')
    if args.plot:
        plot(report, Path(args.plot))
    for row in report['rows']:
        if row['name'] != REFERENCE:
            best = row
    print(
        f'{best["name"]} at {best["size"]}: {best["fps"]:.1f} FPS, median '
        f'{best["median_ms"]:.1f} ms, p99 {best["p99_ms"]:.1f} ms, '
        f'{best["ratio"]:.2f} x the speed of plain float32'
    )
    return 0


def _measure_node(args: argparse.Namespace, sizes: list[tuple[int, int]]) -> int:
    """Hand over to the ROS half; each size in turn, depth at a third of the RGB size."""
    from depth_sr_ros.ros import benchmark

    worst = 0
    for width, height in sizes:
        command = [
            *('--rgb-size', f'{width}x{height}', '--depth-size', f'{width // 3}x{height // 3}'),
            *('--rate', str(args.rate), '--seconds', str(args.seconds)),
            *('--weights', args.weights or 'pass-through', '--device', args.device),
        ]
        if args.json:
            path = Path(args.json)
            if len(sizes) > 1:
                path = path.with_stem(f'{path.stem}_{width}x{height}')
            command += ['--json', str(path)]
        worst = max(worst, benchmark.main(command))
    return worst


class StageClock:
    """Time between the pipeline's marks, in milliseconds; waits for CUDA at each.

    Args:
        device: 'cpu' or 'cuda...'; marks on CUDA synchronise, so that stages add up.
    """

    def __init__(self, device: str):
        self._cuda = device.startswith('cuda')
        self.stages: dict[str, list[float]] = {}
        self._last = 0.0

    def __call__(self, stage: str) -> None:
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        if stage != 'start':
            self.stages.setdefault(stage, []).append((now - self._last) * 1000)
        self._last = now


def _frames(size: tuple[int, int], factor: int = 8) -> list[tuple[Any, Any]]:
    """A few pairs of images, so that no cache makes the second one cheaper."""
    import numpy as np

    width, height = size
    pairs = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        small = generator.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        rgb = np.ascontiguousarray(small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])
        depth = generator.uniform(1, 4, (height // factor, width // factor)).astype(np.float32)
        pairs.append((rgb, depth))
    return pairs


def time_pipeline(
    pipeline: DepthSRPipeline, size: tuple[int, int], frames: int, name: str
) -> dict[str, Any]:
    """Warm up, then time `frames` calls with copies; stages in a second, shorter pass."""
    import numpy as np
    import torch
    from tqdm import tqdm

    pairs = _frames(size)
    device = pipeline.description['device']
    cuda = device.startswith('cuda')
    for rgb, depth in pairs:
        pipeline(rgb, depth)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    label = f'{name} {size[0]}x{size[1]}'
    for index in tqdm(range(frames), desc=label, unit='frame', leave=False):
        rgb, depth = pairs[index % len(pairs)]
        start = time.perf_counter()
        pipeline(rgb, depth)
        times.append((time.perf_counter() - start) * 1000)
    clock = StageClock(device)
    silent, pipeline.mark = pipeline.mark, clock
    for index in range(max(4, frames // 5)):
        pipeline(*pairs[index % len(pairs)])
    pipeline.mark = silent
    median, p90, p99 = (float(np.percentile(times, q)) for q in (50, 90, 99))
    return {
        'name': name,
        'size': f'{size[0]}x{size[1]}',
        'precision': pipeline.description['precision'],
        'relative_depth': pipeline.description['relative_depth'],
        'frames': frames,
        'median_ms': median,
        'p90_ms': p90,
        'p99_ms': p99,
        'fps': 1000.0 / median,
        'peak_memory_mb': torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
        'stages_ms': {
            stage: float(np.median(clock.stages[stage]))
            for stage in STAGES
            if stage in clock.stages
        },
    }


def measure(weights: str, device: str, sizes: list[tuple[int, int]], frames: int) -> dict[str, Any]:
    """Time the pipeline as it is shipped, without guide, and in plain float32 eager PyTorch.

    Args:
        weights: as for `DepthSRPipeline.from_pretrained`.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        sizes: RGB sizes (W, H); depth comes at an eighth of them.
        frames: timed calls per row.

    Returns:
        machine, versions and rows, ready for JSON; the reference is the first row of each size.
    """
    import torch

    from depth_sr_ros.pipeline import DepthSRPipeline

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    variants: list[tuple[str, dict[str, Any]]] = [
        (REFERENCE, {'precision': 'float32'}),
        ('guide off', {'relative_depth': 'off'}),
        ('default', {}),
    ]
    rows = []
    description = {}
    for size in sizes:
        for name, options in variants:
            pipeline = DepthSRPipeline.from_pretrained(weights, device=device, **options)
            description = pipeline.description
            rows.append(time_pipeline(pipeline, size, frames, name))
            del pipeline
        reference = rows[-len(variants)]['median_ms']
        for row in rows[-len(variants) :]:
            row['ratio'] = reference / row['median_ms']
    return {
        'weights': description['weights'],
        'digest': description['digest'],
        'device': description['device'],
        'machine': f'{platform.machine()}, {_processor()}',
        'python': platform.python_version(),
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'rows': rows,
    }


def _processor() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or 'unknown processor'


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [
        f'{report["weights"]} ({report["digest"]}) on {report["device"]}, {report["machine"]}, '
        f'torch {report["torch"]}, {report["threads"]} threads',
        '',
        '| size | row | precision | median ms | p90 | p99 | FPS | x reference | '
        + ' | '.join(STAGES)
        + ' |',
        '|---' * (8 + len(STAGES)) + '|',
    ]
    for row in report['rows']:
        stages = ' | '.join(
            f'{row["stages_ms"][stage]:.1f}' if stage in row['stages_ms'] else ''
            for stage in STAGES
        )
        lines.append(
            f'| {row["size"]} | {row["name"]} | {row["precision"]} | {row["median_ms"]:.1f} | '
            f'{row["p90_ms"]:.1f} | {row["p99_ms"]:.1f} | {row["fps"]:.1f} | {row["ratio"]:.2f} | '
            f'{stages} |'
        )
    return '\n'.join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """Write the stages of every row as a stacked bar chart (PNG)."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rows = report['rows']
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(rows) + 1.8), layout='constrained')
    left = [0.0] * len(rows)
    for stage in STAGES:
        widths = [row['stages_ms'].get(stage, 0.0) for row in rows]
        axes.barh(range(len(rows)), widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [f'{row["size"]}  {row["name"]}' for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel('milliseconds per frame, median of each stage')
    axes.set_title(f'{report["weights"]} on {report["device"]}', loc='left')
    axes.legend(ncols=len(STAGES), loc='upper center', bbox_to_anchor=(0.5, -0.18), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

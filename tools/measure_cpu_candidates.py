# SPDX-License-Identifier: Apache-2.0
"""Measures what could compute the embedded model on a CPU, in turns, beside eager PyTorch.

    .venv/bin/python tools/measure_cpu_candidates.py --threads 1 2 --out out/candidates.json

PyTorch (eager float32 and bfloat16, torch.compile), ONNX Runtime (the shipped graph, and the same
with 8-bit convolutions, calibrated on the same frames mirrored), and OpenVINO where it is
installed (float32 and its own choice of precision). For each number of threads a process of its
own, because PyTorch and OpenMP fix theirs at start. Prints a Markdown table: milliseconds of wall
clock and of all cores together (threads that spin while they wait take those from others), and how
far depth is from eager float32's. docs/performance.md holds the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIZE, DEPTH_SIZE = (640, 480), (160, 120)
REFERENCE = 'PyTorch, eager float32'
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _pytorch(precision: str, execution: str) -> Run:
    from depth_sr_ros.pipeline import DepthSRPipeline

    pipeline = DepthSRPipeline.from_pretrained(
        device='cpu', precision=precision, execution=execution, backend='torch'
    )
    return lambda rgb, depth: pipeline(rgb, depth).depth


def _graph() -> bytes:
    from depth_sr_ros.inference.onnx_graph import GraphSizes, build_graph
    from depth_sr_ros.pipeline import load_model

    model, guide, _ = load_model(None, None)
    return build_graph(model, guide, GraphSizes(SIZE, DEPTH_SIZE))


def _onnxruntime(graph: bytes, threads: int, *, spinning: bool = False) -> Run:
    from depth_sr_ros.inference.onnx_session import open_session

    session = open_session(graph, 'cpu', threads, spinning=spinning)
    return lambda rgb, depth: session.run(['dense_depth'], {'rgb': rgb, 'depth': depth})[0]


def _eight_bits(graph: bytes) -> bytes:
    """Convolutions in 8 bits: everything else is depth, or statistics of it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from depth_sr_ros.benchmark.frames import benchmark_frames

    class Frames(CalibrationDataReader):
        def __init__(self) -> None:
            self._frames = iter(
                {'rgb': frame.rgb[:, ::-1].copy(), 'depth': frame.depth[:, ::-1].copy()}
                for frame in benchmark_frames(SIZE)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._frames, None)

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (str(Path(folder) / f'{name}.onnx') for name in 'abc')
        Path(plain).write_bytes(graph)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            Frames(),
            op_types_to_quantize=['Conv'],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return Path(small).read_bytes()


def _openvino(graph: bytes, threads: int, precision: str | None) -> Run:
    import openvino

    core = openvino.Core()
    settings = {'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY'}
    if precision:
        settings['INFERENCE_PRECISION_HINT'] = precision
    model = core.compile_model(core.read_model(graph), 'CPU', settings)
    return lambda rgb, depth: model({'rgb': rgb, 'depth': depth})['dense_depth']


def candidates(threads: int) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Name, and what makes it; the reference first."""
    graph = _graph()
    yield REFERENCE, lambda: _pytorch('float32', 'eager')
    yield 'PyTorch, eager bfloat16', lambda: _pytorch('bfloat16', 'eager')
    yield 'PyTorch, torch.compile float32', lambda: _pytorch('float32', 'compile')
    yield 'ONNX Runtime, the shipped graph', lambda: _onnxruntime(graph, threads)
    yield (
        'ONNX Runtime, threads that spin',
        lambda: _onnxruntime(graph, threads, spinning=True),
    )
    yield (
        'ONNX Runtime, 8-bit convolutions',
        lambda: _onnxruntime(_eight_bits(graph), threads),
    )
    yield 'OpenVINO, float32', lambda: _openvino(graph, threads, 'f32')
    yield 'OpenVINO, its own precision', lambda: _openvino(graph, threads, None)


def measure(threads: int, count: int) -> list[dict]:
    """Time `count` frames of each candidate, in turns.

    Returns:
        A row for each: 'name', 'threads', and 'median_ms', 'p99_ms', 'cores_ms' (median time of
        all cores together) and what `parity` says against eager float32, or 'error' where it cannot
        be made here.
    """
    import time

    from tqdm import tqdm

    from depth_sr_ros.benchmark.frames import benchmark_frames
    from depth_sr_ros.benchmark.parity import parity

    frames = benchmark_frames(SIZE)
    loaded: list[tuple[str, Run]] = []
    rows: list[dict] = []
    for name, make in candidates(threads):
        try:
            run = make()
            for frame in frames:
                run(frame.rgb, frame.depth)
        except Exception as error:  # each library has errors of its own
            if name == REFERENCE:
                raise
            text = ' '.join(str(error).split())[:120]
            rows.append({'name': name, 'threads': threads, 'error': text})
            print(f'{name}: {text}', file=sys.stderr)
            continue
        loaded.append((name, run))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in loaded}
    for turn in tqdm(range(count), desc=f'{threads} threads', unit='turn'):
        frame = frames[turn % len(frames)]
        for name, run in loaded:
            start, start_cores = time.perf_counter(), time.process_time()
            run(frame.rgb, frame.depth)
            times[name].append((time.perf_counter() - start, time.process_time() - start_cores))
    outputs = {name: [run(f.rgb, f.depth).copy() for f in frames] for name, run in loaded}
    reference = outputs[REFERENCE]
    for name, _ in loaded:
        wall, cores = np.array(times[name]).T * 1e3
        median, p99 = np.percentile(wall, (50, 99))
        rows.append(
            {
                'name': name,
                'threads': threads,
                'median_ms': float(median),
                'p99_ms': float(p99),
                'cores_ms': float(np.median(cores)),
                **parity(outputs[name], reference, frames),
            }
        )
    return rows


def versions() -> str:
    """Of what computes."""
    from importlib import metadata

    found = []
    for package in ('torch', 'onnxruntime', 'openvino'):
        try:
            found.append(f'{package} {metadata.version(package)}')
        except metadata.PackageNotFoundError:
            found.append(f'no {package}')
    return ', '.join(found)


def table(rows: list[dict]) -> str:
    """Markdown, in the order in which candidates are tried."""
    lines = [
        '| candidate | threads | median ms | p99 | cores ms | x eager float32 '
        '| difference median / p99 | RMSE x eager float32 |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        if 'error' in row:
            lines.append(f'| {row["name"]} | {row["threads"]} | {row["error"]} | | | | | |')
            continue
        eager = next(r for r in rows if (r['name'], r['threads']) == (REFERENCE, row['threads']))
        lines.append(
            f'| {row["name"]} | {row["threads"]} | {row["median_ms"]:.0f} | {row["p99_ms"]:.0f} '
            f'| {row["cores_ms"]:.0f} | {eager["median_ms"] / row["median_ms"]:.2f} '
            f'| {row["median"]:.3%} / {row["p99"]:.2%} | {row["rmse_ratio"]:.4f} |'
        )
    return '\n'.join(lines)


def main() -> None:
    """Run a process for each number of threads, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--threads', type=int, nargs='+', default=[1, os.cpu_count() or 1])
    parser.add_argument('--turns', type=int, default=40, help='timed frames of each (40)')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(*args.threads, args.turns) < 1:
        parser.error(f'--threads is {args.threads} and --turns {args.turns}: expected 1 or more')
    if args.child:
        print(json.dumps(measure(args.threads[0], args.turns)))
        return
    rows = []
    for threads in args.threads:
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                '--child',
                '--threads',
                str(threads),
                '--turns',
                str(args.turns),
            ],
            env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows += json.loads(done.stdout.strip().splitlines()[-1])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(rows, indent=1) + '\n')
    print(f'{versions()}\n\n{table(rows)}')


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""`depth_sr benchmark`: speed of the whole pipeline, beside references and others, in one run."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import signal
import sys
import threading
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_sr_ros.benchmark.output_files import make_folders
from depth_sr_ros.machine import processor_name

if TYPE_CHECKING:
    from depth_sr_ros.benchmark.frames import Frame
    from depth_sr_ros.benchmark.subjects import Contestant, Subject, Variant

DEFAULT_SIZES = ('640x480', '1280x720', '1920x1080')
QUICK_SIZES = ('160x120', '320x240')
SCALING_SIZES = ('160x120', '320x240', '640x480', '1280x720', '1920x1080')
_VERSION = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `depth_sr benchmark`."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (auto)')
    parser.add_argument(
        '--size', action='append', metavar='WxH', help='RGB size; repeatable (three common ones)'
    )
    parser.add_argument(
        '--subject', action='append', metavar='NAME',
        help="what to measure; repeatable (all: embedded, 'embedded guided', base, seed, "
        "'Depth Anything Small', 'Prompt Depth Anything Small', and 'rgbd-depth ViT-S' where "
        'rgbd-depth is installed)',
    )  # fmt: skip
    parser.add_argument('--frames', type=int, default=100, help='timed frames per row (100)')
    parser.add_argument(
        '--row-seconds', type=float, default=60.0,
        help='a row that takes longer has fewer frames, and says so (60)',
    )  # fmt: skip
    parser.add_argument(
        '--compile', action=argparse.BooleanOptionalAction,
        help='rows with torch.compile too (on a GPU; takes minutes and a compiler)',
    )  # fmt: skip
    parser.add_argument(
        '--scaling', action=argparse.BooleanOptionalAction, default=True,
        help='measure growth from 160x120 to 1920x1080 (yes)',
    )  # fmt: skip
    parser.add_argument(
        '--quick', action='store_true', help='small sizes, 3 frames: does everything run at all?'
    )
    parser.add_argument('--json', metavar='FILE', help='write all figures, after every group')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with what --json holds of the same machine, code and weights',
    )
    parser.add_argument('--markdown', metavar='FILE', help='write the tables')
    parser.add_argument('--plot', metavar='FILE', help='write the stacked bar chart (PNG)')
    parser.add_argument('--scaling-plot', metavar='FILE', help='write the scaling chart (PNG)')
    ros = parser.add_argument_group('the node, through DDS')
    ros.add_argument('--ros', action='store_true', help='measure the node instead')
    ros.add_argument(
        '--weights', default='embedded', help="(embedded); 'pass-through': the node's own work"
    )
    ros.add_argument('--depth-size', metavar='WxH', help='(a quarter of the RGB size)')
    ros.add_argument('--rate', type=float, default=30.0, help='RGB images per second (30)')
    ros.add_argument('--depth-rate', type=float, help='depth images per second (as RGB)')
    ros.add_argument('--seconds', type=float, default=20.0, help='length (20)')


def parse_size(text: str, option: str = '--size') -> tuple[int, int]:
    """'640x480' -> (640, 480).

    Raises:
        ValueError: for anything else.
    """
    try:
        width, height = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise ValueError(f'{option} is {text!r}: expected WxH, such as 640x480') from None
    return width, height


def run(args: argparse.Namespace) -> int:
    """Measure and report; 130 when interrupted, with what was measured until then written."""
    if args.frames < 1:
        raise ValueError(f'--frames is {args.frames}: expected 1 or more')
    if not args.row_seconds > 0:
        raise ValueError(f'--row-seconds is {args.row_seconds}: expected a number above 0')
    if args.resume and not args.json:
        raise ValueError('--resume goes on with the file that --json names: name one')
    if args.quick:
        args.frames, args.row_seconds = min(args.frames, 3), min(args.row_seconds, 3.0)
    default_sizes = QUICK_SIZES if args.quick else DEFAULT_SIZES
    sizes = [parse_size(text) for text in args.size or default_sizes]
    make_folders([args.json, args.markdown, args.plot, args.scaling_plot])
    if args.ros:
        return _measure_node(args, sizes)
    benchmark = Benchmark(args, sizes)
    try:
        with _Interruption() as interruption:
            benchmark.measure(interruption)
    except KeyboardInterrupt:
        benchmark.report['about']['interrupted'] = True
        print('interrupted: what was measured until now follows', file=sys.stderr)
    benchmark.write()
    return 130 if benchmark.report['about']['interrupted'] else 0


class _Interruption:
    """Ctrl+C that is not lost where libraries swallow KeyboardInterrupt, as in callbacks from C."""

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def __enter__(self) -> _Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _receive(self, *_: object) -> None:
        self._received = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt when there was one."""
        if self._received:
            raise KeyboardInterrupt


def _measure_node(args: argparse.Namespace, sizes: list[tuple[int, int]]) -> int:
    """Hand over to the ROS half; each size in turn."""
    from depth_sr_ros.ros import benchmark

    worst = 0
    for width, height in sizes:
        depth = f'{width // 4}x{height // 4}'
        if args.depth_size:
            depth = '{}x{}'.format(*parse_size(args.depth_size, '--depth-size'))
        command = [
            *('--rgb-size', f'{width}x{height}', '--depth-size', depth),
            *('--rate', str(args.rate), '--seconds', str(args.seconds)),
            *('--weights', args.weights, '--device', args.device),
        ]
        if args.depth_rate:
            command += ['--depth-rate', str(args.depth_rate)]
        if args.json:
            path = Path(args.json)
            if len(sizes) > 1:
                path = path.with_stem(f'{path.stem}_{width}x{height}')
            command += ['--json', str(path)]
        worst = max(worst, benchmark.main(command))
    return worst


class Benchmark:
    """One run: a group for each subject and size, written as soon as it is measured."""

    def __init__(self, args: argparse.Namespace, sizes: list[tuple[int, int]]):
        import torch

        from depth_sr_ros.benchmark import subjects
        from depth_sr_ros.pipeline import resolve_device

        self.args = args
        self.sizes = sizes
        self.device = resolve_device(args.device)
        cuda = self.device.type == 'cuda'
        compiled = args.compile if args.compile is not None else cuda and not args.quick
        self.variants = subjects.variants(self.device, compiled)
        known = subjects.subjects()
        for name in args.subject or []:
            if name not in known:
                raise ValueError(f'--subject is {name!r}: known are {", ".join(known)}')
        self.subjects = [known[name]() for name in args.subject or known]
        name = torch.cuda.get_device_name(self.device) if cuda else 'CPU'
        self.report: dict[str, Any] = {
            'version': _VERSION,
            'about': {
                'device': f'{self.device} ({name})' if cuda else name,
                'cuda': cuda,
                'machine': f'{platform.machine()}, {processor_name()}',
                'python': platform.python_version(),
                'torch': torch.__version__,
                'threads': torch.get_num_threads(),
                'sources': _sources(),
                'date': time.strftime('%Y-%m-%d'),
                'interrupted': False,
            },
            'rates': {},
            'codec': {},
            'rows': [],
            'scaling': {},
        }
        if args.resume:
            self._load(Path(args.json))

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text())
            version, about = found['version'], found['about']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is no report to go on with: {error}') from error
        own = self.report['about']
        if any(about[key] != own[key] for key in ('device', 'machine', 'torch', 'threads')):
            raise ValueError(f'{path} was measured on another machine or with another PyTorch')
        if version != _VERSION or about['sources'] != own['sources']:
            print(f'{path} is of another state of this package: measured anew', file=sys.stderr)
            return
        digests = {subject.name: subject.digest for subject in self.subjects}
        stale = {
            row['subject']
            for row in found['rows']
            if row['digest'] != digests.get(row['subject'], row['digest'])
        }
        stale |= {
            name
            for name, points in found['scaling'].items()
            if points[0]['digest'] != digests.get(name, points[0]['digest'])
        }
        if stale:
            print(f'other weights, measured anew: {", ".join(sorted(stale))}', file=sys.stderr)
        found['rows'] = [row for row in found['rows'] if row['subject'] not in stale]
        found['scaling'] = {
            name: points for name, points in found['scaling'].items() if name not in stale
        }
        self.report = {**found, 'about': own}

    def measure(self, interruption: _Interruption) -> None:
        """Measure what the report does not hold yet."""
        from depth_sr_ros.benchmark.frames import benchmark_frames
        from depth_sr_ros.benchmark.roofline import measure_rates

        if not self.report['rates']:
            precisions = list(dict.fromkeys(variant.precision for variant in self.variants))
            self.report['rates'] = measure_rates(self.device, precisions)._asdict()
        for size in self.sizes:
            name = _size_name(size)
            frames = benchmark_frames(size)
            if name not in self.report['codec']:
                self.report['codec'][name] = time_codecs(frames)
            for subject in self.subjects:
                interruption.check()
                if not any(
                    row['subject'] == subject.name and row['size'] == name
                    for row in self.report['rows']
                ):
                    self._measure_group(subject, frames)
                    self._save()
        interruption.check()
        if self.args.scaling:
            self._measure_scaling(interruption)
            self._save()

    def _measure_group(self, subject: Subject, frames: Sequence[Frame]) -> None:
        """One subject at one size, in all variants, which take turns."""
        import gc

        from tqdm import tqdm

        from depth_sr_ros.benchmark.parity import parity
        from depth_sr_ros.benchmark.subjects import REFERENCE, FallBacks
        from depth_sr_ros.benchmark.timing import PeakMemory, time_in_turns, warm_up

        height, width = frames[0].rgb.shape[:2]
        loaded: list[tuple[Contestant, float | None]] = []
        fell_back: list[str | None] = []
        for variant in self.variants:
            memory = PeakMemory(self.device)
            try:
                with FallBacks() as fall_backs:
                    contestant = subject.build(variant, self.device)
                    warm_up(contestant, frames)
            except (ValueError, RuntimeError, ImportError) as error:
                self._note(f'{subject.name}, {variant.label}, {width}x{height}: {error}')
                continue
            loaded.append((contestant, memory.read()))
            fell_back.append(fall_backs.text)
        contestants = [contestant for contestant, _ in loaded]
        total = len(contestants) * self.args.frames
        with tqdm(
            total=total, unit='frame', desc=f'{subject.name} {width}x{height}', leave=False
        ) as bar:
            timings = time_in_turns(
                contestants,
                frames,
                self.args.frames,
                self.args.row_seconds,
                self.device,
                bar.update,
            )
        outputs = [[c(f.rgb, f.depth).copy() for f in frames] for c in contestants]
        reduced = [contestant.describe().get('reduced') for contestant in contestants]
        # Beside a reference that failed, or that had to do with less, nothing is compared.
        comparable = bool(contestants) and contestants[0].variant == REFERENCE and not reduced[0]
        for index, (contestant, memory_mb) in enumerate(loaded):
            timing = timings[index]
            reference = contestant.variant == REFERENCE
            self.report['rows'].append(
                {
                    'subject': subject.name,
                    'text': subject.text,
                    'ours': subject.ours,
                    'parameters': subject.parameters,
                    'size': f'{width}x{height}',
                    'depth_size': '{}x{}'.format(*frames[0].depth.shape[::-1]),
                    'backbone_input': subject.input_size((width, height)),
                    'label': contestant.variant.label,
                    'precision': contestant.variant.precision,
                    'reference': reference,
                    **timing,
                    'ratio': timings[0]['median_ms'] / timing['median_ms'] if comparable else None,
                    'memory_mb': memory_mb,
                    'parity': parity(outputs[index], outputs[0], frames)
                    if comparable and not reference
                    else None,
                    'roofline': self._roofline(subject, contestant.variant, frames[0], timing),
                    'reduced': reduced[index],
                    'fell_back': fell_back[index],
                    'digest': subject.digest,
                    'date': time.strftime('%Y-%m-%d'),
                }
            )
        for contestant in contestants:
            contestant.close()
        del contestants, loaded
        gc.collect()

    def _note(self, text: str) -> None:
        print(f'left out: {text}', file=sys.stderr)

    def _roofline(
        self, subject: Subject, variant: Variant, frame: Frame, timing: dict[str, Any]
    ) -> dict[str, Any]:
        from depth_sr_ros.benchmark.roofline import Rates, bound_ms, count_work

        height, width = frame.rgb.shape[:2]
        rows, columns = frame.depth.shape
        work = count_work(subject.trace(variant.precision, (width, height), (columns, rows)))
        # Two float32 maps come back from ours, depth and confidence, and one from others.
        transferred = frame.rgb.nbytes + frame.depth.nbytes
        transferred += (8 if subject.ours else 4) * width * height
        rates = Rates(**self.report['rates'])
        bound = bound_ms(work, rates, variant.precision, transferred)
        return {
            'flops': work.flops,
            'bytes': work.bytes,
            'all_bytes': work.all_bytes,
            'launches': work.launches,
            'bound_ms': bound,
            'times_bound': timing['median_ms'] / bound,
        }

    def _measure_scaling(self, interruption: _Interruption) -> None:
        """The embedded configuration, and on a GPU the 29M one, from 160x120 up."""
        from depth_sr_ros.benchmark.frames import benchmark_frames
        from depth_sr_ros.benchmark.subjects import REFERENCE, FallBacks, Variant
        from depth_sr_ros.benchmark.timing import time_in_turns, warm_up

        cuda = self.device.type == 'cuda'
        variant = Variant('float16', 'graph')
        if not cuda:
            # What a CPU runs by default.
            others = [other for other in self.variants if other.backend != 'torch']
            variant = others[0] if others else REFERENCE
        wanted = ('embedded', 'seed') if cuda else ('embedded',)
        sizes = [parse_size(text) for text in SCALING_SIZES]
        if self.args.quick:
            sizes = sizes[:2]
        for subject in self.subjects:
            if subject.name not in wanted or subject.name in self.report['scaling']:
                continue
            points = []
            for size in sizes:
                interruption.check()
                frames = benchmark_frames(size)
                with FallBacks() as fall_backs:
                    contestant = subject.build(variant, self.device)
                    warm_up(contestant, frames)
                (timing,) = time_in_turns(
                    [contestant], frames, min(self.args.frames, 30), 10.0, self.device
                )
                reduced = contestant.describe().get('reduced')
                contestant.close()
                points.append(
                    {
                        'size': _size_name(size),
                        'pixels': size[0] * size[1],
                        'label': variant.label,
                        'median_ms': timing['median_ms'],
                        'reduced': reduced,
                        'fell_back': fall_backs.text,
                        'digest': subject.digest,
                    }
                )
            self.report['scaling'][subject.name] = points

    def _save(self) -> None:
        if self.args.json:
            path = Path(self.args.json)
            temporary = path.with_name(path.name + '.part')
            temporary.write_text(json.dumps(self.report, indent=1) + '\n')
            temporary.replace(path)

    def write(self) -> None:
        """Print the tables and write the files that were asked for."""
        from depth_sr_ros.benchmark import report as reporting

        self._save()
        tables = reporting.markdown(self.report) if self.report['rows'] else 'nothing was measured'
        print(tables)
        if self.args.markdown:
            Path(self.args.markdown).write_text(tables + '\n')
        if self.args.plot and self.report['rows']:
            reporting.plot_stages(self.report, Path(self.args.plot))
        if self.args.scaling_plot and self.report['scaling']:
            reporting.plot_scaling(self.report, Path(self.args.scaling_plot))
        print(reporting.summary(self.report))


def time_codecs(frames: Sequence[Frame], count: int = 20) -> dict[str, float]:
    """What the node does with a frame beside the pipeline: milliseconds to decode and to encode.

    rgb8 and 16UC1 come in, 32FC1 goes out from the memory that the pipeline wrote to.
    """
    import numpy as np

    from depth_sr_ros.ros.image_codec import (
        byte_array,
        decode_depth,
        decode_rgb,
        depth_buffer,
        encode_depth_into,
        encode_image_into,
    )

    rgb, depth, output = (types.SimpleNamespace(data=byte_array(b'\0')) for _ in range(3))
    encode_image_into(rgb, frames[0].rgb, 'rgb8')
    encode_depth_into(depth, frames[0].depth, '16UC1')
    dense = depth_buffer(output, frames[0].rgb.shape[:2])
    dense[:] = 2.0
    times: dict[str, list[float]] = {'decode': [], 'encode': []}
    for _ in range(count):
        start = time.perf_counter()
        decode_rgb(rgb)
        decode_depth(depth)
        decoded = time.perf_counter()
        encode_depth_into(output, dense)
        times['decode'].append(1000 * (decoded - start))
        times['encode'].append(1000 * (time.perf_counter() - decoded))
    return {name: float(np.median(values)) for name, values in times.items()}


def _size_name(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def _sources() -> str:
    """Digest of the package's Python files: like a commit, and it sees what is not committed yet.

    A commit changes with every document too, and `make performance` itself writes one.
    """
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parents[1].rglob('*.py')):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]

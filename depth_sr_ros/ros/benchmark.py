# SPDX-License-Identifier: Apache-2.0
"""Measures the real node over DDS: latency, its own work per stage, what is dropped and why.

`depth_sr benchmark --ros`, or `python -m depth_sr_ros.ros.benchmark --help`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Empty

from depth_sr_ros.benchmark.output_files import make_folders
from depth_sr_ros.ros.benchmark_camera import GO_TOPIC
from depth_sr_ros.ros.child_process import ChildProcess
from depth_sr_ros.ros.demo import free_domain_id, set_demo_environment
from depth_sr_ros.ros.diagnostics import DROP_CAUSES, STAGES
from depth_sr_ros.ros.frame_pairing import NearestPairing

OWN_STAGES = ('pair', 'decode', 'encode', 'publish', 'extras')
"""What the node does itself with a frame, beside the pipeline."""

_OUTPUT = '/sr_node/depth/image'
_START_TIMEOUT = 120.0
_SETTLE_SECONDS = 2.5
# Of the node's reports, one a second: the first ones still carry the start.
_REPORTS_OF_START, _REPORTS_OF_REST = 2, 4
# What stamp to publish must reach, milliseconds: docs/performance.md.
_LARGEST_P50, _LARGEST_P99 = 25.0, 40.0
_PAIRED_MESSAGES = 100_000
# CDR: four bytes of encapsulation, then the header's stamp.
_STAMP = struct.Struct('<iI')
_STAMP_OFFSET = 4


class BenchmarkError(RuntimeError):
    """The benchmark could not be carried out; the text says what the processes said."""


class _Consumer:
    """Another process's view: what arrives on ~/depth/image, and the node's diagnostics.

    Images are taken as bytes: turning them into messages would cost more than the node spends.
    """

    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('benchmark_consumer')
        self.ages: list[float] = []
        self.stamps: Counter[int] = Counter()
        self.values: dict[str, str] = {}
        self.cpu: list[float] = []
        self.idle: list[float] = []
        self.reports = 0
        # Deeper than a robot would have it: what is lost here must not look like the node's loss.
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._node.create_subscription(Image, _OUTPUT, self._on_depth, qos, raw=True)
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=10)
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_depth(self, data: bytes) -> None:
        now = self._node.get_clock().now().nanoseconds
        seconds, nanoseconds = _STAMP.unpack_from(data, _STAMP_OFFSET)
        stamp = seconds * 10**9 + nanoseconds
        self.stamps[stamp] += 1
        self.ages.append(1e-9 * (now - stamp))

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.startswith('/sr_node:'):
                self.values = {value.key: value.value for value in status.values}
                self.reports += 1
                share = float(self.values['cpu [% of a core]'])
                if float(self.values.get('rate received rgb/image [Hz]', 0)) > 0:
                    self.cpu.append(share)
                elif self.reports > _REPORTS_OF_START and 'received rgb/image' not in self.values:
                    self.idle.append(share)

    def say_ready(self) -> bool:
        """Let the camera begin once the node's publishers are known here and the node has been
        seen at rest; False when not yet."""
        if len(self.idle) < _REPORTS_OF_REST or not self._node.count_publishers(_OUTPUT):
            return False
        self._node.create_subscription(Empty, GO_TOPIC, lambda message: None, 1)
        return True

    def wait_for_report(self) -> None:
        """Wait for a diagnostics message that was made after this call."""
        seen, deadline = self.reports, time.monotonic() + 10
        while self.reports < seen + 2 and time.monotonic() < deadline:
            time.sleep(0.1)

    def close(self) -> None:
        self._executor.shutdown()
        rclpy.try_shutdown()
        self._thread.join(10)


def run_ros_benchmark(
    *,
    rgb_size: tuple[int, int] = (1920, 1080),
    depth_size: tuple[int, int] = (640, 360),
    rate: float = 30.0,
    depth_rate: float | None = None,
    seconds: float = 20.0,
    reliability: str = 'best_effort',
    parameters: dict[str, Any] | None = None,
    domain_id: int | None = None,
) -> dict[str, Any]:
    """Play a synthetic camera to the real node and return what was measured.

    Camera, node and consumer (this process) are three processes that talk over DDS.

    Args:
        rgb_size, depth_size: (width, height).
        rate, depth_rate: images per second; depth_rate None = rate.
        reliability: of the camera's publishers, 'best_effort' or 'reliable'.
        parameters: of sr_node; None runs it with a pass-through in place of the pipeline.
        domain_id: ROS_DOMAIN_ID; None takes a free one.

    Returns:
        'settings'; 'frames': counts from the camera to the consumer; 'dropped': by cause;
        'latency_ms': stage -> {'p50', 'p99'}, with 'stamp to publish' and 'stamp to consumer';
        'own_work_ms': the sum of the medians of OWN_STAGES, with 'pair' once per message;
        'cpu_share': of one core, all threads of the node, mean over the run; 'idle_cpu_share':
        before the camera began; 'pairing_us': what `time_pairing` returns.

    Raises:
        BenchmarkError: a process ended early, or nothing was published.
    """
    set_demo_environment(free_domain_id() if domain_id is None else domain_id)
    depth_rate = rate if depth_rate is None else depth_rate
    settings = {
        'warm_up_rgb_size': list(rgb_size),
        'warm_up_depth_size': list(depth_size),
        **(parameters or {}),
    }
    module = 'pass_through_node' if parameters is None else 'node'
    node_command = [sys.executable, '-m', f'depth_sr_ros.ros.{module}', '--ros-args']
    for name, value in settings.items():
        node_command += ['-p', f'{name}:={json.dumps(value)}']
    camera = {
        'rgb_size': rgb_size,
        'depth_size': depth_size,
        'rate': rate,
        'depth_rate': depth_rate,
        'reliability': reliability,
    }
    camera_command = [sys.executable, '-m', 'depth_sr_ros.ros.benchmark_camera']
    camera_command += [json.dumps(camera), '--frames', str(round(rate * seconds))]
    with tempfile.TemporaryDirectory(prefix='depth_sr_benchmark_') as folder:
        node = ChildProcess('sr_node', node_command, os.environ, Path(folder))
        player = ChildProcess('camera', camera_command, os.environ, Path(folder))
        consumer = None
        try:
            consumer = _Consumer()
            sent = _wait_for_camera(node, player, consumer, seconds)
            time.sleep(_SETTLE_SECONDS)
            consumer.wait_for_report()
            values, reports = dict(consumer.values), consumer.reports
            if not reports or not consumer.stamps:
                raise BenchmarkError(f'nothing was published; sr_node said:\n{node.last_lines()}')
            return {
                'settings': {**camera, 'seconds': seconds, 'parameters': parameters or {}},
                **_summary(sent, values, consumer),
                'pairing_us': time_pairing(),
            }
        finally:
            player.stop()
            node.stop()
            if consumer is not None:
                consumer.close()


def time_pairing(messages: int = _PAIRED_MESSAGES) -> float:
    """Processor time of `NearestPairing` per message in microseconds: RGB at 30 Hz and depth at
    15 Hz, stamps with jitter, messages up to 10 ms late."""
    random = np.random.default_rng(0)
    events = []
    for is_rgb, rate in ((True, 30), (False, 15)):
        number = messages * rate // 45
        stamps = 1e9 * (1 + np.arange(number) / rate) + random.normal(0, 2e6, number)
        arrivals = stamps + random.uniform(0, 10e6, number)
        events += [(int(a), int(s), is_rgb) for a, s in zip(arrivals, stamps, strict=True)]
    events.sort()
    pairing = NearestPairing(20_000_000, 100_000_000)
    start = time.thread_time()
    for arrival, stamp, is_rgb in events:
        (pairing.add_rgb if is_rgb else pairing.add_depth)(stamp, None, arrival)
    return 1e6 * (time.thread_time() - start) / len(events)


def _wait_for_camera(
    node: ChildProcess, camera: ChildProcess, consumer: _Consumer, seconds: float
) -> dict[str, int]:
    ready = False
    deadline = time.monotonic() + _START_TIMEOUT + 2 * seconds
    while camera.returncode is None:
        if node.returncode is not None:
            raise BenchmarkError(f'sr_node ended early:\n{node.last_lines()}')
        if time.monotonic() > deadline:
            raise BenchmarkError(f'the camera did not come to its end:\n{camera.last_lines()}')
        ready = ready or consumer.say_ready()
        time.sleep(0.2)
    if camera.returncode != 0:
        raise BenchmarkError(f'the camera failed:\n{camera.last_lines()}')
    return json.loads(camera.last_lines(1))


def _summary(sent: dict[str, int], values: dict[str, str], consumer: _Consumer) -> dict[str, Any]:
    def count(name: str) -> int:
        return int(values.get(name, 0))

    latency = {
        stage: {
            name: float(values[f'latency {stage} {name} [ms]'])
            for name in ('p50', 'p99')
            if f'latency {stage} {name} [ms]' in values
        }
        for stage in STAGES
    }
    latency['stamp to publish'] = latency.pop('stamp age')
    p50, p99 = np.percentile(consumer.ages, (50, 99)) * 1e3
    latency['stamp to consumer'] = {'p50': float(p50), 'p99': float(p99)}
    received = {kind: count(f'received {kind}/image') for kind in ('rgb', 'depth')}
    return {
        'frames': {
            'sent rgb': sent['rgb'],
            'sent depth': sent['depth'],
            'skipped by the camera': sent['skipped'],
            'received rgb': received['rgb'],
            'received depth': received['depth'],
            'lost by the transport rgb': sent['rgb'] - received['rgb'],
            'lost by the transport depth': sent['depth'] - received['depth'],
            'paired': count('paired'),
            'held': count('held'),
            'published': count('published depth/image'),
            'arrived at the consumer': sum(consumer.stamps.values()),
            'arrived twice': sum(number - 1 for number in consumer.stamps.values()),
        },
        'dropped': {cause: count(f'dropped {cause}') for cause in DROP_CAUSES},
        'latency_ms': latency,
        # Each frame is two messages to pair.
        'own_work_ms': sum(latency[stage]['p50'] for stage in OWN_STAGES) + latency['pair']['p50'],
        'cpu_share': float(np.mean(consumer.cpu)) / 100 if consumer.cpu else None,
        'idle_cpu_share': float(np.mean(consumer.idle)) / 100,
        'model': {
            key: values[key]
            for key in ('weights', 'digest', 'device', 'precision')
            if key in values
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result of run_ros_benchmark as text for a terminal."""
    settings, frames = result['settings'], result['frames']
    (width, height), (depth_width, depth_height) = settings['rgb_size'], settings['depth_size']
    lines = [
        f'sr_node over DDS: RGB {width}x{height} at {settings["rate"]:g} Hz, depth '
        f'{depth_width}x{depth_height} at {settings["depth_rate"]:g} Hz, '
        f'{settings["seconds"]:g} s, {settings["reliability"]}',
        ', '.join(f'{key} {value}' for key, value in result['model'].items()),
        '',
        f'{"frames":<30}{"rgb":>10}{"depth":>10}',
        f'{"  sent":<30}{frames["sent rgb"]:>10}{frames["sent depth"]:>10}',
        f'{"  lost by the transport":<30}{frames["lost by the transport rgb"]:>10}'
        f'{frames["lost by the transport depth"]:>10}',
        f'{"  received by the node":<30}{frames["received rgb"]:>10}{frames["received depth"]:>10}',
    ]
    for name in ('paired', 'held', 'published', 'arrived at the consumer', 'arrived twice'):
        lines.append(f'  {name:<28}{frames[name]:>10}')
    drops = {cause: number for cause, number in result['dropped'].items() if number}
    lines += [f'  {"dropped, " + cause:<28}{number:>10}' for cause, number in drops.items()]
    lines += ['', f'{"milliseconds":<30}{"median":>10}{"p99":>10}']
    for stage, latency in result['latency_ms'].items():
        if latency:
            lines.append(f'  {stage:<28}{latency["p50"]:>10.2f}{latency["p99"]:>10.2f}')
    own = f'own work ({", ".join(OWN_STAGES)})'
    cpu = result['latency_ms']['own cpu'].get('p50', 0)
    lines += [
        '',
        f'{own}: {result["own_work_ms"]:.2f} ms median per frame, {cpu:.2f} ms of processor time',
    ]
    if result['cpu_share'] is not None:
        lines.append(f'processor: {result["cpu_share"]:.0%} of one core')
    lines += [
        f'at rest, before the camera began: {result["idle_cpu_share"]:.1%} of one core',
        f'pairing: {result["pairing_us"]:.1f} us of processor time per message',
        verdict(result),
    ]
    return '\n'.join(lines)


def verdict(result: dict[str, Any]) -> str:
    """One line: what a robot notices, and whether it is what the project set itself."""
    frames, age = result['frames'], result['latency_ms']['stamp to publish']
    missed = [
        text
        for text, reached in (
            ('every frame published', frames['published'] >= frames['sent rgb']),
            (f'p50 at most {_LARGEST_P50:g} ms', age['p50'] <= _LARGEST_P50),
            (f'p99 at most {_LARGEST_P99:g} ms', age['p99'] <= _LARGEST_P99),
        )
        if not reached
    ]
    return (
        f'published {frames["published"]} of {frames["sent rgb"]} frames, stamp to publish p50 '
        f'{age["p50"]:.1f} ms, p99 {age["p99"]:.1f} ms: '
        + (f'not reached: {", ".join(missed)}' if missed else 'all that it must reach')
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no size; write WIDTHxHEIGHT')
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--rgb-size', type=_size, default=(1920, 1080), metavar='WxH')
    parser.add_argument('--depth-size', type=_size, default=(640, 360), metavar='WxH')
    parser.add_argument('--rate', type=float, default=30.0, help='RGB images per second')
    parser.add_argument('--depth-rate', type=float, help='depth images per second; default: --rate')
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--reliability', choices=('best_effort', 'reliable'), default='best_effort')
    parser.add_argument(
        '--weights', default='pass-through', help="'pass-through' measures the node by itself"
    )
    parser.add_argument('--device', default='auto')
    parser.add_argument('--precision', default='auto')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')


def run(arguments: argparse.Namespace) -> int:
    make_folders([arguments.json])
    print(f'starting sr_node and a camera, measuring for {arguments.seconds:g} s ...', flush=True)
    try:
        result = run_ros_benchmark(
            rgb_size=arguments.rgb_size,
            depth_size=arguments.depth_size,
            rate=arguments.rate,
            depth_rate=arguments.depth_rate,
            seconds=arguments.seconds,
            reliability=arguments.reliability,
            parameters=None
            if arguments.weights == 'pass-through'
            else {
                'weights': arguments.weights,
                'device': arguments.device,
                'precision': arguments.precision,
            },
        )
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + '\n')
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == '__main__':
    sys.exit(main())

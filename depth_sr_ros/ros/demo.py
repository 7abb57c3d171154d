# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a real node over a real stream, scored against the truth; figures and a picture.

Starts `sr_node` and `demo_camera` as processes of their own that talk over DDS, listens to both,
and then scores what the node published beside the interpolated input. Exits with 0 only when at
least 20 frames came out and they are better than the interpolated input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.ros import demo_report
from depth_sr_ros.ros.child_process import ChildProcess
from depth_sr_ros.ros.clip_player import ClipPlayerConfig
from depth_sr_ros.ros.demo_monitor import DemoMonitor, Recording
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.progress_line import ProgressLine
from depth_sr_ros.ros.transport_profile import OLD_VARIABLE, VARIABLE, profile_environment

DOMAINS = range(90, 100)
START_SECONDS = 90.0
TOTAL_SECONDS = 140.0
DRAIN_SECONDS = 6.0
QUIET_SECONDS = 1.5
MINIMUM_FRAMES = 20
ENOUGH_FRAMES = 40
# The pairing is replayed, not known: what differs by less than this is the same.
MINIMUM_GAIN = 0.02


class DemoError(Exception):
    """The demo cannot go on, or did not show what it should; the text says why."""


def free_domain_id() -> int:
    """A ROS domain id of DOMAINS in which nobody on this machine is.

    The first participant of a domain takes UDP port 7410 + 250 * id (DDS-RTPS 9.6.1.1).
    """
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise DemoError(
        f'all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine;'
        ' name a free one with --domain-id'
    )


def set_demo_environment(domain_id: int) -> None:
    """What all processes of the demo have in their environment: a domain, localhost, transport."""
    # Ours, whatever the user has set: the figures are to be those of this profile.
    for name in (VARIABLE, OLD_VARIABLE):
        os.environ.pop(name, None)
    try:
        os.environ.update(profile_environment())
    except FileNotFoundError as error:
        raise DemoError(f'{error}: without it large images do not arrive') from error
    os.environ.update(
        ROS_DOMAIN_ID=str(domain_id),
        ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        RCUTILS_COLORIZED_OUTPUT='0',
        PYTHONUNBUFFERED='1',
    )
    if os.environ.get('ROS_DISTRO') == 'humble':
        os.environ['ROS_LOCALHOST_ONLY'] = '1'


def node_command(args: argparse.Namespace) -> list[str]:
    parameters = {
        'weights': args.weights,
        'relative_depth': args.relative_depth,
        'device': args.device,
        'warm_up_depth_size': '[80, 60]',
    }
    remappings = {
        'rgb/image': '/camera/color/image_raw',
        'rgb/camera_info': '/camera/color/camera_info',
        'depth/image': '/camera/depth/image_raw',
    }
    command = [sys.executable, '-m', 'depth_sr_ros.ros.node', '--ros-args']
    for name, value in parameters.items():
        if value:
            command += ['-p', f'{name}:={value}']
    for name, topic in remappings.items():
        command += ['-r', f'{name}:={topic}']
    return command


def camera_command(args: argparse.Namespace) -> list[str]:
    command = [sys.executable, '-m', 'depth_sr_ros.ros.demo_camera', '--wait']
    return command + (['--clip', args.clip] if args.clip else [])


def require_running(child: ChildProcess) -> None:
    """Raise DemoError with the process's last lines when it has ended."""
    if child.returncode is not None:
        raise DemoError(
            f'{child.name} ended with status {child.returncode}; the last lines of {child.log}:\n'
            f'{child.last_lines()}'
        )


def watch(
    node: ChildProcess,
    camera: ChildProcess,
    monitor: DemoMonitor,
    seconds: float,
    progress: ProgressLine,
) -> None:
    """Wait until the camera has played and the node has published what was under way."""
    recording = monitor.recording
    start = time.monotonic()
    deadline = start + TOTAL_SECONDS
    while not recording.rgb_arrivals:
        require_running(node)
        require_running(camera)
        waited = time.monotonic() - start
        if waited > START_SECONDS:
            raise DemoError(
                f'sr_node was not ready after {waited:.0f} s; the last lines of {node.log}:\n'
                f'{node.last_lines()}'
            )
        progress.show(f'sr_node loads and warms up its weights ... {waited:.0f} s')
        time.sleep(0.05)
    progress.end(f'sr_node is ready after {time.monotonic() - start:.1f} s; the camera plays')

    start = time.monotonic()
    played, frames = 0.0, 0
    # A slow machine gets more time, so that its figures too are of more than a few frames.
    while (
        played < seconds
        or (frames < ENOUGH_FRAMES and played < 3 * seconds)
        or (frames < MINIMUM_FRAMES and time.monotonic() < deadline)
    ):
        require_running(node)
        require_running(camera)
        played, frames = time.monotonic() - start, len(recording.output)
        progress.show(
            progress_text(recording, played), min(played / seconds, frames / ENOUGH_FRAMES)
        )
        time.sleep(0.05)
    camera.stop()
    if camera.returncode != 0:
        require_running(camera)

    ended = time.monotonic_ns()
    quiet_since = ended
    count = len(recording.output)
    # What is under way still comes.
    while time.monotonic_ns() - ended < DRAIN_SECONDS * 1e9:
        require_running(node)
        if len(recording.output) != count:
            count, quiet_since = len(recording.output), time.monotonic_ns()
        # Only diagnostics that were made after the last frame have it counted.
        if (
            time.monotonic_ns() - quiet_since > QUIET_SECONDS * 1e9
            and recording.diagnostics_arrival_ns - quiet_since > 0.2e9
        ):
            break
        time.sleep(0.05)
    progress.end(progress_text(recording, played))


def progress_text(recording: Recording, played: float) -> str:
    text = (
        f'{played:4.1f} s  RGB {len(recording.rgb_arrivals)}  depth {len(recording.depth)}'
        f'  published {len(recording.output)}'
    )
    if len(recording.output) > 1:
        latency = recording.latencies[-10:].mean() * 1e3
        text += f'  {recording.output_rate:.1f} FPS  {latency:.0f} ms behind'
    return text


def record(args: argparse.Namespace, progress: ProgressLine) -> Recording:
    """Run the processes and listen. None of them is left when this returns or raises."""
    domain_id = free_domain_id() if args.domain_id is None else args.domain_id
    set_demo_environment(domain_id)
    with contextlib.ExitStack() as stack:
        # The children before rclpy: it makes threads, see ChildProcess.
        node = ChildProcess('sr_node', node_command(args), os.environ, args.out)
        stack.callback(node.stop)
        camera = ChildProcess('demo_camera', camera_command(args), os.environ, args.out)
        stack.callback(camera.stop)
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        monitor = DemoMonitor()
        executor = SingleThreadedExecutor()
        executor.add_node(monitor)
        listener = threading.Thread(target=_spin, args=(executor,), daemon=True)
        listener.start()
        stack.callback(listener.join)
        stack.callback(executor.shutdown)
        watch(node, camera, monitor, args.seconds, progress)
        return monitor.recording


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def run(args: argparse.Namespace) -> None:
    """The whole demo. Raises DemoError, OSError and ValueError with a sentence for the user."""
    progress = ProgressLine()
    clip = DemoClip(args.clip or None)
    args.out.mkdir(parents=True, exist_ok=True)
    recording = record(args, progress)
    if len(recording.output) < MINIMUM_FRAMES:
        summary = recording.diagnostics.get('summary', 'no diagnostics came')
        raise DemoError(
            f'only {len(recording.output)} frames came out, at least {MINIMUM_FRAMES} are needed;'
            f' sr_node says: {summary}'
        )
    progress.show('scoring every published frame against the truth ...')
    defaults = NodeParameters()
    scores = demo_report.score_recording(
        recording, clip, round(defaults.slop * 1e9), round(defaults.depth_hold * 1e9)
    )
    if not scores:
        raise DemoError('no published frame could be paired with its depth frame and its truth')
    figures = demo_report.figures(recording, scores, ClipPlayerConfig())
    progress.end()
    print(demo_report.table(figures))
    (args.out / 'demo.json').write_text(json.dumps(figures, indent=2) + '\n')
    demo_report.write_picture(args.out / 'demo.png', clip, scores, figures)
    print(f'\n{args.out / "demo.png"}: the picture; {args.out / "demo.json"}: these figures')
    error = figures['error_m']
    if not error['rmse']['output'] < (1 - MINIMUM_GAIN) * error['rmse']['interpolated']:
        raise DemoError(
            'the output is not better than the interpolated input: RMSE'
            f' {error["rmse"]["output"] * 100:.2f} cm against'
            f' {error["rmse"]["interpolated"] * 100:.2f} cm'
        )


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='demo', description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument(
        '--seconds', type=float, default=20.0, help='how long the camera plays at least'
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--weights', default='', help="parameter of sr_node; empty = the package's")
    parser.add_argument('--relative-depth', default='', help='parameter of sr_node')
    parser.add_argument('--device', default='', help='parameter of sr_node')
    parser.add_argument('--clip', default='', help="another clip than the package's")
    parser.add_argument('--domain-id', type=int, help='ROS_DOMAIN_ID; default: a free one')
    args = parser.parse_args(arguments)
    if not 1 <= args.seconds <= 300:
        parser.error(f'--seconds is {args.seconds:g}; allowed: 1 to 300')
    return args


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_arguments(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        run(args)
    except (DemoError, OSError, ValueError) as error:
        print(f'\ndemo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ndemo: interrupted; nothing is left running', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

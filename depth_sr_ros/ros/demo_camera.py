# SPDX-License-Identifier: Apache-2.0
"""`demo_camera`: plays the clip in the package as a camera, for demo, tests and benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, TimeReference

from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.ros.clip_player import ClipPlayer, ClipPlayerConfig, ImageStream

# How soon a camera that waits for its next frame hears that it shall stop.
_TICK_SECONDS = 0.1
# An executor that misses the shutdown must not keep the process from ending.
_JOIN_SECONDS = 2.0


class DemoCamera(Node):
    """Plays a clip as an RGB-D camera: jittered stamps, depth coarse, noisy and with holes.

    Publishes `camera/color/image_raw`, `camera/color/camera_info`, `camera/depth/image_raw`,
    `camera/depth/camera_info` (depth is registered: it sees what RGB sees), or the compressed
    topics beside the images in their place, as image_transport names them; and for each image a
    TimeReference on `~/clip_time`: its header is the image's, `time_ref` the time within the clip,
    `source` 'color' or 'depth'. With that a monitor finds the truth of any stamp.

    A frame's stamp is the moment of its capture on the node's clock, and the frame goes out at
    that moment. When the machine is too slow, frames more than a period late are skipped, as a
    driver would lose them, and counted.

    Parameters: the fields of ClipPlayerConfig.
    """

    def __init__(self, overrides: dict | None = None) -> None:
        """
        overrides: parameter values that go before those of the command line's ROS arguments.

        Raises ValueError (parameters) and what DemoClip raises (OSError, ValueError).
        """
        super().__init__(
            'demo_camera',
            parameter_overrides=[Parameter(name, value=v) for name, v in (overrides or {}).items()],
        )
        values = {
            field.name: self._declare(field) for field in dataclasses.fields(ClipPlayerConfig)
        }
        config = ClipPlayerConfig(**values)
        self._player = ClipPlayer(DemoClip(config.clip or None), config)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[config.reliability.upper()])
        self._images, self._infos = {}, {}
        for stream in self._player.streams:
            topic = f'camera/{stream.name}/image_raw'
            kind = Image
            if stream.transport != 'raw':
                topic, kind = f'{topic}/{stream.transport}', CompressedImage
            self._images[stream.name] = self.create_publisher(kind, topic, qos)
            self._infos[stream.name] = self.create_publisher(
                CameraInfo, f'camera/{stream.name}/camera_info', qos
            )
        self._clip_time = self.create_publisher(TimeReference, '~/clip_time', QoSProfile(depth=200))
        self.get_logger().info(self._describe(config))

    def _declare(self, field: dataclasses.Field) -> Any:
        is_number = isinstance(field.default, float)
        # `rgb_rate:=30` is an integer to ROS; taken as what is meant.
        descriptor = ParameterDescriptor(
            description=field.metadata['text'], read_only=True, dynamic_typing=is_number
        )
        value = self.declare_parameter(field.name, field.default, descriptor).value
        if is_number and not isinstance(value, (int, float)):
            raise ValueError(f'{field.name} is {value!r}; it must be a number')
        return float(value) if is_number else value

    def _describe(self, config: ClipPlayerConfig) -> str:
        parts = []
        for stream in self._player.streams:
            image = next(iter(stream.images.values()))
            kind = image.encoding if stream.transport == 'raw' else f"'{image.format}'"
            width, height = stream.size
            parts.append(
                f'{self._images[stream.name].topic_name} {width}x{height} {kind},'
                f' {stream.bytes_per_image / 1000:.0f} kB, at {stream.rate:g} Hz'
            )
        return (
            f'{" and ".join(parts)}; {config.reliability}, jitter {config.jitter * 1e3:g} ms,'
            f' {self._player.clip_length} frames'
            f' {f"for {config.seconds:g} s" if config.seconds else "in a loop"}'
        )

    def play(self, stopped: Callable[[], bool]) -> None:
        """Publish until the configured time is over or `stopped` says so, a tick later at most."""

        def wait(due_ns: int) -> bool:
            """Until `due_ns` on the steady clock; whether it was stopped."""
            while not stopped() and (left := due_ns - time.monotonic_ns()) > 0:
                time.sleep(min(left / 1e9, _TICK_SECONDS))
            return stopped()

        if self._player.config.wait:
            while not all(p.get_subscription_count() for p in self._images.values()):
                if wait(time.monotonic_ns() + 50_000_000):
                    return
            # Discovery has two sides: the subscriber may know us a moment after we know it.
            wait(time.monotonic_ns() + 300_000_000)
        sent = dict.fromkeys(self._images, 0)
        skipped = dict.fromkeys(self._images, 0)
        start = time.monotonic_ns() + 100_000_000
        for capture_ns, number, stream in self._player.schedule():
            due = start + capture_ns
            if wait(due):
                break
            late_ns = time.monotonic_ns() - due
            if late_ns > 1e9 / stream.rate:
                skipped[stream.name] += 1
                continue
            stamp = (self.get_clock().now() - Duration(nanoseconds=late_ns)).to_msg()
            self._publish(stream, self._player.clip_frame(stream, number), stamp)
            sent[stream.name] += 1
        for publisher in (*self._images.values(), self._clip_time):
            publisher.wait_for_all_acked(Duration(seconds=2))
        self.get_logger().info(
            f'sent {sent["color"]} RGB and {sent["depth"]} depth frames; skipped'
            f' {skipped["color"]} and {skipped["depth"]} because the machine was late'
        )

    def _publish(self, stream: ImageStream, frame: int, stamp: Time) -> None:
        image = stream.images[frame]
        image.header.stamp = stream.info.header.stamp = stamp
        self._infos[stream.name].publish(stream.info)
        self._images[stream.name].publish(image)
        seconds, rest = divmod(round(frame / self._player.clip_rate * 1e9), 1_000_000_000)
        self._clip_time.publish(
            TimeReference(
                header=image.header,
                time_ref=Time(sec=seconds, nanosec=rest),
                source=stream.name,
            )
        )


def _parse_arguments(arguments: list[str]) -> dict:
    """Command-line options as parameter values; those not given are left to ROS."""
    parser = argparse.ArgumentParser(
        prog='demo_camera',
        description='Plays a clip as an RGB-D camera. Every option is a ROS parameter too.',
        argument_default=argparse.SUPPRESS,
    )
    for field in dataclasses.fields(ClipPlayerConfig):
        option = f'--{field.name.replace("_", "-")}'
        text = f'{field.metadata["text"]} (default: {field.default!r})'
        if isinstance(field.default, bool):
            parser.add_argument(option, action='store_true', help=text)
        else:
            parser.add_argument(option, type=type(field.default), help=text)
    return vars(parser.parse_args(arguments))


def _spin(node: Node) -> None:
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


def main() -> int:
    """Entry point of `demo_camera`. Returns 0, or 1 after a sentence that says what was wrong."""
    overrides = _parse_arguments(remove_ros_args(sys.argv)[1:])
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    spinner = None
    signals: list[int] = []
    # No exception, which is swallowed when it comes while a destructor or a callback runs; and no
    # threading.Event, which may wait for itself when the thread that waits for it sets it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: signals.append(number))
    try:
        node = DemoCamera(overrides)
        # The executor only serves the parameters; playing keeps its own time.
        spinner = threading.Thread(target=_spin, args=(node,), daemon=True)
        spinner.start()
        node.play(lambda: bool(signals))
        return 0
    except (OSError, ValueError, ParameterException) as error:
        print(f'demo_camera: {error}', file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
        if spinner:
            spinner.join(_JOIN_SECONDS)


if __name__ == '__main__':
    sys.exit(main())

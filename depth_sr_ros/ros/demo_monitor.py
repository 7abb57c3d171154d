# SPDX-License-Identifier: Apache-2.0
"""Listens to `demo_camera` and `sr_node` and keeps what is needed to score them afterwards."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, TimeReference

from depth_sr_ros.ros.image_codec import decode_depth

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo


@dataclasses.dataclass(frozen=True)
class StampedDepth:
    """A depth image float32 (h, w) in metres, and when it was taken, sent and heard.

    stamp_ns and published_ns are on the system clock, arrival_ns on this process's steady clock.
    """

    stamp_ns: int
    published_ns: int
    arrival_ns: int
    depth: NDArray[np.float32]


@dataclasses.dataclass
class Recording:
    """What went over the wire while the demo ran."""

    clip_seconds: dict[int, float] = dataclasses.field(default_factory=dict)
    """Time within the clip of each RGB frame sent, by its stamp in ns."""
    rgb_arrivals: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """(stamp, arrival) in ns of each RGB frame sent, as heard on `clip_time`."""
    depth_sent: int = 0
    depth: list[StampedDepth] = dataclasses.field(default_factory=list)
    output: list[StampedDepth] = dataclasses.field(default_factory=list)
    diagnostics: dict[str, str] = dataclasses.field(default_factory=dict)
    """The last values that the node gave on /diagnostics."""
    diagnostics_arrival_ns: int = 0

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Seconds from the stamp of an RGB frame to the publication of its depth; (N,)."""
        return np.array([o.published_ns - o.stamp_ns for o in self.output]) / 1e9

    @property
    def output_rate(self) -> float:
        """Frames per second that the node published, by the times of publication."""
        if len(self.output) < 2:
            return 0.0
        first, last = self.output[0].published_ns, self.output[-1].published_ns
        return (len(self.output) - 1) / ((last - first) / 1e9)


class DemoMonitor(Node):
    """Fills a Recording; decodes and copies nothing more than it must, as the node needs the CPU.

    The RGB images are not subscribed to: `clip_time` has their stamps, and their pixels are in the
    clip. The time of publication is the one that DDS puts on each sample when it is written.
    """

    def __init__(self, node_name: str = 'sr_node') -> None:
        super().__init__('demo_monitor')
        self.recording = Recording()
        self._node_name = node_name
        self.create_subscription(
            TimeReference, '/demo_camera/clip_time', self._on_clip_time, QoSProfile(depth=200)
        )
        self.create_subscription(
            Image, '/camera/depth/image_raw', self._on_depth, qos_profile_sensor_data
        )
        self.create_subscription(
            Image, f'/{node_name}/depth/image', self._on_output, QoSProfile(depth=10)
        )
        self.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=10)
        )

    def _on_clip_time(self, message: TimeReference) -> None:
        if message.source != 'color':
            self.recording.depth_sent += 1
            return
        stamp_ns = _nanoseconds(message.header.stamp)
        self.recording.clip_seconds[stamp_ns] = _nanoseconds(message.time_ref) / 1e9
        self.recording.rgb_arrivals.append((stamp_ns, time.monotonic_ns()))

    def _on_depth(self, message: Image, info: MessageInfo) -> None:
        self.recording.depth.append(_stamped_depth(message, info))

    def _on_output(self, message: Image, info: MessageInfo) -> None:
        self.recording.output.append(_stamped_depth(message, info))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if self._node_name in status.name:
                values = {pair.key: pair.value for pair in status.values}
                self.recording.diagnostics = {'summary': status.message, **values}
                self.recording.diagnostics_arrival_ns = time.monotonic_ns()


def _nanoseconds(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _stamped_depth(message: Image, info: MessageInfo) -> StampedDepth:
    return StampedDepth(
        _nanoseconds(message.header.stamp),
        info['source_timestamp'],
        time.monotonic_ns(),
        decode_depth(message),
    )

# SPDX-License-Identifier: Apache-2.0
"""A camera of any size and rate that only costs what publishing costs; for the benchmark.

Prints one line of JSON at the end: how many images of each kind it sent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Empty

from depth_sr_ros.ros.image_codec import encode_depth_into, encode_image_into

GO_TOPIC = 'benchmark/go'
_FRAME_ID = 'benchmark_camera_optical_frame'
_PICTURES = 4
_TIMEOUT = 120.0


class BenchmarkCamera(Node):
    """Publishes rgb/image, rgb/camera_info and depth/image: a textured wall at 1 to 4 m.

    Args:
        rgb_size, depth_size: (width, height).
        rate, depth_rate: images per second; depth goes out with every n-th RGB image, under the
            same stamp.
    """

    def __init__(
        self,
        rgb_size: tuple[int, int],
        depth_size: tuple[int, int],
        rate: float,
        depth_rate: float,
        reliability: str,
    ) -> None:
        super().__init__('benchmark_camera')
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
        self._rgb = self.create_publisher(Image, 'rgb/image', qos)
        self._depth = self.create_publisher(Image, 'depth/image', qos)
        self._info = self.create_publisher(CameraInfo, 'rgb/camera_info', qos)
        # Whoever subscribes to this says that all is ready; nothing is ever published.
        self._go = self.create_publisher(Empty, GO_TOPIC, 1)
        self._period = 1 / rate
        self._depth_every = max(round(rate / depth_rate), 1)
        random = np.random.default_rng(0)
        self._rgb_images = [
            self._rgb_image(random.integers(0, 256, (*rgb_size[::-1], 3), np.uint8))
            for _ in range(_PICTURES)
        ]
        ramp = np.linspace(1, 4, depth_size[0], dtype=np.float32)
        self._depth_image = Image()
        encode_depth_into(self._depth_image, np.tile(ramp, (depth_size[1], 1)), '16UC1')
        self._camera_info = _camera_info(rgb_size)
        for message in (*self._rgb_images, self._depth_image, self._camera_info):
            message.header.frame_id = _FRAME_ID

    @staticmethod
    def _rgb_image(pixels: np.ndarray) -> Image:
        message = Image()
        encode_image_into(message, pixels, 'rgb8')
        return message

    def wait_for_subscribers(self) -> None:
        """Wait until the node under test subscribes to everything and the consumer is ready.

        Raises:
            TimeoutError: nobody came.
        """
        deadline = time.monotonic() + _TIMEOUT
        publishers = (self._rgb, self._depth, self._info, self._go)
        while not all(publisher.get_subscription_count() for publisher in publishers):
            if time.monotonic() > deadline:
                raise TimeoutError(f'no subscriber came within {_TIMEOUT:g} s')
            time.sleep(0.05)
        time.sleep(1.0)  # discovery has two sides

    def play(self, frames: int) -> dict[str, int]:
        """Publish at the rate; frames that the camera itself cannot make in time are skipped."""
        sent = {'rgb': 0, 'depth': 0, 'skipped': 0}
        start = time.monotonic()
        for number in range(frames):
            due = start + number * self._period
            now = time.monotonic()
            if now > due + self._period:
                sent['skipped'] += 1
                continue
            time.sleep(max(due - now, 0))
            stamp = self.get_clock().now().to_msg()
            rgb = self._rgb_images[number % _PICTURES]
            for message in (rgb, self._depth_image, self._camera_info):
                message.header.stamp = stamp
            if number % self._depth_every == 0:
                self._depth.publish(self._depth_image)
                sent['depth'] += 1
            self._info.publish(self._camera_info)
            self._rgb.publish(rgb)
            sent['rgb'] += 1
        return sent


def _camera_info(size: tuple[int, int]) -> CameraInfo:
    width, height = size
    focal, x, y = float(width), (width - 1) / 2, (height - 1) / 2
    info = CameraInfo(width=width, height=height, distortion_model='plumb_bob')
    info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configuration', type=json.loads, help='arguments of BenchmarkCamera')
    parser.add_argument('--frames', type=int, required=True)
    parsed = parser.parse_args(arguments)
    rclpy.init()
    sent: dict[str, Any] = {}
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        camera = BenchmarkCamera(**parsed.configuration)
        camera.wait_for_subscribers()
        sent = camera.play(parsed.frames)
        time.sleep(1.0)  # let what is on its way arrive before the publishers go
    rclpy.try_shutdown()
    print(json.dumps(sent), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The topics that the node publishes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CameraInfo, Image

from depth_sr_ros.ros.camera_info import scaled_camera_info
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.image_codec import encode_depth_into
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.qos import create_publisher


class OutputPublishers:
    """Creates the publishers on a node and publishes one result on all of them.

    Args:
        camera_info: returns the latest CameraInfo of a frame_id, or None.
        warn: called with (cause, sentence) about what goes out incomplete.
    """

    def __init__(
        self,
        node: Any,
        diagnostics: NodeDiagnostics,
        camera_info: Callable[[str], Any],
        warn: Callable[[str, str], None],
    ) -> None:
        self._node = node
        self._diagnostics = diagnostics
        self._camera_info = camera_info
        self._warn = warn
        self.depth = self._create(Image, '~/depth/image')
        self.camera_info = self._create(CameraInfo, '~/depth/camera_info')

    def _create(self, message_type: Any, topic: str) -> Any:
        return create_publisher(
            self._node,
            message_type,
            topic,
            on_incompatible=lambda policy: self._warn(
                f'qos {topic}',
                f'a subscriber of {self._node.resolve_topic_name(topic)} asks for an incompatible '
                f'quality of service ({policy}) and gets nothing; change it there, or here by a '
                'qos_overrides parameter',
            ),
        )

    def destroy(self) -> None:
        for publisher in (self.depth, self.camera_info):
            self._node.destroy_publisher(publisher)

    def __call__(self, header: Any, result: Any, parameters: NodeParameters) -> None:
        """Publish a DepthSRResult under the RGB image's header."""
        start = time.monotonic()
        image = Image(header=header)
        inexpressible = encode_depth_into(image, result.depth, parameters.output_encoding)
        encoded = time.monotonic()
        self.depth.publish(image)
        published = time.monotonic()
        self._diagnostics.count('published depth/image')
        self._diagnostics.latency('encode', encoded - start)
        self._diagnostics.latency('publish', published - encoded)
        if inexpressible:
            self._warn(
                'out of range',
                f'{inexpressible} pixels of depth are beyond 65.535 m, the most that 16UC1 can '
                'hold, and went out as invalid; set output_encoding to 32FC1',
            )
        self._publish_camera_info(header, image.width, image.height)

    def _publish_camera_info(self, header: Any, width: int, height: int) -> None:
        info = self._camera_info(header.frame_id)
        if info is None:
            self._warn(
                f'no camera info {header.frame_id}',
                f"no CameraInfo of frame '{header.frame_id}' has come on "
                f'{self._node.resolve_topic_name("rgb/camera_info")}: depth goes out without one',
            )
            return
        try:
            scaled = scaled_camera_info(info, width, height)
        except ValueError as error:
            self._warn('camera info', f'CameraInfo is left out: {error}')
            return
        scaled.header = header
        self.camera_info.publish(scaled)
        self._diagnostics.count('published depth/camera_info')

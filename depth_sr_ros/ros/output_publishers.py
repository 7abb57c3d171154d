# SPDX-License-Identifier: Apache-2.0
"""The topics that the node publishes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from depth_sr_ros.evaluation.pictures import Scale, depth_scale
from depth_sr_ros.ros.camera_info import folded_camera_info, scaled_camera_info
from depth_sr_ros.ros.compressed_codec import encode_compressed_depth_into
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.frame_processor import DenseFrame
from depth_sr_ros.ros.image_codec import depth_buffer, encode_depth_into, encode_image_into
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.point_cloud import FIELD_NAMES, camera_place, fill_point_cloud, pixel_rays
from depth_sr_ros.ros.qos import create_publisher

_TRANSPORT = '/compressedDepth'
TOPICS = {
    'depth/image': Image,
    'depth/camera_info': CameraInfo,
    # Made and published only while somebody subscribes.
    'depth/image/compressedDepth': CompressedImage,
    'depth/color': Image,
    'depth/confidence': Image,
    'points': PointCloud2,
}


class OutputPublishers:
    """Creates the publishers on a node and publishes every frame on all of them, depth first.

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
        self._rays: tuple[Any, np.ndarray] | None = None
        self._image = Image()  # used again for every frame, so that its memory is
        self.publishers = {topic: self._create(topic) for topic in TOPICS}

    def _create(self, topic: str) -> Any:
        # What image_transport looks for beside an image follows it where that is remapped to.
        base = topic.removesuffix(_TRANSPORT)
        name = self._node.resolve_topic_name(f'~/{base}') + topic.removeprefix(base)
        return create_publisher(
            self._node,
            TOPICS[topic],
            name,
            on_incompatible=lambda policy: self._warn(
                f'qos {topic}',
                f'a subscriber of {name} asks for an incompatible quality of service ({policy}) '
                'and gets nothing; change it there, or here by a qos_overrides parameter',
            ),
        )

    def depth_buffer(self, shape: tuple[int, int], parameters: NodeParameters) -> np.ndarray | None:
        """The memory of the next depth image, float32 (H, W), where it goes out as metres."""
        if parameters.output_encoding != '32FC1':
            return None
        return depth_buffer(self._image, shape)

    def destroy(self) -> None:
        for publisher in self.publishers.values():
            self._node.destroy_publisher(publisher)

    def __call__(self, frame: DenseFrame, parameters: NodeParameters) -> None:
        start = time.monotonic()
        image = self._image
        image.header = frame.header
        inexpressible = encode_depth_into(image, frame.depth, parameters.output_encoding)
        encoded = time.monotonic()
        self._publish('depth/image', image)
        published = time.monotonic()
        self._diagnostics.latency('encode', encoded - start)
        self._diagnostics.latency('publish', published - encoded)
        if inexpressible:
            self._warn(
                'out of range',
                f'{inexpressible} pixels of depth are beyond 65.534 m, the most that 16UC1 can '
                'hold, and went out as invalid; set output_encoding to 32FC1',
            )
        info = self._scaled_info(frame)
        if info is not None:
            self._publish('depth/camera_info', info)
        self._publish_for_subscribers(frame, parameters, info)
        self._diagnostics.latency('extras', time.monotonic() - published)

    def _publish(self, topic: str, message: Any) -> None:
        self.publishers[topic].publish(message)
        self._diagnostics.count(f'published {topic}')

    def _scaled_info(self, frame: DenseFrame) -> Any:
        frame_id = frame.header.frame_id
        info = self._camera_info(frame_id)
        if info is None:
            self._warn(
                f'no camera info {frame_id}',
                f"no CameraInfo of frame '{frame_id}' has come on "
                f'{self._node.resolve_topic_name("rgb/camera_info")}: depth goes out without one',
            )
            return None
        height, width = frame.depth.shape
        try:
            scaled = scaled_camera_info(info, width, height)
        except ValueError as error:
            self._warn('camera info', f'CameraInfo is left out: {error}')
            return None
        scaled.header = frame.header
        return scaled

    def _publish_for_subscribers(
        self, frame: DenseFrame, parameters: NodeParameters, info: Any
    ) -> None:
        wanted = {
            topic for topic, publisher in self.publishers.items() if _has_subscriber(publisher)
        }
        if 'depth/image/compressedDepth' in wanted:
            compressed = CompressedImage(header=frame.header)
            encode_compressed_depth_into(compressed, frame.depth, parameters.output_encoding)
            self._publish('depth/image/compressedDepth', compressed)
        if 'depth/color' in wanted:
            near, far = parameters.color_range
            scale = Scale(near, far) if far > near else depth_scale(frame.depth)
            self._publish_image('depth/color', frame, scale.colour(frame.depth), 'rgb8')
        if 'depth/confidence' in wanted:
            self._publish_image('depth/confidence', frame, frame.confidence, '32FC1')
        if 'points' in wanted:
            self._publish_points(frame, parameters, info)

    def _publish_image(
        self, topic: str, frame: DenseFrame, image: np.ndarray, encoding: str
    ) -> None:
        message = Image(header=frame.header)
        encode_image_into(message, image, encoding)
        self._publish(topic, message)

    def _publish_points(self, frame: DenseFrame, parameters: NodeParameters, info: Any) -> None:
        if info is None:
            return  # said already
        height, width = frame.depth.shape
        info = folded_camera_info(info, width, height)
        rectified = parameters.rectified
        calibration = (rectified, width, height, *info.k, *info.p, *info.d, info.distortion_model)
        if self._rays is None or self._rays[0] != calibration:
            try:
                self._rays = (calibration, pixel_rays(info, rectified))
            except ValueError as error:
                self._warn('camera info', f'no points: CameraInfo is not usable: {error}')
                return
        cloud = PointCloud2(header=frame.header)
        cloud.fields = [
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(FIELD_NAMES)
        ]
        certain = frame.confidence >= parameters.points_min_confidence
        depth = np.where(certain, frame.depth, 0)
        place = camera_place(info, rectified)
        fill_point_cloud(cloud, depth, frame.rgb, self._rays[1], place)
        self._publish('points', cloud)


def _has_subscriber(publisher: Any) -> bool:
    return publisher.get_subscription_count() > 0

# SPDX-License-Identifier: Apache-2.0
"""Where the depth sensor is in the RGB camera's frame: from TF, or from parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from depth_sr_ros.ros.parameters import NodeParameters

# Long enough for a transform that is published right after the image; the worker waits for it.
_TIMEOUT = 0.1
_LOOP_NS = 1_000_000_000


class TransformError(Exception):
    """The transform is not known; the text says which and how to provide it."""


class Transforms(Protocol):
    """Answers with the 4x4 pose, metres, that takes points of the depth frame to RGB's frame."""

    def rgb_from_depth(self, rgb_header: Any, depth_header: Any) -> np.ndarray:
        """Raises TransformError."""


def pose_matrix(translation: Sequence[float], rotation: Sequence[float]) -> np.ndarray:
    """Translation (x, y, z) and quaternion (x, y, z, w), which is normalised, to float64 (4, 4)."""
    x, y, z, w = np.asarray(rotation, np.float64) / np.linalg.norm(rotation)
    pose = np.eye(4)
    pose[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    pose[:3, 3] = translation
    return pose


class ParameterTransforms:
    """The pose that the parameters give, whatever the frames are called."""

    def __init__(self, parameters: Callable[[], NodeParameters]) -> None:
        self._parameters = parameters

    def rgb_from_depth(self, rgb_header: Any, depth_header: Any) -> np.ndarray:
        values = self._parameters()
        return pose_matrix(values.extrinsics_translation, values.extrinsics_rotation)


class TfTransforms:
    """The pose that TF gives at the stamp of the depth.

    With a fixed frame ('odom') what the robot moved between the two stamps is taken into account.
    Call `rgb_from_depth` in another thread than the executor's: it waits up to 0.1 s.

    Raises:
        ImportError: tf2_ros is not installed.
    """

    def __init__(self, node: Any, parameters: Callable[[], NodeParameters]) -> None:
        import tf2_ros
        from rclpy.duration import Duration

        self._unknown = tf2_ros.TransformException
        self._timeout = Duration(seconds=_TIMEOUT)
        self._parameters = parameters
        self._latest_ns = 0
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def rgb_from_depth(self, rgb_header: Any, depth_header: Any) -> np.ndarray:
        from rclpy.time import Time

        rgb_frame, depth_frame = rgb_header.frame_id, depth_header.frame_id
        fixed_frame = self._parameters().fixed_frame
        stamp = Time.from_msg(depth_header.stamp)
        if rgb_frame == depth_frame and not fixed_frame:
            return np.eye(4)
        if stamp.nanoseconds < self._latest_ns - _LOOP_NS:
            # A looped bag: TF takes everything new for too old. What is static stays.
            self._buffer.clear()
        self._latest_ns = stamp.nanoseconds
        try:
            if fixed_frame:
                found = self._buffer.lookup_transform_full(
                    target_frame=rgb_frame,
                    target_time=Time.from_msg(rgb_header.stamp),
                    source_frame=depth_frame,
                    source_time=stamp,
                    fixed_frame=fixed_frame,
                    timeout=self._timeout,
                )
            else:
                found = self._buffer.lookup_transform(
                    rgb_frame, depth_frame, stamp, timeout=self._timeout
                )
        except self._unknown as error:
            through = f" through '{fixed_frame}'" if fixed_frame else ''
            raise TransformError(
                f"TF does not connect depth's frame '{depth_frame}' to RGB's frame "
                f"'{rgb_frame}'{through} at {1e-9 * stamp.nanoseconds:.3f} s: {error}. Publish it, "
                "for instance with tf2_ros's static_transform_publisher, or set "
                'registration_source to parameters'
            ) from error
        shift, turn = found.transform.translation, found.transform.rotation
        return pose_matrix((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))

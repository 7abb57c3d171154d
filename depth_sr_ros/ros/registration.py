# SPDX-License-Identifier: Apache-2.0
"""Depth messages of another camera, or of a LiDAR, to depth in the RGB camera's view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from depth_sr_ros.geometry import (
    Camera,
    DepthReprojection,
    GeometryError,
    PointCounts,
    project_points,
)
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.transforms import TransformError, Transforms

# A pose that turns by less keeps the size of the result, so that a shaking one does not change it.
_SAME_DIRECTION = 0.02


class RegistrationError(Exception):
    """Depth that cannot be registered; `cause` is one of `diagnostics.DROP_CAUSES`."""

    def __init__(self, cause: str, sentence: str):
        super().__init__(sentence)
        self.cause = cause
        self.sentence = sentence


def camera_of(info: Any, size: tuple[int, int], rectified: bool) -> tuple[Camera, np.ndarray]:
    """The camera of an image that a CameraInfo describes, and where its frame is.

    CameraInfo describes the whole sensor; its region of interest and its binning, or whatever else
    made the image the size that it has, are folded in. Rectified images (`image_rect`) are
    described by P, raw ones (`image_raw`) by K and D. What P's fourth column shifts (the second
    camera of a stereo pair) is taken as the camera's place in its frame, as image_geometry does; R
    is not used: a rectified image's frame is the rectified one.

    Args:
        info: an object shaped like sensor_msgs/CameraInfo.
        size: (width, height) of the image.

    Returns:
        The camera, and the 4x4 pose that takes points in the message's frame to the camera's.

    Raises:
        GeometryError: not calibrated, another aspect ratio, or an unknown distortion model.
    """
    p = np.asarray(info.p, np.float64).reshape(3, 4)
    k = p[:, :3] if rectified else np.asarray(info.k, np.float64).reshape(3, 3)
    camera = Camera(
        width=info.width,
        height=info.height,
        fx=float(k[0, 0]),
        fy=float(k[1, 1]),
        cx=float(k[0, 2]),
        cy=float(k[1, 2]),
        distortion=() if rectified else tuple(map(float, info.d)),
        model=info.distortion_model,
    )
    pose = np.eye(4)
    if rectified:
        pose[:2, 3] = p[0, 3] / camera.fx, p[1, 3] / camera.fy
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
    return camera.resized(*size), pose


class Registration:
    """Puts depth images, or point clouds, into the RGB camera's view, in the worker's thread.

    Args:
        points: what comes are point clouds, which need no calibration of their own.
        transforms: where the depth sensor is.
        rgb_info, depth_info: return the latest CameraInfo of a frame_id, or None.
        topics: resolved names of the two CameraInfo topics, for the sentences.
        parameters: returns the parameters that hold now.
    """

    def __init__(
        self,
        points: bool,
        transforms: Transforms,
        rgb_info: Callable[[str], Any],
        depth_info: Callable[[str], Any],
        topics: tuple[str, str],
        parameters: Callable[[], NodeParameters],
        diagnostics: NodeDiagnostics,
    ) -> None:
        self._points = points
        self._transforms = transforms
        self._rgb_info = rgb_info
        self._depth_info = depth_info
        self._rgb_topic, self._depth_topic = topics
        self._parameters = parameters
        self._diagnostics = diagnostics
        self._reprojection: DepthReprojection | None = None
        self._made_of: tuple[Camera, Camera, np.ndarray] | None = None

    def __call__(
        self, depth: np.ndarray, depth_header: Any, rgb_header: Any, rgb_size: tuple[int, int]
    ) -> np.ndarray:
        """Depth in the view of an RGB image: float32, metres, 0 = nothing measured there.

        Args:
            depth: float32 (h, w) metres of a depth image, or float32 (N, 3) metres of points.
            rgb_size: (width, height) that RGB has, or is going to have.

        Raises:
            RegistrationError: no calibration, no transform, or nothing in the RGB camera's view.
        """
        values = self._parameters()
        rgb, camera_from_frame = self._camera(
            'RGB', self._rgb_topic, self._rgb_info, rgb_header.frame_id, rgb_size, values.rectified
        )
        try:
            rgb_from_depth = self._transforms.rgb_from_depth(rgb_header, depth_header)
        except TransformError as error:
            raise RegistrationError('no transform', str(error)) from error
        pose = camera_from_frame @ rgb_from_depth
        if self._points:
            result = project_points(depth, rgb, pose, hidden_window=values.hidden_window)
        else:
            height, width = depth.shape
            source, frame_from_camera = self._camera(
                'depth',
                self._depth_topic,
                self._depth_info,
                depth_header.frame_id,
                (width, height),
                values.depth_rectified,
            )
            pose = pose @ np.linalg.inv(frame_from_camera)
            result = self._reproject(source, rgb, pose)(depth)
        self._count(result.counts)
        if not result.counts.visible:
            raise _nothing_in_view(result.counts, rgb_from_depth)
        return result.depth

    def _camera(
        self,
        kind: str,
        topic: str,
        info_of: Callable[[str], Any],
        frame_id: str,
        size: tuple[int, int],
        rectified: bool,
    ) -> tuple[Camera, np.ndarray]:
        info = info_of(frame_id)
        if info is None:
            name = f'{kind.lower()}/camera_info'
            raise RegistrationError(
                'no camera info',
                f"registration needs the CameraInfo of {kind}'s frame '{frame_id}', and none has "
                f"come on {topic}: start the driver's, or remap with `-r {name}:=/TOPIC`",
            )
        try:
            return camera_of(info, size, rectified)
        except GeometryError as error:
            raise RegistrationError('bad message', f'CameraInfo of {kind}: {error}') from error

    def _reproject(self, source: Camera, rgb: Camera, pose: np.ndarray) -> DepthReprojection:
        """The reprojection for these, the last one where nothing changed."""
        size = None
        if self._reprojection is not None and self._made_of is not None:
            last_source, last_rgb, last_pose = self._made_of
            if source == last_source and rgb == last_rgb:
                if np.array_equal(pose, last_pose):
                    return self._reprojection
                if np.abs(pose - last_pose)[:3, :3].max() < _SAME_DIRECTION:
                    size = self._reprojection.camera.width, self._reprojection.camera.height
        self._reprojection = DepthReprojection(source, rgb, pose, size=size)
        self._made_of = source, rgb, pose
        return self._reprojection

    def _count(self, counts: PointCounts) -> None:
        for name, number in (
            ('points registered', counts.visible),
            ('points out of frame', counts.outside),
            ('points behind the camera', counts.behind),
            ('points hidden by nearer ones', counts.hidden),
            ('points without measurement', counts.invalid),
        ):
            self._diagnostics.count(name, number)


def _nothing_in_view(counts: PointCounts, rgb_from_depth: np.ndarray) -> RegistrationError:
    if counts.invalid == counts.total:
        return RegistrationError(
            'no valid depth', f'none of the {counts.total} depth pixels or points is a measurement'
        )
    x, y, z = rgb_from_depth[:3, 3]
    forward = ', '.join(f'{component:.2f}' for component in rgb_from_depth[:3, 2])
    return RegistrationError(
        'out of frame',
        f'none of the {counts.total - counts.invalid} measurements is in the view of the RGB '
        f'camera ({counts.behind} behind it, {counts.outside} beside it). In its frame (x right, '
        f'y down, z forward) the depth sensor is at ({x:.3f}, {y:.3f}, {z:.3f}) m and its z axis '
        f'points along ({forward}): check the transform and both CameraInfos',
    )

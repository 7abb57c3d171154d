# SPDX-License-Identifier: Apache-2.0
"""Coloured point clouds from dense depth; needs no ROS installation."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from depth_sr_ros.ros.image_codec import byte_array

FIELD_NAMES = ('x', 'y', 'z', 'rgb')
"""All FLOAT32, four bytes apart; rgb holds the bytes 0xRRGGBB, as RViz and PCL read it."""

_POINT = np.dtype({'names': ['xyz', 'rgb'], 'formats': [('f4', 3), 'u4'], 'itemsize': 16})
_FISHEYE_MODELS = ('equidistant', 'fisheye')
# How many coefficients OpenCV takes.
_COEFFICIENTS, _FISHEYE_COEFFICIENTS = (4, 5, 8, 12, 14), (4,)


def pixel_rays(info: Any, rectified: bool = False) -> np.ndarray:
    """Where each pixel looks: float32 (H, W, 2), x / z and y / z in the camera's optical frame.

    Args:
        info: an object shaped like sensor_msgs/CameraInfo for exactly this image, without binning
            and region (`folded_camera_info`). Distortion models: plumb_bob, rational_polynomial
            (OpenCV's order of coefficients) and equidistant.
        rectified: the image is rectified: P holds, and there is no distortion any more.

    Raises:
        ValueError: the matrix or the distortion is not that of a calibrated camera.
    """
    if rectified:
        k = np.asarray(info.p, np.float64).reshape(3, 4)[:, :3]
    else:
        k = np.asarray(info.k, np.float64).reshape(3, 3)
    if not (0 < k[0, 0] < np.inf and 0 < k[1, 1] < np.inf and np.isfinite(k).all()):
        raise ValueError(f'focal lengths are {k[0, 0]:g} and {k[1, 1]:g}; they must be above 0')
    distortion = np.asarray(info.d, np.float64)
    rows, columns = np.mgrid[0 : info.height, 0 : info.width].astype(np.float64)
    if rectified or not distortion.any():
        rays = np.stack(((columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1]), -1)
        return rays.astype(np.float32)
    pixels = np.stack((columns, rows), -1).reshape(-1, 1, 2)
    fisheye = info.distortion_model in _FISHEYE_MODELS
    allowed = _FISHEYE_COEFFICIENTS if fisheye else _COEFFICIENTS
    if distortion.size not in allowed or not np.isfinite(distortion).all():
        raise ValueError(
            f'{distortion.size} distortion coefficients of model {info.distortion_model!r}; there '
            f'must be {", ".join(map(str, allowed))}, all finite'
        )
    if fisheye:
        rays = cv2.fisheye.undistortPoints(pixels, k, distortion)
    else:
        rays = cv2.undistortPoints(pixels, k, distortion)
    return rays.reshape(info.height, info.width, 2).astype(np.float32)


def camera_place(info: Any, rectified: bool = False) -> tuple[float, float]:
    """x and y, in metres, at which the camera is in its frame: (0, 0), or what P's fourth column
    says of the second camera of a rectified stereo pair."""
    if not rectified:
        return 0.0, 0.0
    p = np.asarray(info.p, np.float64).reshape(3, 4)
    return float(-p[0, 3] / p[0, 0]), float(-p[1, 3] / p[1, 1])


def fill_point_cloud(
    cloud: Any,
    depth: np.ndarray,
    rgb: np.ndarray,
    rays: np.ndarray,
    place: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Fill everything but the header and the fields of a PointCloud2-shaped object.

    The cloud is organised, one point per pixel; points without depth are NaN.

    Args:
        depth: float32 (H, W) metres; 0 and non-finite = no point.
        rgb: uint8 (H, W, 3).
        rays: what `pixel_rays` returns.
        place: what `camera_place` returns.
    """
    height, width = depth.shape
    z = np.where((depth > 0) & (depth < np.inf), depth, np.float32(np.nan))
    points = np.empty((height, width), _POINT)
    np.multiply(rays, z[..., None], out=points['xyz'][..., :2])
    if any(place):
        points['xyz'][..., :2] += np.array(place, np.float32)
    points['xyz'][..., 2] = z
    colours = rgb.astype(np.uint32)
    points['rgb'] = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    cloud.height, cloud.width = height, width
    cloud.point_step = _POINT.itemsize
    cloud.row_step = width * _POINT.itemsize
    cloud.is_bigendian = sys.byteorder == 'big'
    cloud.is_dense = not np.isnan(z).any()
    cloud.data = byte_array(points.view(np.uint8))

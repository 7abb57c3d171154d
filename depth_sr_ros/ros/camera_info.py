# SPDX-License-Identifier: Apache-2.0
"""Scale sensor_msgs/CameraInfo with its image; needs no ROS installation."""

from __future__ import annotations

import copy
from typing import Any

_ASPECT_TOLERANCE = 0.02


def scaled_camera_info(info: Any, width: int, height: int) -> Any:
    """Return the CameraInfo of the same view at another image size.

    `info` describes an image of its own size, cut by its region of interest and divided by its
    binning. Where the new size is that image's size already, an unchanged copy is returned;
    otherwise what `folded_camera_info` returns.

    Args:
        info: an object shaped like sensor_msgs/CameraInfo; it is not changed.
        width: pixels of the new image.
        height: pixels of the new image.

    Raises:
        ValueError: a size below 1, or another aspect ratio (more than 2% off).
    """
    if (width, height) == _image_size(info):
        return copy.deepcopy(info)
    return folded_camera_info(info, width, height)


def folded_camera_info(info: Any, width: int, height: int) -> Any:
    """As `scaled_camera_info`, and the result stands for itself: it has no binning and no region.

    Both are folded into K and P. Pixel centres map as (u + 0.5) * width / w - 0.5, which is where a
    resized image really lies (image_proc scales the principal point without the half pixel).
    Distortion and R do not depend on the size.

    Raises:
        ValueError: as `scaled_camera_info`.
    """
    if width < 1 or height < 1:
        raise ValueError(f'image size is {width}x{height}; both sides must be 1 or more')
    source_width, source_height = _image_size(info)
    scale_x = width / source_width
    scale_y = height / source_height
    if abs(scale_x / scale_y - 1) > _ASPECT_TOLERANCE:
        raise ValueError(
            f'image is {width}x{height}, CameraInfo is for {source_width}x{source_height}; '
            f'the aspect ratios may differ by {_ASPECT_TOLERANCE:.0%}'
        )
    scaled = copy.deepcopy(info)
    roi = info.roi
    focal_x = scale_x / max(info.binning_x, 1)
    focal_y = scale_y / max(info.binning_y, 1)
    for matrix, row_length in ((scaled.k, 3), (scaled.p, 4)):
        for column in range(row_length):
            matrix[column] *= focal_x
            matrix[row_length + column] *= focal_y
        # The columns of the principal point: (c + 0.5 - offset) * scale - 0.5, in homogeneous form.
        matrix[2] += (0.5 - roi.x_offset) * focal_x - 0.5
        matrix[row_length + 2] += (0.5 - roi.y_offset) * focal_y - 0.5
    scaled.width, scaled.height = int(width), int(height)
    scaled.binning_x = scaled.binning_y = 0
    scaled.roi.x_offset = scaled.roi.y_offset = scaled.roi.width = scaled.roi.height = 0
    scaled.roi.do_rectify = False
    return scaled


def _image_size(info: Any) -> tuple[int, int]:
    """Width and height of the image that `info` describes."""
    # 0 stands for "all of it" and for "no binning".
    width = (info.roi.width or info.width) // max(info.binning_x, 1)
    height = (info.roi.height or info.height) // max(info.binning_y, 1)
    if width < 1 or height < 1:
        raise ValueError(
            f'CameraInfo is for an image of {info.width}x{info.height}; both sides must be 1 or '
            'more (the camera is not calibrated)'
        )
    return width, height

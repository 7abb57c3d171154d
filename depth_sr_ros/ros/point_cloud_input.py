# SPDX-License-Identifier: Apache-2.0
"""Turn sensor_msgs/PointCloud2 into points; needs no ROS installation."""

from __future__ import annotations

from typing import Any

import numpy as np

AXES = ('x', 'y', 'z')
# sensor_msgs/PointField
_TYPES = {7: 'f4', 8: 'f8'}
# Bytes of a point: more do not fit a numpy structure, and no driver has them.
_LARGEST_STEP = 2**31 - 1


class PointCloudError(ValueError):
    """A point cloud message that cannot be decoded."""


def decode_points(msg: Any) -> np.ndarray:
    """Return float32 (N, 3), metres, in the cloud's frame; its three columns are contiguous.

    Other fields are skipped, organised clouds flattened. NaN and infinite points stay in place.

    Args:
        msg: an object shaped like sensor_msgs/PointCloud2; its data an array.array, bytes or
            ndarray. x, y and z must be FLOAT32 or FLOAT64, at any offsets.

    Raises:
        PointCloudError: a field that is missing or of another type, or size, steps and data that
            do not fit each other.
    """
    records = _records(msg)
    points = np.empty((3, *records.shape), np.float32)
    with np.errstate(over='ignore'):  # a float64 beyond float32 becomes infinite: no measurement
        for axis, row in zip(AXES, points, strict=True):
            row[...] = records[axis]
    return points.reshape(3, -1).T


def _records(msg: Any) -> np.ndarray:
    """A structured view, (height, width), of the message's bytes."""
    fields = {field.name: field for field in msg.fields}
    formats, offsets = [], []
    byte_order = '>' if msg.is_bigendian else '<'
    for axis in AXES:
        if axis not in fields:
            raise PointCloudError(
                f"the cloud has no field '{axis}', only {', '.join(fields) or 'none at all'}"
            )
        field = fields[axis]
        if field.datatype not in _TYPES or field.count not in (0, 1):
            raise PointCloudError(
                f"field '{axis}' is {field.count} of datatype {field.datatype}; it must be one of "
                '7 (FLOAT32) or 8 (FLOAT64)'
            )
        formats.append(byte_order + _TYPES[field.datatype])
        offsets.append(field.offset)
    height, width, step, row_step = msg.height, msg.width, msg.point_step, msg.row_step
    end = max(
        offset + np.dtype(kind).itemsize for offset, kind in zip(offsets, formats, strict=True)
    )
    if end > step:
        raise PointCloudError(f'point_step is {step}; the fields x, y and z end at byte {end}')
    if step > _LARGEST_STEP:
        raise PointCloudError(f'point_step is {step}; allowed is up to {_LARGEST_STEP} bytes')
    if row_step < width * step and height > 1:
        raise PointCloudError(f'row_step is {row_step}; {width} points of {step} bytes need more')
    data = np.frombuffer(msg.data, np.uint8)
    needed = (height - 1) * row_step + width * step if height and width else 0
    if data.size < needed:
        raise PointCloudError(
            f'data has {data.size} bytes; {height} x {width} points with point_step {step} and '
            f'row_step {row_step} need {needed}'
        )
    layout = np.dtype(
        {'names': AXES, 'formats': formats, 'offsets': offsets, 'itemsize': step}  # type: ignore[call-overload]
    )
    if not needed:
        return np.empty((0, 0), layout)
    return np.ndarray((height, width), layout, data.data, strides=(row_step, step))

# SPDX-License-Identifier: Apache-2.0
"""Turn sensor_msgs/Image into arrays and back; needs no ROS installation.

Units come from the encoding and are never guessed from the values (REP 118): 16UC1 is millimetres
with 0 for no measurement, 32FC1 is metres with NaN for no measurement. In memory a depth of 0 means
no measurement.
"""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np

_RGB_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
_TO_RGB = {
    'bgr8': cv2.COLOR_BGR2RGB,
    'rgba8': cv2.COLOR_RGBA2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    'mono8': cv2.COLOR_GRAY2RGB,
}
_DEPTH_TYPES = {'16UC1': 'u2', '32FC1': 'f4'}


class ImageCodecError(ValueError):
    """An image message that cannot be decoded, or an array that cannot be encoded."""


def _rows(msg: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """View the data of an image message as (height, width, channels) without copying."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height < 1 or width < 1:
        raise ImageCodecError(f'image is {width}x{height}; both sides must be 1 or more')
    row_bytes = width * channels * dtype.itemsize
    if step < row_bytes:
        raise ImageCodecError(
            f"step is {step}; encoding '{msg.encoding}' with width {width} needs >= {row_bytes}"
        )
    try:
        data = np.frombuffer(msg.data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageCodecError(f'data is not a byte buffer: {error}') from error
    needed = step * (height - 1) + row_bytes
    if data.size < needed:
        raise ImageCodecError(f'data has {data.size} bytes; {height} rows of {step} need {needed}')
    typed = np.ndarray(
        (height, width, channels),
        dtype,
        data,
        strides=(step, channels * dtype.itemsize, dtype.itemsize),
    )
    return typed


def decode_rgb(msg: Any) -> np.ndarray:
    """Return the picture of an image message as uint8 (H, W, 3) RGB, C-contiguous.

    It may share the memory of the message.

    Raises:
        ImageCodecError: unknown encoding, or sizes that do not fit each other.
    """
    encoding = msg.encoding
    if encoding not in _RGB_CHANNELS:
        raise ImageCodecError(
            f"encoding is '{encoding}'; allowed for RGB: {', '.join(_RGB_CHANNELS)}"
        )
    pixels = _rows(msg, np.dtype(np.uint8), _RGB_CHANNELS[encoding])
    if encoding == 'rgb8':
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(pixels, _TO_RGB[encoding])


def decode_depth(msg: Any, *, mono16_is_depth: bool = False) -> np.ndarray:
    """Return the depth of an image message as float32 (h, w) metres, 0 = no measurement.

    Raises:
        ImageCodecError: unknown encoding, or sizes that do not fit each other.
    """
    encoding = msg.encoding
    if encoding == 'mono16' and mono16_is_depth:
        encoding = '16UC1'
    if encoding not in _DEPTH_TYPES:
        raise ImageCodecError(
            f"encoding is '{encoding}'; allowed for depth: {', '.join(_DEPTH_TYPES)}"
        )
    dtype = np.dtype(_DEPTH_TYPES[encoding]).newbyteorder('>' if msg.is_bigendian else '<')
    values = _rows(msg, dtype, 1)[..., 0]
    if encoding == '16UC1':
        return np.divide(values, np.float32(1000), dtype=np.float32)
    return np.where((values > 0) & (values < np.inf), values, np.float32(0)).astype(np.float32)


def encode_depth_into(msg: Any, depth: np.ndarray, encoding: str = '32FC1') -> int:
    """Fill height, width, encoding, is_bigendian, step and data of an image message.

    Args:
        msg: an object shaped like sensor_msgs/Image; its header is left alone.
        depth: float (H, W) metres; 0, negative and non-finite = no measurement.
        encoding: '32FC1' (metres, NaN invalid) or '16UC1' (millimetres, 0 invalid).

    Returns:
        The number of measured pixels that 16UC1 cannot express (they become invalid).
    """
    if depth.ndim != 2 or depth.size == 0:
        raise ImageCodecError(f'depth has shape {depth.shape}; it must be (height, width)')
    valid = (depth > 0) & (depth < np.inf)
    lost = 0
    if encoding == '32FC1':
        values = np.where(valid, depth, np.float32(np.nan)).astype(np.float32)
    elif encoding == '16UC1':
        millimetres = np.rint(np.where(valid, depth, np.float32(0)) * np.float32(1000))
        fits = (millimetres >= 1) & (millimetres <= 65535)
        lost = int(np.count_nonzero(valid & ~fits))
        values = np.where(fits, millimetres, np.float32(0)).astype(np.uint16)
    else:
        raise ImageCodecError(f"encoding is '{encoding}'; allowed: 32FC1, 16UC1")
    msg.height, msg.width = depth.shape
    msg.encoding = encoding
    msg.is_bigendian = int(sys.byteorder == 'big')
    msg.step = values.strides[0]
    # Assigning bytes, or array.array('B', view), would walk every byte in Python.
    data = array.array('B')
    data.frombytes(memoryview(values).cast('B'))
    msg.data = data
    return lost

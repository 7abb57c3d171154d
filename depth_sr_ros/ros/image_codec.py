# SPDX-License-Identifier: Apache-2.0
"""Turn sensor_msgs/Image into arrays and back; needs no ROS installation.

Units come from the encoding and are never guessed from the values (REP 118): 16UC1 is millimetres
with 0 for no measurement, 32FC1 and 64FC1 are metres. Coming in, 0, negative, NaN and infinite all
mean no measurement and become 0, as does 65535 in 16UC1; going out, no measurement is NaN in 32FC1
and 0 in 16UC1.
"""

from __future__ import annotations

import array
import sys
from typing import Any, NamedTuple

import cv2
import numpy as np


class ImageCodecError(ValueError):
    """An image message that cannot be decoded, or an array that cannot be encoded."""


class _Packed(NamedTuple):
    """Bytes per pixel, OpenCV's conversion to RGB, and what the width has to be divisible by."""

    channels: int
    to_rgb: int | None
    width_multiple: int = 1


# OpenCV names a Bayer pattern after the second and third pixel of the second row, ROS after the
# first four pixels of the image: rggb is OpenCV's BG.
_PACKED = {
    'rgb8': _Packed(3, None),
    'bgr8': _Packed(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Packed(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Packed(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Packed(1, cv2.COLOR_GRAY2RGB),
    'yuv422': _Packed(2, cv2.COLOR_YUV2RGB_UYVY, 2),
    'uyvy': _Packed(2, cv2.COLOR_YUV2RGB_UYVY, 2),
    'yuv422_yuy2': _Packed(2, cv2.COLOR_YUV2RGB_YUY2, 2),
    'yuyv': _Packed(2, cv2.COLOR_YUV2RGB_YUY2, 2),
    'bayer_rggb8': _Packed(1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': _Packed(1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': _Packed(1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': _Packed(1, cv2.COLOR_BayerGB2RGB),
}
_SEMI_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
_SMALLEST_MOSAIC = 4
_SATURATED = 65535  # in 16UC1
_DEPTH_TYPES = {'16UC1': np.uint16, '32FC1': np.float32, '64FC1': np.float64}
_IMAGE_TYPES = {
    'rgb8': (np.uint8, 3),
    'bgr8': (np.uint8, 3),
    'mono8': (np.uint8, 1),
    '32FC1': (np.float32, 1),
}

RGB_ENCODINGS = (*_PACKED, 'mono16', *_SEMI_PLANAR)
DEPTH_ENCODINGS = tuple(_DEPTH_TYPES)


def decode_rgb(msg: Any, *, cv_bridge: Any = None) -> np.ndarray:
    """Return the picture of an image message as uint8 (H, W, 3) RGB, C-contiguous.

    It may share the memory of the message, and is read-only where the message's data are.

    Args:
        msg: an object shaped like sensor_msgs/Image; its data an array.array, bytes or ndarray.
        cv_bridge: a cv_bridge.CvBridge to ask for the encodings that are not known here.

    Raises:
        ImageCodecError: unknown encoding, or size, step and data that do not fit each other.
    """
    encoding = msg.encoding
    if encoding in _PACKED:
        channels, to_rgb, width_multiple = _PACKED[encoding]
        pixels = _view(msg, np.dtype(np.uint8), channels)
        width = pixels.shape[1]
        if width % width_multiple:
            raise ImageCodecError(
                f"width is {width}; encoding '{encoding}' needs a multiple of {width_multiple}"
            )
        if encoding.startswith('bayer') and min(pixels.shape[:2]) < _SMALLEST_MOSAIC:
            raise ImageCodecError(
                f"image is {width}x{pixels.shape[0]}; encoding '{encoding}' needs "
                f'{_SMALLEST_MOSAIC}x{_SMALLEST_MOSAIC} or more'
            )
        return np.ascontiguousarray(pixels) if to_rgb is None else cv2.cvtColor(pixels, to_rgb)
    if encoding == 'mono16':
        grey = _view(msg, _byte_order(np.uint16, msg), 1)
        return cv2.cvtColor((grey >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    if encoding in _SEMI_PLANAR:
        return cv2.cvtColor(_semi_planar_view(msg), _SEMI_PLANAR[encoding])
    if cv_bridge is not None:
        return _decode_with(cv_bridge, msg)
    raise ImageCodecError(
        f"encoding of the RGB image is '{encoding}'; allowed: {', '.join(RGB_ENCODINGS)}"
    )


def decode_depth(msg: Any, *, mono16_is_depth: bool = False) -> np.ndarray:
    """Return the depth of an image message as float32 (h, w) metres, 0 = no measurement.

    Args:
        msg: an object shaped like sensor_msgs/Image; its data an array.array, bytes or ndarray.
        mono16_is_depth: read mono16, which names no unit, as 16UC1.

    Raises:
        ImageCodecError: unknown encoding, or size, step and data that do not fit each other.
    """
    encoding = msg.encoding
    if encoding == 'mono16' and mono16_is_depth:
        encoding = '16UC1'
    if encoding not in _DEPTH_TYPES:
        hint = ' (and mono16 when mono16_is_depth is set)' if encoding == 'mono16' else ''
        raise ImageCodecError(
            f"encoding of the depth image is '{encoding}'; "
            f'allowed: {", ".join(DEPTH_ENCODINGS)}{hint}'
        )
    values = _view(msg, _byte_order(_DEPTH_TYPES[encoding], msg), 1)[..., 0]
    if encoding == '16UC1':
        return millimetres_to_metres(values)
    with np.errstate(over='ignore'):  # a float64 beyond float32 becomes infinite: no measurement
        return blank_invalid(values.astype(np.float32, order='C'))


def encode_depth_into(msg: Any, depth: np.ndarray, encoding: str = '32FC1') -> int:
    """Fill height, width, encoding, is_bigendian, step and data of an image message.

    Args:
        msg: an object shaped like sensor_msgs/Image; its header is left alone.
        depth: float (H, W) metres; 0, negative and non-finite = no measurement. Where it is the
            message's own `depth_buffer` and '32FC1' is asked for, nothing is copied.
        encoding: '32FC1' (metres, NaN invalid) or '16UC1' (millimetres, 0 invalid).

    Returns:
        The number of measured pixels beyond what 16UC1 can express, which become invalid.

    Raises:
        ImageCodecError: another encoding or shape.
    """
    depth = checked_depth(depth)
    if encoding == '32FC1':
        _fill(msg, invalid_to_nan(depth), encoding)
        return 0
    if encoding == '16UC1':
        millimetres, lost = metres_to_millimetres(depth)
        _fill(msg, millimetres, encoding)
        return lost
    raise ImageCodecError(f"encoding is '{encoding}'; allowed for depth going out: 32FC1, 16UC1")


def depth_buffer(msg: Any, shape: tuple[int, int]) -> np.ndarray:
    """The data of an image message as float32 (H, W) to write metres to; see encode_depth_into.

    The data are of that size afterwards; only what else there is in the message is left alone.
    """
    size = shape[0] * shape[1] * np.dtype(np.float32).itemsize
    data = getattr(msg, 'data', None)
    if not (isinstance(data, array.array) and data.typecode == 'B' and len(data) == size):
        msg.data = array.array('B', bytes(size))  # of which the message keeps a copy
    return np.frombuffer(msg.data, np.float32).reshape(shape)


def encode_image_into(msg: Any, image: np.ndarray, encoding: str) -> None:
    """Fill height, width, encoding, is_bigendian, step and data of an image message.

    Args:
        msg: an object shaped like sensor_msgs/Image; its header is left alone.
        image: uint8 (H, W, 3) for rgb8 and bgr8, uint8 (H, W) for mono8, float32 (H, W) for 32FC1,
            whose values go out as they are.
        encoding: one of these.

    Raises:
        ImageCodecError: another encoding, type or shape.
    """
    if encoding not in _IMAGE_TYPES:
        raise ImageCodecError(f"encoding is '{encoding}'; allowed: {', '.join(_IMAGE_TYPES)}")
    dtype, channels = _IMAGE_TYPES[encoding]
    image = np.asarray(image)
    fits = image.shape[2:] == ((channels,) if channels > 1 else ()) and image.ndim >= 2
    if not fits or image.size == 0 or image.dtype != dtype:
        expected = '(height, width)' if channels == 1 else f'(height, width, {channels})'
        raise ImageCodecError(
            f"image is {image.dtype} {image.shape}; encoding '{encoding}' needs "
            f'{np.dtype(dtype)} {expected}'
        )
    _fill(msg, np.ascontiguousarray(image), encoding)


def checked_depth(depth: np.ndarray) -> np.ndarray:
    """Return depth as contiguous float32, or refuse what is no float (height, width)."""
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind != 'f':
        raise ImageCodecError(
            f'depth is {depth.dtype} {depth.shape}; it must be float (height, width), not empty'
        )
    with np.errstate(over='ignore'):
        return np.ascontiguousarray(depth, np.float32)


def blank_invalid(depth: np.ndarray) -> np.ndarray:
    """Set what is not above 0 and finite to 0, in place, in a contiguous float32 array."""
    bits = depth.view(np.uint32)
    np.multiply(bits, _is_measured(bits), out=bits)
    return depth


def invalid_to_nan(depth: np.ndarray) -> np.ndarray:
    """Return float32 depth with NaN for what is not above 0 and finite; may return its input."""
    # NaN makes both comparisons false. The network's output is complete as a rule.
    if depth.min() > 0 and depth.max() < np.inf:
        return depth
    bits = depth.view(np.uint32)
    no_measurement = ~_is_measured(bits)
    # All bits set is a NaN; this is three times as fast as assigning through a mask.
    all_bits = np.negative(no_measurement.view(np.int8), dtype=np.int32).view(np.uint32)
    return np.bitwise_or(bits, all_bits, out=all_bits).view(np.float32)


def millimetres_to_metres(values: np.ndarray) -> np.ndarray:
    """Return unsigned 16-bit millimetres as float32 metres, 0 = no measurement.

    The largest number is none: stereo cameras write it where they found no disparity (RealSense:
    librealsense issue 3508, OAK-D before depthai's second generation).
    """
    metres = np.divide(values, np.float32(1000), dtype=np.float32)
    if values.size and values.max() == _SATURATED:
        metres[values == _SATURATED] = 0
    return metres


def metres_to_millimetres(depth: np.ndarray) -> tuple[np.ndarray, int]:
    """Return float32 metres as uint16 millimetres, 0 = no measurement or beyond 65.534 m.

    The second value is how many measured pixels were beyond.
    """
    with np.errstate(over='ignore'):
        millimetres = depth * np.float32(1000)
    too_far = (millimetres >= _SATURATED - 0.5) & (depth < np.inf)
    lost = int(np.count_nonzero(too_far))
    if lost:
        millimetres[too_far] = 0
    np.rint(blank_invalid(millimetres), out=millimetres)
    return millimetres.astype(np.uint16), lost


def byte_array(data: Any) -> array.array:
    """Copy a C-contiguous buffer into what rclpy keeps in a uint8[] field.

    Assigning bytes to the field, or array.array('B', view), would walk every byte in Python.
    """
    filled = array.array('B')
    filled.frombytes(memoryview(data).cast('B'))
    return filled


def bytes_of(msg: Any) -> np.ndarray:
    """View the data of a message as uint8 without copying."""
    try:
        return np.frombuffer(msg.data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageCodecError(
            f'data is {type(msg.data).__name__} of {np.size(msg.data)}; '
            'it must be a contiguous byte buffer, not empty'
        ) from error


def _is_measured(bits: np.ndarray) -> np.ndarray:
    # Positive finite floats are the bit patterns from 1 to just below infinity; one unsigned
    # comparison tells them from 0, negatives, infinities and NaN.
    return np.subtract(bits, np.uint32(1)) < np.uint32(0x7F7FFFFF)


def _byte_order(dtype: Any, msg: Any) -> np.dtype:
    return np.dtype(dtype).newbyteorder('>' if msg.is_bigendian else '<')


def _sizes(msg: Any) -> tuple[int, int, int]:
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height < 1 or width < 1:
        raise ImageCodecError(f'image is {width}x{height}; both sides must be 1 or more')
    return height, width, step


def _check_data(data: np.ndarray, rows: int, step: int, row_bytes: int, encoding: str) -> None:
    if step < row_bytes:
        raise ImageCodecError(f"step is {step}; encoding '{encoding}' needs {row_bytes} or more")
    # The last row may come without its padding, as a region cut out of a larger image does.
    needed = step * (rows - 1) + row_bytes
    if not needed <= data.size <= step * rows:
        raise ImageCodecError(
            f'data has {data.size} bytes; {rows} rows with a step of {step} need '
            f'{needed} to {step * rows}'
        )


def _view(msg: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """View the data of an image message as (height, width, channels) without copying."""
    height, width, step = _sizes(msg)
    data = bytes_of(msg)
    pixel_bytes = channels * dtype.itemsize
    _check_data(data, height, step, width * pixel_bytes, msg.encoding)
    strides = (step, pixel_bytes, dtype.itemsize)
    return np.ndarray((height, width, channels), dtype, data, strides=strides)


def _semi_planar_view(msg: Any) -> np.ndarray:
    """View a full-size Y plane and the half-height plane of interleaved U and V below it."""
    height, width, step = _sizes(msg)
    if height % 2 or width % 2:
        raise ImageCodecError(
            f"image is {width}x{height}; encoding '{msg.encoding}' needs even sides"
        )
    rows = height + height // 2
    data = bytes_of(msg)
    _check_data(data, rows, step, width, msg.encoding)
    return np.ndarray((rows, width), np.uint8, data, strides=(step, 1))


def _decode_with(cv_bridge: Any, msg: Any) -> np.ndarray:
    try:
        image = cv_bridge.imgmsg_to_cv2(msg, desired_encoding='rgb8')
    except Exception as error:  # whatever the message makes of a foreign library
        raise ImageCodecError(
            f"encoding of the RGB image is '{msg.encoding}' and cv_bridge refuses it: {error}; "
            f'allowed without it: {", ".join(RGB_ENCODINGS)}'
        ) from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageCodecError(
            f"cv_bridge made {image.dtype} {image.shape} of encoding '{msg.encoding}'; "
            'needed: uint8 (height, width, 3)'
        )
    return np.ascontiguousarray(image)


def _fill(msg: Any, values: np.ndarray, encoding: str) -> None:
    msg.height, msg.width = values.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = int(sys.byteorder == 'big')
    msg.step = values.nbytes // values.shape[0]
    data = getattr(msg, 'data', None)
    if isinstance(data, array.array) and data.typecode == 'B' and len(data) == values.nbytes:
        # A message that is used again: new memory of this size costs more than filling it.
        target = np.frombuffer(data, np.uint8)
        if target.ctypes.data != values.ctypes.data:
            target[:] = values.reshape(-1).view(np.uint8)
    else:
        msg.data = byte_array(values)

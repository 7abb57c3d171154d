# SPDX-License-Identifier: Apache-2.0
"""Turn sensor_msgs/CompressedImage into arrays and back; needs no ROS installation.

The `format` field is read as image_transport's plugins write it: 'rgb8; jpeg compressed bgr8',
'16UC1; compressedDepth png', '32FC1; compressedDepth rvl', '16UC1; png compressed '.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from depth_sr_ros.ros.image_codec import (
    ImageCodecError,
    blank_invalid,
    byte_array,
    bytes_of,
    checked_depth,
    metres_to_millimetres,
    millimetres_to_metres,
)
from depth_sr_ros.ros.rvl_codec import decode_rvl

_JPEG = b'\xff\xd8\xff'
_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG_END = b'\xff\xd9'
_PNG_END = b'IEND'
# compressedDepth puts before its picture: a format number that is always 0, and two quantisation
# parameters that mean something for 32FC1 only.
_DEPTH_HEADER = struct.Struct('<iff')
_RVL_SIZE = struct.Struct('<II')
_MOST_PIXELS = 1 << 28
_DEPTH_FORMATS = (
    "'16UC1; compressedDepth png', '32FC1; compressedDepth png', "
    "the same with rvl, '16UC1; png compressed'"
)


def decode_compressed_rgb(msg: Any) -> np.ndarray:
    """Return the picture of a compressed image message as uint8 (H, W, 3) RGB, C-contiguous.

    JPEG and PNG, whatever their colours and bit depth. An EXIF orientation is ignored: the depth
    image would not be turned with it.

    Args:
        msg: an object shaped like sensor_msgs/CompressedImage.

    Raises:
        ImageCodecError: neither JPEG nor PNG, cut off or damaged.
    """
    data = bytes_of(msg)
    picture = _decode_picture(data, msg.format, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    # 'compressed rgb8' says that red and blue were already swapped when they were compressed.
    if 'compressed rgb' in msg.format.lower():
        return picture
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def decode_compressed_depth(msg: Any, *, mono16_is_depth: bool = False) -> np.ndarray:
    """Return the depth of a compressed image message as float32 (h, w) metres, 0 = no measurement.

    compressedDepth of 16UC1 (lossless millimetres) and 32FC1 (quantised inverse depth), in PNG or
    RVL; and 16UC1 that went through the ordinary compressed transport as PNG.

    Args:
        msg: an object shaped like sensor_msgs/CompressedImage.
        mono16_is_depth: read mono16, which names no unit, as 16UC1.

    Raises:
        ImageCodecError: another format, or data that are cut off or damaged.
    """
    encoding, _, transport = (part.strip() for part in msg.format.partition(';'))
    transport = transport.lower()
    if encoding == 'mono16' and mono16_is_depth:
        encoding = '16UC1'
    from_depth_plugin = 'compresseddepth' in transport
    if encoding not in ('16UC1', '32FC1') or not (
        from_depth_plugin or (encoding == '16UC1' and transport.startswith('png'))
    ):
        raise ImageCodecError(
            f"format of the depth image is '{msg.format}'; allowed: {_DEPTH_FORMATS}"
        )
    data = bytes_of(msg)
    scale = offset = 0.0
    # Some publishers leave the header out where it says nothing.
    if from_depth_plugin and (encoding == '32FC1' or not _starts_with(data, _PNG)):
        if data.size <= _DEPTH_HEADER.size:
            raise ImageCodecError(
                f'data has {data.size} bytes; compressedDepth needs a header of '
                f'{_DEPTH_HEADER.size} and a picture'
            )
        _, scale, offset = _DEPTH_HEADER.unpack(data[: _DEPTH_HEADER.size].tobytes())
        data = data[_DEPTH_HEADER.size :]
    values = _decode_rvl(data) if 'rvl' in transport else _decode_depth_png(data, msg.format)
    if encoding == '16UC1':
        return millimetres_to_metres(values)
    if not (np.isfinite(scale) and np.isfinite(offset) and scale > 0):
        raise ImageCodecError(
            f'quantisation parameters are {scale} and {offset}; they must be finite, '
            'the first one above 0'
        )
    with np.errstate(divide='ignore', over='ignore'):
        depth = np.float32(scale) / (values - np.float32(offset))
    depth[values == 0] = 0
    return blank_invalid(depth)


def encode_compressed_rgb_into(msg: Any, rgb: np.ndarray, *, jpeg_quality: int = 95) -> None:
    """Fill format and data of a compressed image message as image_transport does, in JPEG.

    Args:
        msg: an object shaped like sensor_msgs/CompressedImage; its header is left alone.
        rgb: uint8 (H, W, 3) RGB.
        jpeg_quality: 1 (small) to 100 (good); image_transport's own default is 95.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, int(jpeg_quality)])
    msg.format = 'rgb8; jpeg compressed bgr8'
    msg.data = byte_array(jpeg)


def encode_compressed_depth_into(
    msg: Any, depth: np.ndarray, encoding: str = '16UC1', *, png_level: int = 1
) -> int:
    """Fill format and data of a compressed image message as compressedDepth in PNG.

    Args:
        msg: an object shaped like sensor_msgs/CompressedImage; its header is left alone.
        depth: float (H, W) metres; 0, negative and non-finite = no measurement.
        encoding: '16UC1' (exact to the millimetre up to 65.534 m) or '32FC1' (65535 steps of
            inverse depth between the nearest and the farthest pixel of this frame).
        png_level: 0 (fast) to 9 (small).

    Returns:
        The number of measured pixels beyond what 16UC1 can express, which become invalid.

    Raises:
        ImageCodecError: another encoding or shape.
    """
    depth = checked_depth(depth)
    scale = offset = 0.0
    lost = 0
    if encoding == '16UC1':
        values, lost = metres_to_millimetres(depth)
    elif encoding == '32FC1':
        values, scale, offset = _quantise_inverse(depth)
    else:
        raise ImageCodecError(
            f"encoding is '{encoding}'; allowed for compressedDepth: 16UC1, 32FC1"
        )
    _, png = cv2.imencode('.png', values, [cv2.IMWRITE_PNG_COMPRESSION, int(png_level)])
    msg.format = f'{encoding}; compressedDepth png'
    msg.data = byte_array(_DEPTH_HEADER.pack(0, scale, offset) + png.tobytes())
    return lost


def _quantise_inverse(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return uint16 q, a and b such that depth = a / (q - b), and q = 0 where nothing is measured.

    The plugin's own parameters are fixed and drop what is beyond 10 m; every reader takes them from
    the header, so that they can be fitted to the frame.
    """
    metres = blank_invalid(depth.copy()).astype(np.float64)
    measured = metres > 0
    values = np.zeros(depth.shape, np.uint16)
    if not measured.any():
        return values, 1.0, 0.0
    inverse = 1 / metres[measured]
    nearest, farthest = inverse.max(), inverse.min()
    # Values from 1 to 65535, or the middle where all depths are equal.
    spread = nearest - farthest
    scale = 65534 / spread if spread > 1e-6 * nearest else 32768 / nearest
    offset = 1 - scale * farthest if spread > 1e-6 * nearest else 0.0
    values[measured] = np.clip(np.rint(scale * inverse + offset), 1, 65535)
    return values, float(scale), float(offset)


def _decode_picture(data: np.ndarray, stated_format: str, flags: int) -> np.ndarray:
    is_jpeg = _starts_with(data, _JPEG)
    if not is_jpeg and not _starts_with(data, _PNG):
        raise ImageCodecError(
            f"format is '{stated_format}' and the data begin with {data[:4].tobytes().hex(' ')}; "
            'allowed: JPEG, PNG'
        )
    # OpenCV fills what is missing with grey and says nothing.
    end = _JPEG_END if is_jpeg else _PNG_END
    if data.tobytes().rfind(end, 2) < 0:
        raise ImageCodecError(f"format is '{stated_format}' and its {data.size} bytes are cut off")
    try:
        picture = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageCodecError(f"format is '{stated_format}' and OpenCV says: {error}") from error
    if picture is None:
        raise ImageCodecError(f"format is '{stated_format}' and its {data.size} bytes are damaged")
    return picture


def _decode_depth_png(data: np.ndarray, stated_format: str) -> np.ndarray:
    if not _starts_with(data, _PNG):
        raise ImageCodecError(
            f"format is '{stated_format}' and the picture begins with "
            f'{data[:4].tobytes().hex(" ")}; it must be PNG'
        )
    values = _decode_picture(data, stated_format, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype != np.uint16:
        raise ImageCodecError(
            f'depth PNG holds {values.dtype} {values.shape}; it must be uint16 (height, width)'
        )
    return values


def _decode_rvl(data: np.ndarray) -> np.ndarray:
    if data.size < _RVL_SIZE.size:
        raise ImageCodecError(f'RVL data have {data.size} bytes; they need 8 or more')
    width, height = _RVL_SIZE.unpack(data[: _RVL_SIZE.size].tobytes())
    if not 0 < width * height <= _MOST_PIXELS:
        raise ImageCodecError(
            f'RVL image is {width}x{height}; it must have 1 to {_MOST_PIXELS} pixels'
        )
    try:
        return decode_rvl(data[_RVL_SIZE.size :], width * height).reshape(height, width)
    except ValueError as error:
        raise ImageCodecError(str(error)) from error


def _starts_with(data: np.ndarray, magic: bytes) -> bool:
    return data[: len(magic)].tobytes() == magic

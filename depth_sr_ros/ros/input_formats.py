# SPDX-License-Identifier: Apache-2.0
"""How RGB and depth come in: message type, topic and decoder of each transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from depth_sr_ros.ros.compressed_codec import decode_compressed_depth, decode_compressed_rgb
from depth_sr_ros.ros.image_codec import decode_depth, decode_rgb
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.point_cloud_input import decode_points


class InputFormat(NamedTuple):
    """One transport. What is read is its topic with the suffix, as image_transport has it."""

    topic: str
    message_type: type
    suffix: str
    decode: Callable[[Any, NodeParameters], np.ndarray]


def rgb_format(transport: str, cv_bridge: Any = None) -> InputFormat:
    """The format of a value of the parameter rgb_transport."""
    if transport == 'compressed':
        return InputFormat(
            'rgb/image',
            CompressedImage,
            '/compressed',
            lambda message, _: decode_compressed_rgb(message),
        )
    return InputFormat(
        'rgb/image', Image, '', lambda message, _: decode_rgb(message, cv_bridge=cv_bridge)
    )


def depth_format(transport: str) -> InputFormat:
    """The format of a value of the parameter depth_transport; points decode to (N, 3)."""
    if transport == 'points':
        return InputFormat(
            'depth/points', PointCloud2, '', lambda message, _: decode_points(message)
        )
    if transport == 'raw':
        return InputFormat(
            'depth/image',
            Image,
            '',
            lambda message, values: decode_depth(message, mono16_is_depth=values.mono16_is_depth),
        )
    return InputFormat(
        'depth/image',
        CompressedImage,
        f'/{transport}',
        lambda message, values: decode_compressed_depth(
            message, mono16_is_depth=values.mono16_is_depth
        ),
    )

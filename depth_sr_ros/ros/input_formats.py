# SPDX-License-Identifier: Apache-2.0
"""How images come in: message type, topic and decoder of each transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from depth_sr_ros.ros.compressed_codec import decode_compressed_depth, decode_compressed_rgb
from depth_sr_ros.ros.image_codec import decode_depth, decode_rgb
from depth_sr_ros.ros.parameters import NodeParameters


class InputFormat(NamedTuple):
    """One transport. Its topic is the image's topic with the suffix, as image_transport has it."""

    message_type: type
    suffix: str
    decode: Callable[[Any, NodeParameters], np.ndarray]


def rgb_format(transport: str, cv_bridge: Any = None) -> InputFormat:
    """The format of a value of the parameter rgb_transport."""
    if transport == 'compressed':
        return InputFormat(
            CompressedImage, '/compressed', lambda message, _: decode_compressed_rgb(message)
        )
    return InputFormat(Image, '', lambda message, _: decode_rgb(message, cv_bridge=cv_bridge))


def depth_format(transport: str) -> InputFormat:
    """The format of a value of the parameter depth_transport."""
    if transport == 'raw':
        return InputFormat(
            Image,
            '',
            lambda message, values: decode_depth(message, mono16_is_depth=values.mono16_is_depth),
        )
    return InputFormat(
        CompressedImage,
        f'/{transport}',
        lambda message, values: decode_compressed_depth(
            message, mono16_is_depth=values.mono16_is_depth
        ),
    )

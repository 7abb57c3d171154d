# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

pytest.importorskip('sensor_msgs')

from depth_sr_ros.ros.frame_processor import shrink


@pytest.mark.parametrize(
    ('depth_size', 'expected'),
    [((480, 640), (240, 320)), ((60, 80), (60, 80)), ((242, 322), (240, 319)), ((8, 10), (8, 10))],
)
def test_shrunk_depth_is_never_larger_than_rgb(depth_size, expected):
    rgb, depth = shrink(np.zeros((480, 640, 3), np.uint8), np.ones(depth_size, np.float32), 0.5)
    assert rgb.shape == (240, 320, 3)
    assert depth.shape == expected


def test_shrunk_depth_mixes_nothing():
    depth = np.where(np.arange(640) % 2, 1.0, 5.0).astype(np.float32)[None].repeat(480, 0)
    _, small = shrink(np.zeros((480, 640, 3), np.uint8), depth, 0.5)
    assert set(np.unique(small)) <= {1.0, 5.0}

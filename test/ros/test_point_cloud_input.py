# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 as drivers write it: any layout, either byte order, organised or not."""

from __future__ import annotations

import array
import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.point_cloud_input import PointCloudError, decode_points

DATATYPES = {'i1': 1, 'u1': 2, 'u2': 4, 'i4': 5, 'f4': 7, 'f8': 8}


def field(name, offset, kind='f4', count=1):
    return SimpleNamespace(name=name, offset=offset, datatype=DATATYPES[kind], count=count)


def cloud(points, kind='f4', offsets=(0, 4, 8), step=16, order='<', row_padding=0):
    """A PointCloud2-shaped object of points (height, width, 3); unused bytes are 0xAB."""
    height, width = points.shape[:2]
    names = ('x', 'y', 'z')
    layout = np.dtype(
        {'names': names, 'formats': [order + kind] * 3, 'offsets': offsets, 'itemsize': step}
    )
    row_step = width * step + row_padding
    data = np.full((height, row_step), 0xAB, np.uint8)
    records = np.ndarray((height, width), layout, data, strides=(row_step, step))
    for name, values in zip(names, np.moveaxis(points, -1, 0), strict=True):
        records[name] = values
    return SimpleNamespace(
        height=height,
        width=width,
        fields=[field('intensity', 0, 'u1'), *map(field, names, offsets, [kind] * 3)],
        is_bigendian=order == '>',
        point_step=step,
        row_step=row_step,
        data=array.array('B', data.tobytes()),
    )


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    kind=st.sampled_from(['f4', 'f8']),
    gaps=st.tuples(*[st.integers(0, 7)] * 4),
    axes=st.permutations([0, 1, 2]),
    order=st.sampled_from('<>'),
    row_padding=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_any_layout_gives_the_same_points(size, kind, gaps, axes, order, row_padding):
    points = np.random.default_rng(0).normal(size=(*size, 3)).astype(np.float32)
    points[0, 0, 1] = np.nan
    item, offsets, position = int(kind[1]), [0, 0, 0], 0
    for axis, gap in zip(axes, gaps, strict=False):
        offsets[axis] = position + gap
        position = offsets[axis] + item
    message = cloud(points, kind, offsets, position + gaps[3], order, row_padding)
    decoded = decode_points(message)
    assert decoded.dtype == np.float32
    assert decoded.T.flags.c_contiguous
    np.testing.assert_array_equal(decoded, points.reshape(-1, 3))


def test_a_last_row_without_its_padding_and_read_only_bytes():
    points = np.ones((2, 3, 3), np.float32)
    message = cloud(points, row_padding=8)
    message.data = bytes(message.data)[:-8]
    np.testing.assert_array_equal(decode_points(message), points.reshape(-1, 3))


def test_what_float32_cannot_hold_is_infinite():
    points = np.full((1, 1, 3), 1e300)
    assert np.isinf(decode_points(cloud(points, 'f8', (0, 8, 16), 24))).all()


@pytest.mark.parametrize('size', [(0, 0), (1, 0), (0, 5)])
def test_an_empty_cloud_has_no_points(size):
    assert decode_points(cloud(np.empty((*size, 3)))).shape == (0, 3)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'fields': []}, "no field 'x', only none at all"),
        ({'fields': [field('x', 0), field('y', 4)]}, "no field 'z', only x, y"),
        ({'fields': [field('x', 0, 'i4')]}, "field 'x' is 1 of datatype 5"),
        ({'fields': [field('x', 0, count=3)]}, "field 'x' is 3 of datatype 7"),
        ({'point_step': 8}, 'point_step is 8; the fields x, y and z end at byte 12'),
        (
            {'point_step': 2**31, 'height': 0, 'width': 0},
            'point_step is 2147483648; allowed is up to 2147483647 bytes',
        ),
        ({'row_step': 10}, 'row_step is 10; 3 points of 16 bytes'),
        ({'data': b'1234'}, 'data has 4 bytes; 2 x 3 points .* need 96'),
    ],
)
def test_a_damaged_cloud_is_described(change, sentence):
    message = cloud(np.ones((2, 3, 3)))
    vars(message).update(change)
    with pytest.raises(PointCloudError, match=sentence):
        decode_points(message)


@given(
    height=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    row_step=st.integers(0, 2**32 - 1),
    offset=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_nonsense_is_refused_and_nothing_else_happens(height, width, step, row_step, offset):
    message = cloud(np.ones((2, 3, 3)))
    vars(message).update(height=height, width=width, point_step=step, row_step=row_step)
    message.fields[1].offset = offset
    with contextlib.suppress(PointCloudError):
        assert len(decode_points(message)) == height * width

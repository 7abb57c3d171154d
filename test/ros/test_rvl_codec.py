# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.rvl_codec import decode_rvl


def encode_rvl(values):
    """The encoder of Wilson's paper, one pixel at a time."""
    nibbles = []

    def number(value):
        while value > 7:
            nibbles.append(8 | value & 7)
            value >>= 3
        nibbles.append(value)

    values = [int(value) for value in values]
    position = previous = 0
    while position < len(values):
        for measured in (False, True):
            start = position
            while position < len(values) and (values[position] != 0) == measured:
                position += 1
            number(position - start)
        for value in values[start:position]:
            difference = value - previous
            number(2 * difference if difference >= 0 else -2 * difference - 1)
            previous = value
    nibbles += [0] * (-len(nibbles) % 8)
    digits = ''.join(f'{nibble:x}' for nibble in nibbles)
    words = [int(digits[index : index + 8], 16) for index in range(0, len(digits), 8)]
    return np.frombuffer(struct.pack(f'<{len(words)}I', *words), np.uint8)


def test_a_stream_worked_out_by_hand():
    # 1 without, 2 with: +5 -> zigzag 10 -> nibbles a 1, -1 -> zigzag 1; 1 without, 0 with.
    stream = np.frombuffer(bytes.fromhex('12a11100')[::-1], np.uint8)
    assert decode_rvl(stream, 4).tolist() == [0, 5, 4, 0]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 65535]) | st.integers(0, 65535), min_size=1))
def test_every_image_comes_back(values):
    assert decode_rvl(encode_rvl(values), len(values)).tolist() == values


@pytest.mark.parametrize('fill', [0, 1234])
def test_one_long_run_comes_back(fill):
    values = np.full(70000, fill, np.uint16)
    np.testing.assert_array_equal(decode_rvl(encode_rvl(values), 70000), values)


def test_a_stream_cut_off_is_refused():
    stream = encode_rvl(range(1000, 1100))
    with pytest.raises(ValueError, match='RVL stream'):
        decode_rvl(stream[:24], 100)


def test_a_stream_for_another_size_is_refused():
    stream = encode_rvl([1, 2, 3, 4])
    with pytest.raises(ValueError, match='describes 4 pixels, the image has 3'):
        decode_rvl(stream, 3)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 500))
def test_any_bytes_are_decoded_or_refused(data, pixels):
    try:
        assert decode_rvl(np.frombuffer(data, np.uint8), pixels).shape == (pixels,)
    except ValueError as error:
        assert 'RVL stream' in str(error)  # noqa: PT017

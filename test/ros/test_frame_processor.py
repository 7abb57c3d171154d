# SPDX-License-Identifier: Apache-2.0
import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('sensor_msgs')

from sensor_msgs.msg import Image

from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.frame_pairing import Pair
from depth_sr_ros.ros.frame_processor import (
    Arrival,
    FrameDroppedError,
    FrameProcessor,
    shrink,
    within_range,
)
from depth_sr_ros.ros.image_codec import depth_buffer, encode_depth_into, encode_image_into
from depth_sr_ros.ros.input_formats import depth_format, rgb_format
from depth_sr_ros.ros.parameters import NodeParameters


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


def test_only_what_is_measured_within_the_range_counts():
    depth = np.float32([[0, 0.2, 0.3, 1], [4, 4.001, np.inf, np.nan]])
    expected = [[0, 0, np.float32(0.3), 1], [4, 0, 0, 0]]
    before = depth.copy()
    np.testing.assert_array_equal(within_range(depth, np.float32(0.3), 4), expected)
    np.testing.assert_array_equal(depth, before)
    with pytest.raises(FrameDroppedError) as caught:
        within_range(depth, 5, 9)
    assert (caught.value.cause, caught.value.sentence) == (
        'no valid depth',
        'all 5 measurements, 0.2 to 4 m, lie outside of depth_range [5, 9]',
    )
    # Without any the pipeline says so.
    assert not within_range(np.zeros((2, 2), np.float32), 5, 9).any()


class Pipeline:
    """Writes 2 m everywhere, and notes where to and what it was told to forget."""

    def __init__(self):
        self.outs, self.forgotten = [], 0

    def __call__(self, rgb, depth, *, out=None):
        self.outs.append(out)
        result = np.empty(rgb.shape[:2], np.float32) if out is None else out
        result[:] = 2.0
        return SimpleNamespace(depth=result, confidence=np.ones(rgb.shape[:2], np.float32))

    def forget(self):
        self.forgotten += 1


def process(stamps, encoding='32FC1', **options):
    """Push RGB frames with these stamps (ns) through; returns the pipeline, the messages sent."""
    values = {field.name: field.default for field in dataclasses.fields(NodeParameters)}
    parameters = NodeParameters.validated({**values, 'output_encoding': encoding, **options})
    message, sent, pipeline = Image(), [], Pipeline()

    def publish(frame, _parameters):
        encode_depth_into(message, frame.depth, encoding)
        sent.append((bytes(message.data), frame.depth))

    def buffer(shape, parameters):
        return depth_buffer(message, shape) if parameters.output_encoding == '32FC1' else None

    processor = FrameProcessor(
        pipeline,
        publish,
        (rgb_format('raw'), depth_format('raw')),
        None,
        lambda: parameters,
        NodeDiagnostics(),
        time.time_ns,
        buffer=buffer,
        forget=pipeline.forget,
    )
    rgb, depth = Image(), Image()
    encode_image_into(rgb, np.zeros((64, 80, 3), np.uint8), 'rgb8')
    encode_depth_into(depth, np.ones((32, 40), np.float32), '16UC1')
    for stamp in stamps:
        arrival = [Arrival(image, time.monotonic_ns()) for image in (rgb, depth)]
        processor(Pair(*arrival, stamp, stamp, held=False))
    return pipeline, sent


def test_depth_is_written_into_the_message_and_not_copied():
    pipeline, sent = process([0, 1])
    assert pipeline.outs[0].shape == (64, 80)
    assert np.shares_memory(pipeline.outs[0], pipeline.outs[1])
    for data, depth in sent:
        assert np.frombuffer(data, np.float32).tolist() == [2.0] * 64 * 80
        assert np.shares_memory(depth, pipeline.outs[0])


def test_depth_in_millimetres_is_converted():
    pipeline, sent = process([0], '16UC1')
    assert pipeline.outs == [None]
    assert np.frombuffer(sent[0][0], np.uint16).tolist() == [2000] * 64 * 80


def test_blanked_pixels_go_out_as_nan_from_the_same_memory():
    _, sent = process([0], min_confidence=1.0)
    assert np.frombuffer(sent[0][0], np.float32).min() == 2
    message = Image()
    depth = depth_buffer(message, (4, 6))
    depth[:] = 3.0
    depth[1, 2] = 0
    encode_depth_into(message, depth)
    values = np.frombuffer(message.data, np.float32).reshape(4, 6)
    assert np.isnan(values[1, 2])
    assert np.nansum(values) == 3 * 23


def test_what_does_not_follow_is_not_continued():
    second = 1_000_000_000
    pipeline, _ = process([0, second // 30, second // 15])
    assert pipeline.forgotten == 0
    pipeline, _ = process([10 * second, 9 * second])  # a looped bag
    assert pipeline.forgotten == 1
    pipeline, _ = process([0, 2 * second, 2 * second])  # a camera that was away
    assert pipeline.forgotten == 1

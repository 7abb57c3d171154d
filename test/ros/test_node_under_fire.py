# SPDX-License-Identifier: Apache-2.0
"""The real node among publishers that send nonsense, far too much and far too fast.

Whatever comes is published, or dropped and counted; the node lives, its memory does not grow and
the next good pair comes out.
"""

import random
import struct
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

RGB = np.full((64, 96, 3), 90, np.uint8)
DEPTH = np.full((32, 48), 1500, np.uint16)
ENCODINGS = (
    *(
        'rgb8',
        'bgr8',
        'mono8',
        'mono16',
        'yuv422',
        'nv12',
        'bayer_rggb8',
        '16UC1',
        '32FC1',
        '64FC1',
    ),
    *('', 'rgb9', '8UC1', 'a' * 3000, 'ünïcode', '32FC3'),
)
FRAMES = ('camera', '', 'depth', 'f' * 100_000, 'a b/c\n')
SIZES = (0, 1, 2, 3, 8, 48, 64, 96, 97, 4096, 2**31, 2**32 - 1)
STAMPS = (-(2**31), -1, 0, 1, 7, 2**31 - 1)


@pytest.fixture(scope='module')
def node(start_node, make_client):
    process = start_node(name='fire')
    client = make_client('fire')
    client.node_process = process
    # So that everything is made that can be.
    for kind, topic in (
        (PointCloud2, 'points'),
        (Image, 'depth/color'),
        (Image, 'depth/confidence'),
        (CompressedImage, 'depth/image/compressedDepth'),
    ):
        client.collect(kind, f'{client.own}/{topic}', deque(maxlen=1))
    client.wait_for_node()
    return client


def resident_megabytes(process):
    pages = int(Path(f'/proc/{process.pid}/statm').read_text().split()[1])
    return pages * 4096 / 2**20


def nonsense_image(dice):
    """An Image whose fields have nothing to do with each other, or almost fit."""
    message = Image()
    message.header.frame_id = dice.choice(FRAMES)
    message.header.stamp.sec = dice.choice(STAMPS)
    message.header.stamp.nanosec = dice.choice((0, 1, 10**9 - 1, 10**9, 2**32 - 1))
    message.encoding = dice.choice(ENCODINGS)
    message.is_bigendian = dice.choice((0, 1, 255))
    message.width, message.height = dice.choice(SIZES), dice.choice(SIZES)
    message.step = dice.choice((0, 1, message.width, min(3 * message.width, 2**32 - 1), 2**32 - 1))
    if dice.random() < 0.5:
        message.width, message.height = 96, 64
        message.step = dice.choice((96, 2 * 96, 3 * 96, 4 * 96, 8 * 96))
    length = dice.choice((0, 1, 96 * 64, message.step * message.height % 50_000))
    message.data.frombytes(dice.randbytes(length))
    return message


def nonsense_info(dice):
    message = CameraInfo()
    message.header.frame_id = dice.choice(FRAMES)
    message.width, message.height = dice.choice(SIZES), dice.choice(SIZES)
    message.distortion_model = dice.choice(('plumb_bob', '', 'equidistant', 'x' * 1000))
    message.d = [dice.uniform(-1e9, 1e9) for _ in range(dice.choice((0, 1, 5, 8, 40)))]
    values = (0.0, 1.0, float('nan'), float('inf'), -1e300, 500.0)
    message.k = [dice.choice(values) for _ in range(9)]
    message.p = [dice.choice(values) for _ in range(12)]
    message.binning_x, message.binning_y = dice.choice(SIZES), dice.choice(SIZES)
    message.roi.width, message.roi.x_offset = dice.choice(SIZES), dice.choice(SIZES)
    return message


def wrong_lens(messages, dice):
    """A CameraInfo that is right but for its last values."""
    message = messages.camera_info(96, 64)
    message.distortion_model = dice.choice(('plumb_bob', '', 'equidistant', 'x' * 1000))
    message.d = [dice.choice((0.1, float('nan'), 1e300)) for _ in range(dice.choice((1, 4, 5, 40)))]
    return message


def assert_it_goes_on(node, messages):
    """A good pair comes out; the first one may still find the mailbox full."""
    for _ in range(10):
        stamp_ns = node.send(RGB, DEPTH)
        outputs = node.wait_until(lambda: node.outputs_of(stamp_ns), 3)  # noqa: B023
        if outputs:
            np.testing.assert_allclose(messages.array(outputs[0]), 1.5)
            return
    pytest.fail(f'no output; diagnostics: {node.sentence()!r} {node.values()}')


def assert_alive(node):
    assert node.node_process.alive, node.node_process.output
    assert 'Traceback' not in node.node_process.output
    assert 'fault' not in node.node_process.output
    assert not node.counter('dropped pipeline error'), node.values()


@pytest.mark.parametrize('seed', range(3))
def test_nonsense_is_counted_and_outlived(node, messages, seed):
    dice = random.Random(seed)
    before = node.fresh_counter('received rgb/image')
    for _ in range(150):
        node.rgb.publish(nonsense_image(dice))
        node.depth.publish(nonsense_image(dice))
        node.camera_info.publish(nonsense_info(dice))
    assert_it_goes_on(node, messages)
    assert node.fresh_counter('received rgb/image') > before
    assert_alive(node)


def strike(dice, victim):
    """Put nonsense into one field of an image message."""
    field = dice.choice(('width', 'height', 'step', 'encoding', 'is_bigendian', 'data'))
    if field == 'data':
        victim.data = victim.data[: dice.randrange(len(victim.data))]
    elif field == 'encoding':
        victim.encoding = dice.choice(ENCODINGS)
    else:
        setattr(victim, field, dice.choice(SIZES) % (256 if field == 'is_bigendian' else 2**32))


def test_pairs_whose_fields_are_struck_one_by_one(node, messages):
    """Stamps and frames are good, so that every message gets to the decoder."""
    dice = random.Random(7)
    before = node.fresh_counter('dropped bad message')
    # On a busy machine most of a volley is superseded before it is decoded: then another follows.
    for _ in range(10):
        for _ in range(60):
            rgb, depth = messages.image(RGB), messages.image(DEPTH)
            strike(dice, dice.choice((rgb, depth)))
            node.camera_info.publish(wrong_lens(messages, dice))
            node.send(rgb, depth)
        assert_it_goes_on(node, messages)
        if node.fresh_counter('dropped bad message') > before:
            break
    assert node.counter('dropped bad message') > before
    node.camera_info.publish(messages.camera_info(96, 64))
    assert_alive(node)


def test_depth_of_every_bit_pattern(node, messages):
    dice = random.Random(11)
    for encoding, size in (('32FC1', 4), ('64FC1', 8), ('16UC1', 2)):
        message = messages.image(np.zeros((32, 48), np.uint16), encoding)
        message.step = 48 * size
        message.data = message.data[:0]
        message.data.frombytes(dice.randbytes(32 * 48 * size))
        message.data[:8] = message.data[:0].__class__('B', struct.pack('<d', float('nan')))
        node.send(RGB, message)
    assert_it_goes_on(node, messages)
    for output in node.depths:
        array = messages.array(output)
        assert not np.isinf(array).any()
        assert not (array < 0).any()
    assert_alive(node)


def test_a_flood_leaves_no_memory_behind(node, messages):
    rgb, depth = messages.image(np.tile(RGB, (8, 8, 1))), messages.image(np.tile(DEPTH, (8, 8)))

    def flood(seconds):
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            node.send(rgb, depth, stamp_ns=node.next_stamp(0.001))
            number += 1
        return number

    flood(2.0)
    before = resident_megabytes(node.node_process)
    sent = flood(3.0)
    assert sent > 100
    assert_it_goes_on(node, messages)
    assert resident_megabytes(node.node_process) < before + 50
    values = node.values()
    drops = sum(int(v) for key, v in values.items() if key.startswith('dropped '))
    assert int(values['received rgb/image']) > 100
    assert drops > 0
    assert_alive(node)

# SPDX-License-Identifier: Apache-2.0
"""What demo_camera sends and when, without sending it."""

import itertools

import numpy as np
import pytest

pytest.importorskip('sensor_msgs')

from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.ros.clip_player import ClipPlayer, ClipPlayerConfig, fit_to_size
from depth_sr_ros.ros.compressed_codec import decode_compressed_depth, decode_compressed_rgb
from depth_sr_ros.ros.image_codec import decode_depth, decode_rgb


@pytest.fixture(scope='module')
def clip():
    return DemoClip()


def player_of(clip, **config):
    return ClipPlayer(clip, ClipPlayerConfig(**{'frames': 3, **config}))


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        ({'rgb_rate': 0.0}, 'rgb_rate is 0.0; allowed: above 0 up to 240 Hz'),
        ({'depth_rate': 241.0}, 'depth_rate is 241.0'),
        ({'rgb_rate': float('nan')}, 'rgb_rate is nan'),
        ({'jitter': -0.001}, 'jitter is -0.001; allowed: 0 to 0.1 seconds'),
        ({'seconds': -1.0}, 'seconds is -1.0'),
        ({'frames': -1}, 'frames is -1'),
        ({'seed': -1}, 'seed is -1'),
        ({'rgb_encoding': 'yuv'}, "rgb_encoding is 'yuv'; allowed: rgb8, bgr8"),
        ({'depth_encoding': '8UC1'}, "depth_encoding is '8UC1'; allowed: 16UC1, 32FC1"),
        ({'reliability': 'maybe'}, "reliability is 'maybe'; allowed: best_effort, reliable"),
        ({'rgb_transport': 'png'}, "rgb_transport is 'png'; allowed: raw, compressed"),
        ({'depth_transport': 'rvl'}, "depth_transport is 'rvl'; allowed: raw, compressedDepth"),
        ({'jpeg_quality': 0}, 'jpeg_quality is 0; allowed: 1 to 100'),
        ({'rgb_size': '640,480'}, "rgb_size is '640,480'; allowed: WIDTHxHEIGHT"),
        ({'rgb_size': '8x8'}, "rgb_size is '8x8'"),
    ],
)
def test_values_out_of_range_are_quoted(config, said):
    with pytest.raises(ValueError, match='allowed') as caught:
        ClipPlayerConfig(**config)
    assert said in str(caught.value)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8'])
def test_rgb_messages_hold_the_clip_in_every_encoding(clip, encoding):
    color = player_of(clip, rgb_encoding=encoding).streams[0]
    assert color.images[1].encoding == encoding
    assert np.array_equal(decode_rgb(color.images[1]), clip.rgb(1))


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_depth_messages_hold_the_degraded_truth_in_metres(clip, encoding):
    player = player_of(clip, depth_encoding=encoding, degradation='scale=8,holes=0.1', frames=2)
    depth = decode_depth(player.streams[1].images[1])
    truth = clip.depth_truth(1)
    cells = truth.reshape(60, 8, 80, 8)
    measured = depth > 0
    assert depth.shape == (60, 80)
    assert 0.85 < measured.mean() < 0.95
    within = (depth >= cells.min((1, 3)) - 1e-3) & (depth <= cells.max((1, 3)) + 1e-3)
    assert within[measured].all()


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_compressed_messages_hold_the_same_images(clip, encoding):
    raw = player_of(clip, depth_encoding=encoding, degradation='scale=2,holes=0.1', frames=1)
    player = player_of(
        clip,
        rgb_transport='compressed',
        depth_transport='compressedDepth',
        depth_encoding=encoding,
        degradation='scale=2,holes=0.1',
        frames=1,
    )
    color, depth = player.streams
    picture = decode_compressed_rgb(color.images[0])
    assert np.abs(picture.astype(int) - clip.rgb(0)).mean() < 3
    expected = decode_depth(raw.streams[1].images[0])
    decoded = decode_compressed_depth(depth.images[0])
    np.testing.assert_array_equal(decoded > 0, expected > 0)
    np.testing.assert_allclose(decoded, expected, rtol=1e-3)
    assert (color.size, depth.size) == ((640, 480), (320, 240))
    assert color.bytes_per_image == len(color.images[0].data) < 640 * 480
    small = player_of(clip, rgb_transport='compressed', jpeg_quality=50, frames=1).streams[0]
    assert small.bytes_per_image < color.bytes_per_image / 2
    assert {i.images[0].header.frame_id for i in player.streams} == {'camera_color_optical_frame'}


def test_same_seed_same_depth_and_stamps(clip):
    def depth_and_times(seed):
        player = player_of(clip, seed=seed)
        times = [t for t, _, _ in itertools.islice(player.schedule(), 20)]
        return bytes(player.streams[1].images[2].data), times

    assert depth_and_times(1) == depth_and_times(1)
    depths, times = zip(depth_and_times(1), depth_and_times(2), strict=True)
    assert depths[0] != depths[1]
    assert times[0] != times[1]


@pytest.mark.parametrize('jitter', [0.0, 0.002, 0.1])
def test_captures_come_in_order_and_on_the_beat(clip, jitter):
    player = player_of(clip, jitter=jitter, seconds=4.0, rgb_rate=30.0, depth_rate=12.5)
    events = list(player.schedule())
    assert [e[0] for e in events] == sorted(e[0] for e in events)
    for stream, expected in zip(player.streams, (120, 50), strict=True):
        mine = [(time, number) for time, number, source in events if source is stream]
        assert [number for _, number in mine] == list(range(expected))
        times = np.array([time for time, _ in mine]) / 1e9
        assert (np.diff(times) > 0).all()
        deviation = times - np.arange(expected) / stream.rate
        assert np.abs(deviation).max() <= 0.45 / stream.rate + 1e-9
        if jitter == 0.002:
            assert 0.0012 < deviation.std() < 0.0028


def test_streams_show_the_same_moment_and_loop(clip):
    player = player_of(clip, frames=10)
    color, depth = player.streams
    assert [player.clip_frame(color, n) for n in range(12)] == [*range(10), 0, 1]
    assert [player.clip_frame(depth, n) for n in range(6)] == [0, 2, 4, 6, 8, 0]


def pixel_of(message, point):
    """Where a CameraInfo projects a point (3,) of the optical frame."""
    u, v, w = np.array(message.k).reshape(3, 3) @ point
    return np.array([u, v]) / w


def test_camera_infos_see_the_same_rays(clip):
    player = player_of(clip, rgb_size='320x180', degradation='scale=4')
    color, depth = player.streams
    assert (color.info.width, color.info.height) == (320, 180)
    assert (depth.info.width, depth.info.height) == (80, 45)
    point = np.array([0.3, -0.1, 2.0])
    u, v, w = clip.intrinsics @ point
    original = np.array([u, v]) / w
    # 640x480 cut to 640x360, then halved; pixel centres are at whole numbers.
    expected = (original + 0.5 - [0, 60]) / 2 - 0.5
    assert pixel_of(color.info, point) == pytest.approx(expected)
    assert pixel_of(depth.info, point) == pytest.approx((expected + 0.5) / 4 - 0.5)
    assert list(color.info.p[:3]) == list(color.info.k[:3])
    assert list(color.info.p[4:7]) == list(color.info.k[3:6])


def test_fit_to_size_moves_pixels_as_its_matrix_says():
    image = np.zeros((480, 640), np.float32)
    image[200:208, 320:328] = 1.0
    fitted, matrix = fit_to_size(image, (160, 90), 3)  # cv2.INTER_AREA
    rows, columns = np.nonzero(fitted == fitted.max())
    u, v, _ = matrix @ [323.5, 203.5, 1]
    assert (columns.mean(), rows.mean()) == pytest.approx((u, v))


def test_depth_of_another_frame_keeps_its_frame_id(clip):
    color, depth = player_of(clip, depth_frame='camera_depth_optical_frame').streams
    assert color.images[0].header.frame_id == color.info.header.frame_id
    assert depth.images[0].header.frame_id == 'camera_depth_optical_frame'
    assert depth.info.header.frame_id == 'camera_depth_optical_frame'

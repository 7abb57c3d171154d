# SPDX-License-Identifier: Apache-2.0
"""The real `sr_node` in a process of its own, over DDS, without a network (pass-through)."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

RGB = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)
MILLIMETRES = np.full((32, 48), 1500, np.uint16)
METRES = np.full((32, 48), 1.5, np.float32)


@pytest.fixture(scope='module')
def node(start_node):
    return start_node()


@pytest.fixture(scope='module')
def shared_client(node, make_client, messages):
    client = make_client()
    client.wait_for_node()
    client.camera_info.publish(messages.camera_info(96, 64))
    assert client.wait_until(lambda: client.counter('received rgb/camera_info'))
    return client


@pytest.fixture
def client(node, shared_client):
    """The client of the module's node; the node must live on after every test."""
    yield shared_client
    assert node.alive, node.output
    shared_client.exchange(RGB, MILLIMETRES)


def test_start_up_line_names_topics_qos_and_model(node):
    line = node.wait_for_line('rgb/image <-')
    assert '/sr_node/rgb/image (best effort, volatile, keep last 1)' in line
    assert '/sr_node/sr_node/depth/image (32FC1, reliable, volatile, keep last 1)' in line
    for word in ('weights interpolation', 'device cpu', 'precision float32', 'digest'):
        assert word in line


def test_every_pair_gives_exactly_one_output_under_the_rgb_header(client, messages):
    seen = len(client.depths)
    sent = []
    for _ in range(30):
        sent.append(client.next_stamp())
        client.exchange(RGB, MILLIMETRES, stamp_ns=sent[-1], depth_stamp_ns=sent[-1] - 3_000_000)
    client.fresh_counter('paired')
    outputs = client.depths[seen:]
    assert [messages.stamp(output) for output in outputs] == sent
    assert {output.header.frame_id for output in outputs} == {'camera'}
    assert {(output.width, output.height) for output in outputs} == {(96, 64)}


@pytest.mark.parametrize('depth', [MILLIMETRES, METRES], ids=['16UC1', '32FC1'])
@pytest.mark.parametrize('output_encoding', ['16UC1', '32FC1'])
def test_units_follow_the_encodings(client, messages, depth, output_encoding):
    assert client.set_parameters(output_encoding=output_encoding) == [True, '']
    try:
        output = client.exchange(RGB, depth)
    finally:
        client.set_parameters(output_encoding='32FC1')
    assert output.encoding == output_encoding
    expected = {'16UC1': 1500, '32FC1': 1.5}[output_encoding]
    np.testing.assert_allclose(messages.array(output), expected, rtol=1e-6)


def test_zero_nan_and_infinity_are_no_measurement(client, messages):
    depth = METRES.copy()
    depth[:8], depth[8:12], depth[12:16], depth[16:20] = 0, np.nan, np.inf, -1
    output = messages.array(client.exchange(RGB, depth))
    np.testing.assert_allclose(output, 1.5, rtol=1e-5)


def test_depth_beyond_16_bits_becomes_invalid_and_is_warned_of(client, messages, node):
    assert client.set_parameters(output_encoding='16UC1')[0]
    try:
        output = client.exchange(RGB, np.full((32, 48), 70.0, np.float32))
    finally:
        client.set_parameters(output_encoding='32FC1')
    assert (messages.array(output) == 0).all()
    node.wait_for_line('beyond 65.534 m')


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8'])
def test_rgb_encodings(client, messages, encoding):
    channels = {'mono8': 1}.get(encoding, 4 if 'a' in encoding else 3)
    picture = np.zeros((64, 96, channels), np.uint8)
    client.exchange(messages.image(picture, encoding), MILLIMETRES)


def test_camera_info_goes_with_the_depth(client, messages):
    info = messages.camera_info(192, 128, frame_id='camera_with_info')
    received = client.counter('received rgb/camera_info')
    client.camera_info.publish(info)
    client.wait_for_counter('received rgb/camera_info', received + 1)
    rgb = messages.image(RGB, frame_id='camera_with_info')
    depth = messages.image(MILLIMETRES, frame_id='camera_with_info')
    stamp_ns = messages.stamp(client.exchange(rgb, depth))
    scaled = client.wait_until(
        lambda: next((i for i in client.camera_infos if messages.stamp(i) == stamp_ns), None)
    )
    assert scaled.header.frame_id == 'camera_with_info'
    assert (scaled.width, scaled.height) == (96, 64)
    np.testing.assert_allclose(scaled.k, [96, 0, 47.5, 0, 96, 31.5, 0, 0, 1])
    np.testing.assert_allclose(scaled.p[:3], [96, 0, 47.5])


def test_depth_goes_out_without_camera_info_and_says_so(client, messages, node):
    rgb = messages.image(RGB, frame_id='no_info')
    client.exchange(rgb, messages.image(MILLIMETRES, frame_id='no_info'))
    node.wait_for_line("no CameraInfo of frame 'no_info'")
    assert 'no_info' not in {info.header.frame_id for info in client.camera_infos}


def malformed(messages):
    """Name -> (RGB, depth, counter, a piece of the sentence that names the value)."""

    def image(array, encoding=None, **changes):
        message = messages.image(array, encoding)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    from array import array as data

    frame = {'frame_id': 'other_frame'}
    return {
        'unknown rgb encoding': (
            image(RGB, 'rgb12'), MILLIMETRES, 'bad message', "'rgb12'"
        ),
        'unknown depth encoding': (
            RGB, image(MILLIMETRES, '8UC1'), 'bad message', "'8UC1'"
        ),
        'mono16 is not depth unless asked for': (
            RGB, image(MILLIMETRES, 'mono16'), 'bad message', "'mono16'"
        ),
        'step too short': (image(RGB, step=17), MILLIMETRES, 'bad message', 'step is 17'),
        'rgb data too short': (
            image(RGB, data=data('B', [1] * 100)), MILLIMETRES, 'bad message', 'data has 100 bytes'
        ),
        'depth data empty': (
            RGB, image(MILLIMETRES, data=data('B')), 'bad message', 'data has 0 bytes'
        ),
        'zero size': (image(RGB, width=0), MILLIMETRES, 'bad message', '0x64'),
        'depth larger than rgb': (
            RGB, np.full((128, 192), 1500, np.uint16), 'bad message', 'depth is 192x128'
        ),
        'other aspect ratio': (
            RGB, np.full((32, 96), 1500, np.uint16), 'bad message', 'depth is 96x32'
        ),
        'no valid depth': (
            RGB, np.zeros((32, 48), np.uint16), 'no valid depth', 'none of the 1536 depth pixels'
        ),
        'other frame': (
            RGB, messages.image(MILLIMETRES, **frame), 'frame mismatch', "frame 'other_frame'"
        ),
    }  # fmt: skip


MALFORMED = (
    'unknown rgb encoding',
    'unknown depth encoding',
    'mono16 is not depth unless asked for',
    'step too short',
    'rgb data too short',
    'depth data empty',
    'zero size',
    'depth larger than rgb',
    'other aspect ratio',
    'no valid depth',
    'other frame',
)


@pytest.mark.parametrize('name', MALFORMED)
def test_bad_pair_is_refused_with_its_value_and_the_next_is_published(client, node, messages, name):
    rgb, depth, cause, words = malformed(messages)[name]
    dropped = client.counter(f'dropped {cause}')
    stamp_ns = client.send(rgb, depth)
    client.wait_for_counter(f'dropped {cause}', dropped + 1)
    client.exchange(RGB, MILLIMETRES)
    assert not client.outputs_of(stamp_ns)
    assert words in client.values()[f'last {cause}']
    node.wait_for_line(f'frame dropped, {cause}: ')


def test_measurements_outside_of_the_range_are_none(client, node):
    assert client.set_parameters(depth_range=[2.0, 4.0]) == [True, '']
    dropped = client.counter('dropped no valid depth')
    client.send(RGB, MILLIMETRES)
    client.wait_for_counter('dropped no valid depth', dropped + 1)
    assert 'lie outside of depth_range [2, 4]' in client.values()['last no valid depth']
    both = np.where(np.arange(MILLIMETRES.shape[1]) < 20, np.uint16(3000), MILLIMETRES)
    assert client.exchange(RGB, both)
    assert client.set_parameters(depth_range=[0.0, 0.0]) == [True, '']


def test_upsampled_depth_is_named_once(client, node):
    small = np.random.default_rng(0).integers(500, 3000, (32, 48)).astype(np.uint16)
    client.exchange(RGB, small.repeat(2, axis=0).repeat(2, axis=1))
    client.exchange(RGB, small.repeat(2, axis=0).repeat(2, axis=1))
    words = 'depth of 96x64 repeats the pixels of one of 48x32'
    node.wait_for_line(words)
    assert node.output.count(words) == 1


def test_zero_stamp_is_refused(client, node):
    dropped = client.counter('dropped bad stamp')
    client.send(RGB, stamp_ns=0)
    client.wait_for_counter('dropped bad stamp', dropped + 1)
    node.wait_for_line('RGB stamp is 0 ns')


def test_same_stamp_twice_is_published_once(client):
    dropped = client.counter('dropped bad stamp')
    stamp_ns = client.next_stamp()
    client.exchange(RGB, MILLIMETRES, stamp_ns=stamp_ns)
    client.send(RGB, stamp_ns=stamp_ns)
    client.wait_for_counter('dropped bad stamp', dropped + 1)
    assert len(client.outputs_of(stamp_ns)) == 1


def test_a_looped_bag_goes_on(client):
    jumps = client.counter('clock jumps')
    start = client.next_stamp() - 100 * 10**9
    for _lap in range(2):
        for number in range(10):
            client.exchange(RGB, MILLIMETRES, stamp_ns=start + number * 33_000_000)
    assert client.fresh_counter('clock jumps') >= jumps + 2


def test_frames_beyond_slop_are_dropped_with_the_gap_named(client):
    assert client.set_parameters(slop=0.01, depth_hold=0.0)[0]
    dropped = client.counter('dropped no partner')
    try:
        stamp_ns = client.next_stamp()
        client.send(RGB, MILLIMETRES, stamp_ns=stamp_ns, depth_stamp_ns=stamp_ns - 40_000_000)
        client.wait_for_counter('dropped no partner', dropped + 1)
        assert client.values()['nearest gap [ms]'] == '40.000'
        assert not client.outputs_of(stamp_ns)
    finally:
        assert client.set_parameters(slop=0.02, depth_hold=0.1)[0]


def test_held_depth_keeps_the_camera_rate(client):
    held = client.fresh_counter('held')
    stamp_ns = client.next_stamp()
    client.exchange(RGB, MILLIMETRES, stamp_ns=stamp_ns)
    client.exchange(RGB, None, stamp_ns=client.next_stamp(0.05))
    assert client.fresh_counter('held') >= held + 1


def test_registered_depth_of_another_frame_is_taken_when_asked_for(client, messages):
    depth = messages.image(MILLIMETRES, frame_id='depth_frame')
    assert client.set_parameters(assume_registered=True)[0]
    try:
        assert client.exchange(RGB, depth).header.frame_id == 'camera'
    finally:
        client.set_parameters(assume_registered=False)


def test_mono16_is_depth_when_asked_for(client, messages):
    assert client.set_parameters(mono16_is_depth=True)[0]
    try:
        output = client.exchange(RGB, messages.image(MILLIMETRES, 'mono16'))
        np.testing.assert_allclose(messages.array(output), 1.5)
    finally:
        client.set_parameters(mono16_is_depth=False)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'slop': -0.1}, '-0.1'),
        ({'max_age': 1000.0}, '1000'),
        ({'depth_hold': float('nan')}, 'nan'),
        ({'output_encoding': 'mono8'}, "'mono8'; it must be one of 32FC1, 16UC1"),
        ({'weights': 'elsewhere'}, 'read-only'),
        ({'slop': 0.01, 'output_encoding': 'mono8'}, 'mono8'),
        ({'slop': 'wide'}, 'wide'),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused_and_nothing_changes(client, values, words):
    from rcl_interfaces.srv import GetParameters

    names = ['slop', 'max_age', 'depth_hold', 'output_encoding', 'weights']

    def current():
        return client.call(GetParameters, 'get_parameters', GetParameters.Request(names=names))

    before = current()
    accepted, reason = client.set_parameters(**values)
    assert not accepted
    assert words in reason
    assert current() == before


def test_stale_frames_are_dropped(client):
    """A depth that comes long after its RGB frame completes a pair older than max_age."""
    assert client.set_parameters(max_age=0.001)[0]
    dropped = client.counter('dropped stale')
    try:
        stamp_ns = client.send(RGB, stamp_ns=client.next_stamp())
        time.sleep(0.05)
        client.send(None, MILLIMETRES, stamp_ns=stamp_ns)
        client.wait_for_counter('dropped stale', dropped + 1)
    finally:
        assert client.set_parameters(max_age=0.25)[0]


def test_diagnostics_carry_counts_rates_and_latencies(client):
    for _ in range(5):
        client.exchange(RGB, MILLIMETRES)
    client.fresh_counter('paired')
    values = client.values()
    assert client.statuses[-1].hardware_id.startswith('cpu')
    for key in ('received rgb/image', 'received depth/image', 'paired', 'published depth/image'):
        assert int(values[key]) >= 5
    for stage in ('pair', 'wait', 'decode', 'pipeline', 'encode', 'publish', 'total', 'stamp age'):
        assert float(values[f'latency {stage} p50 [ms]']) >= 0
        assert float(values[f'latency {stage} p50 [ms]']) <= float(
            values[f'latency {stage} p99 [ms]']
        )
    assert float(values['rate published depth/image [Hz]']) > 0

# SPDX-License-Identifier: Apache-2.0
"""What `sr_node` publishes only for those who subscribe, and at other sizes; compressed inputs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CompressedImage, Image, PointCloud2

RGB = np.zeros((64, 96, 3), np.uint8)
RGB[..., 0] = 200
DEPTH = np.full((32, 48), 2000, np.uint16)

# Confidence grows from 0 at the left to 1 at the right.
RAMP = """
    dense = np.full(rgb.shape[:2], depth.max(), np.float32)
    ramp = np.linspace(0, 1, rgb.shape[1], dtype=np.float32)
    return SimpleNamespace(depth=dense, confidence=np.tile(ramp, (rgb.shape[0], 1)))
"""


@pytest.fixture(scope='module')
def client(start_injected, make_client, messages):
    process = start_injected('ramp', RAMP)
    client = make_client('ramp')
    client.node_process = process
    client.wait_for_node()
    client.camera_info.publish(messages.camera_info(96, 64))
    assert client.wait_until(lambda: client.counter('received rgb/camera_info'))
    return client


@pytest.fixture
def subscribe(client):
    """Subscribe to an output until the end of the test."""
    subscriptions = []

    def subscribe(message_type, topic):
        received = []
        name = f'{client.own}/{topic}'
        subscriptions.append(client.collect(message_type, name, received))
        # The node must know of the subscriber before it makes the message.
        assert client.wait_until(lambda: client.node.count_publishers(name))
        for _ in range(100):
            client.exchange(RGB, DEPTH)
            if client.wait_until(lambda: received, 0.1):
                break
        assert received, f'nothing came on {topic}'
        return received

    yield subscribe
    for subscription in subscriptions:
        client.node.destroy_subscription(subscription)


def newest(client, received, messages):
    """Send a pair and return what came for it."""
    stamp = messages.stamp(client.exchange(RGB, DEPTH))
    found = client.wait_until(
        lambda: next((m for m in received if messages.stamp(m) == stamp), None)
    )
    assert found
    return found


def test_nothing_is_made_without_subscribers(client):
    client.exchange(RGB, DEPTH)
    assert client.fresh_counter('published depth/image') >= 1
    for topic in ('depth/color', 'depth/confidence', 'points', 'depth/image/compressedDepth'):
        assert f'published {topic}' not in client.values()


def test_color(client, subscribe, messages):
    received = subscribe(Image, 'depth/color')
    assert client.set_parameters(color_range=[1.0, 3.0]) == [True, '']
    image = newest(client, received, messages)
    assert (image.encoding, image.width, image.height) == ('rgb8', 96, 64)
    pixel = np.frombuffer(image.data, np.uint8).reshape(64, 96, 3)[10, 10]
    middle = cv2.applyColorMap(np.array([[128]], np.uint8), cv2.COLORMAP_TURBO)[0, 0, ::-1]
    np.testing.assert_allclose(pixel, middle, atol=3)
    assert client.set_parameters(color_range=[0.0, 0.0])[0]
    newest(client, received, messages)


def test_confidence(client, subscribe, messages):
    image = newest(client, subscribe(Image, 'depth/confidence'), messages)
    assert image.encoding == '32FC1'
    values = np.frombuffer(image.data, np.float32).reshape(64, 96)
    np.testing.assert_allclose(values[5], np.linspace(0, 1, 96), atol=1e-6)


def test_diagnostics_can_be_looked_at(client, subscribe, messages):
    received = subscribe(Image, 'diagnostics/image')
    image = received[-1]
    assert (image.encoding, image.width, image.height) == ('rgb8', 640, 400)
    picture = np.frombuffer(image.data, np.uint8).reshape(400, 640, 3)
    red, green, blue = picture[2, 2].astype(int)
    assert green > red  # publishing: the bar is green
    assert green > blue
    assert (picture[60:180] > 200).any()  # the sentence


def test_points_are_coloured_and_cut_by_confidence(client, subscribe, messages):
    cloud = newest(client, subscribe(PointCloud2, 'points'), messages)
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'rgb']
    assert cloud.header.frame_id == 'camera'
    values = np.frombuffer(cloud.data, np.float32).reshape(64, 96, 4)
    assert np.isnan(values[:, :40, 2]).all()
    np.testing.assert_allclose(values[:, 60:, 2], 2)
    np.testing.assert_allclose(values[0, 95, :2], [2 * 47.5 / 96, -2 * 31.5 / 96], rtol=1e-5)
    assert np.frombuffer(cloud.data, np.uint32)[3] == 200 << 16


@pytest.mark.parametrize('output_scale', [1.0, 0.5])
@pytest.mark.parametrize('region', [False, True])
@pytest.mark.parametrize('binning', [0, 2])
def test_points_of_a_cut_and_binned_camera_are_where_they_were_seen(
    client, subscribe, messages, region, binning, output_scale
):
    """The CameraInfo is that of the whole sensor; the image is a part of it, made smaller."""
    step = max(binning, 1)
    offset = (40, 20) if region else (0, 0)
    sensor = (96 * step + 3 * offset[0], 64 * step + 3 * offset[1])
    info = messages.camera_info(*sensor)
    info.binning_x = info.binning_y = binning
    if region:
        info.roi.x_offset, info.roi.y_offset = offset
        info.roi.width, info.roi.height = 96 * step, 64 * step
    client.camera_info.publish(info)
    client.fresh_counter('received rgb/camera_info')
    assert client.set_parameters(output_scale=output_scale, points_min_confidence=0.0)[0]
    try:
        cloud = newest(client, subscribe(PointCloud2, 'points'), messages)
        stamp = messages.stamp(cloud)
        scaled = client.wait_until(
            lambda: next((i for i in client.camera_infos if messages.stamp(i) == stamp), None)
        )
    finally:
        assert client.set_parameters(output_scale=1.0, points_min_confidence=0.5)[0]
        client.camera_info.publish(messages.camera_info(96, 64))
        client.fresh_counter('received rgb/camera_info')
    width, height = round(96 * output_scale), round(64 * output_scale)
    assert (cloud.width, cloud.height) == (width, height)
    points = np.frombuffer(cloud.data, np.float32).reshape(height, width, 4)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    # Where the middle of each pixel is on the sensor.
    u = (columns + 0.5) / output_scale * step + offset[0] - 0.5
    v = (rows + 0.5) / output_scale * step + offset[1] - 0.5
    k = np.reshape(info.k, (3, 3))
    np.testing.assert_allclose(points[..., 0], 2 * (u - k[0, 2]) / k[0, 0], atol=1e-5)
    np.testing.assert_allclose(points[..., 1], 2 * (v - k[1, 2]) / k[1, 1], atol=1e-5)
    if output_scale == 1:
        assert (scaled.width, scaled.height) == sensor
        assert (scaled.binning_x, scaled.roi.x_offset) == (binning, offset[0])
    else:
        assert (scaled.width, scaled.height) == (width, height)
        assert (scaled.binning_x, scaled.roi.width) == (0, 0)


def test_compressed_depth(client, subscribe, messages):
    message = newest(client, subscribe(CompressedImage, 'depth/image/compressedDepth'), messages)
    assert message.format == '32FC1; compressedDepth png'


def test_min_confidence_blanks_what_is_doubtful(client, messages):
    assert client.set_parameters(min_confidence=0.5)[0]
    try:
        depth = messages.array(client.exchange(RGB, DEPTH))
    finally:
        assert client.set_parameters(min_confidence=0.0)[0]
    assert np.isnan(depth[:, :47]).all()
    np.testing.assert_allclose(depth[:, 48:], 2)


def test_output_scale_goes_with_its_camera_info(client, messages):
    assert client.set_parameters(output_scale=0.75)[0]
    try:
        output = client.exchange(RGB, DEPTH)
        stamp = messages.stamp(output)
        info = client.wait_until(
            lambda: next((i for i in client.camera_infos if messages.stamp(i) == stamp), None)
        )
    finally:
        assert client.set_parameters(output_scale=1.0)[0]
    assert (output.width, output.height) == (72, 48)
    assert (info.width, info.height) == (72, 48)
    np.testing.assert_allclose(info.k, [72, 0, 35.5, 0, 72, 23.5, 0, 0, 1])


def test_compressed_transports(start_injected, make_client, messages):
    process = start_injected(
        'compressed',
        'return SimpleNamespace(depth=np.full(rgb.shape[:2], depth.max(), np.float32),'
        ' confidence=np.ones(rgb.shape[:2], np.float32))',
        '-p',
        'rgb_transport:=compressed',
        '-p',
        'depth_transport:=compressedDepth',
        '-p',
        'qos_overrides./compressed/rgb/image/compressed.subscription.reliability:=reliable',
    )
    line = process.wait_for_line('rgb/image <-')
    assert 'rgb/image <- /compressed/rgb/image/compressed (reliable, volatile, keep last 1)' in line
    assert 'depth/image <- /compressed/depth/image/compressedDepth (best effort' in line
    client = make_client('compressed')
    rgb_topic = client.node.create_publisher(
        CompressedImage, '/compressed/rgb/image/compressed', 10
    )
    depth_topic = client.node.create_publisher(
        CompressedImage, '/compressed/depth/image/compressedDepth', 10
    )
    assert client.wait_until(
        lambda: rgb_topic.get_subscription_count() and depth_topic.get_subscription_count(), 30
    )
    assert client.wait_until(lambda: client.node.count_publishers(f'{client.own}/depth/image'))

    def compressed(array, extension, name):
        message = CompressedImage(format=name)
        message.header.frame_id = 'camera'
        message.data.frombytes(cv2.imencode(extension, array)[1].tobytes())
        return message

    rgb = compressed(RGB[..., ::-1], '.jpg', 'rgb8; jpeg compressed bgr8')
    depth = compressed(DEPTH, '.png', '16UC1; compressedDepth png')
    outputs = []
    for _ in range(20):
        stamp = client.next_stamp()
        for message, publisher in ((depth, depth_topic), (rgb, rgb_topic)):
            client.stamp(message, stamp)
            publisher.publish(message)
        outputs = client.wait_until(lambda: client.outputs_of(stamp), 1)  # noqa: B023
        if outputs:
            break
    assert outputs, client.values()
    np.testing.assert_allclose(messages.array(outputs[0]), 2)
    assert process.alive


def dumped(client):
    """What `ros2 param dump` writes: every parameter with its value."""
    from rcl_interfaces.srv import GetParameters, ListParameters
    from rclpy.parameter import parameter_value_to_python

    names = client.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
    request = GetParameters.Request(names=names)
    values = client.call(GetParameters, 'get_parameters', request).values
    return dict(zip(names, map(parameter_value_to_python, values), strict=True))


def test_parameters_go_round(client, start_injected, make_client, tmp_path):
    """sr.yaml and a dump of a running node start a node with the same parameters."""
    assert client.set_parameters(slop=0.03, color_range=[1.0, 5.0])[0]
    values = dumped(client)
    assert values['slop'] == 0.03
    assert any(name.startswith('qos_overrides./ramp/rgb/image.subscription') for name in values)
    lists = {name: list(v) if hasattr(v, 'tolist') else v for name, v in values.items()}
    file = tmp_path / 'dump.yaml'
    file.write_text(json.dumps({'/**': {'ros__parameters': lists}}))
    sr_yaml = Path(__file__).parents[2] / 'config' / 'sr.yaml'
    start_injected('again', RAMP, '--params-file', str(sr_yaml), '--params-file', str(file))
    again = dumped(make_client('again'))
    assert {name: again[name] for name in values if 'qos_overrides' not in name} == {
        name: value for name, value in values.items() if 'qos_overrides' not in name
    }

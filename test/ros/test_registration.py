# SPDX-License-Identifier: Apache-2.0
"""Registration: calibrations and transforms read right, and the real node over DDS.

TF is tested with the stand-in of `stand_ins/tf2_ros.py`, and with the real tf2_ros where that can
be imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, PointCloud2, PointField
from std_msgs.msg import Header

from depth_sr_ros.geometry import GeometryError, pixel_rays
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.parameters import NodeParameters, ParameterError
from depth_sr_ros.ros.registration import Registration, RegistrationError, camera_of
from depth_sr_ros.ros.transforms import (
    ParameterTransforms,
    TfTransforms,
    TransformError,
    pose_matrix,
)

STAND_INS = Path(__file__).parent / 'stand_ins'
HAS_TF = importlib.util.find_spec('tf2_ros') is not None

RGB = np.zeros((64, 96, 3), np.uint8)
# A camera's axes in a body frame (x forward, y left, z up) turned into the camera's.
FROM_BODY = (0.5, -0.5, 0.5, 0.5)


# Calibrations


def info(**changes):
    message = CameraInfo(width=640, height=480, distortion_model='plumb_bob')
    message.k = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    message.d = [0.1, -0.2, 0.001, 0.002, 0.05]
    message.p = [480.0, 0.0, 310.0, -24.0, 0.0, 480.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_a_raw_image_is_described_by_k_and_d():
    camera, pose = camera_of(info(), (640, 480), rectified=False)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320, 240)
    assert camera.distortion == (0.1, -0.2, 0.001, 0.002, 0.05)
    np.testing.assert_array_equal(pose, np.eye(4))


def test_a_rectified_image_is_described_by_p_with_its_baseline():
    camera, pose = camera_of(info(), (640, 480), rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (480, 480, 310, 230)
    assert not camera.distorted
    # fx X + Tx = fx (X - 0.05): the second camera of the pair is 5 cm to the right.
    np.testing.assert_allclose(pose[:3, 3], (-0.05, 0, 0))


def test_region_and_binning_are_folded_in():
    message = info(binning_x=2, binning_y=2)
    message.roi.x_offset, message.roi.y_offset = 40, 80
    message.roi.width, message.roi.height = 400, 200
    camera, _ = camera_of(message, (200, 100), rectified=False)
    whole, _ = camera_of(info(), (640, 480), rectified=False)
    x, y = pixel_rays(whole)
    part_x, part_y = pixel_rays(camera)
    expected = x[80:280, 40:440].reshape(100, 2, 200, 2).mean((1, 3))
    np.testing.assert_allclose(part_x, expected, atol=1e-5)
    expected = y[80:280, 40:440].reshape(100, 2, 200, 2).mean((1, 3))
    np.testing.assert_allclose(part_y, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'k': [0.0] * 9}, 'is the camera calibrated'),
        ({'width': 0, 'height': 0}, 'image size is 0x0'),
        ({'height': 360}, 'aspect ratios may differ by 2%'),
        ({'distortion_model': 'scramble'}, "'scramble'; allowed: plumb_bob"),
    ],
)
def test_a_calibration_that_is_none_is_described(changes, sentence):
    with pytest.raises(GeometryError, match=sentence):
        camera_of(info(**changes), (640, 480), rectified=False)


# Transforms


def test_quaternions_turn_the_right_way():
    np.testing.assert_allclose(
        pose_matrix((1, 2, 3), np.multiply(2, FROM_BODY)),
        [[0, -1, 0, 1], [0, 0, -1, 2], [1, 0, 0, 3], [0, 0, 0, 1]],
        atol=1e-12,
    )
    half = np.sqrt(0.5)
    turned = pose_matrix((0, 0, 0), (0, 0, half, half))[:3, :3] @ (1, 0, 0)
    np.testing.assert_allclose(turned, (0, 1, 0), atol=1e-12)


def header(frame_id, seconds):
    result = Header(frame_id=frame_id)
    result.stamp.sec, result.stamp.nanosec = divmod(round(seconds * 1e9), 10**9)
    return result


def transform(parent, child, translation, rotation=(0, 0, 0, 1), seconds=0.0):
    message = TransformStamped(header=header(parent, seconds), child_frame_id=child)
    for axis, value in zip('xyz', translation, strict=True):
        setattr(message.transform.translation, axis, float(value))
    for axis, value in zip('xyzw', rotation, strict=True):
        setattr(message.transform.rotation, axis, float(value))
    return message


@contextlib.contextmanager
def tf2_ros_of(kind):
    """`import tf2_ros` finds the stand-in, here and in child processes, or the real one."""
    if kind == 'tf2_ros':
        if not HAS_TF:
            pytest.skip('tf2_ros is not installed')
        yield
        return
    # Not by MonkeyPatch.delitem: it would bring the stand-in back at the end.
    real = sys.modules.pop('tf2_ros', None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(STAND_INS), prepend=os.pathsep)
        patch.syspath_prepend(str(STAND_INS))
        yield
    sys.modules.pop('tf2_ros', None)
    if real is not None:
        sys.modules['tf2_ros'] = real


@pytest.fixture(params=['stand-in', 'tf2_ros'])
def tf(request):
    """TfTransforms on a node that is not spun, with parameters that can be set, and its buffer."""
    import rclpy

    with tf2_ros_of(request.param):
        context = rclpy.Context()
        context.init()
        node = rclpy.create_node('transforms', context=context)
        values = SimpleNamespace(fixed_frame='')
        transforms = TfTransforms(node, lambda: values)
        yield SimpleNamespace(
            values=values, look_up=transforms.rgb_from_depth, buffer=transforms._buffer
        )
        node.destroy_node()
        context.try_shutdown()


def test_tf_gives_the_pose_of_depth_in_rgb(tf):
    for seconds in (9.0, 11.0):
        tf.buffer.set_transform(transform('rgb', 'depth', (1, 2, 3), FROM_BODY, seconds), 'test')
    pose = tf.look_up(header('rgb', 10), header('depth', 10))
    np.testing.assert_allclose(pose, pose_matrix((1, 2, 3), FROM_BODY), atol=1e-9)


def test_one_frame_needs_no_tf(tf):
    np.testing.assert_array_equal(tf.look_up(header('rgb', 10), header('rgb', 9)), np.eye(4))


def test_with_a_fixed_frame_the_way_between_the_stamps_counts(tf):
    tf.values.fixed_frame = 'odom'
    for seconds, x in ((10.0, 1.0), (10.1, 1.5)):
        tf.buffer.set_transform(transform('odom', 'rgb', (x, 0, 0), seconds=seconds), 'test')
        tf.buffer.set_transform(transform('odom', 'lidar', (x, 0, 2), seconds=seconds), 'test')
    pose = tf.look_up(header('rgb', 10.1), header('lidar', 10.0))
    np.testing.assert_allclose(pose[:3, 3], (-0.5, 0, 2), atol=1e-9)
    # The same frame at another time is another place.
    pose = tf.look_up(header('rgb', 10.1), header('rgb', 10.0))
    np.testing.assert_allclose(pose[:3, 3], (-0.5, 0, 0), atol=1e-9)


def test_a_looped_bag_starts_tf_afresh(tf):
    def send(seconds, x):
        for moment in (seconds - 0.1, seconds + 0.1):
            tf.buffer.set_transform(transform('rgb', 'depth', (x, 0, 0), seconds=moment), 'test')

    send(100.0, 1)
    assert tf.look_up(header('rgb', 100), header('depth', 100))[0, 3] == 1
    send(10.0, 2)  # refused: older than what TF keeps
    with pytest.raises(TransformError):
        tf.look_up(header('rgb', 10), header('depth', 10))
    send(10.2, 2)
    assert tf.look_up(header('rgb', 10.2), header('depth', 10.2))[0, 3] == pytest.approx(2)


def test_a_missing_transform_is_named_with_the_cure(tf):
    with pytest.raises(TransformError) as caught:
        tf.look_up(header('rgb', 10), header('depth', 10))
    sentence = str(caught.value)
    assert "depth's frame 'depth' to RGB's frame 'rgb' at 10.000 s" in sentence
    assert 'static_transform_publisher' in sentence
    assert 'set registration_source to parameters' in sentence


# Both together, without ROS


def registration(**values):
    parameters = NodeParameters.validated({**NodeParameters().__dict__, **values})
    infos = {'rgb': info(d=[0.0] * 5), 'depth': info(d=[0.0] * 5)}
    diagnostics = NodeDiagnostics()
    result = Registration(
        values.get('depth_transport') == 'points',
        ParameterTransforms(lambda: parameters),
        infos.get,
        infos.get,
        ('/rgb/camera_info', '/depth/camera_info'),
        lambda: parameters,
        diagnostics,
    )
    return result, diagnostics


def test_no_pose_and_one_calibration_leave_depth_as_it_is():
    register, diagnostics = registration()
    depth = np.random.default_rng(0).uniform(1, 5, (480, 640)).astype(np.float32)
    depth[:100] = 0
    for _ in range(2):
        result = register(depth, header('depth', 1), header('rgb', 1), (640, 480))
        np.testing.assert_array_equal(result, depth)
    assert diagnostics.total('points registered') == 2 * 380 * 640
    assert diagnostics.total('points without measurement') == 2 * 100 * 640


def test_a_shaking_pose_does_not_change_the_size():
    sizes = set()
    values = {}
    register, _ = registration()
    register._parameters = lambda: SimpleNamespace(
        rectified=False, depth_rectified=False, hidden_window=0
    )
    for angle in np.linspace(-0.004, 0.004, 9):
        values['pose'] = pose_matrix((0.1, 0, 0), (0, np.sin(angle / 2), 0, np.cos(angle / 2)))
        register._transforms = SimpleNamespace(rgb_from_depth=lambda *_: values['pose'])
        depth = np.ones((120, 160), np.float32)
        sizes.add(register(depth, header('depth', 1), header('rgb', 1), (640, 480)).shape)
    assert len(sizes) == 1
    angle = 0.3
    values['pose'] = pose_matrix((0.1, 0, 0), (0, np.sin(angle / 2), 0, np.cos(angle / 2)))
    sizes.add(register(depth, header('depth', 1), header('rgb', 1), (640, 480)).shape)
    assert len(sizes) == 2


def test_nothing_measured_is_told_from_nothing_in_view():
    register, _ = registration(extrinsics_translation=(0, 0, -9))
    with pytest.raises(RegistrationError) as caught:
        register(np.zeros((480, 640), np.float32), header('depth', 1), header('rgb', 1), (640, 480))
    assert caught.value.cause == 'no valid depth'
    with pytest.raises(RegistrationError) as caught:
        register(np.ones((480, 640), np.float32), header('depth', 1), header('rgb', 1), (640, 480))
    assert caught.value.cause == 'out of frame'
    assert '307200 behind it' in caught.value.sentence
    assert 'the depth sensor is at (0.000, 0.000, -9.000) m' in caught.value.sentence
    assert 'its z axis points along (0.00, 0.00, 1.00)' in caught.value.sentence


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'extrinsics_rotation': (0.0, 0.0, 0.5, 0.5)}, 'of length 0.707; a rotation is a quat'),
        ({'extrinsics_rotation': (0.0, 0.0, 0.0, 0.0)}, 'of length 0;'),
        ({'extrinsics_rotation': (0.0, 0.0, 0.0)}, 'it must be 4 numbers'),
        ({'extrinsics_translation': 'left'}, "extrinsics_translation is 'left'; it must be 3"),
        ({'extrinsics_translation': (np.nan, 0.0, 0.0)}, 'is nan; it must be from -1000.0'),
        ({'registration': True, 'assume_registered': True}, 'are both true'),
    ],
)
def test_extrinsics_that_are_none_are_refused(values, sentence):
    with pytest.raises(ParameterError, match=sentence):
        NodeParameters.validated({**NodeParameters().__dict__, **values})


# The real node. The scene: a wall at 4 m, in front of it at 2 m a post. The depth camera has half
# of RGB's resolution, RGB a focal length of 96 pixels: 0.3 m to the side are 14.4 pixels at 2 m.

POST, WALL = 2.0, 4.0
DEPTH = np.full((32, 48), WALL, np.float32)
DEPTH[:, 12:24] = POST
LEFT, RIGHT = 24 - 0.5, 48 - 0.5  # the post's edges in RGB pixels, seen from the same place


def start(start_node, name, **parameters):
    """The node, however long an overloaded machine takes to start it."""
    process = start_node(name=name, wait_for=None, **parameters)
    process.wait_for_line('rgb/image <-', 300)
    return process


@pytest.fixture(scope='module')
def shifted(start_node, make_client, messages):
    """A node whose depth camera is 0.3 m to the right of RGB's, and its client."""
    process = start(
        start_node,
        'shifted',
        registration='on',
        registration_source='parameters',
        extrinsics_translation='[0.3, 0.0, 0.0]',
    )
    client = make_client('shifted')
    client.process = process
    client.depth_info = client.node.create_publisher(
        CameraInfo, f'{client.prefix}/depth/camera_info', 10
    )
    client.wait_for_node()
    assert client.wait_until(client.depth_info.get_subscription_count)
    send_calibrations(client, messages)
    return client


def send_calibrations(client, messages):
    client.camera_info.publish(messages.camera_info(96, 64))
    client.depth_info.publish(messages.camera_info(48, 32, frame_id='depth_camera'))
    assert client.wait_until(
        lambda: (
            client.counter('received rgb/camera_info')
            and client.counter('received depth/camera_info')
        )
    )


def depth_message(messages, frame_id='depth_camera'):
    return messages.image(DEPTH, frame_id=frame_id)


def assert_post_is_at(row, shift):
    """The post's edges, 3 pixels aside for the grid; between the wall's own shift and the post's
    the depth camera saw nothing."""
    columns = np.arange(96)
    post = (columns > LEFT + shift + 3) & (columns < RIGHT + shift - 3)
    wall = (columns < LEFT + shift / 2 - 3) | (columns > RIGHT + shift + 3)
    wall &= columns > shift / 2 + 3
    assert post.sum() > 10
    assert wall.sum() > 20
    np.testing.assert_allclose(row[post], POST, atol=0.01)
    np.testing.assert_allclose(row[wall], WALL, atol=0.01)


def test_depth_of_a_camera_aside_lands_where_it_belongs(shifted, messages):
    output = shifted.exchange(RGB, depth_message(messages))
    assert output.header.frame_id == 'camera'
    assert (output.width, output.height) == (96, 64)
    assert_post_is_at(messages.array(output)[32], 14.4)
    assert shifted.fresh_counter('points registered') > 500
    assert shifted.counter('points out of frame') > 0
    assert shifted.counter('points hidden by nearer ones') > 0


def test_extrinsics_can_be_tuned_while_running(shifted, messages):
    assert shifted.set_parameters(extrinsics_translation=[0.0, 0.0, 0.0]) == [True, '']
    try:
        output = shifted.exchange(RGB, depth_message(messages))
        refused = shifted.set_parameters(extrinsics_rotation=[0.0, 0.0, 1.0, 1.0])
    finally:
        assert shifted.set_parameters(extrinsics_translation=[0.3, 0.0, 0.0])[0]
    assert_post_is_at(messages.array(output)[32], 0)
    assert not refused[0]
    assert 'of length 1.41' in refused[1]


def test_the_result_has_the_size_of_a_smaller_output(shifted, messages):
    assert shifted.set_parameters(output_scale=0.75)[0]
    try:
        output = shifted.exchange(np.zeros((128, 192, 3), np.uint8), depth_message(messages))
    finally:
        assert shifted.set_parameters(output_scale=1.0)[0]
    assert (output.width, output.height) == (144, 96)
    assert_post_is_at(messages.array(output)[48][::3].repeat(2), 14.4)


def assert_dropped(client, cause, *texts, **frame):
    """Send a pair; it is dropped, the log says why, and the next one goes through."""
    before = client.fresh_counter(f'dropped {cause}')
    client.send(RGB, **frame)
    client.wait_for_counter(f'dropped {cause}', before + 1)
    line = client.process.wait_for_line(f'frame dropped, {cause}')
    for text in texts:
        assert text in line
        assert text in client.values()[f'last {cause}']


def test_depth_out_of_view_is_counted_and_described(shifted, messages):
    assert shifted.set_parameters(extrinsics_translation=[90.0, 0.0, 0.0])[0]
    try:
        assert_dropped(
            shifted,
            'out of frame',
            'none of the 1536 measurements is in the view',
            'at (90.000, 0.000, 0.000) m',
            depth=depth_message(messages),
        )
    finally:
        assert shifted.set_parameters(extrinsics_translation=[0.3, 0.0, 0.0])[0]
    shifted.exchange(RGB, depth_message(messages))


def test_a_missing_calibration_is_named(shifted, messages):
    assert_dropped(
        shifted,
        'no camera info',
        "depth's frame 'unknown_camera'",
        'come on /shifted/depth/camera_info',
        '-r depth/camera_info:=/TOPIC',
        depth=depth_message(messages, 'unknown_camera'),
    )
    shifted.exchange(RGB, depth_message(messages))
    assert shifted.process.alive


def test_a_calibration_of_another_image_is_named(shifted, messages):
    shifted.depth_info.publish(messages.camera_info(48, 48, frame_id='square'))
    assert shifted.wait_until(lambda: shifted.fresh_counter('received depth/camera_info') >= 2)
    assert_dropped(
        shifted,
        'bad message',
        'CameraInfo of depth: the image is 48x32, the calibration is for 48x48',
        depth=depth_message(messages, 'square'),
    )
    shifted.exchange(RGB, depth_message(messages))


def test_without_registration_another_frame_is_refused_with_the_cure(
    start_node, make_client, messages
):
    client = make_client('unregistered')
    client.process = start(start_node, 'unregistered')
    client.wait_for_node()
    assert_dropped(
        client,
        'frame mismatch',
        "depth is in frame 'depth_camera', RGB in 'camera'",
        'registration:=true',
        depth=depth_message(messages),
    )
    client.exchange(RGB, depth_message(messages, 'camera'))
    assert client.process.alive


# Point clouds


def cloud_message(points, frame_id='lidar'):
    """x, y, z and an intensity, as LiDAR drivers write them."""
    message = PointCloud2(height=1, width=len(points), point_step=16, row_step=16 * len(points))
    message.header.frame_id = frame_id
    message.fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(('x', 'y', 'z', 'intensity'))
    ]
    data = np.zeros((len(points), 4), np.float32)
    data[:, :3] = points
    message.data.frombytes(data.tobytes())
    return message


def scan():
    """The wall and the post as a LiDAR at 0.2 m above the camera measures them; x forward."""
    azimuth, elevation = np.meshgrid(
        np.radians(np.arange(-180, 180, 0.5)), np.radians(np.arange(-20, 20, 1.0))
    )
    forward = np.cos(elevation) * np.cos(azimuth)
    ahead = forward > 0.2
    ray = np.stack(
        (np.ones(ahead.sum()), np.tan(azimuth)[ahead], (np.sin(elevation) / forward)[ahead]), -1
    )
    distance = np.where(np.abs(POST * ray[:, 1]) < 0.25, POST, WALL)
    points = ray * distance[:, None]
    behind = np.stack([-np.ones(50), np.linspace(-1, 1, 50), np.zeros(50)], -1)
    return np.concatenate((points, behind, np.full((5, 3), np.nan)))


@pytest.fixture(scope='module')
def lidar(start_node, make_client, messages):
    process = start(
        start_node,
        'lidar',
        depth_transport='points',
        registration_source='parameters',
        extrinsics_translation='[0.0, -0.2, 0.0]',
        extrinsics_rotation=list(FROM_BODY),
    )
    client = make_client('lidar')
    client.process = process
    # `send` publishes depth on this one.
    client.node.destroy_publisher(client.depth)
    client.depth = client.node.create_publisher(PointCloud2, f'{client.prefix}/depth/points', 10)
    client.wait_for_node()
    client.camera_info.publish(messages.camera_info(96, 64))
    assert client.wait_until(lambda: client.counter('received rgb/camera_info'))
    return client


def test_a_point_cloud_gives_depth(lidar, messages):
    output = messages.array(lidar.exchange(RGB, cloud_message(scan())))
    assert output.shape == (64, 96)
    # The post is 0.25 m to either side: 12 pixels at 2 m.
    np.testing.assert_allclose(output[32, 38:58], POST, atol=0.05)
    np.testing.assert_allclose(output[32, 5:30], WALL, atol=0.05)
    np.testing.assert_allclose(output[32, 66:90], WALL, atol=0.05)
    assert lidar.fresh_counter('received depth/points') >= 1
    assert lidar.counter('points behind the camera') % 50 == 0
    assert lidar.counter('points without measurement') % 5 == 0
    assert lidar.counter('points registered') > 500


def test_a_damaged_cloud_is_dropped_and_named(lidar, messages):
    cloud = cloud_message(scan())
    cloud.fields = [field for field in cloud.fields if field.name != 'z']
    assert_dropped(lidar, 'bad message', "no field 'z', only x, y, intensity", depth=cloud)
    lidar.exchange(RGB, cloud_message(scan()))
    assert lidar.process.alive


# TF


@pytest.fixture(scope='module', params=['stand-in', 'tf2_ros'])
def tf_node(request, start_node, make_client, messages):
    """A node that takes the pose from TF; the client's `send_transform` publishes one."""
    name = f'tf_{request.param.replace("-", "_")}'
    client = make_client(name)
    with tf2_ros_of(request.param):
        import tf2_ros

        if request.param == 'stand-in':
            topic = client.node.create_publisher(TransformStamped, tf2_ros.TOPIC, tf2_ros.QOS)
            client.send_transform = topic.publish
        else:
            client.send_transform = tf2_ros.StaticTransformBroadcaster(client.node).sendTransform
        client.process = start(start_node, name, registration=True)
    client.depth_info = client.node.create_publisher(
        CameraInfo, f'{client.prefix}/depth/camera_info', 10
    )
    client.wait_for_node()
    assert client.wait_until(client.depth_info.get_subscription_count)
    send_calibrations(client, messages)
    return client


def test_depth_waits_for_tf_and_then_lands_where_it_says(tf_node, messages):
    assert_dropped(
        tf_node,
        'no transform',
        "depth's frame 'depth_camera' to RGB's frame 'camera'",
        'static_transform_publisher',
        depth=depth_message(messages),
    )
    tf_node.send_transform(transform('camera', 'depth_camera', (0.3, 0, 0)))
    dropped = tf_node.counter('dropped no transform')
    for _ in range(20):
        stamp = tf_node.send(RGB, depth_message(messages))
        if tf_node.wait_until(lambda: tf_node.outputs_of(stamp), 1):  # noqa: B023
            break
    (output,) = tf_node.outputs_of(stamp)
    assert_post_is_at(messages.array(output)[32], 14.4)
    assert tf_node.fresh_counter('dropped no transform') >= dropped
    assert tf_node.process.alive


@pytest.mark.skipif(HAS_TF, reason='tf2_ros is installed')
def test_a_missing_tf2_ros_is_named(start_node):
    process = start_node(name='no_tf', wait_for=None, registration=True)
    line = process.wait_for_line('registration_source is tf', 300)
    assert "No module named 'tf2_ros'" in line
    assert 'tf2-ros`' in line
    assert 'set it to parameters' in line
    assert process.wait() == 1

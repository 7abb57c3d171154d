# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by the real `launch` on an installed copy, with images passing through.

Skipped on a machine without ROS's launch: it is not among the ROS 2 wheels.
"""

import importlib.util

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
for package in ('launch', 'launch_ros'):
    # Our own folder of that name is found too where we run from the root, but has no file.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f'the ROS package {package} is not installed', allow_module_level=True)

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
arguments = [word.split(':=', 1) for word in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""
RGB = np.zeros((64, 96, 3), np.uint8)
DEPTH = np.full((32, 48), 1500, np.uint16)


@pytest.fixture(scope='module')
def launch_file(installed, installed_environment, start_process):
    """Runs a launch file of the installed copy with arguments; returns the process."""

    def start(name, *arguments):
        path = installed / 'share/depth_sr_ros/launch' / name
        return start_process('-c', LAUNCH, str(path), *arguments)

    return start


def assert_images_pass(client, messages, depth_lag_ns=0):
    """Send pairs until one comes out: either side may discover the other late."""
    for _ in range(15):
        stamp_ns = client.next_stamp()
        client.send(RGB, DEPTH, stamp_ns=stamp_ns, depth_stamp_ns=stamp_ns - depth_lag_ns)
        outputs = client.wait_until(lambda: client.outputs_of(stamp_ns), 2)  # noqa: B023
        if outputs:
            np.testing.assert_allclose(messages.array(outputs[0]), 1.5)
            return
    pytest.fail(f'no output; diagnostics: {client.sentence()!r} {client.values()}')


def test_one_camera_with_an_argument_for_everything(
    launch_file, make_client, messages, tmp_path, monkeypatch
):
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE')
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    parameters = tmp_path / 'parameters.yaml'
    parameters.write_text('/**:\n  ros__parameters:\n    slop: 0.5\n    weights: nowhere\n')
    process = launch_file(
        'sr.launch.py',
        'namespace:=launched',
        'name:=launched',
        'weights:=interpolation',
        'relative_depth:=off',
        'device:=cpu',
        f'params_file:={parameters}',
        'rgb_camera_info:=/elsewhere/camera_info',
        'log_level:=info',
    )
    line = process.wait_for_line('rgb/image <-')
    assert 'rgb/camera_info <- /elsewhere/camera_info' in line
    assert 'weights interpolation' in line
    advice = process.wait_for_line('FASTDDS_DEFAULT_PROFILES_FILE=')
    assert 'share/depth_sr_ros/config/fastdds_images.xml' in advice

    client = make_client('launched')
    # A pair only with the slop of the parameters file.
    assert_images_pass(client, messages, depth_lag_ns=400_000_000)
    assert process.stop() == 0


def test_several_cameras(launch_file, make_client, messages):
    from sensor_msgs.msg import Image

    process = launch_file('multi_camera.launch.py', 'cameras:=front,rear', 'weights:=interpolation')
    for camera in ('front', 'rear'):
        process.wait_for_line(f'/{camera}/rgb/image')
        client = make_client(camera)
        client.collect(Image, f'/{camera}/sr_node/depth/image', client.depths)
        assert_images_pass(client, messages)
    process.stop()


@pytest.mark.parametrize('cameras', ['front,front', 'front,,rear'])
def test_cameras_must_be_different_names(launch_file, cameras):
    process = launch_file('multi_camera.launch.py', f'cameras:={cameras}')
    assert process.wait() != 0
    assert f"cameras is '{cameras}'" in process.output

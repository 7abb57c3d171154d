# SPDX-License-Identifier: Apache-2.0
"""The launch file beside a camera, as `launch_test test/ros/launch_test_sr.py` runs it.

Every RGB frame that has depth comes out once, in order, under its own stamp, and both processes
end cleanly.
"""

import time
import unittest
from pathlib import Path

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

SHARE = Path(get_package_share_directory('depth_sr_ros'))
FRAMES = 20
TIMEOUT = 40.0
TOPICS = {
    'rgb_image': '/camera/color/image_raw',
    'rgb_camera_info': '/camera/color/camera_info',
    'depth_image': '/camera/depth/image_raw',
    'output_depth_image': '/dense/image',
    'output_camera_info': '/dense/camera_info',
}


def generate_test_description():
    camera = Node(
        package='depth_sr_ros',
        executable='demo_camera',
        # Fewer frames than the node makes even where two tests share a core.
        arguments=['--frames', '4', '--rgb-rate', '5', '--depth-rate', '5', '--wait'],
        output='screen',
    )
    arguments = {**TOPICS, 'weights': 'interpolation', 'device': 'cpu'}
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch/sr.launch.py')),
        launch_arguments=arguments.items(),
    )
    actions = [node, camera, launch_testing.actions.ReadyToTest()]
    return LaunchDescription(actions), {'camera': camera}


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


class WhileRunning(unittest.TestCase):
    def setUp(self):
        rclpy.init()
        self.node = rclpy.create_node('launch_test_client')

    def tearDown(self):
        self.node.destroy_node()
        rclpy.shutdown()

    def test_every_frame_comes_out_once_under_its_stamp(self):
        received = {'rgb_image': [], 'output_depth_image': [], 'output_camera_info': []}
        kinds = {'output_camera_info': CameraInfo}
        for name, messages in received.items():
            quality = QoSProfile(depth=100)
            if name == 'rgb_image':
                quality = rclpy.qos.qos_profile_sensor_data
            self.node.create_subscription(
                kinds.get(name, Image), TOPICS[name], messages.append, quality
            )
        deadline = time.monotonic() + TIMEOUT
        while len(received['output_depth_image']) < FRAMES and time.monotonic() < deadline:
            rclpy.spin_once(self.node, timeout_sec=0.1)
        outputs = [stamp_of(message) for message in received['output_depth_image']]
        assert len(outputs) >= FRAMES
        assert outputs == sorted(set(outputs))
        # Whatever the camera sent between the first and the last output has come out.
        sent = [stamp_of(message) for message in received['rgb_image']]
        between = [stamp for stamp in sent if outputs[0] <= stamp <= outputs[-1]]
        assert len(between) >= FRAMES - 1
        assert set(between) <= set(outputs)
        image = received['output_depth_image'][0]
        assert (image.width, image.height, image.encoding) == (640, 480, '32FC1')
        assert image.header.frame_id == 'camera_color_optical_frame'
        assert received['output_camera_info']

    def test_the_node_says_what_it_reads(self, proc_output):
        proc_output.assertWaitFor('rgb/image <- /camera/color/image_raw', timeout=TIMEOUT)
        proc_output.assertWaitFor('publishes /dense/image', timeout=TIMEOUT)


@launch_testing.post_shutdown_test()
class AfterShutdown(unittest.TestCase):
    def test_both_ended_cleanly(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)

# SPDX-License-Identifier: Apache-2.0
"""Starts one sr_node for each camera, each in its camera's namespace, on one GPU.

Takes every argument of sr.launch.py for all of them. Topics without a leading '/' are found in
each camera's namespace: `cameras:=front,rear rgb_image:=color/image_raw` reads
/front/color/image_raw and /rear/color/image_raw.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource

ONE_CAMERA = str(Path(get_package_share_directory('depth_sr_ros')) / 'launch' / 'sr.launch.py')


def start(context):
    """One scoped inclusion of sr.launch.py for each camera."""
    cameras = [name.strip() for name in context.launch_configurations['cameras'].split(',')]
    if not all(cameras) or len(set(cameras)) != len(cameras):
        raise ValueError(
            f"cameras is '{','.join(cameras)}'; it must be namespaces, each once: 'front,rear'"
        )
    return [
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(ONE_CAMERA),
                    launch_arguments={'namespace': camera}.items(),
                )
            ]
        )
        for camera in cameras
    ]


def generate_launch_description():
    one_camera = PythonLaunchDescriptionSource(
        ONE_CAMERA
    ).try_get_launch_description_without_context()
    arguments = [
        argument for argument in one_camera.get_launch_arguments() if argument.name != 'namespace'
    ]
    cameras = DeclareLaunchArgument(
        'cameras', description="Namespaces of the cameras, with commas: 'front,rear'."
    )
    return LaunchDescription([cameras, *arguments, OpaqueFunction(function=start)])

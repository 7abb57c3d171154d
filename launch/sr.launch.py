# SPDX-License-Identifier: Apache-2.0
"""Starts sr_node: `ros2 launch depth_sr_ros sr.launch.py --show-args` lists what can be set."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch_ros.actions import Node

from depth_sr_ros.ros.transport_profile import profile_advice, profile_environment

CONFIG = Path(get_package_share_directory('depth_sr_ros')) / 'config'

# Launch argument -> the node's own name of the topic and what it is.
TOPICS = {
    'rgb_image': ('rgb/image', 'RGB images in (sensor_msgs/Image)'),
    'rgb_camera_info': ('rgb/camera_info', "the RGB camera's calibration in"),
    'depth_image': (
        'depth/image',
        'depth in, 16UC1 mm or 32FC1 m; of the view of RGB, or registered here',
    ),
    'depth_camera_info': ('depth/camera_info', "depth's calibration in, for registration"),
    'depth_points': ('depth/points', 'point cloud in (depth_transport:=points)'),
    'output_depth_image': ('~/depth/image', 'dense depth out, at the size of RGB'),
    'output_camera_info': ('~/depth/camera_info', 'calibration out, beside the depth image'),
    'output_color': ('~/depth/color', 'depth in colours out (sensor_msgs/Image, rgb8)'),
    'output_confidence': ('~/depth/confidence', 'confidence out, 0 to 1 (sensor_msgs/Image)'),
    'output_points': ('~/points', 'coloured cloud out (sensor_msgs/PointCloud2)'),
}

# Parameters that have an argument of their own; '' leaves what params_file says.
PARAMETERS = {
    'weights': "'' = params_file; 'base', 'interpolation', a folder or hub id, or NAME.onnx",
    'relative_depth': "'' = params_file; 'off', or a Depth Anything checkpoint: folder or id",
    'device': "'' = params_file; 'auto', 'cpu', 'cuda' or 'cuda:N'",
    'guide_interval': "'' = params_file; relative depth is computed for every so many frames",
    'backend': "'' = params_file; 'auto', 'torch' or 'onnxruntime'",
    'rgb_transport': "'' = params_file; 'raw' or 'compressed' (then TOPIC/compressed is read)",
    'depth_transport': "'' = params_file; 'raw', 'compressedDepth', 'compressed' or 'points'",
    'input_reliability': "'' = params_file; 'best_effort', or 'reliable' across a network",
    'registration_source': "'' = params_file; where the depth sensor is: 'tf' or 'parameters'",
}

YES_OR_NO = ['true', 'false']
REGISTRATION = (
    "'' = params_file; 'true': put depth of another camera into the RGB view, "
    'by both calibrations and TF or the extrinsics in params_file.'
)


def declared_arguments():
    topics = [
        DeclareLaunchArgument(argument, default_value=name, description=f'Topic: {text}.')
        for argument, (name, text) in TOPICS.items()
    ]
    parameters = [
        DeclareLaunchArgument(name, default_value='', description=text + '.')
        for name, text in PARAMETERS.items()
    ]
    return [
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
        DeclareLaunchArgument('name', default_value='sr_node', description='Name of the node.'),
        *topics,
        DeclareLaunchArgument(
            'params_file',
            default_value=str(CONFIG / 'sr.yaml'),
            description='Parameters (YAML); the arguments below go first.',
        ),
        *parameters,
        DeclareLaunchArgument(
            'registration', default_value='', choices=['', *YES_OR_NO], description=REGISTRATION
        ),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='false',
            choices=YES_OR_NO,
            description='Take time from /clock (simulation, bags played with --clock).',
        ),
        DeclareLaunchArgument(
            'log_level',
            default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severe level that is logged.',
        ),
        DeclareLaunchArgument(
            'respawn',
            default_value='false',
            choices=YES_OR_NO,
            description='Start the node again, after 2 s, when it ends.',
        ),
        DeclareLaunchArgument(
            'rviz',
            default_value='false',
            choices=YES_OR_NO,
            description='Also start RViz: RGB, both depths, diagnostics and the coloured cloud.',
        ),
        DeclareLaunchArgument(
            'rviz_frame',
            default_value='camera_color_optical_frame',
            description="RViz's fixed frame: the frame_id of the RGB images.",
        ),
    ]


def start(context):
    """The actions, now that the arguments have values."""
    values = context.launch_configurations
    overrides = {name: values[name] for name in PARAMETERS if values[name]}
    if values['registration']:
        overrides['registration'] = values['registration'] == 'true'
    environment = profile_environment(context.environment)
    node = Node(
        package='depth_sr_ros',
        executable='sr_node',
        name=values['name'],
        namespace=values['namespace'],
        parameters=[
            values['params_file'],
            {**overrides, 'use_sim_time': values['use_sim_time'] == 'true'},
        ],
        remappings=[(name, values[argument]) for argument, (name, _) in TOPICS.items()],
        ros_arguments=['--log-level', values['log_level']],
        additional_env=environment,
        respawn=values['respawn'] == 'true',
        respawn_delay=2.0,
        output='screen',
    )
    actions = [node]
    if environment:
        advice = profile_advice(context.environment)
        actions.append(
            LogInfo(
                msg=f'Large images arrive only if the camera driver was started after: {advice}'
            )
        )
    if values['rviz'] == 'true':
        actions.append(rviz(values, environment))
    return actions


def rviz(values, environment):
    """RViz, its topics remapped to where the node's are."""
    own = f'/{values["namespace"]}/{values["name"]}'.replace('//', '/')

    def absolute(argument):
        topic = values[argument].replace('~', own)
        return (
            topic if topic.startswith('/') else f'/{values["namespace"]}/{topic}'.replace('//', '/')
        )

    # Left: the names in sr.rviz.
    names = {
        '/rgb/image': absolute('rgb_image'),
        '/depth/image': absolute('depth_image'),
        '/sr_node/depth/color': absolute('output_color'),
        '/sr_node/points': absolute('output_points'),
        '/sr_node/diagnostics/image': f'{own}/diagnostics/image',
    }
    return Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(CONFIG / 'sr.rviz'), '-f', values['rviz_frame']],
        parameters=[{'use_sim_time': values['use_sim_time'] == 'true'}],
        remappings=list(names.items()),
        additional_env=environment,
        output='screen',
    )


def generate_launch_description():
    return LaunchDescription([*declared_arguments(), OpaqueFunction(function=start)])

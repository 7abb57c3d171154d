# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one dataclass that holds values, descriptions and ranges."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

if TYPE_CHECKING:
    from rclpy.node import Node


# Quaternions are written with a few digits.
_UNIT_TOLERANCE = 0.01


class ParameterError(ValueError):
    """One or more parameters are outside what is allowed; the text names each, with its value."""


def _parameter(
    default: Any,
    text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    return dataclasses.field(
        default=default,
        metadata={
            'text': text,
            'minimum': minimum,
            'maximum': maximum,
            'choices': choices,
            'read_only': read_only,
        },
    )


@dataclasses.dataclass(frozen=True)
class NodeParameters:
    """Values of all parameters of `sr_node`. Times are seconds, distances metres."""

    autostart: bool = _parameter(
        True, 'Configure and activate at start, without a lifecycle manager.', read_only=True
    )
    weights: str = _parameter(
        '',
        "Fusion network: empty = 'embedded', the small weights in the package; 'base' = the larger "
        'ones there, for a good guide (relative_depth), at present no better; '
        "'interpolation' = no network (the interpolated input passes through); a folder or Hugging "
        'Face id; or a file that depth_sr export wrote (NAME.onnx).',
        read_only=True,
    )
    relative_depth: str = _parameter(
        '',
        "Relative depth: empty = what the weights validate best with, 'embedded' = the guide stored"
        " with them, 'off' = none, or a folder or Hugging Face id of a Depth Anything checkpoint.",
        read_only=True,
    )
    device: str = _parameter(
        'auto', "Where the network runs: 'auto', 'cpu', 'cuda' or 'cuda:N'.", read_only=True
    )
    backend: str = _parameter(
        'auto',
        "What computes: 'torch', 'onnxruntime' (also with its CUDA and TensorRT providers, and for "
        "files of depth_sr export), or 'auto': PyTorch on a GPU, ONNX Runtime on a CPU where it is "
        'installed.',
        choices=('auto', 'torch', 'onnxruntime'),
        read_only=True,
    )
    precision: str = _parameter(
        'auto',
        "Arithmetic of convolutions and attention: 'auto', 'float32', 'bfloat16' or 'float16'.",
        read_only=True,
    )
    execution: str = _parameter(
        'auto',
        "How PyTorch runs the networks: 'auto' (CUDA graphs on a GPU), 'eager' (without: slower, "
        "and the way out when a driver does not like graphs), 'graph' or 'compile' (torch.compile: "
        'minutes at the first frame of each size).',
        choices=('auto', 'eager', 'graph', 'compile'),
        read_only=True,
    )
    guide_interval: int = _parameter(
        1,
        'The relative-depth network sees every so many frames, and its answer, moved along by '
        'optical flow, serves until the next: faster, and less accurate where the scene moves. '
        '1 = every frame; where the camera moves, 2 or 3, as more may be worse than no guide '
        '(docs/performance.md). Without a relative-depth network it means nothing.',
        minimum=1,
        maximum=100,
        read_only=True,
    )
    warm_up_rgb_size: tuple[int, int] = _parameter(
        (640, 480),
        'Width and height of RGB that the pipeline is warmed up for when configured.',
        minimum=64,
        maximum=4096,
        read_only=True,
    )
    warm_up_depth_size: tuple[int, int] = _parameter(
        (640, 480),
        'Width and height of depth that the pipeline is warmed up for when configured.',
        minimum=8,
        maximum=4096,
        read_only=True,
    )
    rgb_transport: str = _parameter(
        'raw',
        'How RGB images come: raw (sensor_msgs/Image on rgb/image) or compressed (CompressedImage '
        'on rgb/image/compressed).',
        choices=('raw', 'compressed'),
        read_only=True,
    )
    depth_transport: str = _parameter(
        'raw',
        'How depth comes: raw (sensor_msgs/Image on depth/image), compressedDepth or compressed '
        '(CompressedImage on the topic with that name added), or points (PointCloud2 on '
        'depth/points, put into the RGB view as registration does).',
        choices=('raw', 'compressedDepth', 'compressed', 'points'),
        read_only=True,
    )
    input_reliability: str = _parameter(
        'best_effort',
        'What is asked of the publishers of images and clouds: best_effort (accepts any camera, '
        'what the transport loses is lost) or reliable (it is sent again; for a camera across a '
        'network, which must publish reliably).',
        choices=('best_effort', 'reliable'),
        read_only=True,
    )
    use_cv_bridge: bool = _parameter(
        False,
        'Ask cv_bridge, which must be installed, for RGB encodings that are not known here.',
        read_only=True,
    )
    pairing: str = _parameter(
        'nearest',
        'How RGB and depth find each other: nearest (each RGB frame once, with the depth nearest '
        'in time) or approximate (by message_filters, which must be installed).',
        choices=('nearest', 'approximate'),
        read_only=True,
    )
    slop: float = _parameter(
        0.02,
        'Largest difference in seconds between the stamps of a pair; 0 = equal stamps only.',
        minimum=0.0,
        maximum=1.0,
    )
    depth_hold: float = _parameter(
        0.1,
        'How much older than the RGB frame, in seconds, the last depth may be to be used when none '
        'is within slop; 0 = never.',
        minimum=0.0,
        maximum=10.0,
    )
    max_age: float = _parameter(
        0.25,
        'Frames that waited longer than this since they arrived, in seconds, are dropped as stale.',
        minimum=0.001,
        maximum=60.0,
    )
    assume_registered: bool = _parameter(
        False,
        "Accept depth whose frame_id differs from the RGB image's: its pixels are taken to cover "
        "exactly the RGB image's field of view.",
    )
    registration: bool = _parameter(
        False,
        'Put depth images of another camera into the RGB view, by depth/camera_info, '
        'rgb/camera_info and the pose of the depth camera.',
        read_only=True,
    )
    registration_source: str = _parameter(
        'tf',
        "Where the depth sensor's pose comes from: tf (tf2_ros, which must be installed) or "
        'parameters (the extrinsics below).',
        choices=('tf', 'parameters'),
        read_only=True,
    )
    fixed_frame: str = _parameter(
        '',
        "A frame that stands still, such as 'odom': registration by TF then allows for what the "
        'robot moved between the stamps of depth and RGB. Empty = the robot stands still.',
    )
    extrinsics_translation: tuple[float, float, float] = _parameter(
        (0.0, 0.0, 0.0),
        "Where the depth sensor is in the RGB camera's optical frame (x right, y down, z forward), "
        'in metres. Used with registration_source: parameters.',
        minimum=-1000.0,
        maximum=1000.0,
    )
    extrinsics_rotation: tuple[float, float, float, float] = _parameter(
        (0.0, 0.0, 0.0, 1.0),
        "How the depth sensor's frame is turned in the RGB camera's optical frame: a quaternion "
        '(x, y, z, w) of length 1. Used with registration_source: parameters.',
        minimum=-1.0,
        maximum=1.0,
    )
    rectified: bool = _parameter(
        False,
        'The RGB image is rectified: the matrix P of its CameraInfo holds, not K and D. Used for '
        'registration and ~/points.',
    )
    depth_rectified: bool = _parameter(
        False,
        'The depth image is rectified: the matrix P of its CameraInfo holds, not K and D. Used '
        'for registration.',
    )
    hidden_window: int = _parameter(
        0,
        'With depth_transport: points, leave out points that are seen only between those of '
        'something nearer: the distance of two scan lines in the RGB image, in pixels; 0 = off.',
        minimum=0,
        maximum=200,
    )
    mono16_is_depth: bool = _parameter(
        False, "Read depth images of encoding 'mono16' as millimetres, as if they said 16UC1."
    )
    depth_range: tuple[float, float] = _parameter(
        (0.0, 0.0),
        'Nearest and farthest measurement that counts, in metres along the optical axis of the RGB '
        'camera; what lies outside is taken as not measured. Equal = all count.',
        minimum=0.0,
        maximum=10000.0,
    )
    output_encoding: str = _parameter(
        '32FC1',
        "Output: '32FC1' = metres, NaN = invalid; '16UC1' = millimetres, 0 = invalid.",
        choices=('32FC1', '16UC1'),
    )
    output_scale: float = _parameter(
        1.0,
        'Width of the output relative to RGB; below 1 the RGB image is made smaller before the '
        'network, which makes everything faster.',
        minimum=0.1,
        maximum=1.0,
    )
    min_confidence: float = _parameter(
        0.0,
        'Pixels whose predicted confidence is lower go out as invalid; 0 = all go out.',
        minimum=0.0,
        maximum=1.0,
    )
    color_range: tuple[float, float] = _parameter(
        (0.0, 0.0),
        'Nearest and farthest distance of the colours of ~/depth/color, in metres; equal = from '
        'the 1st to the 99th percentile of each frame.',
        minimum=0.0,
        maximum=10000.0,
    )
    points_min_confidence: float = _parameter(
        0.5,
        'Pixels whose predicted confidence is lower are left out of ~/points.',
        minimum=0.0,
        maximum=1.0,
    )

    @classmethod
    def validated(cls, values: dict[str, Any]) -> NodeParameters:
        """Check all values together; raise ParameterError naming every one that is not allowed."""
        checked, problems = {}, []
        for field in dataclasses.fields(cls):
            try:
                checked[field.name] = _checked(field, values[field.name])
            except ParameterError as problem:
                problems.append(str(problem))
        for name in ('depth_range', 'color_range'):
            near, far = checked.get(name, (0, 0))
            if far < near:
                problems.append(f'{name} is [{near:g}, {far:g}]; it must be [near, far]')
        rotation = checked.get('extrinsics_rotation', (1.0,))
        if abs(math.hypot(*rotation) - 1) > _UNIT_TOLERANCE:
            problems.append(
                f'extrinsics_rotation is {list(rotation)}, of length {math.hypot(*rotation):.3g}; '
                'a rotation is a quaternion (x, y, z, w) of length 1'
            )
        if checked.get('assume_registered') and checked.get('registration'):
            problems.append(
                'registration and assume_registered are both true; depth that already covers the '
                'RGB view needs no registration'
            )
        if problems:
            raise ParameterError('; '.join(problems))
        return cls(**checked)

    @property
    def registers(self) -> bool:
        """Whether depth is put into the RGB view here; point clouds always are."""
        return self.registration or self.depth_transport == 'points'


def _checked(field: dataclasses.Field, value: Any) -> Any:
    name, metadata, default = field.name, field.metadata, field.default
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ParameterError(f'{name} is {value!r}; it must be a number')
        value = float(value)
        _check_range(name, value, metadata)
    elif isinstance(default, tuple):
        if not isinstance(value, str) and hasattr(value, '__len__'):
            value = list(value)
        if not isinstance(value, list) or len(value) != len(default):
            raise ParameterError(f'{name} is {value!r}; it must be {len(default)} numbers')
        for element in value:
            if isinstance(element, bool) or not isinstance(element, (int, float)):
                raise ParameterError(f'{name} is {value!r}; it must be {len(default)} numbers')
        value = tuple(type(default[0])(element) for element in value)
        for element in value:
            _check_range(name, element, metadata)
    elif isinstance(default, int) and not isinstance(default, bool):
        _check_range(name, value, metadata)
    elif isinstance(default, str):
        if value is False:
            value = 'off'
        if not isinstance(value, str):
            raise ParameterError(f'{name} is {value!r}; it must be text')
    if metadata['choices'] and value not in metadata['choices']:
        allowed = ', '.join(metadata['choices'])
        raise ParameterError(f'{name} is {value!r}; it must be one of {allowed}')
    return value


def _check_range(name: str, value: float, metadata: Any) -> None:
    minimum, maximum = metadata['minimum'], metadata['maximum']
    # Not `value < minimum`: NaN must not pass.
    if not (math.isfinite(value) and minimum <= value <= maximum):
        raise ParameterError(f'{name} is {value}; it must be from {minimum} to {maximum}')


def descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    """What `ros2 param describe` shows of a parameter: text, range and whether it may change."""
    metadata, default = field.metadata, field.default
    result = ParameterDescriptor(description=metadata['text'], read_only=metadata['read_only'])
    if isinstance(default, float):
        # `slop:=0` is an integer to ROS; checked and converted here instead of being refused.
        result.dynamic_typing = True
        result.floating_point_range = [
            FloatingPointRange(from_value=metadata['minimum'], to_value=metadata['maximum'])
        ]
    elif isinstance(default, str):
        # YAML, and so the command line, reads an unquoted `off` as a boolean.
        result.dynamic_typing = True
    elif isinstance(default, tuple):
        result.dynamic_typing = isinstance(default[0], float)  # [1, 5] as well as [1.0, 5.0]
    elif isinstance(default, int) and not isinstance(default, bool):
        result.integer_range = [
            IntegerRange(from_value=metadata['minimum'], to_value=metadata['maximum'], step=1)
        ]
    if metadata['choices']:
        result.additional_constraints = 'one of ' + ', '.join(metadata['choices'])
    return result


def declare_parameters(node: Node) -> NodeParameters:
    """Declare every parameter on a node; raise ParameterError naming all unusable start values."""
    values, problems = {}, []
    for field in dataclasses.fields(NodeParameters):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        try:
            values[field.name] = node.declare_parameter(
                field.name, default, descriptor(field)
            ).value
            _checked(field, values[field.name])
        except Exception as problem:  # rclpy raises its own types for wrong types and ranges
            problems.append(str(problem))
    if problems:
        raise ParameterError('; '.join(problems))
    return NodeParameters.validated(values)


def changed_parameters(current: NodeParameters, changes: dict[str, Any]) -> NodeParameters:
    """The current values with changes of our own parameters applied, validated together."""
    ours = {field.name for field in dataclasses.fields(NodeParameters)}
    values = {name: getattr(current, name) for name in ours}
    values.update((name, value) for name, value in changes.items() if name in ours)
    return NodeParameters.validated(values)

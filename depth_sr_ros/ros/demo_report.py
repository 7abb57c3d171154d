# SPDX-License-Identifier: Apache-2.0
"""Scores what the demo recorded against the clip's truth; table and picture. Knows no ROS."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depth_sr_ros.evaluation import metrics
from depth_sr_ros.machine import processor_name
from depth_sr_ros.ros.frame_pairing import NearestPairing

if TYPE_CHECKING:
    from depth_sr_ros.data.demo_clip import DemoClip
    from depth_sr_ros.ros.clip_player import ClipPlayerConfig
    from depth_sr_ros.ros.demo_monitor import Recording, StampedDepth


@dataclasses.dataclass(frozen=True)
class FrameScore:
    """Errors in metres of one published frame, beside those of the interpolated input."""

    output: StampedDepth
    depth: StampedDepth
    clip_frame: int
    interpolated_rmse: float
    output_rmse: float
    interpolated_rmse_edge: float
    output_rmse_edge: float
    coverage: float


class UnknownStampError(ValueError):
    """A published frame bears a stamp that no RGB frame had."""


def replay_pairing(
    recording: Recording, slop_ns: int, depth_hold_ns: int
) -> dict[int, StampedDepth]:
    """Which depth frame the node paired with each RGB frame, by the RGB stamp.

    The frames go through the node's own pairing rule in the order and at the times in which they
    arrived at the monitor.
    """
    pairing = NearestPairing(slop_ns, depth_hold_ns)
    arrivals: list[tuple[int, int, StampedDepth | None]] = [
        (arrival_ns, stamp_ns, None) for stamp_ns, arrival_ns in recording.rgb_arrivals
    ]
    arrivals += [(frame.arrival_ns, frame.stamp_ns, frame) for frame in recording.depth]
    pairs = []
    for arrival_ns, stamp_ns, frame in sorted(arrivals, key=lambda arrival: arrival[:2]):
        while (deadline := pairing.next_deadline_ns) is not None and deadline <= arrival_ns:
            pairs += pairing.poll(deadline)
        add = pairing.add_rgb if frame is None else pairing.add_depth
        pairs += add(stamp_ns, frame, arrival_ns)
    while (deadline := pairing.next_deadline_ns) is not None:
        pairs += pairing.poll(deadline)
    return {pair.rgb_stamp_ns: pair.depth for pair in pairs}


def score_recording(
    recording: Recording, clip: DemoClip, slop_ns: int, depth_hold_ns: int
) -> list[FrameScore]:
    """Score every published frame that can be paired with its depth frame.

    Raises UnknownStampError, and ValueError for an output of another size than the truth.
    """
    # Here, not above: this loads torch, and while the node runs it would take its CPU.
    from depth_sr_ros.model.interpolation import interpolate_depth

    @cache
    def truth_and_edges(clip_frame: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        truth = clip.depth_truth(clip_frame)
        return truth, metrics.near_depth_edges(truth)

    partners = replay_pairing(recording, slop_ns, depth_hold_ns)
    scores = []
    for output in recording.output:
        if output.stamp_ns not in recording.clip_seconds:
            raise UnknownStampError(
                f'an output has stamp {output.stamp_ns} ns, which no RGB frame had'
            )
        clip_frame = round(recording.clip_seconds[output.stamp_ns] * clip.frame_rate)
        if output.stamp_ns not in partners:
            continue
        depth = partners[output.stamp_ns]
        truth, near_edges = truth_and_edges(clip_frame)
        interpolated = interpolate_depth(depth.depth, truth.shape)
        scores.append(
            FrameScore(
                output,
                depth,
                clip_frame,
                interpolated_rmse=metrics.rmse(interpolated, truth),
                output_rmse=metrics.rmse(output.depth, truth),
                interpolated_rmse_edge=metrics.rmse(interpolated, truth, near_edges),
                output_rmse_edge=metrics.rmse(output.depth, truth, near_edges),
                coverage=metrics.coverage(output.depth, truth),
            )
        )
    return scores


def mean_scores(scores: Sequence[FrameScore]) -> dict[str, float]:
    """Mean over frames of every error, metres, and of the coverage."""
    names = [field.name for field in dataclasses.fields(FrameScore)[3:]]
    return metrics.aggregate([{name: getattr(s, name) for name in names} for s in scores])


def typical_frame(scores: Sequence[FrameScore]) -> FrameScore:
    """The frame whose gain over the interpolated input is the median: neither best nor worst."""
    ranked = sorted(scores, key=lambda s: s.output_rmse / max(s.interpolated_rmse, 1e-9))
    return ranked[len(ranked) // 2]


def figures(
    recording: Recording, scores: Sequence[FrameScore], camera: ClipPlayerConfig
) -> dict[str, Any]:
    """Everything that the table says, for demo.json; times in seconds or as named, errors in m."""
    told = recording.diagnostics
    count = {key: int(value) for key, value in told.items() if value.isdecimal()}
    dropped = {
        key.removeprefix('dropped '): number
        for key, number in count.items()
        if key.startswith('dropped ')
    }
    means = mean_scores(scores)
    latency_ms = recording.latencies * 1e3
    output = scores[0].output.depth
    return {
        'camera': {
            'rgb_size': [output.shape[1], output.shape[0]],
            'depth_size': list(scores[0].depth.depth.shape[::-1]),
            'rgb_rate': camera.rgb_rate,
            'depth_rate': camera.depth_rate,
            'degradation': camera.degradation,
            'jitter_s': camera.jitter,
        },
        'frames': {
            'rgb_sent': len(recording.rgb_arrivals),
            'rgb_received': count.get('received rgb/image', 0),
            'depth_sent': recording.depth_sent,
            'depth_received': count.get('received depth/image', 0),
            'paired': count.get('paired', 0),
            'held': count.get('held', 0),
            'dropped': dropped,
            'published': count.get('published depth/image', 0),
            'output_heard': len(recording.output),
            'scored': len(scores),
        },
        'fps': recording.output_rate,
        'latency_ms': {
            'median': float(np.median(latency_ms)),
            'p99': float(np.percentile(latency_ms, 99)),
        },
        'error_m': {
            name: {method: means[f'{method}_{name}'] for method in ('interpolated', 'output')}
            for name in ('rmse', 'rmse_edge')
        },
        'better_frames': sum(s.output_rmse < s.interpolated_rmse for s in scores),
        'coverage': means['coverage'],
        'model': {
            key: told.get(key, 'unknown')
            for key in ('weights', 'digest', 'relative_depth', 'device', 'precision')
        },
        'machine': describe_machine(),
    }


def describe_machine() -> dict[str, str]:
    """Processor, cores, system and versions of what the figures depend on."""
    described = {
        'processor': processor_name(),
        'cores': str(len(os.sched_getaffinity(0))),
        'system': platform.platform(),
        'python': platform.python_version(),
        'middleware': os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'),
    }
    for package in ('depth_sr_ros', 'torch', 'numpy', 'opencv-contrib-python-headless', 'rclpy'):
        for name in (package, f'ros-{package}'):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                described[package] = importlib.metadata.version(name)
    return described


def table(figures: Mapping[str, Any]) -> str:
    """The figures for people, at most 80 columns wide."""
    frames, camera, model = figures['frames'], figures['camera'], figures['model']
    machine = figures['machine']
    lines = [
        '',
        f'sr_node: weights {model["weights"]} ({model["digest"]}), relative depth'
        f' {model["relative_depth"]}, {model["precision"]}',
        f'on {model["device"]}, {machine["processor"]}, {machine["cores"]} cores',
        '',
        f'{"Frames":<46}{"RGB":>10}{"depth":>10}',
        _row('sent by the camera', frames['rgb_sent'], frames['depth_sent']),
        _row('received by the node', frames['rgb_received'], frames['depth_received']),
        _row('paired within slop', frames['paired']),
        _row('paired with the last depth, held', frames['held']),
    ]
    lines += [
        _row(f'dropped, {_DROP_WORDS.get(cause, cause)}', number)
        for cause, number in frames['dropped'].items()
        if number
    ]
    if not any(frames['dropped'].values()):
        lines.append(_row('dropped', 0))
    lines.append(_row('published', frames['published']))
    if frames['output_heard'] != frames['published']:
        lines.append(_row('published and heard by the demo', frames['output_heard']))
    latency = figures['latency_ms']
    lines += [
        '',
        'Speed',
        f'{"  dense depth":<46}{figures["fps"]:>6.1f} FPS',
        f'{"  from stamp to publication, median":<46}{latency["median"]:>7.0f} ms',
        f'{"  from stamp to publication, p99":<46}{latency["p99"]:>7.0f} ms',
        '',
        f'{"Error against the truth":<46}{"input":>10}{"output":>10}{"change":>10}',
    ]
    for name, text in (('rmse', 'RMSE'), ('rmse_edge', 'RMSE within 4 px of depth edges')):
        before, after = (figures['error_m'][name][m] for m in ('interpolated', 'output'))
        lines.append(
            f'  {text:<44}{before * 100:>7.2f} cm{after * 100:>7.2f} cm{after / before - 1:>+10.1%}'
        )
    if figures['coverage'] < 0.9995:
        lines.append(f'  {"pixels that have a depth":<44}{"":>10}{figures["coverage"]:>10.1%}')
    lines += [
        '',
        f'Input is the interpolated input. The output is better in {figures["better_frames"]} of'
        f' {frames["scored"]} scored frames.',
    ]
    if figures['fps'] < 0.9 * camera['rgb_rate'] and frames['dropped'].get('superseded'):
        lines.append(
            f'This machine makes {figures["fps"]:.1f} of the {camera["rgb_rate"]:g} frames a'
            ' second dense: the node always takes\nthe newest pair and drops those that it has'
            ' superseded.'
        )
    return '\n'.join(lines)


_DROP_WORDS = {'superseded': 'superseded by a newer one', 'no partner': 'no depth to pair with'}


def _row(text: str, *numbers: int) -> str:
    return f'  {text:<44}' + ''.join(f'{number:>10}' for number in numbers)


def write_picture(
    path: Path, clip: DemoClip, scores: Sequence[FrameScore], figures: Mapping[str, Any]
) -> None:
    """RGB, input and output above truth, error before and error after, of the typical frame."""
    # Not above: it costs a second, which the node needs.
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    from depth_sr_ros.model.interpolation import interpolate_depth

    frame = typical_frame(scores)
    truth = clip.depth_truth(frame.clip_frame)
    interpolated = interpolate_depth(frame.depth.depth, truth.shape)
    known = truth > 0
    low, high = np.percentile(truth[known], (0.5, 99.5))
    errors = [
        np.where(known, np.abs(depth - truth) * 100, np.nan)
        for depth in (interpolated, frame.output.depth)
    ]
    error_high = float(np.nanpercentile(errors[0], 99))
    depth_look = {'cmap': 'turbo', 'vmin': low, 'vmax': high}
    error_look = {'cmap': 'inferno', 'vmin': 0, 'vmax': error_high}
    camera, model = figures['camera'], figures['model']
    rgb_size, depth_size = ('\u00d7'.join(map(str, camera[k])) for k in ('rgb_size', 'depth_size'))

    def missing_as_nan(depth: NDArray) -> NDArray:
        return np.where(depth > 0, depth, np.nan)

    def error_text(rmse: float, edge: float) -> str:
        return f'RMSE {rmse * 100:.1f} cm, near depth edges {edge * 100:.1f} cm'

    panels: list[tuple[str, str, NDArray, dict]] = [
        ('RGB', f'{rgb_size} at {camera["rgb_rate"]:g} Hz', clip.rgb(frame.clip_frame), {}),
        (
            'Depth in',
            f'{depth_size} at {camera["depth_rate"]:g} Hz, with noise and holes',
            missing_as_nan(frame.depth.depth),
            depth_look,
        ),
        (
            'Depth out',
            f'{rgb_size}, {figures["fps"]:.1f} frames a second on {_device(model, figures)}',
            missing_as_nan(frame.output.depth),
            depth_look,
        ),
        ('True depth', 'known, as the clip is rendered', missing_as_nan(truth), depth_look),
        (
            'Error of the interpolated input',
            error_text(frame.interpolated_rmse, frame.interpolated_rmse_edge),
            errors[0],
            error_look,
        ),
        (
            'Error of the output',
            error_text(frame.output_rmse, frame.output_rmse_edge),
            errors[1],
            error_look,
        ),
    ]
    with plt.rc_context({'font.family': 'DejaVu Sans', 'font.size': 11}):
        chart = plt.figure(figsize=(1, 1))
        layout = _Layout(truth.shape[1] / truth.shape[0])
        chart.set_size_inches(layout.width, layout.height)
        for index, (title, subtitle, image, look) in enumerate(panels):
            row, column = divmod(index, 3)
            # What has no measurement shows the background.
            axis = chart.add_axes(layout.panel(row, column), facecolor='0.2')
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            drawn = axis.imshow(image, interpolation='nearest', aspect='auto', **look)
            axis.annotate(
                title, (0, 1), (0, 23), textcoords='offset points', xycoords='axes fraction',
                fontsize=14, fontweight='bold',
            )  # fmt: skip
            axis.annotate(
                subtitle, (0, 1), (0, 7), textcoords='offset points', xycoords='axes fraction',
                color='0.3',
            )  # fmt: skip
            if column == 2:
                bar = chart.colorbar(drawn, cax=chart.add_axes(layout.bar(row)))
                bar.set_label(('depth, m', 'absolute error, cm')[row])
                bar.outline.set_visible(False)
        chart.savefig(path, dpi=100)
        plt.close(chart)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the 2 x 3 panels and a colour bar per row stand; inches, then shares of the figure."""

    aspect: float
    panel_width: float = 4.4
    gap: float = 0.2
    head: float = 0.68
    bar_width: float = 0.16
    margin_right: float = 0.8

    @property
    def panel_height(self) -> float:
        return self.panel_width / self.aspect

    @property
    def width(self) -> float:
        return 3 * (self.panel_width + self.gap) + self.gap + self.bar_width + self.margin_right

    @property
    def height(self) -> float:
        return 2 * (self.head + self.panel_height) + self.gap

    def _place(self, left: float, row: int, width: float) -> tuple[float, float, float, float]:
        bottom = self.height - (row + 1) * (self.head + self.panel_height)
        return (
            left / self.width,
            bottom / self.height,
            width / self.width,
            self.panel_height / self.height,
        )

    def panel(self, row: int, column: int) -> tuple[float, float, float, float]:
        left = self.gap + column * (self.panel_width + self.gap)
        return self._place(left, row, self.panel_width)

    def bar(self, row: int) -> tuple[float, float, float, float]:
        left = self.gap + 3 * (self.panel_width + self.gap)
        return self._place(left, row, self.bar_width)


def _device(model: Mapping[str, str], figures: Mapping[str, Any]) -> str:
    if model['device'].startswith('cuda'):
        return model['device'].partition('(')[2].rstrip(')')
    return f'{figures["machine"]["cores"]} CPU cores'

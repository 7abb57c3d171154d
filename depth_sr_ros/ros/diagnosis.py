# SPDX-License-Identifier: Apache-2.0
"""One sentence that says how the node is doing and, when nothing comes out, what to do about it."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_FASTER = (
    'For more frames choose a faster device, precision or weights, a smaller image, or an '
    'output_scale below 1'
)
_SMALL_SHARED_MEMORY = 128 * 2**20


class Level(enum.Enum):
    OK = 'ok'
    WARN = 'warn'
    ERROR = 'error'
    STALE = 'stale'


@dataclass(frozen=True)
class Diagnosis:
    """`cause` is a short name that stays the same while the situation does; `sentence` is for
    people and carries the figures."""

    level: Level
    cause: str
    sentence: str


@dataclass(frozen=True)
class InputSituation:
    """One subscription. `topic` is the resolved name, `argument` the name that a remapping uses."""

    argument: str
    topic: str
    publishers: int
    recent: int
    incompatible_policy: str = ''


@dataclass(frozen=True)
class Situation:
    """What happened within the diagnostics' window (a few seconds)."""

    rgb: InputSituation
    depth: InputSituation
    active: bool = True
    settled: bool = True
    """Active for long enough that something should have come."""
    paired: int = 0
    published: int = 0
    nearest_gap_ms: float | None = None
    slop_ms: float = 0.0
    drops: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    profile_advice: str = 'export FASTDDS_DEFAULT_PROFILES_FILE=config/fastdds_images.xml'
    middleware: str = 'rmw_fastrtps_cpp'
    node_name: str = '/sr_node'


def diagnose(situation: Situation) -> Diagnosis:
    """The first thing that is wrong, in the order in which data flows."""
    if not situation.active:
        return Diagnosis(
            Level.STALE,
            'inactive',
            f'inactive: activate with `ros2 lifecycle set {situation.node_name} activate`',
        )
    if situation.published:
        return _diagnose_output(situation)
    if not situation.settled:
        return Diagnosis(Level.OK, 'starting', 'waiting for the first images')
    for images in (situation.rgb, situation.depth):
        if not images.recent:
            return _no_input(images, situation)
    if not situation.paired and not set(situation.drops) - {'no partner'}:
        return Diagnosis(Level.ERROR, 'no partner', f'no output: {_gap_sentence(situation)}')
    refused = {c: drop for c, drop in situation.drops.items() if c not in ('superseded', 'stale')}
    worst = _most_frequent_drop(refused)
    if worst is None:
        return Diagnosis(
            Level.WARN,
            'busy',
            f'no frame has been finished within the last seconds. {_FASTER}',
        )
    cause, number, sentence = worst
    return Diagnosis(Level.ERROR, cause, f'no output: {number} frames dropped, {cause}: {sentence}')


def _diagnose_output(situation: Situation) -> Diagnosis:
    worst = _most_frequent_drop(situation.drops)
    if worst is None:
        return Diagnosis(Level.OK, 'ok', 'publishing')
    cause, number, sentence = worst
    whole = number + situation.published
    if cause in ('superseded', 'stale'):
        sentence = f'frames come faster than they are processed, the newest are taken. {_FASTER}'
    elif cause == 'no partner':
        sentence = _gap_sentence(situation)
    # Every camera has a hiccup now and then; one in ten is a fault.
    level = Level.WARN if number > 0.1 * whole else Level.OK
    return Diagnosis(
        level, cause, f'publishing, but {number} of {whole} frames dropped, {cause}: {sentence}'
    )


def _no_input(images: InputSituation, situation: Situation) -> Diagnosis:
    kind = images.argument
    if images.incompatible_policy:
        return Diagnosis(
            Level.ERROR,
            f'no {kind}: qos',
            f'no {kind}: the publisher of {images.topic} offers an incompatible quality of service '
            f'({images.incompatible_policy}); set the parameter qos_overrides.{images.topic}.'
            f'subscription.{images.incompatible_policy.lower()} to what it offers',
        )
    if not images.publishers:
        return Diagnosis(
            Level.STALE,
            f'no {kind}: no publisher',
            f'no {kind}: nothing publishes {images.topic}; start the camera, or remap with '
            f'`-r {kind}:=/TOPIC`',
        )
    advice = 'check that it is running and that its messages are of the type we subscribe to'
    if 'fastrtps' in situation.middleware:
        advice = (
            'large images need the same profile on the side of the camera driver: '
            f'`{situation.profile_advice}` in its environment, then restart it '
            '(on another machine: see docs/distributed.md)'
        )
        size = shared_memory_size()
        if size is not None and size < _SMALL_SHARED_MEMORY:
            advice += f'; /dev/shm has only {size // 2**20} MB: start the container with --ipc=host'
    return Diagnosis(
        Level.ERROR,
        f'no {kind}',
        f'no {kind} arrives although {images.publishers} publisher(s) of {images.topic} exist: '
        f'{advice}',
    )


def _gap_sentence(situation: Situation) -> str:
    if situation.nearest_gap_ms is None:
        return 'RGB and depth arrive, but no RGB frame has met a depth frame yet'
    if situation.nearest_gap_ms <= situation.slop_ms:
        return (
            f'no depth came within slop ({situation.slop_ms:g} ms) of them, though the newest '
            f'frame met one {situation.nearest_gap_ms:.1f} ms away: depth images are missing; '
            "look at depth's rate, or raise depth_hold to use the last one for longer"
        )
    sentence = (
        f'no depth stamp within slop ({situation.slop_ms:g} ms); the nearest is '
        f'{situation.nearest_gap_ms:.1f} ms away'
    )
    if situation.nearest_gap_ms > 1000:
        return f"{sentence}: the two drivers' clocks differ; synchronise them or use one clock"
    return f'{sentence}: synchronise the cameras, or raise slop or depth_hold'


def _most_frequent_drop(drops: Mapping[str, tuple[int, str]]) -> tuple[str, int, str] | None:
    if not drops:
        return None
    cause, (number, sentence) = max(drops.items(), key=lambda drop: drop[1][0])
    return cause, number, sentence


def shared_memory_size() -> int | None:
    """Bytes of /dev/shm, over which large images travel; None where there is none."""
    try:
        status = os.statvfs('/dev/shm')
    except OSError:
        return None
    return status.f_blocks * status.f_frsize

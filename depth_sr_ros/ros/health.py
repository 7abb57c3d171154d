# SPDX-License-Identifier: Apache-2.0
"""Once a second: /diagnostics, and in the log the sentence that says why nothing comes out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import Image

from depth_sr_ros.ros.diagnosis import Diagnosis, InputSituation, Level, Situation, diagnose
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.diagnostics_picture import diagnostics_picture
from depth_sr_ros.ros.image_codec import encode_image_into
from depth_sr_ros.ros.throttled_log import ThrottledLog
from depth_sr_ros.ros.transport_profile import profile_advice

_SETTLE_SECONDS = 3.0
_REPEAT_SECONDS = 5.0


class HealthReporter:
    """Judges a node by its counters and publishes the result with the node's clock.

    `inputs` maps the names that remappings use ('rgb/image') to subscriptions; it is empty while
    the node is not active. `details` are further values to show.
    """

    def __init__(self, node: Any, diagnostics: NodeDiagnostics, log: ThrottledLog) -> None:
        self._node = node
        self._diagnostics = diagnostics
        self._log = log
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._pictures = node.create_publisher(Image, '~/diagnostics/image', 1)
        self._active_since: float | None = None
        self._cpu = (time.monotonic(), time.process_time())
        self._profile_advice = profile_advice()
        self.incompatible: dict[str, str] = {}
        """Input -> the policy that made one of its publishers incompatible."""

    def set_active(self, active: bool) -> None:
        self._active_since = time.monotonic() if active else None
        self.incompatible.clear()

    def report(
        self,
        inputs: Mapping[str, Any],
        *,
        nearest_gap_ns: int | None,
        slop: float,
        hardware_id: str,
        details: Mapping[str, object],
    ) -> None:
        self._diagnostics.tick()
        diagnosis = self._diagnose(inputs, nearest_gap_ns, slop)
        if diagnosis.level is Level.ERROR:
            self._log.error(diagnosis.cause, diagnosis.sentence, _REPEAT_SECONDS)
        elif diagnosis.level is Level.WARN or diagnosis.cause.startswith('no '):
            self._log.warn(diagnosis.cause, diagnosis.sentence, _REPEAT_SECONDS)
        gap = 'none' if nearest_gap_ns is None else f'{1e-6 * nearest_gap_ns:.3f}'
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        array.status = [
            self._diagnostics.status(
                f'{self._node.get_fully_qualified_name()}: depth super-resolution',
                hardware_id,
                diagnosis,
                {
                    'nearest gap [ms]': gap,
                    'cpu [% of a core]': f'{100 * self._cpu_share():.1f}',
                    **details,
                },
            )
        ]
        self._publisher.publish(array)
        if self._pictures.get_subscription_count():
            picture = Image(header=array.header)
            encode_image_into(picture, diagnostics_picture(array.status[0]), 'rgb8')
            self._pictures.publish(picture)

    def _cpu_share(self) -> float:
        """Processor time of this process per second since the last call."""
        (then, used_then), self._cpu = self._cpu, (time.monotonic(), time.process_time())
        return (self._cpu[1] - used_then) / max(self._cpu[0] - then, 1e-9)

    def _diagnose(
        self, inputs: Mapping[str, Any], nearest_gap_ns: int | None, slop: float
    ) -> Diagnosis:
        counts, since = self._diagnostics, self._active_since
        return diagnose(
            Situation(
                rgb=self._input_situation('rgb/image', inputs),
                depth=self._input_situation(
                    'depth/points' if 'depth/points' in inputs else 'depth/image', inputs
                ),
                active=since is not None,
                settled=since is not None and time.monotonic() - since > _SETTLE_SECONDS,
                paired=counts.recent('paired') + counts.recent('held'),
                published=counts.recent('published depth/image'),
                nearest_gap_ms=None if nearest_gap_ns is None else 1e-6 * nearest_gap_ns,
                slop_ms=1e3 * slop,
                drops=counts.recent_drops(),
                profile_advice=self._profile_advice,
                middleware=get_rmw_implementation_identifier(),
                node_name=self._node.get_fully_qualified_name(),
            )
        )

    def _input_situation(self, name: str, inputs: Mapping[str, Any]) -> InputSituation:
        if name not in inputs:
            return InputSituation(name, '', 0, 0)
        topic = inputs[name].topic_name
        return InputSituation(
            name,
            topic,
            self._node.count_publishers(topic),
            self._diagnostics.recent(f'received {name}'),
            self.incompatible.get(name, ''),
        )

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for tf2_ros, of which there is no wheel: as much of its interface as the node uses.

Not TF: it knows only transforms from parent to child, as they came, and takes them from
geometry_msgs/TransformStamped on /tf_stand_in, because tf2_msgs has no wheel either. What it takes
over is how the real one is called, waits and fails.
"""

import time

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

TOPIC = '/tf_stand_in'
CACHE_NS = 10 * 10**9
QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TransformException(Exception):  # noqa: N818
    pass


class LookupException(TransformException):
    pass


class Buffer:
    def __init__(self, cache_time=None, node=None):
        self._transforms = []

    def set_transform(self, transform, authority):
        stamps = [Time.from_msg(t.header.stamp).nanoseconds for t in (transform, *self._transforms)]
        if stamps[0] > max(stamps) - CACHE_NS:
            self._transforms.append(transform)

    def clear(self):
        self._transforms.clear()

    def _nearest(self, parent, child, stamp):
        known = [
            transform
            for transform in self._transforms
            if (transform.header.frame_id, transform.child_frame_id) == (parent, child)
        ]
        if not known:
            raise LookupException(f'"{child}" passed to lookupTransform does not exist.')
        return min(
            known,
            key=lambda transform: abs(
                Time.from_msg(transform.header.stamp).nanoseconds - stamp.nanoseconds
            ),
        )

    @staticmethod
    def _waiting(look_up, timeout):
        deadline = time.monotonic() + 1e-9 * timeout.nanoseconds
        while True:
            try:
                return look_up()
            except LookupException:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def lookup_transform(self, target_frame, source_frame, time, timeout=None):
        return self._waiting(
            lambda: self._nearest(target_frame, source_frame, time), timeout or Duration()
        )

    def lookup_transform_full(
        self, target_frame, target_time, source_frame, source_time, fixed_frame, timeout=None
    ):
        """Of frames that are not turned against each other."""

        def look_up():
            target = self._nearest(fixed_frame, target_frame, target_time).transform
            source = self._nearest(fixed_frame, source_frame, source_time).transform
            assert target.rotation == source.rotation
            result = TransformStamped()
            for axis in 'xyz':
                difference = getattr(source.translation, axis) - getattr(target.translation, axis)
                setattr(result.transform.translation, axis, difference)
            return result

        return self._waiting(look_up, timeout or Duration())


class TransformListener:
    def __init__(self, buffer, node, *, spin_thread=False):
        assert not spin_thread
        self.subscription = node.create_subscription(
            TransformStamped, TOPIC, lambda message: buffer.set_transform(message, 'test'), QOS
        )

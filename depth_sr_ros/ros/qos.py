# SPDX-License-Identifier: Apache-2.0
"""Quality of service: the node's defaults, overrides by parameter, and what to do on a mismatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
except ImportError:  # Humble
    from rclpy.qos_event import (  # type: ignore[no-redef]
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )


# What was lost holds back the messages behind it, which then arrive at once.
_RELIABLE_DEPTH = 5


def input_qos(reliability: str = 'best_effort') -> QoSProfile:
    """Best effort accepts reliable and best-effort cameras, and never makes one wait; reliable has
    lost messages sent again, and accepts reliable cameras only."""
    reliable = reliability == 'reliable'
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_RELIABLE_DEPTH if reliable else 1,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_qos() -> QoSProfile:
    """Reliable: matches reliable and best-effort subscribers; only the newest is kept."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """Declares the parameters `qos_overrides.TOPIC.(subscription|publisher).POLICY`."""
    return QoSOverridingOptions(
        (
            QoSPolicyKind.HISTORY,
            QoSPolicyKind.DEPTH,
            QoSPolicyKind.RELIABILITY,
            QoSPolicyKind.DURABILITY,
        )
    )


def create_subscription(
    node: Any,
    message_type: Any,
    topic: str,
    callback: Callable,
    *,
    reliability: str,
    on_incompatible: Callable[[str], None],
    on_lost: Callable[[int], None],
) -> Any:
    """A subscription that tells of incompatible publishers and lost messages.

    `on_incompatible` gets the name of the policy, `on_lost` the number of messages that the
    transport lost since it was last called, where the middleware reports that.
    `reliability` is that of `input_qos`.
    """
    events: dict[str, Any] = {
        'incompatible_qos': lambda event: on_incompatible(_policy_name(event)),
        'message_lost': lambda event: on_lost(event.total_count_change),
    }
    choices: list[dict[str, Any]] = [events, {'incompatible_qos': events['incompatible_qos']}, {}]
    for supported in choices:
        try:
            return node.create_subscription(
                message_type,
                topic,
                callback,
                input_qos(reliability),
                event_callbacks=SubscriptionEventCallbacks(**supported),
                qos_overriding_options=overridable(),
            )
        except UnsupportedEventTypeError:
            continue
    raise RuntimeError(f'no subscription to {topic} could be made')


def create_publisher(
    node: Any, message_type: Any, topic: str, *, on_incompatible: Callable[[str], None]
) -> Any:
    """A publisher with `output_qos` that tells of incompatible subscribers."""

    def create(**events: Any) -> Any:
        return node.create_publisher(
            message_type,
            topic,
            output_qos(),
            event_callbacks=PublisherEventCallbacks(**events),
            qos_overriding_options=overridable(),
        )

    try:
        return create(incompatible_qos=lambda event: on_incompatible(_policy_name(event)))
    except UnsupportedEventTypeError:
        return create()


def describe_qos(profile: QoSProfile) -> str:
    """For the log: 'best effort, volatile, keep last 1'."""
    words = [profile.reliability.name, profile.durability.name, profile.history.name]
    text = ', '.join(word.lower().replace('_', ' ') for word in words)
    return f'{text} {profile.depth}' if profile.history == HistoryPolicy.KEEP_LAST else text


def _policy_name(event: Any) -> str:
    return str(qos_policy_name_from_kind(event.last_policy_kind))

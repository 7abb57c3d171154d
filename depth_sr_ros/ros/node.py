# SPDX-License-Identifier: Apache-2.0
"""`sr_node`: RGB and sparse or low-resolution depth in, dense depth out, as a managed node.

This file is the wiring only. Data flows one way: subscription -> pairing (in the executor, stamps
only) -> one-slot mailbox -> worker: decode, pipeline, encode, publish.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo

from depth_sr_ros.ros.approximate_pairing import ApproximatePairing
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.frame_pairing import NearestPairing, Pair, StampError
from depth_sr_ros.ros.frame_processor import Arrival, FrameDroppedError, FrameProcessor
from depth_sr_ros.ros.health import HealthReporter
from depth_sr_ros.ros.input_formats import depth_format, rgb_format
from depth_sr_ros.ros.missing_package import remedy
from depth_sr_ros.ros.output_publishers import OutputPublishers
from depth_sr_ros.ros.parameters import (
    NodeParameters,
    ParameterError,
    changed_parameters,
    declare_parameters,
)
from depth_sr_ros.ros.qos import create_subscription, describe_qos
from depth_sr_ros.ros.start_check import check_pipeline
from depth_sr_ros.ros.throttled_log import ThrottledLog
from depth_sr_ros.ros.transforms import ParameterTransforms, TfTransforms, Transforms
from depth_sr_ros.ros.transport_profile import profile_environment
from depth_sr_ros.ros.worker import Worker

if TYPE_CHECKING:
    from depth_sr_ros.ros.registration import Registration

_NANOSECONDS = 1_000_000_000
_CAMERA_INFO_FRAMES = 8
_STOP_TIMEOUT = 10.0


def load_pipeline(parameters: NodeParameters) -> Any:
    """Load and warm up the pipeline that the parameters name. Takes seconds; imports torch."""
    from depth_sr_ros.pipeline import DepthSRPipeline

    pipeline = DepthSRPipeline.from_pretrained(
        parameters.weights or None,
        relative_depth=parameters.relative_depth or None,
        device=parameters.device,
        precision=parameters.precision,
        execution=parameters.execution,
        backend=parameters.backend,
    )
    pipeline.warm_up(rgb_size=parameters.warm_up_rgb_size, depth_size=parameters.warm_up_depth_size)
    return pipeline.stream(guide_interval=parameters.guide_interval)


class SuperResolutionNode(LifecycleNode):
    """The node. `load(parameters)` makes the pipeline; it runs in the worker's thread."""

    def __init__(
        self, load: Callable[[NodeParameters], Any] = load_pipeline, **node_arguments: Any
    ) -> None:
        super().__init__('sr_node', **node_arguments)
        self._load = load
        # Not `_parameters`: that is rclpy's.
        self._values = declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._log = ThrottledLog(self.get_logger())
        self._diagnostics = NodeDiagnostics()
        self._health = HealthReporter(self, self._diagnostics, self._log)
        self._pairing = self._make_pairing()
        self._worker: Worker[Pair] | None = None
        self._processor: FrameProcessor | None = None
        self._outputs: OutputPublishers | None = None
        self._pipeline: Any = None
        self._description: dict[str, Any] = {}
        self._inputs: dict[str, Any] = {}
        self._camera_infos: dict[str, CameraInfo] = {}
        self._depth_infos: dict[str, CameraInfo] = {}
        self._depth_topic = depth_format(self._values.depth_transport).topic
        self._transforms: Transforms | None = None
        if self._values.registers:
            self._transforms = self._make_transforms()
        self._deadline_ns: int | None = None
        # Steady, so that they go on when use_sim_time is set and nothing publishes /clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._deadline_timer = self.create_timer(1.0, self._on_deadline, clock=steady)
        self._deadline_timer.cancel()
        self.create_timer(1.0, self._on_second, clock=steady)

    @property
    def values(self) -> NodeParameters:
        """The parameters that hold now."""
        return self._values

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._worker = Worker(
            self._process, on_superseded=self._on_superseded, on_error=self._on_worker_error
        )
        try:
            # In the worker's thread, because thread pools and graphs belong to the thread that
            # made them.
            pipeline = self._worker.call(lambda: self._load(self._values))
            self._pipeline = pipeline
            self._worker.call(lambda: check_pipeline(pipeline))
            cv_bridge = _make_cv_bridge() if self._values.use_cv_bridge else None
            registration = None if self._transforms is None else self._make_registration()
        except Exception as error:
            reason = remedy(error) if isinstance(error, ImportError) else error
            self.get_logger().fatal(
                f'the pipeline could not be loaded: {type(error).__name__}: {reason}'
            )
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._description = dict(pipeline.description)
        self._outputs = OutputPublishers(
            self, self._diagnostics, self._camera_infos.get, self._log.warn
        )
        self._processor = FrameProcessor(
            pipeline,
            self._outputs,
            (
                rgb_format(self._values.rgb_transport, cv_bridge),
                depth_format(self._values.depth_transport),
            ),
            registration,
            lambda: self._values,
            self._diagnostics,
            lambda: self.get_clock().now().nanoseconds,
            buffer=self._outputs.depth_buffer,
            forget=getattr(pipeline, 'reset', None),
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._health.set_active(True)
        rgb = rgb_format(self._values.rgb_transport)
        depth = depth_format(self._values.depth_transport)
        self._inputs = {
            # The executor serves them in this order: a depth that is there already pairs at once.
            depth.topic: self._subscribe(
                depth.message_type, depth.topic, self._on_depth, depth.suffix
            ),
            'rgb/camera_info': self._subscribe(CameraInfo, 'rgb/camera_info', self._on_camera_info),
            'rgb/image': self._subscribe(rgb.message_type, 'rgb/image', self._on_rgb, rgb.suffix),
        }
        if self._values.registers and depth.topic == 'depth/image':
            self._inputs['depth/camera_info'] = self._subscribe(
                CameraInfo, 'depth/camera_info', self._on_depth_camera_info
            )
        self.get_logger().info(self._start_up_line())
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        gc.collect()  # takes a second with torch: not where the process ends anyway
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> bool:
        """Configure and activate; False when either failed (the log says why)."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def close(self) -> None:
        """Stop and free everything, whatever state the node is in."""
        self._stop()
        self._release()

    def _stop(self) -> None:
        self._health.set_active(False)
        for subscription in self._inputs.values():
            self.destroy_subscription(subscription)
        self._inputs = {}
        self._pairing.clear()
        self._set_deadline(None)
        if self._worker is not None:
            self._worker.drain()

    def _release(self) -> None:
        worker, self._worker = self._worker, None
        pipeline, self._pipeline = self._pipeline, None
        self._description = {}
        last = None if pipeline is None else pipeline.close
        if worker is not None and not worker.stop(_STOP_TIMEOUT, last=last):
            self.get_logger().warning(
                f'the pipeline is still busy after {_STOP_TIMEOUT:g} s; it is left behind'
            )
        self._processor = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    # Inputs, in the executor's thread: nothing here may take long

    def _subscribe(self, message_type: Any, name: str, callback: Callable, suffix: str = '') -> Any:
        topic = self.resolve_topic_name(name) + suffix

        def on_incompatible(policy: str) -> None:
            self._health.incompatible[name] = policy
            self._log.warn(
                f'qos {name}',
                f'a publisher of {topic} offers an incompatible quality of service ({policy}); '
                'nothing comes from it',
            )

        return create_subscription(
            self,
            message_type,
            topic,
            callback,
            # Calibrations come again and again.
            reliability='best_effort'
            if message_type is CameraInfo
            else self._values.input_reliability,
            on_incompatible=on_incompatible,
            on_lost=lambda number: self._diagnostics.count(f'lost {name}', number),
        )

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._keep_camera_info('rgb/camera_info', self._camera_infos, message)

    def _on_depth_camera_info(self, message: CameraInfo) -> None:
        self._keep_camera_info('depth/camera_info', self._depth_infos, message)

    def _keep_camera_info(
        self, topic: str, infos: dict[str, CameraInfo], message: CameraInfo
    ) -> None:
        self._diagnostics.count(f'received {topic}')
        infos[message.header.frame_id] = message
        while len(infos) > _CAMERA_INFO_FRAMES:
            del infos[next(iter(infos))]

    def _on_rgb(self, message: Any) -> None:
        self._pair('rgb/image', self._pairing.add_rgb, message)

    def _on_depth(self, message: Any) -> None:
        self._pair(self._depth_topic, self._pairing.add_depth, message)

    def _pair(self, topic: str, add: Callable[..., list[Pair]], message: Any) -> None:
        now_ns = time.monotonic_ns()
        self._diagnostics.count(f'received {topic}')
        stamp = message.header.stamp
        stamp_ns = stamp.sec * _NANOSECONDS + stamp.nanosec
        try:
            pairs = add(stamp_ns, Arrival(message, now_ns), now_ns)
        except StampError as error:
            self._drop('bad stamp', f'{topic}: {error}')
            return
        self._forward(pairs)
        self._diagnostics.latency('pair', 1e-9 * (time.monotonic_ns() - now_ns))

    def _on_deadline(self) -> None:
        self._set_deadline(None)
        self._forward(self._pairing.poll(time.monotonic_ns()))

    def _forward(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            rgb_frame = pair.rgb.message.header.frame_id
            depth_frame = pair.depth.message.header.frame_id
            covers = self._values.registers or self._values.assume_registered
            if rgb_frame != depth_frame and not covers:
                self._drop(
                    'frame mismatch',
                    f"depth is in frame '{depth_frame}', RGB in '{rgb_frame}': subscribe to the "
                    "driver's depth that is aligned to colour, start with registration:=true to "
                    'have it put into the RGB view here, or set assume_registered to true if it '
                    'already covers that',
                )
            elif self._worker is not None:
                self._diagnostics.count('held' if pair.held else 'paired')
                self._worker.offer(pair)
        self._set_deadline(self._pairing.next_deadline_ns)

    def _set_deadline(self, deadline_ns: int | None) -> None:
        if deadline_ns == self._deadline_ns:
            return
        self._deadline_ns = deadline_ns
        self._deadline_timer.cancel()
        if deadline_ns is not None:
            delay_ns = max(deadline_ns - time.monotonic_ns(), 1000)
            self._deadline_timer.timer_period_ns = delay_ns
            self._deadline_timer.reset()

    # The worker's thread

    def _process(self, pair: Pair) -> None:
        try:
            self._processor(pair)  # type: ignore[misc]
        except FrameDroppedError as dropped:
            self._drop(dropped.cause, dropped.sentence)

    def _on_worker_error(self, error: Exception) -> None:
        if self.context.ok():  # at shutdown there is nothing left to publish with
            self._drop('pipeline error', f'{type(error).__name__}: {error}')

    # Both threads

    def _on_superseded(self, pair: Pair) -> None:
        self._diagnostics.drop('superseded')

    def _drop(self, cause: str, sentence: str) -> None:
        self._diagnostics.drop(cause, sentence)
        # A stale frame is load, not a fault: the diagnosis of the second says it.
        if cause != 'stale':
            self._log.warn(cause, f'frame dropped, {cause}: {sentence}')

    # Parameters

    def _on_set_parameters(self, changes: list) -> SetParametersResult:
        try:
            self._values = changed_parameters(
                self._values, {change.name: change.value for change in changes}
            )
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._pairing.slop_ns, self._pairing.depth_hold_ns = self._pairing_times()
        return SetParametersResult(successful=True)

    def _make_pairing(self) -> NearestPairing | ApproximatePairing:
        if self._values.pairing == 'nearest':
            return NearestPairing(*self._pairing_times())
        try:
            return ApproximatePairing(*self._pairing_times())
        except ImportError as error:
            raise ParameterError(
                f'pairing is approximate: {remedy(error)}, or set it to nearest'
            ) from error

    def _make_transforms(self) -> Transforms:
        if self._values.registration_source == 'parameters':
            return ParameterTransforms(lambda: self._values)
        try:
            return TfTransforms(self, lambda: self._values)
        except ImportError as error:
            raise ParameterError(
                f'registration_source is tf: {remedy(error)}, or set it to parameters and give '
                'extrinsics_translation and extrinsics_rotation'
            ) from error

    def _make_registration(self) -> Registration:
        # Not before it is needed: it imports torch.
        from depth_sr_ros.ros.registration import Registration

        assert self._transforms is not None
        return Registration(
            self._depth_topic == 'depth/points',
            self._transforms,
            self._camera_infos.get,
            self._depth_infos.get,
            (
                self.resolve_topic_name('rgb/camera_info'),
                self.resolve_topic_name('depth/camera_info'),
            ),
            lambda: self._values,
            self._diagnostics,
        )

    def _pairing_times(self) -> tuple[int, int]:
        values = self._values
        return round(values.slop * _NANOSECONDS), round(values.depth_hold * _NANOSECONDS)

    # Once a second

    def _on_second(self) -> None:
        counts = self._pairing.counts
        self._diagnostics.drop(
            'no partner', amount=counts.no_partner - self._diagnostics.total('dropped no partner')
        )
        self._health.report(
            self._inputs,
            nearest_gap_ns=self._pairing.nearest_gap_ns,
            slop=self._values.slop,
            hardware_id=str(self._description.get('device', '')),
            details={
                'clock jumps': counts.clock_jumps,
                # As it is now: what runs short of memory says so there.
                **(self._description if self._pipeline is None else self._pipeline.description),
                **self._memory(),
            },
        )

    def _memory(self) -> dict[str, str]:
        """What the pipeline holds of the GPU, for /diagnostics; nothing on a CPU."""
        if self._pipeline is None:
            return {}
        return {
            f'gpu memory {kind} [MB]': f'{number / 2**20:.1f}'
            for kind, number in self._pipeline.memory().items()
        }

    def _start_up_line(self) -> str:
        assert self._outputs is not None
        inputs = ', '.join(
            f'{name} <- {subscription.topic_name} ({describe_qos(subscription.qos_profile)})'
            for name, subscription in self._inputs.items()
        )
        output = self._outputs.publishers['depth/image']
        model = ', '.join(f'{key} {value}' for key, value in self._description.items())
        return (
            f'{inputs}; publishes {output.topic_name} ({self._values.output_encoding}, '
            f'{describe_qos(output.qos_profile)}); {model}'
        )


def _make_cv_bridge() -> Any:
    from cv_bridge import CvBridge

    return CvBridge()


def _spin(executor: SingleThreadedExecutor, node: SuperResolutionNode) -> None:
    throttled = ThrottledLog(node.get_logger())
    while rclpy.ok():
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except Exception:  # whatever one message or timer did, the next is served
            if not rclpy.ok():
                return  # a signal ended the context under somebody's hands
            throttled.error('fault', f'unexpected fault, going on:\n{traceback.format_exc()}')


def main(
    args: list[str] | None = None, load: Callable[[NodeParameters], Any] = load_pipeline
) -> int:
    """Run the node until SIGINT, SIGTERM or a fault at start; return the exit code."""
    node = None
    with contextlib.suppress(FileNotFoundError):
        # It is the publisher's side that decides whether large images arrive.
        os.environ.update(profile_environment())
    rclpy.init(args=args)
    try:
        executor = SingleThreadedExecutor()
        node = SuperResolutionNode(load)
        executor.add_node(node)
        if node.values.autostart and not node.start():
            return int(rclpy.ok())  # a signal that came while starting is not a fault
        _spin(executor, node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ParameterError as error:
        print(f'sr_node: {error}', file=sys.stderr)
        return 1
    except Exception:
        if rclpy.ok():
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())

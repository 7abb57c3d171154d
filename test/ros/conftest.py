# SPDX-License-Identifier: Apache-2.0
"""Real processes over real DDS: fixtures that start executables and talk to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROFILE = Path(__file__).parents[2] / 'config' / 'fastdds_images.xml'
FIRST_DOMAIN, DOMAINS = 70, 20


def _domain() -> int:
    """Of each process of this run another one, and mostly others than a run beside it has."""
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    run, number = (os.getppid(), int(worker.removeprefix('gw'))) if worker else (os.getpid(), 0)
    return FIRST_DOMAIN + (4 * run + number) % DOMAINS


@pytest.fixture(scope='session', autouse=True)
def ros_environment():
    """A DDS domain of this run's own, on this machine only, with the large-image profile."""
    values = {
        'ROS_DOMAIN_ID': str(_domain()),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'PYTHONUNBUFFERED': '1',
        # A process that hangs says where, see Process.stop.
        'PYTHONFAULTHANDLER': '1',
        'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE),
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield values


@pytest.fixture(scope='module')
def installed_environment(installed, ros_environment):
    """The environment of this process with the installed copy of the package in front."""
    (code,) = installed.glob('lib/python*/site-packages')
    # The installed script starts the `python3` of the path: this one.
    paths = {
        'AMENT_PREFIX_PATH': installed,
        'PYTHONPATH': code,
        'PATH': os.path.dirname(sys.executable),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in paths.items():
            patch.setenv(name, str(value), prepend=os.pathsep)
        assert shutil.which('python3') == os.path.join(paths['PATH'], 'python3')
        yield dict(os.environ)


class Process:
    """A child process whose output is collected; `wait_for_line` waits for a text in it."""

    def __init__(self, command: list[str]):
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.pid = self._child.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stdout:
            with self._changed:
                self.lines.append(line.rstrip('\n'))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return '\n'.join(self.lines)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def wait_for_line(self, text: str, timeout: float = 60.0) -> str:
        """The first line that contains the text; fails when the process ends before it."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), timeout)
            assert found(), f'{text!r} did not come; the output was:\n{self.output}'
            return found()[0]

    def wait(self, timeout: float = 60.0) -> int:
        code = self._child.wait(timeout)
        self._reader.join(10)
        return code

    def stop(self, number: int = signal.SIGINT, timeout: float = 20.0) -> int:
        """Send a signal and return the exit code; fails with all stacks when nothing ends."""
        if self.alive:
            self._child.send_signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self._child.send_signal(signal.SIGABRT)
            try:
                self.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self.wait()
            name = signal.Signals(number).name
            raise AssertionError(
                f'{name} did not end it in {timeout} s; the output was:\n{self.output}'
            ) from error


@pytest.fixture(scope='module')
def start_process(ros_environment):
    """Start `python ARGUMENTS...` as a child process that ends with the module."""
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process([sys.executable, *arguments]))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture(scope='module')
def start_node(start_process):
    """Start the real `sr_node` with parameters and wait until it subscribes (or not)."""

    def start(
        *arguments: str, name: str = 'sr_node', wait_for: str | None = 'rgb/image <-', **parameters
    ) -> Process:
        values = {'weights': 'interpolation', **parameters}
        settings = [
            word for key, value in values.items() for word in ('-p', f'{key}:={_yaml(value)}')
        ]
        process = start_process(
            '-m',
            'depth_sr_ros.ros.node',
            '--ros-args',
            '-r',
            f'__node:={name}',
            '-r',
            f'__ns:=/{name}',
            *arguments,
            *settings,
        )
        if wait_for:
            process.wait_for_line(wait_for)
        return process

    return start


INJECTED_NODE = """
import sys, time
import numpy as np
from types import SimpleNamespace
from depth_sr_ros.ros.node import main

class Pipeline:
    description = {'weights': 'test', 'device': 'cpu'}

    def memory(self):
        return {'allocated': 3 * 2**20, 'peak': 5 * 2**20}

    def close(self):
        print('pipeline closed', flush=True)

    def __call__(self, rgb, depth, *, out=None):
%s

sys.exit(main(load=lambda parameters: Pipeline()))
"""


@pytest.fixture(scope='module')
def start_injected(start_process):
    """Start the real node around a pipeline whose `__call__(self, rgb, depth)` has this body."""

    def start(
        name: str, body: str, *arguments: str, wait_for: str | None = 'rgb/image <-'
    ) -> Process:
        process = start_process(
            '-c',
            INJECTED_NODE % textwrap.indent(textwrap.dedent(body), ' ' * 8),
            '--ros-args',
            '-r',
            f'__node:={name}',
            '-r',
            f'__ns:=/{name}',
            *arguments,
        )
        if wait_for:
            process.wait_for_line(wait_for)
        return process

    return start


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class RosClient:
    """What a camera and a consumer do: publishes inputs, collects outputs and diagnostics.

    `node_name` is the node under test, started by `start_node` with that name.
    """

    def __init__(self, node_name: str):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, Image

        self.node_name = node_name
        self.prefix = f'/{node_name}'
        self.own = f'/{node_name}/{node_name}'
        self._context = rclpy.Context()
        self._context.init()
        self.node = rclpy.create_node(
            f'client_{os.getpid()}_{time.monotonic_ns()}', context=self._context
        )
        self.changed = threading.Condition()
        self.depths: list[Any] = []
        self.camera_infos: list[Any] = []
        self.statuses: list[Any] = []
        keep = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self.rgb = self.node.create_publisher(Image, f'{self.prefix}/rgb/image', keep)
        self.depth = self.node.create_publisher(Image, f'{self.prefix}/depth/image', keep)
        self.camera_info = self.node.create_publisher(
            CameraInfo, f'{self.prefix}/rgb/camera_info', keep
        )
        self.collect(Image, f'{self.own}/depth/image', self.depths, keep)
        self.collect(CameraInfo, f'{self.own}/depth/camera_info', self.camera_infos, keep)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, keep)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._stamp_ns = 1000 * 10**9

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def collect(self, message_type: Any, topic: str, into: list, qos: Any = 100) -> Any:
        """Subscribe and append every message to a list."""

        def on_message(message: Any) -> None:
            with self.changed:
                into.append(message)
                self.changed.notify_all()

        return self.node.create_subscription(message_type, topic, on_message, qos)

    def _on_diagnostics(self, array: Any) -> None:
        with self.changed:
            self.statuses += [s for s in array.status if s.name.startswith(f'{self.own}:')]
            self.changed.notify_all()

    def close(self) -> None:
        self._executor.shutdown()
        self._context.try_shutdown()
        self._thread.join(10)
        self.node.destroy_node()

    def wait_until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until the condition holds, checked whenever a message comes; return its value."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                value = condition()
                if value or time.monotonic() > deadline:
                    return value
                self.changed.wait(0.05)

    def wait_for_node(self) -> None:
        """Wait until every topic has been discovered by both sides."""
        publishers = (self.rgb, self.depth, self.camera_info)
        assert self.wait_until(
            lambda: (
                all(publisher.get_subscription_count() for publisher in publishers)
                and self.node.count_publishers(f'{self.own}/depth/image')
            ),
            30,
        ), f'{self.own} was not discovered'
        time.sleep(0.3)  # the other side may still be a moment behind

    def next_stamp(self, interval: float = 1.0) -> int:
        """A stamp in nanoseconds, one interval after the last.

        One second is longer than depth is held: whichever image of a pair arrives first waits for
        the other.
        """
        self._stamp_ns += round(interval * 1e9)
        return self._stamp_ns

    def send(
        self,
        rgb: Any = None,
        depth: Any = None,
        *,
        stamp_ns: int | None = None,
        depth_stamp_ns: int | None = None,
    ) -> int:
        """Publish messages or arrays under one stamp, depth first; return the RGB stamp."""
        stamp_ns = self.next_stamp() if stamp_ns is None else stamp_ns
        if depth is not None:
            message = image_message(depth) if isinstance(depth, np.ndarray) else depth
            self.stamp(message, stamp_ns if depth_stamp_ns is None else depth_stamp_ns)
            self.depth.publish(message)
        if rgb is not None:
            message = image_message(rgb) if isinstance(rgb, np.ndarray) else rgb
            self.stamp(message, stamp_ns)
            self.rgb.publish(message)
        return stamp_ns

    @staticmethod
    def stamp(message: Any, stamp_ns: int) -> None:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)

    def outputs_of(self, stamp_ns: int) -> list[Any]:
        return [message for message in self.depths if stamp_of(message) == stamp_ns]

    def exchange(self, rgb: Any, depth: Any, *, timeout: float = 30.0, **stamps) -> Any:
        """Publish a pair and return the depth image that came out for it."""
        seen = len(self.depths)
        stamp_ns = self.send(rgb, depth, **stamps)
        output = self.wait_until(
            lambda: next((m for m in self.depths[seen:] if stamp_of(m) == stamp_ns), None), timeout
        )
        assert output, f'no output; diagnostics: {self.sentence()!r} {self.values()}'
        return output

    def sentence(self) -> str:
        return self.statuses[-1].message if self.statuses else ''

    def values(self) -> dict[str, str]:
        """The newest diagnostics as a dictionary."""
        return {v.key: v.value for v in self.statuses[-1].values} if self.statuses else {}

    def counter(self, name: str) -> int:
        return int(self.values().get(name, 0))

    def fresh_counter(self, name: str) -> int:
        """A counter as of now: waits for the next two diagnostics messages."""
        seen = len(self.statuses)
        assert self.wait_until(lambda: len(self.statuses) >= seen + 2)
        return self.counter(name)

    def wait_for_counter(self, name: str, at_least: int, timeout: float = 30.0) -> None:
        assert self.wait_until(lambda: self.counter(name) >= at_least, timeout), (
            f'{name!r} did not reach {at_least}: {self.values()}'
        )

    def call(self, service_type: Any, service: str, request: Any, timeout: float = 30.0) -> Any:
        client = self.node.create_client(service_type, f'{self.own}/{service}')
        try:
            assert client.wait_for_service(10), f'no service {service}'
            future = client.call_async(request)
            assert self.wait_until(future.done, timeout), f'no answer from {service}'
            return future.result()
        finally:
            self.node.destroy_client(client)

    def set_parameters(self, **values: Any) -> list[Any]:
        """Set parameters atomically; return [successful, reason]."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        request = SetParametersAtomically.Request(
            parameters=[
                Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
            ]
        )
        result = self.call(SetParametersAtomically, 'set_parameters_atomically', request).result
        return [result.successful, result.reason]


@pytest.fixture(scope='module')
def make_client(ros_environment):
    clients: list[RosClient] = []

    def make(node_name: str = 'sr_node') -> RosClient:
        clients.append(RosClient(node_name))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


_ENCODINGS = {('uint8', 3): 'rgb8', ('uint16', 1): '16UC1', ('float32', 1): '32FC1'}


def image_message(array: np.ndarray, encoding: str | None = None, frame_id: str = 'camera') -> Any:
    """A sensor_msgs/Image of an array; the encoding follows from its type unless given."""
    from sensor_msgs.msg import Image

    message = Image()
    message.header.frame_id = frame_id
    message.height, message.width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    message.encoding = encoding or _ENCODINGS[array.dtype.name, channels]
    message.step = array.strides[0]
    message.data.frombytes(np.ascontiguousarray(array).tobytes())
    return message


def image_array(message: Any) -> np.ndarray:
    """The array of a depth image in either output encoding."""
    dtype = {'32FC1': np.float32, '16UC1': np.uint16}[message.encoding]
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


def camera_info_message(width: int, height: int, frame_id: str = 'camera') -> Any:
    """A sensor_msgs/CameraInfo of a camera without distortion whose focal length is its width."""
    from sensor_msgs.msg import CameraInfo

    message = CameraInfo(width=width, height=height, distortion_model='plumb_bob')
    message.header.frame_id = frame_id
    focal, x, y = float(width), (width - 1) / 2, (height - 1) / 2
    message.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


@pytest.fixture(scope='session')
def messages():
    """The functions of this file that make and read messages."""

    class Messages:
        image = staticmethod(image_message)
        array = staticmethod(image_array)
        stamp = staticmethod(stamp_of)
        camera_info = staticmethod(camera_info_message)

    return Messages

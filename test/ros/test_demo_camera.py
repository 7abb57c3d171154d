# SPDX-License-Identifier: Apache-2.0
"""The real `demo_camera` in a process of its own, over DDS."""

import contextlib
import re
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.ros.image_codec import decode_depth, decode_rgb

TOPICS = ('color/image_raw', 'color/camera_info', 'depth/image_raw', 'depth/camera_info')


class Listener:
    """Collects what a camera in a namespace sends, reliably and without limit."""

    def __init__(self, namespace):
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.qos import QoSProfile, qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, Image, TimeReference

        self.namespace = namespace
        self.context = rclpy.Context()
        self.context.init()
        self.node = rclpy.create_node('listener', context=self.context)
        self.messages = {topic: [] for topic in (*TOPICS, 'clip_time')}
        sensor = QoSProfile(depth=500, reliability=qos_profile_sensor_data.reliability)
        for topic in TOPICS:
            kind = CameraInfo if 'info' in topic else Image
            name = f'{namespace}/camera/{topic}'
            self.node.create_subscription(kind, name, self.messages[topic].append, sensor)
        name = f'{namespace}/demo_camera/clip_time'
        self.node.create_subscription(TimeReference, name, self.messages['clip_time'].append, 500)
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self.node)

        def spin():
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        self.thread = threading.Thread(target=spin, daemon=True)
        self.thread.start()
        self.executor = executor

    def reliability(self, topic):
        name = f'{self.namespace}/camera/{topic}'
        deadline = time.monotonic() + 10
        while not (infos := self.node.get_publishers_info_by_topic(name)):
            assert time.monotonic() < deadline, f'{name} was not discovered'
            time.sleep(0.02)
        return infos[0].qos_profile.reliability.name

    def close(self):
        self.executor.shutdown()
        self.context.try_shutdown()
        self.thread.join(10)
        self.node.destroy_node()


@pytest.fixture
def play(start_process, ros_environment):
    """Run a camera to its end; return the listener with all it sent, and its process."""
    listeners = []

    def run(namespace, *arguments):
        listeners.append(Listener(namespace))
        camera = start_process(
            *('-m', 'depth_sr_ros.ros.demo_camera', '--wait', '--seconds', '2', *arguments),
            *('--ros-args', '-r', f'__ns:={namespace}'),
        )
        camera.wait_for_line(' Hz', 60)
        reliability = listeners[-1].reliability('color/image_raw')
        assert camera.wait(60) == 0, camera.output
        return listeners[-1].messages, reliability, camera

    yield run
    for listener in listeners:
        listener.close()


def stamps_of(messages):
    return [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in messages]


def sent_and_skipped(camera):
    line = next(line for line in camera.lines if 'sent ' in line)
    rgb, depth, *skipped = map(int, re.findall(r'\b(\d+)\b', line.partition('sent ')[2]))
    return rgb, depth, skipped


def test_it_is_the_camera_that_was_asked_for(play):
    messages, reliability, camera = play('/default', '--frames', '12', '--reliability', 'reliable')
    clip = DemoClip()
    color, depth = messages['color/image_raw'], messages['depth/image_raw']
    rgb_sent, depth_sent, skipped = sent_and_skipped(camera)
    assert (rgb_sent + skipped[0], depth_sent + skipped[1]) == (60, 30)
    assert (len(color), len(depth)) == (rgb_sent, depth_sent)
    assert reliability == 'RELIABLE'

    assert {(m.width, m.height, m.encoding) for m in color} == {(640, 480, 'rgb8')}
    assert {(m.width, m.height, m.encoding) for m in depth} == {(80, 60, '16UC1')}
    assert {m.header.frame_id for m in (*color, *depth)} == {'camera_color_optical_frame'}

    for images, rate in ((color, 30), (depth, 15)):
        stamps = np.array(stamps_of(images)) / 1e9
        assert (np.diff(stamps) > 0).all()
        beats = np.round((stamps - stamps[0]) * rate)
        assert len(set(beats)) == len(stamps)
        slope, offset = np.polyfit(beats, stamps - stamps[0], 1)
        assert slope == pytest.approx(1 / rate, rel=0.02)
        deviation = (stamps - stamps[0]) - (slope * beats + offset)
        assert 0.0005 < deviation.std() < 0.005

    for name, images in (('color', color), ('depth', depth)):
        infos = messages[f'{name}/camera_info']
        assert stamps_of(infos) == stamps_of(images)
        assert {(i.width, i.height) for i in infos} == {(images[0].width, images[0].height)}
    k = np.array(messages['color/camera_info'][0].k).reshape(3, 3)
    assert k == pytest.approx(clip.intrinsics)
    depth_k = np.array(messages['depth/camera_info'][0].k).reshape(3, 3)
    assert depth_k[0, 0] == pytest.approx(k[0, 0] / 8)
    assert depth_k[1, 2] == pytest.approx((k[1, 2] + 0.5) / 8 - 0.5)

    references = {'color': {}, 'depth': {}}
    for stamp, message in zip(stamps_of(messages['clip_time']), messages['clip_time'], strict=True):
        time = message.time_ref.sec + message.time_ref.nanosec / 1e9
        references[message.source][stamp] = round(time * clip.frame_rate)
    assert set(references['color'].values()) == set(range(12))
    for stamp, message in zip(stamps_of(color), color, strict=True):
        assert np.array_equal(decode_rgb(message), clip.rgb(references['color'][stamp]))
    for stamp, message in zip(stamps_of(depth), depth, strict=True):
        measured = decode_depth(message)
        truth = clip.depth_truth(references['depth'][stamp])[4::8, 4::8]
        valid = measured > 0
        assert 0.80 < valid.mean() < 0.99
        relative = np.abs(measured / truth - 1)[valid]
        assert 0.005 < np.median(relative) < 0.03  # noise of 2% was asked for


def test_other_sizes_rates_and_encodings(play):
    messages, reliability, camera = play(
        '/other',
        *('--frames', '2', '--rgb-size', '320x180', '--rgb-encoding', 'bgra8'),
        *('--depth-encoding', '32FC1', '--degradation', 'scale=2', '--rgb-rate', '10'),
        *('--depth-rate', '20', '--jitter', '0', '--depth-frame', 'camera_depth_optical_frame'),
    )
    color, depth = messages['color/image_raw'], messages['depth/image_raw']
    rgb_sent, depth_sent, skipped = sent_and_skipped(camera)
    assert (rgb_sent + skipped[0], depth_sent + skipped[1]) == (20, 40)
    assert reliability == 'BEST_EFFORT'
    assert len(color) > 10
    assert {(m.width, m.height, m.step, m.encoding) for m in color} == {(320, 180, 1280, 'bgra8')}
    assert {(m.width, m.height, m.step, m.encoding) for m in depth} == {(160, 90, 640, '32FC1')}
    assert {m.header.frame_id for m in depth} == {'camera_depth_optical_frame'}


def ends_with_sentence(start_process, *arguments):
    camera = start_process('-m', 'depth_sr_ros.ros.demo_camera', *arguments)
    assert camera.wait(60) == 1
    assert 'Traceback' not in camera.output
    return camera.output


def test_a_missing_or_truncated_clip_is_named(start_process, tmp_path):
    missing, truncated = tmp_path / 'missing.npz', tmp_path / 'truncated.npz'
    assert str(missing) in ends_with_sentence(start_process, '--clip', str(missing))
    from importlib import resources

    whole = resources.files('depth_sr_ros.ros').joinpath('clip/demo_clip.npz').read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    said = ends_with_sentence(start_process, '--clip', str(truncated))
    assert str(truncated) in said
    assert 'not a demo clip' in said


def test_unusable_parameters_are_quoted(start_process):
    said = ends_with_sentence(start_process, '--degradation', 'scale=banana')
    assert "'scale=banana'" in said
    said = ends_with_sentence(start_process, '--ros-args', '-p', 'rgb_rate:=fast')
    assert "rgb_rate is 'fast'" in said


# Ctrl+C while the camera is being made, in a place that lets no exception out.
INTERRUPTED_IN_A_DESTRUCTOR = """
import os, signal, sys
from depth_sr_ros.ros import demo_camera

class Witness:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

class Camera(demo_camera.DemoCamera):
    def _describe(self, config):
        Witness()
        return super()._describe(config)

demo_camera.DemoCamera = Camera
sys.argv = ['demo_camera', '--frames', '1']
sys.exit(demo_camera.main())
"""


def test_an_interrupt_is_heard_wherever_it_comes(start_process):
    camera = start_process('-c', INTERRUPTED_IN_A_DESTRUCTOR)
    camera.wait_for_line(' Hz')
    assert camera.wait(20) == 0, camera.output
    assert 'Traceback' not in camera.output


def test_whole_numbers_are_rates_too_and_sigint_ends_it(start_process):
    camera = start_process(
        *('-m', 'depth_sr_ros.ros.demo_camera', '--frames', '1'),
        *('--ros-args', '-p', 'rgb_rate:=20', '-r', '__ns:=/whole'),
    )
    assert re.search(r'rgb8, \d+ kB, at 20 Hz', camera.wait_for_line(' Hz'))
    assert camera.stop() == 0, camera.output
    assert 'Traceback' not in camera.output

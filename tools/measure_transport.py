# SPDX-License-Identifier: Apache-2.0
"""Measures how many images of one size pass DDS between two processes, and how late they are.

    .venv/bin/python tools/measure_transport.py --size 1920x1080 --reliable

Prints one line for each choice: config/fastdds_images.xml at neither side, at the publisher only,
at the subscriber only, at both. Latency is from just before the message is filled to the callback.
"""

import argparse
import array
import os
import statistics
import subprocess
import sys
import time

from depth_sr_ros.ros.transport_profile import OLD_VARIABLE, VARIABLE, profile_environment


def quality(reliable):
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    kind = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=1, reliability=kind)


def publish(arguments):
    """Publishes 32FC1 images at the rate asked for, once a subscriber is there."""
    import rclpy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('transport_publisher')
    publisher = node.create_publisher(Image, 'transport_test', quality(arguments.reliable))
    deadline = time.monotonic() + 20
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            sys.exit('no subscriber after 20 s')
        time.sleep(0.05)
    time.sleep(0.5)
    width, height = arguments.size
    pixels = memoryview(bytes(width * height * 4))
    message = Image(width=width, height=height, encoding='32FC1', step=width * 4)
    start = time.monotonic()
    for index in range(arguments.count):
        time.sleep(max(0.0, start + index / arguments.rate - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        data = array.array('B')
        data.frombytes(pixels)
        message.data = data
        publisher.publish(message)
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()


def subscribe(arguments):
    """Counts images until the publisher is gone, then prints 'received median_ms'."""
    import rclpy
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('transport_subscriber')
    latencies = []

    def received(message):
        age = node.get_clock().now() - Time.from_msg(message.header.stamp)
        latencies.append(age.nanoseconds / 1e6)

    node.create_subscription(Image, 'transport_test', received, quality(arguments.reliable))
    deadline = time.monotonic() + arguments.count / arguments.rate + 30
    seen = False
    while time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
        present = bool(node.count_publishers('transport_test'))
        if seen and not present:
            break
        seen = seen or present
    median = statistics.median(latencies) if latencies else float('nan')
    print(len(latencies), f'{median:.1f}')
    node.destroy_node()
    rclpy.shutdown()


def measure(arguments, publisher_profile, subscriber_profile):
    def start(role, profile):
        environment = {k: v for k, v in os.environ.items() if k not in (VARIABLE, OLD_VARIABLE)}
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        if profile:
            environment.update(profile_environment(environment))
        command = [sys.executable, __file__, *sys.argv[1:], '--role', role]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    subscriber = start('subscribe', subscriber_profile)
    publisher = start('publish', publisher_profile)
    output, _ = subscriber.communicate()
    publisher.wait()
    return output.split()


def size(text):
    width, height = (int(n) for n in text.lower().split('x'))
    return width, height


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=size, default=(1920, 1080), metavar='WxH')
    parser.add_argument('--rate', type=float, default=30.0, help='images a second')
    parser.add_argument('--count', type=int, default=150, help='images sent')
    parser.add_argument('--reliable', action='store_true', help='reliable, not best effort')
    parser.add_argument('--role', choices=['publish', 'subscribe'], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        {'publish': publish, 'subscribe': subscribe}[arguments.role](arguments)
        return
    width, height = arguments.size
    reliability = 'reliable' if arguments.reliable else 'best effort'
    print(f'{width}x{height} 32FC1, {arguments.rate:g} Hz, {arguments.count} sent, {reliability}')
    print('publisher  subscriber  received  median latency')
    words = {False: 'default', True: 'profile'}
    for sides in ((False, False), (True, False), (False, True), (True, True)):
        received, latency = measure(arguments, *sides)
        print(f'{words[sides[0]]:9}  {words[sides[1]]:10}  {received:>8}  {latency:>8} ms')


if __name__ == '__main__':
    main()

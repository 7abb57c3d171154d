# SPDX-License-Identifier: Apache-2.0
"""Runs launch_test_sr.py through the real launch_testing, on an installed copy of the package.

Skipped on a machine without ROS's launch_testing: it is not among the ROS 2 wheels.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
for package in ('launch_testing', 'launch_ros'):
    pytest.importorskip(package, reason=f'the ROS package {package} is not installed')


def test_the_launch_file_beside_a_camera(installed_environment):
    test = Path(__file__).with_name('launch_test_sr.py')
    command = [sys.executable, '-m', 'launch_testing.launch_test', str(test)]
    done = subprocess.run(
        command, env=installed_environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Ran 2 tests' in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""One line that says how to get a package that is not installed."""

from __future__ import annotations

import os
import sys

_ROS_PACKAGES = ('cv_bridge', 'message_filters', 'tf2_ros')


def remedy(error: ImportError) -> str:
    """What was looked for, where, and the command that installs it."""
    package = (error.name or 'torch').partition('.')[0]
    if package in _ROS_PACKAGES:
        distribution = os.environ.get('ROS_DISTRO', '$ROS_DISTRO')
        command = f'sudo apt install ros-{distribution}-{package.replace("_", "-")}'
    else:
        command = f'{sys.executable} -m pip install {package}'
    return f'{error}: this node runs in {sys.executable}; install it with `{command}`'

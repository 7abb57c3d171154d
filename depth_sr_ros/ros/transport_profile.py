# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile without which large images do not arrive, and who is to be told of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE'
OLD_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# From Kilted on the old name only makes a deprecation warning.
DISTRIBUTIONS_WITH_OLD_VARIABLE = ('foxy', 'galactic', 'humble', 'iron', 'jazzy')


def profile_path() -> Path:
    """config/fastdds_images.xml, as installed by colcon or by pip, or in the source tree.

    Raises FileNotFoundError naming every place that was looked at.
    """
    shares = [Path(__file__).parents[2], Path(sys.prefix) / 'share' / 'depth_sr_ros']
    try:
        from ament_index_python.packages import get_package_share_directory

        shares.insert(0, Path(get_package_share_directory('depth_sr_ros')))
    except (ImportError, LookupError, OSError):
        pass
    paths = [share / 'config' / 'fastdds_images.xml' for share in shares]
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(f'no Fast DDS profile at {", ".join(map(str, paths))}')


def profile_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What to add to the environment of a process that publishes images.

    Empty where the environment names a profile already: the user's own goes first.
    """
    if environment.get(VARIABLE) or environment.get(OLD_VARIABLE):
        return {}
    path = str(profile_path())
    if environment.get('ROS_DISTRO') in DISTRIBUTIONS_WITH_OLD_VARIABLE:
        return {VARIABLE: path, OLD_VARIABLE: path}
    return {VARIABLE: path}


def profile_advice(environment: Mapping[str, str] = os.environ) -> str:
    """The shell command that gives a camera driver the same profile."""
    old = environment.get('ROS_DISTRO') in DISTRIBUTIONS_WITH_OLD_VARIABLE
    path = profile_path()
    return f'export {VARIABLE}={path}' + (f' {OLD_VARIABLE}={path}' if old else '')

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the data tests."""

import pytest

from depth_sr_ros.data.offscreen_renderer import OffscreenRenderer, RenderingUnavailableError


@pytest.fixture(scope='session')
def opengl():
    """Skip where scenes cannot be rendered, and say why."""
    try:
        OffscreenRenderer((64, 48)).close()
    except RenderingUnavailableError as error:
        pytest.skip(str(error))

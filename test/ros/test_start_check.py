# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest

from depth_sr_ros.ros.start_check import StartCheckError, check_pipeline


def answering(value):
    return lambda rgb, depth: SimpleNamespace(depth=np.full(rgb.shape[:2], value, np.float32))


def test_a_pipeline_that_answers_in_metres_passes():
    check_pipeline(answering(2.1))


@pytest.mark.parametrize('value', [2000.0, 0.5, 1.0, np.nan, np.inf])
def test_another_scale_or_no_numbers_are_refused(value):
    with pytest.raises(StartCheckError, match='a flat wall at 2 m came back at'):
        check_pipeline(answering(value))


def test_another_size_is_refused():
    with pytest.raises(StartCheckError, match=r'depth is \(60, 80\)'):
        check_pipeline(lambda rgb, depth: SimpleNamespace(depth=depth))

# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

pytest.importorskip('diagnostic_msgs', reason='needs ROS 2')

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from depth_sr_ros.ros.diagnosis import Diagnosis, Level
from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.diagnostics_picture import diagnostics_picture

BARS = {Level.OK: 1, Level.WARN: 0, Level.ERROR: 0, Level.STALE: 2}


def status_of(level, sentence):
    clock = itertools.count()
    diagnostics = NodeDiagnostics(clock=lambda: float(next(clock)))
    diagnostics.count('received rgb/image', 120)
    diagnostics.drop('stale', 'waited', 5)
    diagnostics.tick()
    for stage in ('decode', 'pipeline', 'total', 'stamp age'):
        diagnostics.latency(stage, 0.0123)
    return diagnostics.status('/sr_node: depth', 'cpu', Diagnosis(level, 'cause', sentence), {})


@pytest.mark.parametrize('level', list(Level))
def test_the_bar_says_the_level_and_the_text_is_there(level):
    picture = diagnostics_picture(status_of(level, 'publishing'))
    assert (picture.shape, picture.dtype) == ((400, 640, 3), np.uint8)
    assert picture[1, 1].argmax() == BARS[level]
    for rows, columns in ((slice(50, 70), slice(0, 200)), (slice(180, 260), slice(330, 640))):
        assert (picture[rows, columns] > 130).any()


def test_a_long_sentence_stays_above_the_figures_and_anything_can_be_drawn():
    short, long = (
        diagnostics_picture(status_of(Level.WARN, text)) for text in ('short', 'ä word ' * 300)
    )
    assert np.array_equal(short[176:], long[176:])
    empty = DiagnosticStatus(level=DiagnosticStatus.OK)
    assert diagnostics_picture(empty).shape == (400, 640, 3)
    many = DiagnosticStatus(
        level=DiagnosticStatus.OK,
        values=[KeyValue(key=f'rate received {n} [Hz]', value='30.00') for n in range(99)],
    )
    assert diagnostics_picture(many).shape == (400, 640, 3)

# SPDX-License-Identifier: Apache-2.0
from depth_sr_ros.ros.throttled_log import ThrottledLog


class Recorder:
    def __init__(self):
        self.lines = []

    def warning(self, line):
        self.lines.append(('warning', line))

    def error(self, line):
        self.lines.append(('error', line))


def test_each_cause_is_said_once_per_period_and_repeats_are_counted():
    recorder, now = Recorder(), [0.0]
    throttled = ThrottledLog(recorder, period=1.0, clock=lambda: now[0])
    for _ in range(5):
        throttled.warn('step', 'step is 1')
    throttled.error('size', 'size is 0')
    now[0] = 0.99
    throttled.warn('step', 'step is 2')
    now[0] = 1.0
    throttled.warn('step', 'step is 3')
    now[0] = 4.0
    throttled.warn('step', 'step is 4', period=5.0)
    throttled.warn('step', 'step is 5')
    assert recorder.lines == [
        ('warning', 'step is 1'),
        ('error', 'size is 0'),
        ('warning', 'step is 3 (5 more like this)'),
        ('warning', 'step is 5 (1 more like this)'),
    ]

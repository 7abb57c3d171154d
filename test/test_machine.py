# SPDX-License-Identifier: Apache-2.0
import platform
from pathlib import Path

import pytest

from depth_sr_ros.machine import processor_name


def _cpuinfo(monkeypatch, text):
    def read_text(path):
        assert path == Path('/proc/cpuinfo')
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, 'read_text', read_text)


def test_the_processor_as_linux_names_it(monkeypatch):
    _cpuinfo(monkeypatch, 'processor\t: 0\nmodel name\t: Some CPU: 8 cores\nflags\t: fpu\n')
    assert processor_name() == 'Some CPU: 8 cores'


@pytest.mark.parametrize('text', [None, 'processor\t: 0\nCPU part\t: 0xd42\n'])
@pytest.mark.parametrize(
    ('processor', 'machine', 'expected'),
    [('arm', 'aarch64', 'arm'), ('', 'aarch64', 'aarch64'), ('', '', 'unknown processor')],
)
def test_a_machine_that_does_not_name_it(monkeypatch, text, processor, machine, expected):
    _cpuinfo(monkeypatch, text)
    monkeypatch.setattr(platform, 'processor', lambda: processor)
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    assert processor_name() == expected

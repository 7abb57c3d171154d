# SPDX-License-Identifier: Apache-2.0
"""Each situation gets the sentence that says what to do."""

import dataclasses

import pytest

from depth_sr_ros.ros import diagnosis
from depth_sr_ros.ros.diagnosis import InputSituation, Level, Situation, diagnose

GOOD = Situation(
    rgb=InputSituation('rgb/image', '/camera/rgb', publishers=1, recent=120),
    depth=InputSituation('depth/image', '/camera/depth', publishers=1, recent=120),
    paired=120,
    published=120,
    nearest_gap_ms=1.0,
    slop_ms=20.0,
    profile_advice='export FASTDDS_DEFAULT_PROFILES_FILE=/share/profile.xml',
)
SILENT = dataclasses.replace(GOOD, published=0)


def changed(situation=SILENT, **changes):
    for name in ('rgb', 'depth'):
        if isinstance(changes.get(name), dict):
            changes[name] = dataclasses.replace(getattr(situation, name), **changes[name])
    return diagnose(dataclasses.replace(situation, **changes))


def test_all_is_well():
    assert diagnose(GOOD) == diagnosis.Diagnosis(Level.OK, 'ok', 'publishing')


def test_inactive_says_how_to_activate():
    result = changed(GOOD, active=False, node_name='/robot/sr_node')
    assert result.level is Level.STALE
    assert '`ros2 lifecycle set /robot/sr_node activate`' in result.sentence


def test_nothing_is_wrong_in_the_first_seconds():
    assert changed(settled=False, rgb={'recent': 0}).level is Level.OK


@pytest.mark.parametrize('name', ['rgb', 'depth'])
def test_no_publisher_says_how_to_remap(name):
    result = changed(**{name: {'recent': 0, 'publishers': 0}})
    assert result.level is Level.STALE
    assert f'nothing publishes /camera/{name}' in result.sentence
    assert f'-r {name}/image:=' in result.sentence


def test_a_publisher_that_is_not_heard_needs_the_profile(monkeypatch):
    monkeypatch.setattr(diagnosis, 'shared_memory_size', lambda: 2**30)
    result = changed(rgb={'recent': 0})
    assert result.level is Level.ERROR
    assert 'export FASTDDS_DEFAULT_PROFILES_FILE=/share/profile.xml' in result.sentence
    assert '--ipc=host' not in result.sentence


def test_a_small_container_is_named(monkeypatch):
    monkeypatch.setattr(diagnosis, 'shared_memory_size', lambda: 64 * 2**20)
    assert '/dev/shm has only 64 MB' in changed(depth={'recent': 0}).sentence
    assert '--ipc=host' in changed(depth={'recent': 0}).sentence


def test_other_middlewares_are_not_told_of_fast_dds():
    result = changed(rgb={'recent': 0}, middleware='rmw_cyclonedds_cpp')
    assert 'FASTDDS' not in result.sentence
    assert 'check that it is running' in result.sentence


def test_an_incompatible_publisher_is_named_with_the_parameter_that_helps():
    result = changed(depth={'recent': 0, 'incompatible_policy': 'RELIABILITY'})
    assert result.level is Level.ERROR
    assert 'qos_overrides./camera/depth.subscription.reliability' in result.sentence


def test_nothing_pairs():
    result = changed(paired=0, nearest_gap_ms=43.21, drops={'no partner': (100, '')})
    assert result.level is Level.ERROR
    assert 'within slop (20 ms); the nearest is 43.2 ms away' in result.sentence
    assert 'raise slop' in result.sentence


def test_depth_that_comes_now_and_then_is_not_a_matter_of_slop():
    sentence = changed(nearest_gap_ms=1.0, drops={'no partner': (9, '')}, published=20).sentence
    assert 'met one 1.0 ms away: depth images are missing' in sentence
    assert 'raise slop' not in sentence


def test_clocks_that_differ_are_not_a_matter_of_slop():
    sentence = changed(paired=0, nearest_gap_ms=3.6e6, drops={'no partner': (100, '')}).sentence
    assert 'clocks differ' in sentence
    assert 'raise slop' not in sentence


def test_before_any_frame_met_another():
    assert 'has met a depth frame yet' in changed(paired=0, nearest_gap_ms=None).sentence


def test_the_most_frequent_drop_explains_the_silence():
    drops = {'bad message': (5, 'step is 1'), 'no valid depth': (100, 'all 64 pixels are 0')}
    result = changed(drops=drops)
    assert (result.level, result.cause) == (Level.ERROR, 'no valid depth')
    assert 'all 64 pixels are 0' in result.sentence


def test_frames_of_another_camera_are_not_blamed_on_pairing():
    result = changed(paired=0, drops={'frame mismatch': (100, 'set assume_registered')})
    assert 'set assume_registered' in result.sentence


@pytest.mark.parametrize('drops', [{}, {'superseded': (100, '')}, {'stale': (9, 'waited 1 s')}])
def test_a_frame_that_takes_seconds(drops):
    result = changed(drops=drops)
    assert (result.level, result.cause) == (Level.WARN, 'busy')
    assert 'faster device' in result.sentence


@pytest.mark.parametrize(('number', 'level'), [(5, Level.OK), (60, Level.WARN)])
def test_output_with_drops(number, level):
    result = changed(GOOD, drops={'superseded': (number, '')})
    assert result.level is level
    assert f'{number} of {120 + number} frames dropped' in result.sentence


def test_shared_memory_is_measured():
    size = diagnosis.shared_memory_size()
    assert size is None or size > 0

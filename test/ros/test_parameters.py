# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

pytest.importorskip('rclpy')

from depth_sr_ros.ros.parameters import (
    NodeParameters,
    ParameterError,
    changed_parameters,
    descriptor,
)

DEFAULTS = NodeParameters()
FIELDS = {field.name: field for field in dataclasses.fields(NodeParameters)}


@pytest.mark.parametrize('field', FIELDS.values(), ids=FIELDS)
def test_every_parameter_is_described_and_its_default_allowed(field):
    assert field.metadata['text'].endswith('.')
    assert descriptor(field).description == field.metadata['text']
    assert getattr(changed_parameters(DEFAULTS, {field.name: field.default}), field.name) == (
        field.default
    )


def test_numbers_have_ranges_in_their_descriptors():
    bounds = descriptor(FIELDS['slop']).floating_point_range[0]
    assert (bounds.from_value, bounds.to_value) == (0.0, 1.0)
    assert descriptor(FIELDS['output_encoding']).additional_constraints == 'one of 32FC1, 16UC1'
    assert descriptor(FIELDS['weights']).read_only
    assert not descriptor(FIELDS['slop']).read_only


@pytest.mark.parametrize('name', [n for n, f in FIELDS.items() if isinstance(f.default, float)])
def test_numbers_are_taken_within_their_range_only(name):
    low, high = FIELDS[name].metadata['minimum'], FIELDS[name].metadata['maximum']
    for value in (low, high):
        assert getattr(changed_parameters(DEFAULTS, {name: value}), name) == value
    for value in (low - 1e-6, high + 1e-6, float('nan'), float('inf'), True, 'much'):
        with pytest.raises(ParameterError, match=name):
            changed_parameters(DEFAULTS, {name: value})


def test_an_integer_is_a_number():
    values = changed_parameters(DEFAULTS, {'slop': 0})
    assert values.slop == 0.0
    assert isinstance(values.slop, float)


def test_sizes_are_two_integers_in_range():
    assert changed_parameters(DEFAULTS, {'warm_up_rgb_size': [1920, 1080]}).warm_up_rgb_size == (
        1920,
        1080,
    )
    with pytest.raises(ParameterError, match=r'warm_up_rgb_size is \[640\]; it must be 2 numbers'):
        changed_parameters(DEFAULTS, {'warm_up_rgb_size': [640]})
    with pytest.raises(ParameterError, match='warm_up_rgb_size is 63; it must be from 64 to 4096'):
        changed_parameters(DEFAULTS, {'warm_up_rgb_size': [63, 480]})


@pytest.mark.parametrize('name', ['depth_range', 'color_range'])
def test_ranges_are_near_then_far(name):
    assert getattr(changed_parameters(DEFAULTS, {name: [0.5, 4.0]}), name) == (0.5, 4.0)
    with pytest.raises(ParameterError, match=rf'{name} is \[4, 0.5\]; it must be \[near, far\]'):
        changed_parameters(DEFAULTS, {name: [4.0, 0.5]})


def test_all_problems_are_named_together_and_the_old_values_stay():
    with pytest.raises(ParameterError) as error:
        changed_parameters(DEFAULTS, {'slop': -1.0, 'output_encoding': 'mono8', 'max_age': 0.1})
    assert 'slop is -1.0; it must be from 0.0 to 1.0' in str(error.value)
    assert "output_encoding is 'mono8'; it must be one of 32FC1, 16UC1" in str(error.value)
    assert NodeParameters() == DEFAULTS


def test_parameters_of_others_are_let_through():
    assert changed_parameters(DEFAULTS, {'use_sim_time': True}) == DEFAULTS


def test_an_unquoted_off_is_text():
    """`-p relative_depth:=off` reaches the node as the boolean that YAML makes of it."""
    assert changed_parameters(DEFAULTS, {'relative_depth': False}).relative_depth == 'off'
    for value in (True, 3):
        with pytest.raises(ParameterError, match=f'relative_depth is {value}'):
            changed_parameters(DEFAULTS, {'relative_depth': value})

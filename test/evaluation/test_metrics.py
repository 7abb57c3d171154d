# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from depth_sr_ros.evaluation import metrics


def step_image(position=16, near=1.0, far=2.0, size=(32, 48)):
    depth = np.full(size, far)
    depth[:, :position] = near
    return depth


def test_errors_by_hand():
    truth = np.array([[1.0, 2.0], [4.0, 0.0]])
    prediction = np.array([[1.5, 2.0], [3.0, 9.0]])
    # Errors 0.5, 0, -1; the pixel without truth is not scored.
    assert metrics.rmse(prediction, truth) == pytest.approx(np.sqrt((0.25 + 0 + 1) / 3))
    assert metrics.mae(prediction, truth) == pytest.approx(0.5)
    assert metrics.abs_rel(prediction, truth) == pytest.approx((0.5 + 0 + 0.25) / 3)
    inverse = [1000 / 1.5 - 1000, 0, 1000 / 3 - 250]
    assert metrics.irmse(prediction, truth) == pytest.approx(np.sqrt(np.mean(np.square(inverse))))
    # Ratios 1.5, 1, 1.333.
    assert metrics.delta(prediction, truth, 1.25) == pytest.approx(1 / 3)
    assert metrics.delta(prediction, truth, 1.4) == pytest.approx(2 / 3)
    assert metrics.delta(prediction, truth, 1.25**2) == pytest.approx(1)


def test_missing_values_are_not_scored_but_show_in_coverage():
    truth = np.array([[1.0, 2.0, np.nan, 3.0]])
    prediction = np.array([[1.0, 0.0, 5.0, np.inf]])
    assert metrics.rmse(prediction, truth) == 0
    assert metrics.coverage(prediction, truth) == pytest.approx(1 / 3)
    assert np.isnan(metrics.rmse(np.zeros((2, 2)), np.ones((2, 2))))


def test_mask_restricts_and_shapes_are_checked():
    truth, prediction = np.ones((1, 2)), np.array([[1.0, 3.0]])
    assert metrics.mae(prediction, truth, np.array([[False, True]])) == 2
    with pytest.raises(ValueError, match=r'\(2, 2\).*\(1, 2\)'):
        metrics.rmse(np.ones((2, 2)), truth)
    with pytest.raises(ValueError, match='mask'):
        metrics.rmse(prediction, truth, np.ones((2, 2), bool))


def test_discontinuities_mark_both_sides_and_ignore_hole_rims():
    depth = step_image()
    depth[:, 30:34] = 0
    columns = np.flatnonzero(metrics.depth_discontinuities(depth).any(axis=0))
    assert columns.tolist() == [15, 16]
    near = metrics.near_depth_edges(depth, 4)
    assert np.flatnonzero(near[5]).tolist() == list(range(11, 21))
    # 4% is below the ratio of 1.05.
    assert not metrics.depth_discontinuities(step_image(far=1.04)).any()


@pytest.mark.parametrize('shift', [0, 2, 5])
def test_edge_distances_are_the_shift(shift):
    accuracy, completeness = metrics.edge_accuracy_completeness(
        step_image(16 + shift), step_image(16)
    )
    assert accuracy == pytest.approx(shift)
    assert completeness == pytest.approx(shift)


def test_edge_distances_are_capped():
    assert metrics.edge_accuracy_completeness(np.full((32, 48), 1.5), step_image()) == (10, 10)
    accuracy, completeness = metrics.edge_accuracy_completeness(step_image(34), step_image(16))
    assert (accuracy, completeness) == (10, 10)
    assert np.isnan(metrics.edge_accuracy_completeness(step_image(), np.ones((32, 48)))[0])


def test_edges_do_not_depend_on_the_unit():
    rng = np.random.default_rng(1)
    truth = step_image() + rng.normal(0, 0.01, (32, 48))
    prediction = step_image(18) + rng.normal(0, 0.01, (32, 48))
    for function in (metrics.edge_accuracy_completeness, metrics.boundary_f1):
        assert function(prediction * 10, truth * 10) == pytest.approx(function(prediction, truth))


def test_boundary_f1_by_hand():
    truth = step_image()
    assert metrics.boundary_f1(truth, truth) == 1
    assert metrics.boundary_f1(step_image(20), truth) == 0
    # The same place with near and far exchanged is no match.
    assert metrics.boundary_f1(step_image(near=2.0, far=1.0), truth) == 0
    # The right step in the upper half only: 16 of 32 pairs found, none wrong but the 16 pairs of
    # the horizontal step where the columns left of 16 meet depth 2 below: F1 = 2 * 16 / (32 + 32).
    half = truth.copy()
    half[16:] = 2.0
    assert metrics.boundary_f1(half, truth) == pytest.approx(0.5)
    assert np.isnan(metrics.boundary_f1(truth, np.ones_like(truth)))


def test_boundary_f1_is_weighted_by_the_threshold():
    # A true step of 30% predicted as 15%: found at the thresholds below 1.15 only.
    thresholds = np.linspace(1.05, 1.25, 10)
    expected = thresholds[thresholds < 1.15].sum() / thresholds.sum()
    assert metrics.boundary_f1(step_image(far=1.15), step_image(far=1.3)) == pytest.approx(expected)


def test_high_frequency_error_sees_texture_not_offset():
    truth = np.full((64, 64), 2.0)
    checker = 0.01 * (np.indices((64, 64)).sum(axis=0) % 2 * 2 - 1)
    assert metrics.high_frequency_error(truth + 0.1, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.high_frequency_error(truth + checker, truth) == pytest.approx(0.01, rel=0.02)
    assert metrics.added_high_frequency_error(truth + checker, truth + 0.1, truth) == pytest.approx(
        0.01, rel=0.02
    )
    assert metrics.added_high_frequency_error(truth, truth + checker, truth) == 0


def test_added_high_frequency_error_is_not_hidden_by_noise():
    rng = np.random.default_rng(3)
    truth = np.full((128, 128), 2.0)
    noisy = truth + rng.normal(0, 0.02, truth.shape)
    painted = noisy + rng.normal(0, 0.01, truth.shape)
    added = metrics.added_high_frequency_error(painted, noisy, truth)
    assert added == pytest.approx(0.01, rel=0.05)


def test_sparsification_by_hand():
    error = np.array([4.0, 3.0, 2.0, 1.0])
    shares, curve, oracle = metrics.sparsification(error, -error, steps=4)
    assert shares.tolist() == [0, 0.25, 0.5, 0.75]
    assert oracle == pytest.approx(np.array([2.5, 2.0, 1.5, 1.0]) / 2.5)
    assert curve == pytest.approx(oracle)
    _, worst, _ = metrics.sparsification(error, error, steps=4)
    assert worst == pytest.approx(np.array([2.5, 3.0, 3.5, 4.0]) / 2.5)


def test_ause_orders_confidences():
    rng = np.random.default_rng(2)
    error = rng.exponential(1.0, 20000)
    perfect, noisy, reverse = -error, -error + rng.normal(0, 1, error.shape), error
    constant = np.full(error.shape, 0.5)
    values = [metrics.ause(error, c) for c in (perfect, noisy, constant, reverse)]
    assert values[0] == 0
    assert values == sorted(values)
    _, _, oracle = metrics.sparsification(error, constant)
    assert values[2] == pytest.approx(np.mean(1 - oracle), abs=0.02)
    with pytest.raises(ValueError, match='finite'):
        metrics.ause(error, np.full(error.shape, np.nan))


def test_image_metrics_split_edges_holes_and_bands():
    truth = step_image(near=1.5, far=5.0)
    prediction = truth + 0.1
    prediction[:, 13:20] += 0.4
    measured = np.ones(truth.shape, bool)
    measured[:, 40:] = False
    prediction[:, 40:] += 0.2
    values = metrics.image_metrics(prediction, truth, measured=measured)
    # Within 4 px of the edge: columns 11-20, seven of which are 0.5 off.
    assert values['mae_edge'] == pytest.approx((7 * 0.5 + 3 * 0.1) / 10)
    assert values['mae_flat'] == pytest.approx((30 * 0.1 + 8 * 0.3) / 38)
    assert values['rmse_hole'] == pytest.approx(0.3)
    assert values['rmse_1_2m'] == pytest.approx(np.sqrt((13 * 0.01 + 3 * 0.25) / 16))
    assert np.isnan(values['rmse_8m_up'])


def test_aggregate_is_the_mean_of_images_and_skips_undefined_ones():
    images = [{'rmse': 1.0, 'rmse_hole': np.nan}, {'rmse': 3.0, 'rmse_hole': 5.0}]
    assert metrics.aggregate(images) == {'rmse': 2.0, 'rmse_hole': 5.0}

# SPDX-License-Identifier: Apache-2.0
"""
Depth metrics in numpy, one value per image.

All functions take `prediction` and `truth` as float (H, W) arrays in metres; 0, NaN and infinities
mean 'no value'. A pixel is scored where both have a value (and `mask`, bool (H, W), is true where
it is given); `coverage` says which share of the truth that was. A metric without a pixel to score
is NaN. How images are put together is stated by `aggregate`.

torchmetrics has RMSE and MAE only, stateful and without masks: two lines of numpy are not worth
making torch tensors for, so everything is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DEPTH_BANDS = (0.0, 1.0, 2.0, 4.0, 8.0, np.inf)
EDGE_RATIO = 1.05
EDGE_BAND_PX = 4.0
EDGE_DISTANCE_CAP_PX = 10.0
HIGH_PASS_SIGMA_PX = 4.0

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


def has_depth(depth: Array) -> Mask:
    """True where `depth` (any shape, metres) holds a measurement: finite and above zero."""
    with np.errstate(invalid='ignore'):
        return np.isfinite(depth) & (depth > 0)


def scored_pixels(prediction: Array, truth: Array, mask: Mask | None = None) -> Mask:
    """Pixels that both images have, inside `mask`; raises ValueError when shapes differ."""
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f'prediction {prediction.shape} and truth {truth.shape} must be the same (H, W)'
        )
    scored = has_depth(truth) & has_depth(prediction)
    if mask is not None:
        if mask.shape != truth.shape:
            raise ValueError(f'mask {mask.shape} must have the shape of truth {truth.shape}')
        scored &= mask.astype(bool)
    return scored


def _mean(values: Array) -> float:
    return float(np.mean(values, dtype=np.float64)) if values.size else float('nan')


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else np.nan


def rmse(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """Root mean square error, metres."""
    scored = scored_pixels(prediction, truth, mask)
    return _rms(prediction[scored].astype(np.float64) - truth[scored])


def mae(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """Mean absolute error, metres."""
    scored = scored_pixels(prediction, truth, mask)
    return _mean(np.abs(prediction[scored].astype(np.float64) - truth[scored]))


def abs_rel(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """Mean of |prediction - truth| / truth."""
    scored = scored_pixels(prediction, truth, mask)
    reference = truth[scored].astype(np.float64)
    return _mean(np.abs(prediction[scored] - reference) / reference)


def irmse(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """RMSE of inverse depth in 1/km, as the KITTI depth completion benchmark has it."""
    scored = scored_pixels(prediction, truth, mask)
    return _rms(1e3 / prediction[scored].astype(np.float64) - 1e3 / truth[scored])


def delta(
    prediction: Array, truth: Array, threshold: float = 1.25, mask: Mask | None = None
) -> float:
    """Share of pixels with max(prediction / truth, truth / prediction) below `threshold`."""
    scored = scored_pixels(prediction, truth, mask)
    ratio = prediction[scored].astype(np.float64) / truth[scored]
    return _mean((np.maximum(ratio, 1 / ratio) < threshold).astype(np.float64))


def coverage(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """Share of the truth's pixels where the prediction has a value."""
    wanted = has_depth(truth) if mask is None else has_depth(truth) & mask
    return _mean(has_depth(prediction)[wanted].astype(np.float64))


def depth_discontinuities(depth: Array, ratio: float = EDGE_RATIO) -> Mask:
    """
    Mark both pixels of every 4-neighbour pair whose depths differ by more than `ratio`.

    Pairs with a missing value are no discontinuity: a hole's rim says nothing about geometry.
    """
    log_depth = np.log(np.where(has_depth(depth), depth, np.nan).astype(np.float64))
    marked = np.zeros(depth.shape, bool)
    with np.errstate(invalid='ignore'):
        across = np.abs(np.diff(log_depth, axis=1)) > np.log(ratio)
        down = np.abs(np.diff(log_depth, axis=0)) > np.log(ratio)
    marked[:, 1:] |= across
    marked[:, :-1] |= across
    marked[1:] |= down
    marked[:-1] |= down
    return marked


def near_depth_edges(truth: Array, distance_px: float = EDGE_BAND_PX) -> Mask:
    """True within `distance_px` (Euclidean) of a discontinuity of the truth."""
    edges = depth_discontinuities(truth)
    if not edges.any():
        return edges
    return ndimage.distance_transform_edt(~edges) <= distance_px


def _canny_edges(depth: Array, reliable: Mask) -> Mask:
    # Log depth makes one threshold serve near and far. After a Gaussian of sigma the slope of a
    # step h peaks at h / (sigma sqrt(2 pi)): thresholds below are given as steps of 5% and 10%.
    sigma = 2**0.5
    valid = has_depth(depth)
    if not valid.any():
        return np.zeros(depth.shape, bool)
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    log_depth = np.log(depth[tuple(nearest)].astype(np.float64))
    smooth = ndimage.gaussian_filter(log_depth, sigma, mode='nearest')
    # cv2.Canny takes int16 slopes; 4000 units per nat and pixel keep steps up to e^29 in range.
    slopes = [cv2.Sobel(smooth, cv2.CV_64F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))]
    units = 4000.0
    slopes_16 = [np.clip(np.round(s * units), -32767, 32767).astype(np.int16) for s in slopes]
    peak = units / (sigma * np.sqrt(2 * np.pi))
    low, high = (peak * np.log(step) for step in (1.05, 1.10))
    return (cv2.Canny(*slopes_16, low, high, L2gradient=True) > 0) & reliable


def edge_accuracy_completeness(
    prediction: Array, truth: Array, mask: Mask | None = None
) -> tuple[float, float]:
    """
    Depth-boundary errors of iBims-1 (Koch et al. 2018), in pixels: (accuracy, completeness).

    Accuracy is the mean distance of predicted edges to the nearest true edge, over predicted edges
    closer than 10 px; completeness the mean distance of true edges to the nearest predicted edge,
    capped at 10 px. 10 and 10 where nothing near a true edge was predicted; NaN without true edges.
    iBims-1 has hand-drawn true edges; ours are Canny edges of log depth, made the same way for
    both images, away from holes of the truth.
    """
    reliable = has_depth(truth) if mask is None else has_depth(truth) & mask
    reliable = ndimage.binary_erosion(reliable, iterations=3, border_value=1)
    true_edges = _canny_edges(truth, reliable)
    if not true_edges.any():
        return float('nan'), float('nan')
    predicted_edges = _canny_edges(prediction, reliable)
    to_truth = ndimage.distance_transform_edt(~true_edges)
    considered = predicted_edges & (to_truth < EDGE_DISTANCE_CAP_PX)
    if not considered.any():
        return EDGE_DISTANCE_CAP_PX, EDGE_DISTANCE_CAP_PX
    to_prediction = ndimage.distance_transform_edt(~predicted_edges)
    completeness = np.minimum(to_prediction, EDGE_DISTANCE_CAP_PX)[true_edges]
    return _mean(to_truth[considered]), _mean(completeness)


def boundary_f1(prediction: Array, truth: Array, mask: Mask | None = None) -> float:
    """
    Scale-invariant boundary F1 of Depth Pro (Bochkovskii et al. 2024), in [0, 1].

    An occluding boundary is a pair of 4-neighbours whose depth ratio exceeds t, told apart by which
    of the two is nearer; F1 of predicted against true pairs is averaged over ten t from 1.05 to
    1.25, weighted by t. Unlike Depth Pro we pool the four directions and leave out thresholds that
    the truth never exceeds, so that the truth itself always scores 1. NaN when it has no boundary.
    """
    scored = scored_pixels(prediction, truth, mask)
    logs = [np.log(np.where(scored, d, 1.0).astype(np.float64)) for d in (prediction, truth)]
    steps = []
    for axis in (0, 1):
        low, high = (slice(None, -1), slice(1, None))
        first, second = (low, high) if axis == 0 else ((slice(None), low), (slice(None), high))
        both = scored[first] & scored[second]
        predicted, true = (np.diff(d, axis=axis)[both] for d in logs)
        steps += [(predicted, true), (-predicted, -true)]
    predicted = np.concatenate([p for p, _ in steps])
    true = np.concatenate([t for _, t in steps])
    scores, weights = [], []
    for threshold in np.linspace(1.05, 1.25, 10):
        found, wanted = predicted > np.log(threshold), true > np.log(threshold)
        if wanted.any():
            matched = np.count_nonzero(found & wanted)
            scores.append(2 * matched / (np.count_nonzero(found) + np.count_nonzero(wanted)))
            weights.append(threshold)
    return float(np.average(scores, weights=weights)) if scores else float('nan')


def high_frequency_error(
    prediction: Array,
    truth: Array,
    mask: Mask | None = None,
    sigma_px: float = HIGH_PASS_SIGMA_PX,
) -> float:
    """
    RMS in metres of the error's detail: the error minus its (masked) Gaussian blur of `sigma_px`.

    On smooth surfaces all detail is error, so what a method has more of than its input is what it
    painted in: see `added_high_frequency_error`.
    """
    scored = scored_pixels(prediction, truth, mask)
    error = np.where(scored, prediction.astype(np.float64) - np.where(scored, truth, 0), 0.0)
    weight = ndimage.gaussian_filter(scored.astype(np.float64), sigma_px)
    blurred = ndimage.gaussian_filter(error, sigma_px) / np.maximum(weight, 1e-12)
    return _rms((error - blurred)[scored])


def added_high_frequency_error(
    prediction: Array, interpolated: Array, truth: Array, mask: Mask | None = None
) -> float:
    """
    High-frequency error of `prediction` beyond that of the interpolated input, metres, >= 0.

    The difference is of squares: detail that has nothing to do with the input's own errors adds to
    them in quadrature, and a plain difference would hide it behind them.
    """
    both = has_depth(prediction) & has_depth(interpolated)
    both = both if mask is None else both & mask
    before = high_frequency_error(interpolated, truth, both)
    after = high_frequency_error(prediction, truth, both)
    return float(np.sqrt(np.maximum(after**2 - before**2, 0.0)))


def sparsification(
    error: Array, confidence: Array, steps: int = 50
) -> tuple[NDArray, NDArray, NDArray]:
    """
    Error of what is left as the least confident pixels are removed.

    `error` and `confidence` are arrays of one shape, errors >= 0 (absolute, relative, ...).
    Returns (removed shares, mean error by confidence, mean error by oracle), the errors divided by
    the mean over all pixels, so that both start at 1. The oracle removes the largest errors first.
    Ties in confidence are broken at random (fixed seed): a constant confidence is worth nothing.
    """
    error = np.asarray(error, np.float64).ravel()
    confidence = np.asarray(confidence, np.float64).ravel()
    if error.size == 0 or error.shape != confidence.shape:
        raise ValueError(
            f'error ({error.size}) and confidence ({confidence.size}) must be of one size, above 0'
        )
    if not np.isfinite(confidence).all() or not np.isfinite(error).all():
        raise ValueError('error and confidence must be finite everywhere')
    shuffled = np.random.default_rng(0).permutation(error.size)
    by_confidence = shuffled[np.argsort(-confidence[shuffled], kind='stable')]
    shares = np.arange(steps) / steps
    kept = np.maximum(np.round((1 - shares) * error.size).astype(int), 1)
    total = error.mean()
    if total == 0:
        return shares, np.ones(steps), np.ones(steps)

    def remaining(order: NDArray) -> NDArray:
        return (np.cumsum(error[order])[kept - 1] / kept) / total

    return shares, remaining(by_confidence), remaining(np.argsort(error, kind='stable'))


def ause(error: Array, confidence: Array) -> float:
    """
    Area under the sparsification error: between the curves of `sparsification`; 0 is perfect.

    A constant confidence is expected to score the area between 1 and the oracle's curve.
    Ilg et al. 2018, 'Uncertainty estimates and multi-hypotheses networks for optical flow'.
    """
    _, curve, oracle = sparsification(error, confidence)
    return float(np.mean(curve - oracle))


def band_name(low: float, high: float) -> str:
    return f'rmse_{low:g}m_up' if np.isinf(high) else f'rmse_{low:g}_{high:g}m'


def image_metrics(
    prediction: Array,
    truth: Array,
    *,
    measured: Mask | None = None,
    mask: Mask | None = None,
    bands: Sequence[float] = DEPTH_BANDS,
) -> dict[str, float]:
    """
    All metrics of one image.

    measured: bool (H, W), true where the input had a measurement (in the low-resolution cell);
    adds `rmse_hole` and `rmse_measured`.
    """
    scored = scored_pixels(prediction, truth, mask)
    near = near_depth_edges(truth)
    accuracy, completeness = edge_accuracy_completeness(prediction, truth, mask)
    values = {
        'rmse': rmse(prediction, truth, scored),
        'mae': mae(prediction, truth, scored),
        'abs_rel': abs_rel(prediction, truth, scored),
        'irmse': irmse(prediction, truth, scored),
        'delta_1.05': delta(prediction, truth, 1.05, scored),
        'delta_1.25': delta(prediction, truth, 1.25, scored),
        'delta_1.25^2': delta(prediction, truth, 1.25**2, scored),
        'delta_1.25^3': delta(prediction, truth, 1.25**3, scored),
        'rmse_edge': rmse(prediction, truth, scored & near),
        'mae_edge': mae(prediction, truth, scored & near),
        'rmse_flat': rmse(prediction, truth, scored & ~near),
        'mae_flat': mae(prediction, truth, scored & ~near),
        'edge_accuracy': accuracy,
        'edge_completeness': completeness,
        'boundary_f1': boundary_f1(prediction, truth, mask),
        'coverage': coverage(prediction, truth, mask),
    }
    if measured is not None:
        values['rmse_measured'] = rmse(prediction, truth, scored & measured)
        values['rmse_hole'] = rmse(prediction, truth, scored & ~measured)
    for low, high in itertools.pairwise(bands):
        inside = scored & (truth >= low) & (truth < high)
        values[band_name(low, high)] = rmse(prediction, truth, inside)
    return values


def aggregate(images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """
    Mean over images of each metric: every image counts the same, however many pixels it has.

    Images where a metric is undefined (NaN) are left out of that metric's mean.
    """
    names = list(dict.fromkeys(name for image in images for name in image))
    means = {}
    for name in names:
        values = np.array([image.get(name, np.nan) for image in images], np.float64)
        defined = np.isfinite(values)
        means[name] = float(values[defined].mean()) if defined.any() else float('nan')
    return means

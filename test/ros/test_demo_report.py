# SPDX-License-Identifier: Apache-2.0
"""Scoring, table and picture of the demo, on recordings made by hand."""

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs')
pytest.importorskip('rclpy')

from depth_sr_ros.ros import demo_report
from depth_sr_ros.ros.clip_player import ClipPlayerConfig
from depth_sr_ros.ros.demo_monitor import Recording, StampedDepth

MS = 1_000_000
START = 1_000_000 * MS


class StepClip:
    """A step from 1 m to 2 m that moves 8 px a frame; RGB is grey."""

    frame_rate = 30.0

    def __len__(self):
        return 8

    def rgb(self, index):
        return np.full((48, 64, 3), 128, np.uint8)

    def depth_truth(self, index):
        truth = np.full((48, 64), 2.0, np.float32)
        truth[:, : 8 * index] = 1.0
        return truth


def recording_of(error, frames=6, depth_every=2, lag=5 * MS):
    """The step clip, RGB at 30 Hz; outputs are the truth plus `error` metres."""
    clip, recording = StepClip(), Recording()
    for i in range(frames):
        stamp = START + round(i * 1e9 / 30)
        recording.clip_seconds[stamp] = i / 30
        recording.rgb_arrivals.append((stamp, stamp + lag))
        if i % depth_every == 0:
            low = clip.depth_truth(i)[4::8, 4::8].copy()
            recording.depth_sent += 1
            recording.depth.append(StampedDepth(stamp - 2 * MS, 0, stamp + lag, low))
        output = clip.depth_truth(i) + np.float32(error)
        published = stamp + (i + 1) * 10 * MS
        recording.output.append(StampedDepth(stamp, published, published, output))
    recording.diagnostics = {
        'summary': 'publishing',
        'received rgb/image': '6',
        'received depth/image': '3',
        'paired': '3',
        'held': '3',
        'dropped superseded': '2',
        'published depth/image': '6',
        'digest': '0123456789ab',
        'device': 'cpu (2 threads)',
    }
    return recording


def score(recording):
    return demo_report.score_recording(recording, StepClip(), 20 * MS, 100 * MS)


def test_the_replay_takes_the_nearest_depth_or_holds_the_last():
    recording = recording_of(0.0)
    partners = demo_report.replay_pairing(recording, 20 * MS, 100 * MS)
    chosen = [(partners[stamp].stamp_ns - START) / 1e6 for stamp in recording.clip_seconds]
    assert chosen == pytest.approx([-2, -2, 64.67, 64.67, 131.33, 131.33], abs=0.01)


def test_errors_are_those_of_output_and_of_interpolated_input():
    scores = score(recording_of(0.05))
    assert [s.clip_frame for s in scores] == [0, 1, 2, 3, 4, 5]
    assert [s.output_rmse for s in scores] == pytest.approx([0.05] * 6, rel=1e-3)
    assert scores[0].interpolated_rmse == pytest.approx(0, abs=1e-6)  # no step in view yet
    # Frame 1 was given the depth of frame 0: one column of eight cells is a metre off.
    assert scores[1].interpolated_rmse == pytest.approx((8 / 64) ** 0.5, rel=1e-3)
    # A step between two cells, smeared over them by bilinear interpolation.
    weights = (np.arange(8) + 0.5) / 8
    smeared = np.minimum(weights, 1 - weights)
    expected = (np.sum(smeared**2) / 64) ** 0.5
    assert scores[2].interpolated_rmse == pytest.approx(expected, rel=1e-3)
    assert scores[2].interpolated_rmse_edge > scores[2].interpolated_rmse
    assert {s.coverage for s in scores} == {1.0}


def test_an_output_under_a_stamp_that_was_never_sent_is_refused():
    recording = recording_of(0.0)
    stray = recording.output[0]
    recording.output.append(StampedDepth(stray.stamp_ns + 1, 0, 0, stray.depth))
    with pytest.raises(demo_report.UnknownStampError, match=str(stray.stamp_ns + 1)):
        score(recording)


def test_an_output_of_another_size_is_refused():
    recording = recording_of(0.0)
    stray = recording.output[0]
    recording.output[0] = StampedDepth(stray.stamp_ns, 0, 0, stray.depth[::2, ::2])
    with pytest.raises(ValueError, match=r'\(24, 32\).*\(48, 64\)'):
        score(recording)


def test_figures_and_table_say_what_happened():
    recording = recording_of(0.01)
    figures = demo_report.figures(recording, score(recording), ClipPlayerConfig())
    assert figures['frames']['rgb_sent'] == 6
    assert figures['frames']['depth_sent'] == 3
    assert figures['frames']['dropped'] == {'superseded': 2}
    assert figures['frames']['scored'] == 6
    assert figures['latency_ms']['median'] == pytest.approx(35)
    assert figures['latency_ms']['p99'] == pytest.approx(59.5)
    # 33.3 ms between frames and 10 ms more of latency each.
    assert figures['fps'] == pytest.approx(1 / (1 / 30 + 0.01))
    assert figures['error_m']['rmse']['output'] == pytest.approx(0.01, rel=1e-3)
    assert figures['better_frames'] == 5
    assert figures['model']['digest'] == '0123456789ab'
    assert figures['machine']['python']

    table = demo_report.table(figures)
    assert max(map(len, table.splitlines())) <= 80
    assert '1.00 cm' in table
    assert '35 ms' in table
    assert '23.1 of the 30 frames a second' in table
    assert '5 of 6 scored frames' in table


def test_the_typical_frame_is_the_median_one():
    recording = recording_of(0.0)
    for i, output in enumerate(recording.output[1:], start=1):
        output.depth[:] += (0.05, 0.01, 0.04, 0.02, 0.03)[i - 1]
    scores = score(recording)[1:]
    ratios = [s.output_rmse / s.interpolated_rmse for s in scores]
    typical = demo_report.typical_frame(scores)
    assert typical.output_rmse / typical.interpolated_rmse == pytest.approx(np.median(ratios))


def test_the_picture_has_panels_where_they_belong(tmp_path):
    recording = recording_of(0.02)
    scores = score(recording)[1:]
    figures = demo_report.figures(recording, scores, ClipPlayerConfig())
    path = tmp_path / 'demo.png'
    demo_report.write_picture(path, StepClip(), scores, figures)
    picture = cv2.imread(str(path))
    height, width = picture.shape[:2]
    assert 1000 < width < 2000
    assert 500 < height < 1200
    # The first panel is the RGB image, all grey, and the margin is white.
    assert picture[height // 4, width // 6].tolist() == [128, 128, 128]
    assert picture[2, 2].tolist() == [255, 255, 255]
    # True depth (below RGB) and depth out (top right) have the same colours, but for 2 cm.
    true_panel = picture[3 * height // 4, width // 12].astype(int)
    out_panel = picture[height // 4, width * 8 // 12].astype(int)
    assert np.abs(true_panel - out_panel).max() < 40


@pytest.fixture
def run_demo(monkeypatch, tmp_path):
    """`demo.run` with a recording instead of processes; returns the folder of its results."""
    from depth_sr_ros.ros import demo

    def run(recording):
        monkeypatch.setattr(demo, 'DemoClip', lambda path: StepClip())
        monkeypatch.setattr(demo, 'record', lambda args, progress: recording)
        demo.run(demo.parse_arguments(['--out', str(tmp_path)]))
        return tmp_path

    return run


def test_a_better_output_passes_and_leaves_picture_and_figures(run_demo, capsys):
    recording = recording_of(0.001)
    recording.output *= 4  # 24 frames
    out = run_demo(recording)
    assert (out / 'demo.png').stat().st_size > 10_000
    assert '"better_frames": 20' in (out / 'demo.json').read_text()
    printed = capsys.readouterr().out
    assert '0.10 cm' in printed
    assert 'demo.png' in printed


def test_fewer_than_twenty_frames_fail_with_what_the_node_says(run_demo):
    from depth_sr_ros.ros.demo import DemoError

    with pytest.raises(DemoError, match=r'only 6 frames came out.*20.*publishing'):
        run_demo(recording_of(0.001))


def test_an_output_as_bad_as_the_input_fails_with_both_figures(run_demo):
    from depth_sr_ros.ros.demo import DemoError

    recording = recording_of(0.4)
    recording.output *= 4
    with pytest.raises(DemoError, match=r'not better .* RMSE 40\.00 cm against'):
        run_demo(recording)

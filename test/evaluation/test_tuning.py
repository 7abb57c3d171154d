# SPDX-License-Identifier: Apache-2.0
import json

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.evaluation import tuning
from depth_sr_ros.evaluation.baselines import BASELINES
from depth_sr_ros.evaluation.cases import cropped, degraded_cases
from depth_sr_ros.evaluation.scoring import ScoreCache, score_baseline


def test_tuned_settings_are_not_beaten_by_others_on_the_same_frames(scenes, tmp_path):
    frames = list(RGBDFolder(scenes))
    cache = ScoreCache(None)
    tuned = tuning.tune_baselines(frames, cache, degradations=['scale=8,noise=0.02'])
    cases = degraded_cases(frames, parse_degradation('scale=8,noise=0.02'))
    cases = [cropped(case, (48, 64)) for case in cases]
    baseline = BASELINES['fast global smoother']
    best = tuned['scale=8,noise=0.02'][baseline.name]

    def product(settings):
        result = 1.0
        for case in cases:
            result *= score_baseline(baseline, settings, case, cache)['rmse']
        return result

    assert product(best) <= min(product(settings) for settings in baseline.grid[::7]) * (1 + 1e-9)
    assert 'bilinear' not in tuned['scale=8,noise=0.02']
    tuning.write_tuned(tmp_path / 'tuned.json', tuned, {'seed': 0})
    assert json.loads((tmp_path / 'tuned.json').read_text()) == {'seed': 0, 'settings': tuned}


def test_settings_of_the_most_similar_degradation():
    names = ('scale=4', 'scale=4,noise=0.02', 'scale=16,noise=0.02', 'sparse=500', 'kinect')
    tuned = {name: {'guided filter': {'radius': i}} for i, name in enumerate(names)}

    def chosen(degradation):
        name, settings = tuning.tuned_settings(degradation, tuned)
        assert settings['guided filter'] == {'radius': names.index(name)}
        assert settings['bilinear'] == {}
        return name

    assert chosen('scale=4,noise=0.02') == 'scale=4,noise=0.02'
    assert chosen('scale=5,noise=0.03') == 'scale=4,noise=0.02'
    assert chosen('scale=14,noise=0.01') == 'scale=16,noise=0.02'
    assert chosen('bicubic=4') == 'scale=4'
    assert chosen('sparse=200') == 'sparse=500'
    assert chosen('kinect,holes=0.1') == 'kinect'


def test_without_tuned_settings_the_middle_of_the_grid():
    name, settings = tuning.tuned_settings('scale=8', {})
    assert name == ''
    assert all(settings[b.name] in b.grid for b in BASELINES.values())


def test_every_tuned_setting_is_one_of_the_grid():
    for by_baseline in tuning.load_tuned().values():
        for name, settings in by_baseline.items():
            assert settings in BASELINES[name].grid

# SPDX-License-Identifier: Apache-2.0
"""tools/write_model_card.py: figures come from the weights they stand beside, or not at all."""

import importlib.util
import json
from pathlib import Path

import pytest

from depth_sr_ros.model.config import DepthSRConfig, FusionUNetConfig
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.pipeline import state_digest

TOOL = Path(__file__).resolve().parent.parent / 'tools' / 'write_model_card.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('write_model_card', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weights(tmp_path):
    record = {'step': 3, 'ratio/x8': 0.8, 'score': 0.8}
    config = DepthSRConfig(fusion=FusionUNetConfig(stem=2, widths=(8, 8, 8, 8)), name='tiny')
    header = {'git': 'abc', 'score': '0.8', 'step': '3', 'validation': json.dumps(record)}
    DepthSR(config).save(tmp_path / 'tiny', metadata=header)
    return tmp_path / 'tiny'


def report(digest, *, oracle=True):
    def method(kind, rmse):
        return {'kind': kind, 'mean': {'rmse': rmse, 'rmse_edge': 2 * rmse}}

    methods = {
        'bilinear': method('baseline', 0.06),
        'guided filter': method('baseline', 0.05),
        'fast global smoother': method('baseline', 0.055),
        'interpolated input': method('input', 0.06),
        'ours': method('network', 0.04),
    }
    if oracle:
        methods['guided filter']['oracle'] = {'rmse': 0.049}
        methods['fast global smoother']['oracle'] = {'rmse': 0.045}
    return {
        'command': 'cli.py evaluate /somewhere/rgbd_real --suite --out /else/suite',
        'machine': 'a CPU',
        'networks': {
            'ours': {
                'digest': digest, 'precision': 'float32', 'device': 'cpu (2 threads)',
                'relative_depth': 'none',
            }
        },
        'rows': [{'row': 'redwood scale=8', 'frames': ['a', 'b'], 'methods': methods}],
        'checks': [
            {'name': 'better', 'figure': -0.3, 'limit': -0.2, 'note': '', 'passed': True},
            {'name': 'best', 'figure': -0.3, 'limit': -0.4, 'note': '', 'passed': False},
        ],
    }  # fmt: skip


def test_figures_of_the_weights(tool, weights):
    text = tool.figures(
        weights, report(state_digest(DepthSR.from_pretrained(weights))), tool.EarlierOracle()
    )
    assert '50.0 (guided filter) | 45.0 (fast global smoother) | **40.0** (-20%)' in text
    assert '120 -> 80' in text
    assert '| 0.800 |' in text
    assert '1 of 2 reached' in text
    assert '| SHORT | best |' in text
    assert 'depth_sr evaluate rgbd_real --suite --out suite' in text
    assert 'somewhere' not in text


def test_figures_without_an_oracle_say_so(tool, weights):
    digest = state_digest(DepthSR.from_pretrained(weights))
    none = tool.EarlierOracle()
    text = tool.figures(weights, report(digest, oracle=False), none)
    assert '50.0 (guided filter) | - | **40.0**' in text
    assert "oracle's" not in text
    assert '| 50.0 | - | **40.0** |' in tool.short_table(report(digest, oracle=False), none)


def test_an_oracle_of_an_earlier_card_is_taken_over_where_the_baselines_are_the_same(tool, weights):
    digest = state_digest(DepthSR.from_pretrained(weights))
    card = tool.figures(weights, report(digest), tool.EarlierOracle()).replace(digest, 'a' * 12)
    earlier = tool.EarlierOracle(card)
    text = tool.figures(weights, report(digest, oracle=False), earlier)
    assert '50.0 (guided filter) | 45.0 (fast global smoother) | **40.0**' in text
    assert f"oracle's figures of {'a' * 12}'s evaluation" in text
    assert '| 50.0 | 45.0 | **40.0** |' in tool.short_table(report(digest, oracle=False), earlier)
    # From a card that has them from another one: that one is named.
    third = tool.figures(weights, report(digest, oracle=False), tool.EarlierOracle(text))
    assert f"oracle's figures of {'a' * 12}'s evaluation" in third
    # Other frames, or baselines tuned otherwise.
    other = tool.EarlierOracle(card.replace('50.0 (guided filter)', '50.2 (guided filter)'))
    assert '50.0 (guided filter) | - |' in tool.figures(
        weights, report(digest, oracle=False), other
    )


def test_figures_of_other_weights_are_refused(tool, weights):
    with pytest.raises(ValueError, match='other-digest'):
        tool.figures(weights, report('other-digest'), tool.EarlierOracle())


def test_the_short_table_goes_between_the_markers_of_the_readme(
    tool, weights, tmp_path, monkeypatch
):
    digest = state_digest(DepthSR.from_pretrained(weights))
    (tmp_path / 'evaluation.json').write_text(json.dumps(report(digest)))
    readme = tmp_path / 'README.md'
    for path in (readme, weights / 'README.md'):
        path.write_text(f'before\n{tool.BEGIN}old\n{tool.END}after\n')
    arguments = [str(weights), str(tmp_path / 'evaluation.json'), '--readme', str(readme)]
    monkeypatch.setattr('sys.argv', ['write_model_card.py', *arguments])
    tool.main()
    text = readme.read_text()
    assert '| redwood scale=8 (2) | 60.0 | 50.0 | 45.0 | **40.0** |' in text
    assert '1 of the 2 goals' in text
    assert text.startswith('before\n')
    assert text.endswith('after\n')
    assert 'old' not in text
    readme.write_text('no markers')
    with pytest.raises(SystemExit, match='figures: begin'):
        tool.main()

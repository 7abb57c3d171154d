# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime behind the seam, against PyTorch: the real runtime, a small model."""

import copy
from pathlib import Path

import numpy as np
import pytest

from depth_sr_ros import export
from depth_sr_ros.inference import onnx_session
from depth_sr_ros.inference.onnx_engine import OnnxEngine
from depth_sr_ros.inference.onnx_file_engine import OnnxFileEngine
from depth_sr_ros.inference.onnx_graph import GraphSizes, with_metadata
from depth_sr_ros.inference.onnx_session import OnnxFileError, choose_providers, open_session

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
SIZES = GraphSizes((128, 96), (32, 24))


@pytest.fixture(scope='module')
def content(small_model):
    model = copy.deepcopy(small_model)
    model.relative_depth = None
    names = {'weights': 'small', 'digest': 'abc', 'relative_depth': 'none'}
    return export.export(model, None, SIZES, names)


def test_other_sizes_get_a_graph_and_pytorch_answers_meanwhile(small_model, make_engine, pair):
    eager = make_engine(guide=False)
    engine = OnnxEngine(
        copy.deepcopy(small_model), guide=None, eager=eager, device='cpu', threads=1, digest='t'
    )
    rgb, depth = pair(96, 64)
    outs = [np.empty(rgb.shape[:2], np.float32) for _ in range(4)]
    for out in outs[:3]:
        engine.run(rgb, depth, out)
    engine.wait(300)
    engine.run(rgb, depth, outs[3])
    assert np.array_equal(outs[0], outs[1])
    assert np.allclose(outs[3], outs[0], rtol=1e-3)
    path = engine._cache.path(GraphSizes((96, 64), (24, 16)))
    graph = engine._cache.read(GraphSizes((96, 64), (24, 16)))
    assert graph is not None
    path.write_bytes(path.read_bytes()[:1000])
    assert engine._cache.read(GraphSizes((96, 64), (24, 16))) is None
    engine.close()
    with pytest.raises(RuntimeError, match='closed'):
        engine.run(rgb, depth, outs[0])


def test_a_file_gives_the_same_and_takes_its_own_size_only(content, make_engine, pair, tmp_path):
    path = tmp_path / 'small.onnx'
    path.write_bytes(content)
    engine = OnnxFileEngine(path, 'cpu', 1)
    assert engine.metadata['digest'] == 'abc'
    assert engine.fixed_sizes[:2] == SIZES[:2]
    rgb, depth = pair(128, 96)
    out, expected = np.empty((2, *rgb.shape[:2]), np.float32)
    engine.run(rgb, depth, out)
    make_engine(guide=False).run(rgb, depth, expected)
    assert np.allclose(out, expected, rtol=1e-3)
    with pytest.raises(ValueError, match='exported for RGB 128x96 with depth 32x24, but RGB 96x64'):
        engine.run(*pair(96, 64), np.empty((64, 96), np.float32))


def test_damaged_and_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / 'bad.onnx'
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(OnnxFileError, match=r'bad\.onnx: ONNX Runtime cannot run'):
        OnnxFileEngine(path, 'cpu', 1)
    graph = onnx.load_from_string(content)
    del graph.metadata_props[:]
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(OnnxFileError, match='no metadata of depth_sr_ros'):
        OnnxFileEngine(path, 'cpu', 1)
    path.write_bytes(with_metadata(content, {'graph_version': 99}))
    with pytest.raises(OnnxFileError, match='version is 99'):
        OnnxFileEngine(path, 'cpu', 1)
    with pytest.raises(FileNotFoundError, match='no such file'):
        OnnxFileEngine(tmp_path / 'none.onnx', 'cpu', 1)


def test_providers_best_first():
    every = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    assert [name for name, _ in choose_providers('auto', every)] == every
    assert [name for name, _ in choose_providers('cpu', every)] == every[2:]
    with pytest.raises(ValueError, match='onnxruntime-gpu'):
        choose_providers('cuda:0', every[2:])


def test_engines_of_tensorrt_are_kept_where_a_folder_can_be_made(monkeypatch, tmp_path):
    every = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'not' / 'there'))
    (_, options), *_ = choose_providers('cuda:0', every)
    assert options['trt_engine_cache_enable']
    assert Path(options['trt_engine_cache_path']).is_dir()
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert choose_providers('cuda:0', every)[0] == ('TensorrtExecutionProvider', {'device_id': 0})


def test_another_provider_than_the_one_asked_for_is_said(content, monkeypatch, caplog):
    open_session(content, 'cpu', 1)
    assert not caplog.records
    wanted = [('CUDAExecutionProvider', {}), ('CPUExecutionProvider', {})]
    monkeypatch.setattr(onnx_session, 'choose_providers', lambda *_: wanted)
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda graph, options, providers: real(graph, options, providers=providers[1:]),
    )
    open_session(content, 'cuda', 1)
    assert 'by CPUExecutionProvider, not by CUDAExecutionProvider' in caplog.text


def test_there_are_no_dynamic_sizes():
    with pytest.raises(ValueError, match='sizes are fixed'):
        export.parse_size('--size', 'dynamic')

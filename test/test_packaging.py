# SPDX-License-Identifier: Apache-2.0
"""What the package promises to colcon, pip and its readers: files, scripts, borders, references."""

import ast
import importlib.util
import re
import runpy
import stat
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'depth_sr_ros'
SOURCES = sorted(
    path
    for folder in ('depth_sr_ros', 'launch', 'test', 'tools')
    for path in (ROOT / folder).rglob('*.py')
)
ROS_PACKAGES = {'rclpy', 'message_filters', 'tf2_ros', 'cv_bridge', 'ament_index_python', 'launch'}
# What a distribution is called when it is not called like what it is imported as.
DISTRIBUTIONS = {'cv2': 'opencv-contrib-python-headless', 'yaml': 'pyyaml'}


def imported_packages(path):
    """{top-level package: line} of every import in a file, late ones and type checks included."""
    packages = {}
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or '']
        else:
            continue
        for name in names:
            packages.setdefault(name.split('.')[0], node.lineno)
    return packages


def is_ros(package):
    return package in ROS_PACKAGES or package.endswith(('_msgs', '_interfaces'))


def load_tool(name):
    specification = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def normalized(requirement):
    """'OpenEXR>=3.3' -> 'openexr'"""
    return re.split(r'[<>=!~;\[ ]', requirement)[0].lower().replace('_', '-')


def requirements(setup_arguments):
    """Every requirement of the package and of its extras."""
    groups = [setup_arguments['install_requires'], *setup_arguments['extras_require'].values()]
    return {requirement for group in groups for requirement in group}


@pytest.fixture(scope='module')
def setup_arguments():
    """The keyword arguments with which setup.py calls setuptools.setup."""
    setuptools = pytest.importorskip('setuptools')
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        patch.setattr(setuptools, 'setup', lambda **arguments: calls.append(arguments))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / 'setup.py'))
    return calls[0]


@pytest.mark.parametrize('script', ['sr_node', 'demo_camera', 'depth_sr'])
def test_scripts_are_where_ros_looks_and_use_the_active_python(installed, script):
    path = installed / 'lib/depth_sr_ros' / script
    assert path.read_text().splitlines()[0] == '#!/usr/bin/env python3'
    assert path.stat().st_mode & stat.S_IXUSR


def test_share_holds_everything_that_launch_needs(installed):
    share = installed / 'share/depth_sr_ros'
    for folder in ('launch', 'config'):
        expected = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert {path.name for path in (share / folder).iterdir()} == expected
    assert (share / 'package.xml').is_file()
    assert (installed / 'share/ament_index/resource_index/packages/depth_sr_ros').is_file()


def test_data_files_are_installed_with_the_code(installed):
    (code,) = installed.glob('lib/python*/site-packages/depth_sr_ros')
    data = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob('*')
        if path.is_file() and path.suffix not in {'.py', '.pyc'} and '__pycache__' not in path.parts
    ]
    assert data, 'no data files in the source tree'
    missing = [str(path) for path in data if not (code / path).is_file()]
    assert not missing


def test_package_xml_and_setup_agree(setup_arguments):
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.get('format') == '3'
    for tag in ('name', 'version', 'license'):
        assert package.findtext(tag) == setup_arguments[tag]
    assert package.findtext('export/build_type') == 'ament_python'


def test_every_import_is_declared(setup_arguments):
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    # builtin_interfaces comes with every message package.
    ros = {element.text for element in package if element.tag.endswith('depend')}
    ros.add('builtin_interfaces')
    pip = {normalized(requirement) for requirement in requirements(setup_arguments)}
    undeclared = []
    for path in SOURCES:
        if not path.is_relative_to(PACKAGE):
            continue
        for name, line in imported_packages(path).items():
            if name in sys.stdlib_module_names or name == 'depth_sr_ros':
                continue
            if name not in ros and DISTRIBUTIONS.get(name, normalized(name)) not in pip:
                undeclared.append(f'{path.relative_to(ROOT)}:{line} {name}')
    assert not undeclared


def test_every_requirement_is_pinned_for_every_python(setup_arguments):
    pins = {}
    for line in (ROOT / 'constraints.txt').read_text().splitlines():
        if not line.startswith('#'):
            requirement, _, marker = line.partition(';')
            pins.setdefault(normalized(requirement), []).append(marker.strip())
    for requirement in requirements(setup_arguments):
        name = normalized(requirement)
        assert name in pins, f'{name} is not in constraints.txt: run tools/pin_constraints.py'
        markers = pins[name]
        assert markers == [''] or {'<', '>='} <= {m.split()[1] for m in markers}, name


def test_only_the_ros_half_imports_ros():
    offenders = [
        f'{path.relative_to(ROOT)}:{line} {name}'
        for path in SOURCES
        if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / 'ros')
        for name, line in imported_packages(path).items()
        if is_ros(name)
    ]
    assert not offenders


def test_the_ros_half_imports_no_tensors():
    offenders = [
        f'{path.relative_to(ROOT)}:{line} {name}'
        for path in SOURCES
        if path.is_relative_to(PACKAGE / 'ros')
        for name, line in imported_packages(path).items()
        if name in {'torch', 'torchvision', 'transformers', 'lightning'}
    ]
    assert not offenders


@pytest.mark.parametrize('module', ['frame_pairing', 'image_codec', 'transport_profile'])
def test_bags_and_launch_can_use_these_without_rclpy(module):
    packages = imported_packages(PACKAGE / 'ros' / f'{module}.py')
    assert not [name for name in packages if is_ros(name) and name != 'ament_index_python']


def test_sources_say_their_licence():
    files = [*SOURCES, *(ROOT / 'config').iterdir(), ROOT / 'Makefile', ROOT / '.ci/run']
    assert [
        str(path.relative_to(ROOT))
        for path in files
        if 'SPDX-License-Identifier: Apache-2.0' not in path.read_text(encoding='utf-8')[:200]
    ] == []


def test_parameter_references_are_in_step_with_the_node():
    pytest.importorskip('rcl_interfaces', reason='needs ROS 2')
    tool = load_tool('write_parameter_reference')
    advice = 'run tools/write_parameter_reference.py'
    assert (ROOT / 'config/sr.yaml').read_text(encoding='utf-8') == tool.parameters_file(), advice
    document = (ROOT / 'docs/node.md').read_text(encoding='utf-8')
    assert document == tool.with_table(document), advice


def test_parameters_file_gives_the_nodes_own_defaults():
    pytest.importorskip('rcl_interfaces', reason='needs ROS 2')
    yaml = pytest.importorskip('yaml')
    from depth_sr_ros.ros.parameters import NodeParameters

    values = yaml.safe_load((ROOT / 'config/sr.yaml').read_text())['/**']['ros__parameters']
    assert NodeParameters.validated(values) == NodeParameters()


def test_beside_ros_what_is_installed_keeps_its_version(monkeypatch):
    tool = load_tool('make_venv')
    system = {'numpy': '1.26.4', 'PyYAML': '6.0.1'}

    def version(name):
        if name in system:
            return system[name]
        raise tool.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(tool.metadata, 'version', version)
    pins = (
        "numpy==2.2.6; python_version < '3.11'\nnumpy==2.5.5; python_version >= '3.11'\n"
        "# a comment\nPyYAML==6.0.3\npytest==9.2.0\nscipy==1.17.1; python_version == '3.11'\n"
    )
    assert tool.constraints_beside_ros(pins).splitlines() == [
        'numpy<2',
        'pytest<9',
        "scipy<=1.17.1; python_version == '3.11'",
    ]

# SPDX-License-Identifier: Apache-2.0
"""The package for colcon (ament_python) and for pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'depth_sr_ros'
HERE = Path(__file__).resolve().parent  # colcon --symlink-install runs a link to this file

REQUIRES = [
    'numpy>=1.26',
    'torch>=2.4',
    'transformers>=5.0',
    'huggingface_hub>=1.0',
    'safetensors>=0.4.3',
    'PyYAML',
    'tqdm',
    'matplotlib',
    'scipy',
]
EXTRAS = {
    # cv2 and rclpy come from ROS where ROS is installed; these two are for machines without it.
    # cv2 is not a requirement above because a second cv2 beside ROS's own breaks both.
    'opencv': ['opencv-contrib-python-headless>=4.10'],
    'ros': [
        'ros-kilted-rclpy',
        'ros-kilted-sensor-msgs',
        'ros-kilted-geometry-msgs',
        'ros-kilted-diagnostic-msgs',
        'ros-kilted-lifecycle-msgs',
        'ros-kilted-std-msgs',
        'ros-kilted-rmw-fastrtps-cpp',
        'ros-kilted-ament-index-python',
    ],
    'train': [
        'lightning>=2.4',
        'torchmetrics',
        'tensorboard',
        'mujoco>=3.3.3',
        'OpenEXR>=3.3',
    ],
    'bag': ['rosbags>=0.10'],
    'export': ['onnx>=1.17', 'onnxruntime>=1.20'],
    'test': ['pytest>=7', 'pytest-xdist>=3', 'hypothesis>=6'],
}
EXTRAS['dev'] = [*EXTRAS['test'], 'ruff', 'mypy']


def files_below(folder, base):
    """Every file below base/folder, relative to base (setuptools before 62.3 knows no '**')."""
    return sorted(
        str(path.relative_to(base))
        for path in (base / folder).rglob('*')
        if path.is_file() and path.suffix not in {'.py', '.pyc'}
    )


def shared(folder):
    """One data_files entry: the files of a folder, below share/depth_sr_ros."""
    files = sorted(str(p.relative_to(HERE)) for p in (HERE / folder).iterdir() if p.is_file())
    return f'share/{NAME}/{folder}', files


package = HERE / NAME
setup(
    name=NAME,
    version='0.1.0',
    description='Dense metric depth at camera rate from RGB and low-resolution or sparse depth',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='depth_sr_ros developers',
    author_email='maintainers@users.noreply.example.com',
    maintainer='depth_sr_ros developers',
    maintainer_email='maintainers@users.noreply.example.com',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(exclude=['test*', 'tools*']),
    package_data={
        NAME: [
            *files_below('weights', package),
            *files_below('ros/clip', package),
            *files_below('training/configs', package),
            'evaluation/*.json',
        ]
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        shared('launch'),
        shared('config'),
    ],
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'sr_node = depth_sr_ros.ros.node:main',
            'demo_camera = depth_sr_ros.ros.demo_camera:main',
            'depth_sr = depth_sr_ros.cli:main',
        ]
    },
)

# SPDX-License-Identifier: Apache-2.0
"""Dense metric depth from RGB and sparse or low-resolution depth: a ROS 2 node and a library."""

import os

# OpenMP's threads spin while they wait, and on a busy machine they keep each other off the cores:
# one frame took 23 s instead of 0.8 s beside eight other processes on two cores. The variable is
# read when torch is first imported; what the user has set stays.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

# ONNX Runtime reports what it runs to its makers unless this is set before it is imported.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')

# SPDX-License-Identifier: Apache-2.0
"""What computes behind the seam: engines, each of which runs the model its own way."""

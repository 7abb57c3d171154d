# SPDX-License-Identifier: Apache-2.0
"""RGB-D data sets, rendered scenes and degradations of depth."""

# SPDX-License-Identifier: Apache-2.0
# The compiling part of a buildroot; package.py compiles.

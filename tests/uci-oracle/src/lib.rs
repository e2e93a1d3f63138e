// SPDX-License-Identifier: Apache-2.0
//! The comparison itself is in `tests/`.

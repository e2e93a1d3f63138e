// SPDX-License-Identifier: Apache-2.0
//! End-to-end tests against real parts; the helpers they share are in `lab`.

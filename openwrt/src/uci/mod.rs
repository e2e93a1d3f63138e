// SPDX-License-Identifier: Apache-2.0
//! UCI configuration: a reader in safe Rust and a typed layer above it.

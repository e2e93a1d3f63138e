// SPDX-License-Identifier: Apache-2.0
//! Power quality monitor for OpenWrt.

fn main() {}

// SPDX-License-Identifier: Apache-2.0
//! Access points: what the configuration says, what is on the air, and the smallest way from one to the other.

pub mod air;
pub mod bss_config;
pub mod hostapd;
pub mod plan;
pub mod switch;

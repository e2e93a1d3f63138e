// SPDX-License-Identifier: Apache-2.0
//! The `raw_*` options.

use crate::raw::{Mode, Settings};
use crate::storage::is_volatile;
use openwrt::uci::Reader;
use std::time::Duration;

/// Defaults of `raw_size_kb`: on a medium, 80 minutes of the oscilloscope; in memory, three.
const ON_A_MEDIUM: u32 = 100 * 1024;
const IN_MEMORY: u32 = 4 * 1024;

pub(super) fn read(reader: &mut Reader) -> Option<Settings> {
    let path = reader.optional_path("raw_path");
    let size = reader.optional_integer("raw_size_kb", 64_u32..=1 << 24);
    let events = reader.choice("raw_mode", &[("continuous", false), ("events", true)], false);
    let margin =
        reader.duration("raw_margin", Duration::ZERO..=Duration::from_secs(60), Duration::from_secs(2));
    let path = path?;
    let size = size.unwrap_or(if is_volatile(&path) { IN_MEMORY } else { ON_A_MEDIUM });
    let mode = if events { Mode::Events { margin } } else { Mode::Continuous };
    Some(Settings { path, limit: u64::from(size) * 1024, mode })
}

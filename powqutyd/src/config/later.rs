// SPDX-License-Identifier: Apache-2.0
//! Options of parts that are not there yet: the raw recording. A file that uses them is valid.

use openwrt::uci::Reader;

const NO_EFFECT: &str = "has no effect in this version";

pub(super) fn read(reader: &mut Reader) {
    let raw = reader.optional_path("raw_path").is_some();
    note(reader, "raw_path", raw);
    reader.optional_integer("raw_size_kb", 64_u32..=1 << 24);
}

/// Says so where someone has switched on what is not there.
fn note(reader: &mut Reader, option: &str, used: bool) {
    if used {
        reader.warning(option, None, NO_EFFECT);
    }
}

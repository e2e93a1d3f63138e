// SPDX-License-Identifier: Apache-2.0
//! Local time for quiet hours and for people.

pub(crate) fn utc_offset_s(_unix_s: i64) -> i32 {
    0
}

// SPDX-License-Identifier: Apache-2.0
//! What a process takes of its machine (proc(5)); `None` once it has ended.

use std::fs;

/// A line of its `status`, in kB: `RssAnon` (memory of its own that is in RAM), `VmRSS`.
pub fn memory_kb(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The numbers of its open files.
pub fn descriptors(pid: u32) -> Option<Vec<u32>> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

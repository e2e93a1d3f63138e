// SPDX-License-Identifier: Apache-2.0
//! Whether memory stays bounded. libFuzzer's own limits look at the process as a whole, once a second; this one sees
//! every allocation of a target.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// As much more than before may a target hold at a time: a small router's free memory, and far more than any parser of
/// ours is meant to take for the at most 256 KiB that a fuzzer or a kept input gives it.
const MOST: usize = 24 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static BEYOND: AtomicBool = AtomicBool::new(false);

/// The system's allocator, with a limit while a target runs. For processes that run one target at a time.
#[derive(Debug)]
pub struct Bounded;

impl Bounded {
    /// Runs a target.
    ///
    /// # Panics
    /// When it held more than the limit at any moment.
    pub fn during(run: impl FnOnce()) {
        LIMIT.store(LIVE.load(Relaxed).saturating_add(MOST), Relaxed);
        run();
        LIMIT.store(usize::MAX, Relaxed);
        assert!(!BEYOND.swap(false, Relaxed), "a target held more than {} MB", MOST >> 20);
    }
}

fn took(bytes: usize) {
    if LIVE.fetch_add(bytes, Relaxed) + bytes > LIMIT.load(Relaxed) {
        BEYOND.store(true, Relaxed);
    }
}

fn gave(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is; only numbers are kept beside it.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        System.alloc_zeroed(layout)
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        gave(layout.size());
        System.realloc(block, layout, size)
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        gave(layout.size());
        System.dealloc(block, layout);
    }
}

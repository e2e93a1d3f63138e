// SPDX-License-Identifier: Apache-2.0
//! The buffer of the thread, and what a receiver did not take of it.
//!
//! Everything is read into one buffer that all connections share. What a receiver leaves over is copied when it is
//! little; when it is much, the connection keeps the buffer itself and the thread goes on with another, of which there
//! are [`LENT`] at most. With more connections than that waiting for their receivers, only [`NARROW`] is read at a time,
//! and what is left over of that is copied: a thousand receivers that do not read cost 32 MB, not 256.

use std::cell::RefCell;

use crate::record::MAX_RECORD;

/// Size of a buffer.
pub const SIZE: usize = 256 * 1024;
/// Buffers that connections may keep at a time.
const LENT: usize = 8;
/// Buffers that are kept though nobody needs them.
const SPARE: usize = 2;
/// What is used of the buffer while [`LENT`] are away: a record that was begun and a whole one.
const NARROW: usize = 2 * MAX_RECORD;
/// What is copied in any case.
const LITTLE: usize = 16 * 1024;

thread_local! {
    static THREAD: RefCell<Thread> = const { RefCell::new(Thread { shared: Vec::new(), spare: Vec::new(), lent: 0 }) };
}

struct Thread {
    shared: Vec<u8>,
    spare: Vec<Vec<u8>>,
    lent: usize,
}

/// Calls with the buffer of the thread, or with the beginning of it, which has room for `least` bytes (at most [`SIZE`]).
pub fn with<T>(least: usize, call: impl FnOnce(&mut [u8]) -> T) -> T {
    THREAD.with_borrow_mut(|thread| {
        if thread.shared.is_empty() {
            thread.shared = thread.spare.pop().unwrap_or_else(|| vec![0; SIZE]);
        }
        let length = if thread.lent < LENT { SIZE } else { least.clamp(NARROW, SIZE) };
        call(&mut thread.shared[..length])
    })
}

/// What a receiver did not take yet.
#[derive(Debug, Default)]
pub struct Rest {
    bytes: Vec<u8>,
    // Of buffers of [`SIZE`] at most; every connection has two of these.
    at: u32,
    end: u32,
    /// It is a buffer of the thread.
    lent: bool,
}

impl Rest {
    /// These bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Rest { at: 0, end: bytes.len() as u32, bytes, lent: false }
    }

    /// This part of the buffer of the thread.
    pub fn of_shared(at: usize, end: usize) -> Self {
        THREAD.with_borrow_mut(|thread| {
            if end - at > LITTLE && thread.lent < LENT {
                thread.lent += 1;
                let bytes = std::mem::take(&mut thread.shared);
                return Rest { bytes, at: at as u32, end: end as u32, lent: true };
            }
            Rest::of(thread.shared[at..end].to_vec())
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.at as usize..self.end as usize]
    }

    /// So many were taken.
    pub fn taken(&mut self, length: usize) {
        self.at += length as u32;
        if self.is_empty() {
            *self = Rest::default();
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if !self.lent {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        // There is none while the thread ends.
        let _ = THREAD.try_with(|thread| {
            let mut thread = thread.borrow_mut();
            thread.lent = thread.lent.saturating_sub(1);
            if thread.spare.len() < SPARE {
                thread.spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(byte: u8) -> usize {
        with(0, |buffer| {
            buffer.fill(byte);
            buffer.len()
        })
    }

    #[test]
    fn what_is_left_over_stays_as_it_was_and_memory_is_bounded() {
        std::thread::spawn(|| {
            let mut rests = Vec::new();
            for byte in 0..50 {
                let length = fill(byte);
                assert_eq!(length, if usize::from(byte) < LENT { SIZE } else { NARROW });
                rests.push(Rest::of_shared(100, length - usize::from(byte)));
            }
            assert_eq!(rests.iter().filter(|rest| rest.lent).count(), LENT);
            for (byte, rest) in (0..50).zip(&rests) {
                assert!(rest.bytes().iter().all(|read| *read == byte));
            }
            assert_eq!(rests[49].bytes().len(), NARROW - 149);
            assert!(
                rests.iter().map(|rest| rest.bytes.capacity()).sum::<usize>() <= LENT * SIZE + 42 * NARROW
            );
            assert_eq!(with(3 * NARROW, |buffer| buffer.len()), 3 * NARROW);
            drop(rests);
            assert_eq!(THREAD.with_borrow(|thread| (thread.lent, thread.spare.len())), (0, SPARE));
            assert_eq!(fill(77), SIZE);
            let mut rest = Rest::of_shared(0, SIZE);
            rest.taken(SIZE - 3);
            assert_eq!(rest.bytes(), [77; 3]);
            rest.taken(3);
            assert!(rest.is_empty());
            assert_eq!(THREAD.with_borrow(|thread| thread.lent), 0);
            assert_eq!(fill(78), SIZE);
            let little = Rest::of_shared(0, LITTLE);
            assert_eq!((little.bytes.len(), little.bytes().len()), (LITTLE, LITTLE));
        })
        .join()
        .unwrap();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A raw recording read in the order of time, in constant memory.

use super::format::{self, Block, BLOCK, MAGIC};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Blocks of a recording, oldest first; damaged ones are left out.
#[derive(Debug)]
pub struct Recording {
    file: File,
    places: u64,
    /// Next place to look at, and places still to be looked at.
    next: u64,
    left: u64,
    number: u64,
    /// Blocks that were there and could not be read.
    pub damaged: u64,
}

/// Where to go on writing in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Place of the newest block, none in an empty file.
    pub place: Option<u64>,
    /// Its number.
    pub number: u64,
    /// Its stretch.
    pub stretch: u32,
}

/// Whether the file begins as a raw recording does.
///
/// # Errors
/// It cannot be read.
pub fn is_recording(file: &File) -> io::Result<bool> {
    let mut first = [0; MAGIC.len()];
    Ok(file.read_at(&mut first, 0)? == first.len() && first == MAGIC)
}

/// Blocks that claim to be the newest and are damaged before the search is given up.
const TRIES: usize = 16;

/// Looks for the newest block. Only the beginning of each is read, and the whole of the one that is found.
///
/// # Errors
/// The file cannot be read.
pub fn end(file: &File) -> io::Result<End> {
    let places = file.metadata()?.len().div_ceil(BLOCK as u64);
    let mut below = u64::MAX;
    for _ in 0..TRIES {
        let mut found = None;
        for place in 0..places {
            let mut head = [0; 20];
            let read = file.read_at(&mut head, place * BLOCK as u64)?;
            let Some((number, _)) = format::claim(&head[..read]) else { continue };
            if number < below && found.is_none_or(|(_, newest)| number > newest) {
                found = Some((place, number));
            }
        }
        let Some((place, number)) = found else { break };
        let mut bytes = [0; BLOCK];
        read_whole(file, &mut bytes, place * BLOCK as u64)?;
        if let Some(block) = format::decode(&bytes) {
            return Ok(End { place: Some(place), number, stretch: block.stretch });
        }
        below = number;
    }
    Ok(End::default())
}

impl Recording {
    /// Looks for the oldest block.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let places = file.metadata()?.len().div_ceil(BLOCK as u64);
        let next = end(&file)?.place.map_or(0, |newest| newest + 1);
        Ok(Self { file, places, next, left: places, number: 0, damaged: 0 })
    }

    /// The next block; `None` after the newest one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_block(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = [0; BLOCK];
        while self.left > 0 {
            let place = self.next % self.places;
            self.next = place + 1;
            self.left -= 1;
            let read = read_whole(&self.file, &mut bytes, place * BLOCK as u64)?;
            if bytes[..read].iter().all(|&byte| byte == 0) {
                // A place that was never written.
                continue;
            }
            match format::decode(&bytes).filter(|block| read == BLOCK && block.number > self.number) {
                Some(block) => {
                    self.number = block.number;
                    return Ok(Some(block));
                }
                None => self.damaged += 1,
            }
        }
        Ok(None)
    }

    /// Share of the file that has been read, from 0 to 1.
    #[must_use]
    pub fn progress(&self) -> f64 {
        1.0 - self.left as f64 / self.places.max(1) as f64
    }
}

fn read_whole(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

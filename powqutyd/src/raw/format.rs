// SPDX-License-Identifier: Apache-2.0
//! The blocks of a raw recording; no I/O.
//!
//! A recording is a file of whole blocks of 4096 bytes, little-endian, each complete in itself:
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | `PQR1` |
//! | 4–7 | CRC-32 (IEEE 802.3) of bytes 8–4095 |
//! | 8–15 | number of the block, counted up from 1 for as long as the file lives |
//! | 16–19 | number of the stretch: a new one when the daemon starts or measures anew |
//! | 20–21 | number of samples |
//! | 22 | encoding: 0 = 32-bit floats, in volts; 1 = 16-bit integers, volts = (raw − offset) × scale |
//! | 23 | bit 0: the clock was synchronised |
//! | 24–31 | position of the first sample in the stretch, missing samples counted |
//! | 32–39 | UTC of the first sample in ns since 1970 (signed) |
//! | 40–47 | measured sampling rate in Hz (64-bit float) |
//! | 48–51 | declared sampling rate in Hz (32-bit float) |
//! | 52–59 | scale (V per LSB) and offset (LSB), 32-bit floats |
//! | 60–63 | 0 |
//! | 64–4095 | the samples; the rest is 0 |
//!
//! The file is a ring: after the last place comes the first again, and the order in time is that of the numbers. A
//! block that was torn by a crash fails its checksum and is a gap.

use crate::source::decode::Scaling;
use openwrt::crc32::crc32;

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// Most samples that fit in a block, as 16-bit integers.
pub const MOST_SAMPLES: usize = (BLOCK - HEADER) / 2;

/// First bytes of each block.
pub const MAGIC: [u8; 4] = *b"PQR1";

const HEADER: usize = 64;
const FLOATS: u8 = 0;
const INTEGERS: u8 = 1;
const SYNCHRONISED: u8 = 1;

/// Where and when the samples of a block were taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Position of the first sample in its stretch.
    pub position: u64,
    /// UTC of the first sample in seconds since 1970.
    pub unix_s: f64,
    /// Measured sampling rate (Hz).
    pub rate: f64,
    /// Declared sampling rate (Hz).
    pub nominal_rate: f64,
    /// The clock was synchronised.
    pub synchronised: bool,
}

/// A block that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its stretch.
    pub stretch: u32,
    /// Where its samples lie.
    pub place: Place,
    /// Its samples (V).
    pub volts: Vec<f32>,
}

/// Writes the first samples of `volts` as a block and says how many that were. As integers where the converter's
/// `scaling` gives exactly these voltages back, else as floats.
pub fn encode(
    number: u64,
    stretch: u32,
    place: Place,
    scaling: Option<Scaling>,
    volts: &[f32],
    block: &mut [u8; BLOCK],
) -> usize {
    block.fill(0);
    let Scaling { scale, offset } = scaling.unwrap_or_default();
    let most = &volts[..volts.len().min(MOST_SAMPLES)];
    let payload = &mut block[HEADER..];
    let integers = scaling.is_some_and(|scaling| as_integers(most, scaling, payload));
    let (count, encoding) = if integers {
        (most.len(), INTEGERS)
    } else {
        payload.fill(0);
        let count = volts.len().min((BLOCK - HEADER) / 4);
        for (bytes, volt) in payload.chunks_exact_mut(4).zip(&volts[..count]) {
            bytes.copy_from_slice(&volt.to_le_bytes());
        }
        (count, FLOATS)
    };
    block[8..16].copy_from_slice(&number.to_le_bytes());
    block[16..20].copy_from_slice(&stretch.to_le_bytes());
    block[20..22].copy_from_slice(&(count as u16).to_le_bytes());
    block[22] = encoding;
    block[23] = if place.synchronised { SYNCHRONISED } else { 0 };
    block[24..32].copy_from_slice(&place.position.to_le_bytes());
    block[32..40].copy_from_slice(&((place.unix_s * 1e9) as i64).to_le_bytes());
    block[40..48].copy_from_slice(&place.rate.to_le_bytes());
    block[48..52].copy_from_slice(&(place.nominal_rate as f32).to_le_bytes());
    block[52..56].copy_from_slice(&scale.to_le_bytes());
    block[56..60].copy_from_slice(&offset.to_le_bytes());
    block[..4].copy_from_slice(&MAGIC);
    let sum = crc32(&block[8..]);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
    count
}

fn as_integers(volts: &[f32], scaling: Scaling, payload: &mut [u8]) -> bool {
    let Scaling { scale, offset } = scaling;
    volts.iter().zip(payload.chunks_exact_mut(2)).all(|(&volt, bytes)| {
        // The conversion saturates; what does not come back exactly is refused.
        let raw = (volt / scale + offset).round() as i16;
        bytes.copy_from_slice(&raw.to_le_bytes());
        (f32::from(raw) - offset) * scale == volt
    })
}

/// The number and the stretch that a block claims, its checksum unseen; `None` where there is no block.
#[must_use]
pub fn claim(head: &[u8]) -> Option<(u64, u32)> {
    let head: &[u8; 20] = head.first_chunk()?;
    if head[..4] != MAGIC {
        return None;
    }
    Some((u64::from_le_bytes(array(head, 8)), u32::from_le_bytes(array(head, 16))))
}

/// Reads a block; `None` where there is none, or a damaged one.
#[must_use]
pub fn decode(block: &[u8; BLOCK]) -> Option<Block> {
    let (number, stretch) = claim(block)?;
    if crc32(&block[8..]) != u32::from_le_bytes(array(block, 4)) {
        return None;
    }
    let count = usize::from(u16::from_le_bytes(array(block, 20)));
    let scale = f32::from_le_bytes(array(block, 52));
    let offset = f32::from_le_bytes(array(block, 56));
    let place = Place {
        position: u64::from_le_bytes(array(block, 24)),
        unix_s: i64::from_le_bytes(array(block, 32)) as f64 / 1e9,
        rate: f64::from_le_bytes(array(block, 40)),
        nominal_rate: f64::from(f32::from_le_bytes(array(block, 48))),
        synchronised: block[23] & SYNCHRONISED != 0,
    };
    let sound = |rate: f64| rate.is_finite() && (1.0..=1e7).contains(&rate);
    if !sound(place.rate) || !sound(place.nominal_rate) {
        return None;
    }
    let payload = &block[HEADER..];
    let volts: Vec<f32> = match block[22] {
        FLOATS if count <= payload.len() / 4 => {
            payload.chunks_exact(4).take(count).map(|bytes| f32::from_le_bytes(array(bytes, 0))).collect()
        }
        INTEGERS if count <= payload.len() / 2 => {
            let raw = payload.chunks_exact(2).take(count).map(|bytes| i16::from_le_bytes(array(bytes, 0)));
            raw.map(|raw| (f32::from(raw) - offset) * scale).collect()
        }
        _ => return None,
    };
    Some(Block { number, stretch, place, volts })
}

/// `N` bytes at `at`; the callers stay within the block.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place {
        position: 12_345_678_901,
        unix_s: 1_795_170_605.828,
        rate: 10_240.204_8,
        nominal_rate: 10_240.0,
        synchronised: true,
    };

    fn there_and_back(volts: &[f32], scaling: Option<Scaling>) -> (usize, Block) {
        let mut block = [0; BLOCK];
        let count = encode(7, 3, PLACE, scaling, volts, &mut block);
        (count, decode(&block).expect("what was written can be read"))
    }

    #[test]
    fn what_a_converter_gave_comes_back_exactly_in_half_the_space() {
        let scaling = Scaling { scale: 0.025, offset: 12.0 };
        let volts: Vec<f32> = (-1008..1008).map(|raw| (raw as f32 * 13.0 - 12.0) * 0.025).collect();
        let (count, block) = there_and_back(&volts, Some(scaling));
        assert_eq!((count, block.number, block.stretch), (MOST_SAMPLES, 7, 3));
        assert_eq!(block.volts, volts);
        assert_eq!(Place { unix_s: PLACE.unix_s, ..block.place }, PLACE);
        assert!((block.place.unix_s - PLACE.unix_s).abs() < 1e-6);
        // One that is no step of the converter.
        let (count, block) = there_and_back(&[&[0.01], &volts[1..]].concat(), Some(scaling));
        assert_eq!((count, block.volts[0]), (MOST_SAMPLES / 2, 0.01));
    }

    #[test]
    fn every_bit_counts() {
        let mut block = [0; BLOCK];
        encode(1, 1, PLACE, None, &[230.0; 5], &mut block);
        for bit in (0..BLOCK * 8).step_by(37) {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_voltages_come_back(volts in proptest::collection::vec(-1e6_f32..1e6, 0..2500), scale in 1e-3_f32..1.0) {
            let (count, block) = there_and_back(&volts, Some(Scaling { scale, offset: 0.5 }));
            prop_assert_eq!(&block.volts[..], &volts[..count]);
        }

        #[test]
        fn any_bytes_are_read_without_panic(head in proptest::collection::vec(any::<u8>(), 60)) {
            let mut block = [0; BLOCK];
            block[8..60].copy_from_slice(&head[8..]);
            block[..4].copy_from_slice(&MAGIC);
            let sum = crc32(&block[8..]);
            block[4..8].copy_from_slice(&sum.to_le_bytes());
            let _ = decode(&block);
        }
    }
}

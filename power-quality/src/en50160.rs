// SPDX-License-Identifier: Apache-2.0
//! Limits of EN 50160 for low voltage, one table per edition.

use crate::config::NetworkType;
use crate::result::Cell;

/// Highest harmonic order that has a limit.
pub const LIMITED_ORDERS: usize = 25;

/// What one edition of the standard asks of the supply voltage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edition {
    /// Name of the edition.
    pub name: &'static str,
    /// Limits of orders 1 to 25 in % of the fundamental; zero where there is none (4.2.5, table 1).
    pub harmonics: [f64; LIMITED_ORDERS],
    /// Limit of the total harmonic distortion in % (4.2.5).
    pub thd: f64,
    /// Limit of the long-term flicker severity (4.2.3.2).
    pub flicker: f64,
    /// Frequency and voltage in an interconnected network (4.2.1, 4.2.2).
    pub interconnected: Bands,
    /// Frequency and voltage in an island.
    pub island: Bands,
    /// Signalling voltage: (frequency in Hz, % of the nominal voltage), in between log-log (4.2.7, figure 1).
    pub signalling: &'static [(f64, f64)],
}

/// Bands of slow voltage and frequency deviations, all in % of the nominal value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bands {
    /// Frequency band for the ordinary share of the time: lower, upper.
    pub frequency: (f64, f64),
    /// Share of the 10 s values, in %, that may leave it.
    pub frequency_share: f64,
    /// Frequency band for all values.
    pub frequency_always: (f64, f64),
    /// Voltage band for 95 % of the 10-minute values.
    pub voltage: (f64, f64),
    /// Voltage band for all values.
    pub voltage_always: (f64, f64),
}

impl Edition {
    /// The bands that apply to a network.
    #[must_use]
    pub fn bands(&self, network: NetworkType) -> &Bands {
        match network {
            NetworkType::Interconnected => &self.interconnected,
            NetworkType::Island => &self.island,
        }
    }

    /// Limit of a harmonic order in % of the fundamental, where there is one.
    #[must_use]
    pub fn harmonic(&self, order: usize) -> Option<f64> {
        order.checked_sub(1).and_then(|index| self.harmonics.get(index)).copied().filter(|&limit| limit > 0.0)
    }

    /// Limit of the signalling voltage at a frequency in Hz, in % of the nominal voltage.
    #[must_use]
    pub fn signalling_limit(&self, hertz: f64) -> Option<f64> {
        let (&first, &last) = (self.signalling.first()?, self.signalling.last()?);
        if hertz <= first.0 {
            return Some(first.1);
        }
        let pair = self.signalling.windows(2).find(|pair| hertz <= pair[1].0);
        Some(pair.map_or(last.1, |pair| {
            let ((f0, p0), (f1, p1)) = (pair[0], pair[1]);
            p0 * libm::pow(p1 / p0, libm::log(hertz / f0) / libm::log(f1 / f0))
        }))
    }
}

/// EN 50160:2010.
pub const EDITION_2010: Edition = Edition {
    name: "EN 50160:2010",
    harmonics: [
        0.0, 2.0, 5.0, 1.0, 6.0, 0.5, 5.0, 0.5, 1.5, 0.5, 3.5, 0.5, 3.0, 0.5, 0.5, 0.5, 2.0, 0.5, 1.5, 0.5,
        0.5, 0.5, 1.5, 0.5, 1.5,
    ],
    thd: 8.0,
    flicker: 1.0,
    interconnected: Bands {
        frequency: (-1.0, 1.0),
        frequency_share: 0.5,
        frequency_always: (-6.0, 4.0),
        voltage: (-10.0, 10.0),
        voltage_always: (-15.0, 10.0),
    },
    island: Bands {
        frequency: (-2.0, 2.0),
        frequency_share: 5.0,
        frequency_always: (-15.0, 15.0),
        voltage: (-15.0, 10.0),
        voltage_always: (-15.0, 10.0),
    },
    signalling: &[(100.0, 9.0), (500.0, 9.0), (1_000.0, 5.0), (10_000.0, 5.0), (100_000.0, 1.0)],
};

/// The edition that everything uses unless told otherwise.
pub const CURRENT: &Edition = &EDITION_2010;

/// Cell of the dip table for a residual voltage in % and a duration (EN 50160:2010 table 2); columns end with
/// their upper edge. Beyond a minute there is none.
#[must_use]
pub fn dip_cell(residual_percent: f64, duration_s: f64) -> Option<Cell> {
    let row = match residual_percent {
        u if u >= 80.0 => 'A',
        u if u >= 70.0 => 'B',
        u if u >= 40.0 => 'C',
        u if u >= 5.0 => 'D',
        _ => 'X',
    };
    cell(row, duration_s, &[0.2, 0.5, 1.0, 5.0, 60.0])
}

/// Cell of the swell table for a maximum in % and a duration (EN 50160:2010 table 4).
#[must_use]
pub fn swell_cell(maximum_percent: f64, duration_s: f64) -> Option<Cell> {
    let row = if maximum_percent >= 120.0 { 'S' } else { 'T' };
    cell(row, duration_s, &[0.5, 5.0, 60.0])
}

fn cell(row: char, duration_s: f64, columns: &[f64]) -> Option<Cell> {
    let column = columns.iter().position(|&edge| duration_s <= edge)?;
    Some(Cell { row, column: column as u8 + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cell: Option<Cell>) -> String {
        cell.map_or_else(String::new, |cell| cell.to_string())
    }

    #[test]
    fn dip_cells_end_with_their_upper_edge() {
        for (residual, duration, expected) in [
            (89.9, 0.02, "A1"),
            (80.0, 0.2, "A1"),
            (79.9, 0.2001, "B2"),
            (70.0, 0.5, "B2"),
            (40.0, 1.0, "C3"),
            (5.0, 5.0, "D4"),
            (4.9, 60.0, "X5"),
            (50.0, 60.1, ""),
        ] {
            assert_eq!(named(dip_cell(residual, duration)), expected, "{residual} {duration}");
        }
    }

    #[test]
    fn swell_cells() {
        for (maximum, duration, expected) in
            [(120.0, 0.5, "S1"), (119.9, 0.51, "T2"), (111.0, 60.0, "T3"), (130.0, 61.0, "")]
        {
            assert_eq!(named(swell_cell(maximum, duration)), expected, "{maximum} {duration}");
        }
    }

    #[test]
    fn signalling_curve_is_continuous() {
        let limit = |hertz| EDITION_2010.signalling_limit(hertz).unwrap();
        assert_eq!(limit(200.0), 9.0);
        assert!((limit(1_000.0) - 5.0).abs() < 1e-12);
        assert!(limit(700.0) < 9.0 && limit(700.0) > 5.0);
        assert_eq!(limit(2_000.0), 5.0);
    }
}

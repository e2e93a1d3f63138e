// SPDX-License-Identifier: Apache-2.0
//! Values of one second: five 10/12-cycle windows together, the pace of PowQuty's log and telemetry.

use power_quality::Window;

/// The harmonics PowQuty logs.
pub const LOGGED_ORDERS: [usize; 7] = [3, 5, 7, 9, 11, 13, 15];

/// Windows per [`Second`].
const WINDOWS: u32 = 5;

/// 50 cycles (60 at 60 Hz).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// Start in seconds of signal.
    pub start_s: f64,
    /// End in seconds of signal.
    pub end_s: f64,
    /// RMS voltage (V).
    pub voltage: f64,
    /// Mean frequency (Hz); `None` where no window had one.
    pub frequency: Option<f64>,
    /// [`LOGGED_ORDERS`] in % of the fundamental.
    pub harmonics: [Option<f64>; LOGGED_ORDERS.len()],
    /// THD (%).
    pub thd: Option<f64>,
    /// Voltage and frequency of the last window.
    pub last: (f64, Option<f64>),
    /// A dip, swell, interruption or gap touches it.
    pub flagged: bool,
}

/// Collects windows into seconds (IEC 61000-4-30 4.5: RMS values by the square root of the mean square).
#[derive(Debug, Clone, Copy, Default)]
pub struct Seconds {
    windows: u32,
    start_s: f64,
    voltage: f64,
    frequency: Mean,
    harmonics: [Mean; LOGGED_ORDERS.len()],
    thd: Mean,
    flagged: bool,
}

impl Seconds {
    /// Takes a window; every fifth one completes a second.
    pub fn push(&mut self, window: &Window) -> Option<Second> {
        if window.partial {
            return None;
        }
        if self.windows == 0 {
            *self = Self { start_s: window.start_s, ..Self::default() };
        }
        self.windows += 1;
        self.voltage += window.voltage * window.voltage;
        self.frequency.add(window.frequency);
        self.thd.add_squared(window.thd);
        self.flagged |= window.flagged;
        for (mean, order) in self.harmonics.iter_mut().zip(LOGGED_ORDERS) {
            mean.add_squared(percent_of_fundamental(window, order));
        }
        if self.windows < WINDOWS {
            return None;
        }
        self.windows = 0;
        Some(Second {
            start_s: self.start_s,
            end_s: window.start_s + window.duration_s,
            voltage: (self.voltage / f64::from(WINDOWS)).sqrt(),
            frequency: self.frequency.mean(),
            harmonics: self.harmonics.map(Mean::root),
            thd: self.thd.root(),
            last: (window.voltage, window.frequency),
            flagged: self.flagged,
        })
    }
}

fn percent_of_fundamental(window: &Window, order: usize) -> Option<f64> {
    let fundamental = window.fundamental.filter(|&fundamental| fundamental > 0.0)?;
    let harmonic = window.harmonics?.get(order - 1)?;
    Some(f64::from(harmonic) / fundamental * 100.0)
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.sum += value;
            self.count += 1;
        }
    }

    fn add_squared(&mut self, value: Option<f64>) {
        self.add(value.map(|value| value * value));
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    fn root(self) -> Option<f64> {
        self.mean().map(f64::sqrt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use power_quality::Spectrum;

    fn window(index: u32, voltage: f64, fifth: Option<f32>) -> Window {
        let mut harmonics = [0.0; power_quality::ORDERS];
        harmonics[4] = fifth.unwrap_or_default();
        Window {
            start_s: f64::from(index) * 0.2,
            duration_s: 0.2,
            voltage,
            frequency: fifth.map(|_| 50.0),
            fundamental: fifth.map(|_| 230.0),
            harmonics: fifth.map(|_| Spectrum::new(harmonics, 40)),
            ..Window::default()
        }
    }

    #[test]
    fn five_windows_make_a_second() {
        let mut seconds = Seconds::default();
        for index in 0..4 {
            assert_eq!(seconds.push(&window(index, 3.0, Some(23.0))), None);
        }
        let second = seconds.push(&window(4, 4.0, Some(23.0))).unwrap();
        assert!((second.voltage - (52.0_f64 / 5.0).sqrt()).abs() < 1e-12);
        assert_eq!(second.frequency, Some(50.0));
        assert!((second.harmonics[1].unwrap() - 10.0).abs() < 1e-6);
        assert_eq!(second.harmonics[0], Some(0.0));
        assert!((second.end_s - 1.0).abs() < 1e-12);
        assert_eq!(seconds.push(&window(5, 3.0, None)), None);
    }

    #[test]
    fn a_dead_line_has_no_harmonics() {
        let mut seconds = Seconds::default();
        let second = (0..5).find_map(|index| seconds.push(&window(index, 0.0, None))).unwrap();
        assert_eq!((second.voltage, second.frequency, second.harmonics[0]), (0.0, None, None));
    }
}

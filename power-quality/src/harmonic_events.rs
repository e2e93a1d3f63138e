// SPDX-License-Identifier: Apache-2.0
//! One order above its EN 50160 limit in too large a share of a sliding span.

use crate::config::Config;
use crate::en50160::{CURRENT, LIMITED_ORDERS};
use crate::result::{HarmonicDetail, Window};

/// A harmonic event, times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Episode {
    pub(crate) start_s: f64,
    /// End of the last window above the limit.
    pub(crate) end_s: f64,
    pub(crate) detail: HarmonicDetail,
}

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Began(Episode),
    Ended(Episode),
}

#[derive(Debug, Clone)]
pub(crate) struct HarmonicEvents {
    /// Percentage of the span that may be above the limit.
    share: f64,
    /// Per window of the span its start and one bit per order above its limit.
    windows: Vec<(f64, u32)>,
    next: usize,
    orders: [Order; LIMITED_ORDERS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Order {
    above: u32,
    value_percent: f64,
    share_percent: f64,
    last_end_s: f64,
    began_s: Option<f64>,
}

impl HarmonicEvents {
    pub(crate) fn new(config: &Config) -> Self {
        let window_s = config.nominal_frequency.cycles() as f64 / config.nominal_frequency.hertz();
        let count = libm::round(config.harmonic_window_s / window_s).max(1.0) as usize;
        Self {
            share: config.harmonic_share,
            windows: vec![(0.0, 0); count],
            next: 0,
            orders: [Order::default(); LIMITED_ORDERS],
        }
    }

    /// Takes one window; flagged ones count as below every limit.
    pub(crate) fn window(&mut self, window: &Window, mut changed: impl FnMut(Change)) {
        let mut bits = 0u32;
        let fundamental = window.fundamental.filter(|_| !window.flagged && window.thd.is_some());
        if let (Some(fundamental), Some(harmonics)) = (fundamental, &window.harmonics) {
            for (index, &volts) in harmonics.carried().iter().enumerate().take(LIMITED_ORDERS) {
                let percent = 100.0 * f64::from(volts) / fundamental;
                if CURRENT.harmonic(index + 1).is_some_and(|limit| percent > limit) {
                    bits |= 1 << index;
                    let order = &mut self.orders[index];
                    order.value_percent = order.value_percent.max(percent);
                    order.last_end_s = window.start_s + window.duration_s;
                }
            }
        }
        let (_, old) = core::mem::replace(&mut self.windows[self.next], (window.start_s, bits));
        self.next = (self.next + 1) % self.windows.len();
        // Nothing above a limit, nothing leaving the span.
        let moved = bits | old;
        if moved == 0 {
            return;
        }
        for index in (0..LIMITED_ORDERS).filter(|index| moved >> index & 1 == 1) {
            let count = self.orders[index].above + (bits >> index & 1) - (old >> index & 1);
            let share = 100.0 * f64::from(count) / self.windows.len() as f64;
            self.orders[index].above = count;
            self.orders[index].share_percent = self.orders[index].share_percent.max(share);
            let open = self.orders[index].began_s.is_some();
            if !open && share > self.share {
                self.orders[index].began_s = Some(self.oldest(index));
                if let Some(episode) = self.episode(index) {
                    changed(Change::Began(episode));
                }
            } else if open && share <= self.share {
                if let Some(episode) = self.episode(index) {
                    changed(Change::Ended(episode));
                }
                self.orders[index].began_s = None;
                self.orders[index].share_percent = 0.0;
            }
            if count == 0 {
                self.orders[index].value_percent = 0.0;
            }
        }
    }

    /// Episodes that have not ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = Episode> + '_ {
        (0..LIMITED_ORDERS).filter_map(|index| self.episode(index))
    }

    fn episode(&self, index: usize) -> Option<Episode> {
        let order = &self.orders[index];
        Some(Episode {
            start_s: order.began_s?,
            end_s: order.last_end_s,
            detail: HarmonicDetail {
                order: index as u8 + 1,
                limit_percent: CURRENT.harmonic(index + 1)?,
                value_percent: order.value_percent,
                share_percent: order.share_percent,
            },
        })
    }

    /// Start of the oldest window of the span in which the order was above its limit.
    fn oldest(&self, index: usize) -> f64 {
        let (newer, older) = self.windows.split_at(self.next);
        let mut windows = older.iter().chain(newer);
        windows.find(|(_, bits)| bits >> index & 1 == 1).map_or(0.0, |&(start_s, _)| start_s)
    }
}

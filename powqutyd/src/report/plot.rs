// SPDX-License-Identifier: Apache-2.0
//! The plots of the report as inline SVG: colours by class, so that the style sheet decides on them.

use super::words::tidy;
use crate::lights;
use crate::summary::week::local;
use crate::summary::{Slot, Summary};
use power_quality::compliance::Characteristic;
use power_quality::en50160;
use std::fmt::Write as _;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 204.0;

/// An SVG under construction: a picture with a name for those who cannot see it.
struct Plot {
    svg: String,
    x: (f64, f64),
    y: (f64, f64),
}

// Writing to a String has no way to fail, hence the ignored results below.
impl Plot {
    fn new(label: &str, x: (f64, f64), y: (f64, f64)) -> Self {
        let mut svg = String::with_capacity(16 * 1024);
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            super::html::escape(label)
        );
        Self { svg, x, y }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (RIGHT - LEFT)
    }

    fn py(&self, y: f64) -> f64 {
        BOTTOM - (y - self.y.0) / (self.y.1 - self.y.0) * (BOTTOM - TOP)
    }

    /// Horizontal grid with labels.
    fn grid(&mut self, step: f64, label: impl Fn(f64) -> String) {
        // A zero has no sign.
        let mut tick = (self.y.0 / step - 1e-9).ceil() * step + 0.0;
        while tick <= self.y.1 + 1e-9 * step {
            let y = self.py(tick);
            let _ = write!(
                self.svg,
                "<path class=\"g\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.5,
                label(tick)
            );
            tick += step;
        }
    }

    /// A dashed line across, where it is in sight.
    fn limit(&mut self, value: f64) {
        if value > self.y.0 && value < self.y.1 {
            let y = self.py(value);
            let _ = write!(self.svg, "<path class=\"lim\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        }
    }

    fn mark(&mut self, value: f64) {
        if value > self.y.0 && value < self.y.1 {
            let y = self.py(value);
            let _ = write!(self.svg, "<path class=\"pct\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        }
    }

    /// Days of the week below, and a line at each midnight.
    fn days(&mut self, summary: &Summary) {
        let slots = self.x.1;
        for day in 0..7 {
            // The clocks may change during the week: the offset of noon tells where the day lies.
            let noon = summary.start.plus_seconds(f64::from(day) * 86_400.0 + 43_200.0);
            let shift = local(summary.start, &summary.zone).offset().whole_seconds()
                - local(noon, &summary.zone).offset().whole_seconds();
            let start = (f64::from(day) * 86_400.0 + f64::from(if day == 0 { 0 } else { shift })) / 600.0;
            let (line, middle) = (self.px(start), self.px((start + 72.0).min(slots)));
            let name = local(noon, &summary.zone).weekday().to_string();
            let _ = write!(
                self.svg,
                "<path class=\"d\" d=\"M{line:.1} {TOP}V{BOTTOM}\"/><text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 20.0,
                &name[..3]
            );
        }
    }

    /// Stretches without values, shaded.
    fn gaps(&mut self, summary: &Summary, known: impl Fn(&Slot) -> bool) {
        let past = summary.slots_so_far();
        let slots = &summary.series.slots[..past.min(summary.series.slots.len())];
        let mut at = 0;
        while at < slots.len() {
            let run = slots[at..].iter().take_while(|slot| !known(slot)).count();
            if run > 0 {
                let (x, width) = (self.px(at as f64), self.px((at + run) as f64) - self.px(at as f64));
                let height = BOTTOM - TOP;
                let _ = write!(
                    self.svg,
                    "<rect class=\"gap\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
                );
            }
            at += run.max(1);
        }
    }

    /// A band between two series and the line between them; NaN interrupts.
    fn band(&mut self, slots: &[Slot], of: impl Fn(&Slot) -> [f32; 3]) {
        let values: Vec<[f64; 3]> = slots.iter().map(|slot| of(slot).map(f64::from)).collect();
        let (mut area, mut line) = (String::new(), String::new());
        let mut at = 0;
        while at < values.len() {
            let run = values[at..].iter().take_while(|value| value.iter().all(|it| it.is_finite())).count();
            let points = &values[at..at + run];
            let x = |index: usize| self.px((at + index) as f64 + 0.5);
            let clip = |y: f64| self.py(y.clamp(self.y.0, self.y.1));
            for (index, value) in points.iter().enumerate() {
                let command = if index == 0 { 'M' } else { 'L' };
                let _ = write!(area, "{command}{:.1} {:.1}", x(index), clip(value[2]));
                let _ = write!(line, "{command}{:.1} {:.1}", x(index), clip(value[1]));
            }
            for (index, value) in points.iter().enumerate().rev() {
                let _ = write!(area, "L{:.1} {:.1}", x(index), clip(value[0]));
            }
            if run > 0 {
                area.push('Z');
            }
            if run == 1 {
                line.push_str("h0.8");
            }
            at += run.max(1);
        }
        let _ = write!(self.svg, "<path class=\"band\" d=\"{area}\"/><path class=\"line\" d=\"{line}\"/>");
    }

    fn line(&mut self, class: &str, values: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        let mut drawing = false;
        for (x, y) in values {
            if !y.is_finite() {
                drawing = false;
                continue;
            }
            let y = y.clamp(self.y.0, self.y.1);
            let _ = write!(path, "{}{:.1} {:.1}", if drawing { 'L' } else { 'M' }, self.px(x), self.py(y));
            drawing = true;
        }
        let _ = write!(self.svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            super::html::escape(text)
        );
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Ten-minute voltages: smallest and largest 10/12-cycle value as a band, means as a line, percentiles, limits.
pub(super) fn voltage(summary: &Summary) -> String {
    let nominal = summary.header.nominal_voltage;
    let means =
        summary.series.slots.iter().map(|slot| f64::from(slot.voltage[1])).filter(|it| it.is_finite());
    // The means and the limits are always in sight; what a dip does to the band may leave the picture.
    let (low, high) =
        means.fold((0.9 * nominal, 1.1 * nominal), |(low, high), volts| (low.min(volts), high.max(volts)));
    let pad = 0.02 * nominal;
    let step = step(high - low + 2.0 * pad);
    let y = (((low - pad) / step).floor() * step, ((high + pad) / step).ceil() * step);
    let mut plot = Plot::new("Voltage over the week", (0.0, summary.series.slots.len() as f64), y);
    plot.gaps(summary, |slot| slot.voltage[1].is_finite());
    plot.grid(step, |volts| volts.to_string());
    plot.days(summary);
    plot.band(&summary.series.slots, |slot| slot.voltage);
    if let Some(spread) = &summary.voltage {
        plot.mark(spread.low);
        plot.mark(spread.high);
    }
    plot.limit(0.9 * nominal);
    plot.limit(1.1 * nominal);
    plot.finish()
}

/// 10 s frequencies: smallest, mean and largest of ten minutes.
pub(super) fn frequency(summary: &Summary) -> String {
    let nominal = f64::from(summary.header.nominal_frequency);
    let spread =
        summary.frequency.map_or((nominal - 0.02, nominal + 0.02), |spread| (spread.min, spread.max));
    let reach = (nominal - spread.0).abs().max((spread.1 - nominal).abs()).max(0.02) * 1.1;
    let step = step(2.0 * reach);
    let reach = (reach / step).ceil() * step;
    let mut plot = Plot::new(
        "Frequency over the week",
        (0.0, summary.series.slots.len() as f64),
        (nominal - reach, nominal + reach),
    );
    plot.gaps(summary, |slot| slot.frequency[1].is_finite());
    let decimals = if step < 0.1 { 2 } else { 1 };
    plot.grid(step, |hertz| format!("{hertz:.decimals$}"));
    plot.days(summary);
    plot.band(&summary.series.slots, |slot| slot.frequency);
    if let Some(spread) = &summary.frequency {
        plot.mark(spread.low);
        plot.mark(spread.high);
    }
    let band = summary.line(Characteristic::Frequency).and_then(|line| line.limit).unwrap_or(1.0);
    plot.limit(nominal * (1.0 + band / 100.0));
    plot.limit(nominal * (1.0 - band / 100.0));
    plot.finish()
}

/// Short-term flicker as a line, long-term flicker as steps.
pub(super) fn flicker(summary: &Summary) -> String {
    let slots = &summary.series.slots;
    let plt = &summary.series.plt;
    let highest = slots.iter().map(|slot| slot.pst).chain(plt.iter().map(|&(_, value, _)| value));
    let highest = f64::from(highest.filter(|it| it.is_finite()).fold(1.0, f32::max)).min(20.0) * 1.1;
    let step = step(highest);
    let mut plot =
        Plot::new("Flicker over the week", (0.0, slots.len() as f64), (0.0, (highest / step).ceil() * step));
    plot.gaps(summary, |slot| slot.pst.is_finite());
    plot.grid(step, |value| format!("{value:.1}"));
    plot.days(summary);
    plot.line(
        "thin",
        slots.iter().enumerate().map(|(index, slot)| (index as f64 + 0.5, f64::from(slot.pst))),
    );
    for &(start, value, flagged) in plt {
        let class = if flagged { "line faint" } else { "line" };
        let (from, value) = (f64::from(start), f64::from(value));
        plot.line(class, [(from, value), (from + 12.0, value)].into_iter());
    }
    plot.limit(1.0);
    plot.finish()
}

/// THD and orders 2 to 25, each in % of its limit.
pub(super) fn harmonics(summary: &Summary) -> String {
    let lines: Vec<_> = std::iter::once(Characteristic::Thd)
        .chain((2..=en50160::LIMITED_ORDERS).map(|order| Characteristic::Harmonic(order as u8)))
        .filter_map(|characteristic| summary.line(characteristic))
        .collect();
    let relative =
        |value: Option<f64>, limit: Option<f64>| Some(100.0 * value? / limit.filter(|it| *it > 0.0)?);
    let highest = lines.iter().filter_map(|line| relative(line.value, line.limit)).fold(100.0, f64::max);
    let top = highest.min(300.0) * 1.12;
    let step = step(top);
    let mut plot = Plot::new(
        "Harmonics, 95th percentiles in percent of their limits",
        (0.0, lines.len() as f64),
        (0.0, (top / step).ceil() * step),
    );
    plot.grid(step, |percent| format!("{percent:.0} %"));
    for (index, line) in lines.iter().enumerate() {
        let at = index as f64;
        let label = match line.characteristic {
            Characteristic::Thd => Some("T".to_owned()),
            Characteristic::Harmonic(order) if order % 2 == 1 => Some(order.to_string()),
            _ => None,
        };
        if let Some(label) = label {
            let x = plot.px(at + 0.5);
            plot.text(x, BOTTOM + 20.0, "middle", &label);
        }
        let Some(percent) = relative(line.value, line.limit) else { continue };
        let (left, right) = (plot.px(at + 0.15), plot.px(at + 0.85));
        let y = plot.py(percent.min(plot.y.1));
        let _ = write!(
            plot.svg,
            "<rect class=\"b-{}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            lights::word(line.light),
            right - left,
            BOTTOM - y
        );
        let worst = relative(line.worst.map(|worst| worst.value), line.limit);
        if let Some(worst) = worst.filter(|worst| *worst < plot.y.1) {
            let y = plot.py(worst);
            let _ = write!(plot.svg, "<path class=\"top\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        }
    }
    plot.limit(100.0);
    plot.finish()
}

/// Events over duration and voltage, with the curve of what office equipment has to bear (ITI/CBEMA 2000).
pub(super) fn events(summary: &Summary) -> String {
    // log10 of seconds: 10 ms to 1000 s.
    let highest = summary.series.scatter.iter().map(|&(_, percent)| f64::from(percent)).fold(140.0, f64::max);
    let top = (highest.min(250.0) / 20.0).ceil() * 20.0;
    let mut plot = Plot::new("Events by duration and voltage", (-2.3, 3.0), (0.0, top));
    plot.grid(if top > 160.0 { 40.0 } else { 20.0 }, |percent| format!("{percent:.0} %"));
    for (decade, name) in [(-2, "10 ms"), (-1, "0.1 s"), (0, "1 s"), (1, "10 s"), (2, "100 s")] {
        let x = plot.px(f64::from(decade));
        let _ = write!(plot.svg, "<path class=\"d\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>");
        plot.text(x, BOTTOM + 20.0, "middle", name);
    }
    let seconds = |value: f64| value.log10();
    let upper = [(-2.3, 120.0), (seconds(0.5), 120.0), (seconds(0.5), 110.0), (3.0, 110.0)];
    let lower = [
        (seconds(0.02), 0.0),
        (seconds(0.02), 70.0),
        (seconds(0.5), 70.0),
        (seconds(0.5), 80.0),
        (seconds(10.0), 80.0),
        (seconds(10.0), 90.0),
        (3.0, 90.0),
    ];
    plot.line("lim", upper.into_iter());
    plot.line("lim", lower.into_iter());
    for &(duration, percent) in &summary.series.scatter {
        let x = plot.px(f64::from(duration).max(0.005).log10().clamp(-2.3, 3.0));
        let y = plot.py(f64::from(percent).clamp(0.0, top));
        let _ = write!(plot.svg, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>");
    }
    if summary.series.scatter.is_empty() {
        let (x, y) = ((LEFT + RIGHT) / 2.0, plot.py(100.0) + 5.0);
        plot.text(x, y, "middle", "no events");
    }
    plot.finish()
}

/// A bar of the used share of an allowance, up to 100 %.
pub(super) fn meter(percent: f64, light: power_quality::compliance::Light) -> String {
    let width = percent.clamp(0.0, 100.0);
    format!(
        "<svg class=\"meter\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"rail\" width=\"100\" height=\"8\"/><rect class=\"b-{}\" width=\"{}\" height=\"8\"/></svg>",
        lights::word(light),
        tidy(width)
    )
}

/// A round step for about five lines over a span.
fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let lead = rough / power;
    power
        * if lead <= 1.0 {
            1.0
        } else if lead <= 2.0 {
            2.0
        } else if lead <= 5.0 {
            5.0
        } else {
            10.0
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (span, expected) in [(54.0, 20.0), (0.1, 0.02), (1.2, 0.5), (100.0, 20.0), (0.044, 0.01)] {
            assert!((step(span) - expected).abs() < 1e-9, "{span}: {}", step(span));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What Prometheus scrapes, through the textfile collector of the node exporter.

use crate::daemon::State;
use crate::outputs::KINDS;
use openwrt::metrics::{Kind, Page, DIRECTORY};
use std::path::Path;

/// Replaces `/var/prometheus/powqutyd.prom` where that directory exists.
pub fn write(state: &State) {
    let directory = Path::new(DIRECTORY);
    if !directory.is_dir() {
        return;
    }
    if let Err(error) = page(state).write(directory, "powqutyd") {
        log::debug!("{DIRECTORY}: {error}");
    }
}

fn page(state: &State) -> Page {
    let mut page = Page::new();
    let values = state.values();
    page.family("powquty_voltage_volts", Kind::Gauge, "RMS voltage of the last second")
        .sample_if_known(&[], values.voltage);
    page.family("powquty_frequency_hertz", Kind::Gauge, "Frequency of the last second")
        .sample_if_known(&[], values.frequency);
    page.family("powquty_thd_percent", Kind::Gauge, "Total harmonic distortion of the last second")
        .sample_if_known(&[], values.thd);
    page.family("powquty_flicker_pst", Kind::Gauge, "Last short-term flicker severity")
        .sample_if_known(&[], values.pst);
    let Some(monitor) = &state.monitor else { return page };
    let mut events =
        page.family("powquty_events_total", Kind::Counter, "Events since the start of the daemon");
    for (kind, count) in KINDS.into_iter().zip(monitor.outputs.counts) {
        events.sample(&[("kind", kind.name())], count);
    }
    let mut lights =
        page.family("powquty_en50160_light", Kind::Gauge, "0 green, 1 yellow, 2 red, 3 not enough values");
    for row in &monitor.outputs.lights {
        lights
            .sample(&[("characteristic", &row.characteristic.to_string())], crate::lights::number(row.light));
    }
    let source = &monitor.source;
    page.family("powquty_samples_total", Kind::Counter, "Samples analysed").sample(&[], source.samples);
    page.family("powquty_missing_samples_total", Kind::Counter, "Samples known to be missing")
        .sample(&[], source.missing_samples);
    page
}

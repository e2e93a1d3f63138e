// SPDX-License-Identifier: Apache-2.0
//! The methods and events of the object `powquty`.

use crate::clock::Utc;
use crate::daemon::{Shared, State};
use crate::monitor::{Monitor, SourceState};
use crate::outputs::KINDS;
use crate::record::{self as event, rounded, EventRecord, Incident};
use crate::report::service as report;
use crate::storage::waveforms::Recorded;
use crate::trend::Quantity;
use alerts::SinkKind;
use openwrt::service::{page, Arg, ArgKind, CallError, Params, Service};
use openwrt::uci::parse_duration;
use power_quality::{en50160, EventKind, ORDERS};
use serde_json::{json, Value};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

const SINK: &[Arg] = &[Arg::required("sink", ArgKind::Text, "slack, mqtt, email or exec")];

const LIVE: &[Arg] = &[
    Arg::optional("waveform", ArgKind::Flag, "with the last cycles"),
    Arg::optional("harmonics", ArgKind::Flag, "with the spectrum"),
];

const TREND: &[Arg] = &[
    Arg::required("quantity", ArgKind::Text, "voltage (V), frequency (Hz) or thd (%)"),
    Arg::optional("span", ArgKind::Text, "such as 10m (the default), 1h, 1d, 7d"),
];

const EVENTS: &[Arg] = &[
    Arg::optional("since", ArgKind::Text, "only events that began then or later, RFC 3339"),
    Arg::optional("kind", ArgKind::Text, "dip, swell, interruption, harmonic, power_loss or outage"),
    Arg::optional("offset", ArgKind::Integer, "events to skip, the newest first"),
    Arg::optional("limit", ArgKind::Integer, "at most so many, up to 200"),
];

const WAVEFORM: &[Arg] = &[Arg::required("id", ArgKind::Text, "of an event whose `waveform` is true")];

const REPORT: &[Arg] =
    &[Arg::optional("week", ArgKind::Text, "such as 2026-W47; otherwise the last one that is over")];

const REPORT_SEND: &[Arg] = &[
    Arg::optional("sink", ArgKind::Text, "slack, mqtt, email or exec; otherwise all that take summaries"),
    Arg::optional("week", ArgKind::Text, "such as 2026-W47; otherwise the last one that is over"),
];

const REPORT_HTML: &[Arg] = &[
    Arg::optional("week", ArgKind::Text, "such as 2026-W47; otherwise the last one that is over"),
    Arg::optional("part", ArgKind::Integer, "of the page, from 0 (the default)"),
];

/// Events in `status`; all are in `events`.
const LAST_EVENTS: usize = 5;

/// Most points of a trend.
const MOST_POINTS: usize = 1500;

/// Declares what powqutyd offers.
pub fn declare(shared: &Shared, directory: &Path) -> Service {
    let with = |answer: fn(&State, &Params) -> Result<Value, CallError>| {
        let shared = Rc::clone(shared);
        move |params: Params| {
            let answer = answer(&shared.borrow(), &params);
            async move { answer }
        }
    };
    let reload = Rc::clone(shared);
    let recorded = Rc::clone(shared);
    let test = Rc::clone(shared);
    let (verdict, page, send) = (Rc::clone(shared), Rc::clone(shared), Rc::clone(shared));
    let parts = Rc::new(report::Page::default());
    let directory = directory.to_owned();
    Service::new("powquty", "powqutyd")
        .method("status", "what is measured now, and how the daemon is", &[], with(status))
        .method("live", "the last cycles (V) and the spectrum with its limits", LIVE, with(live))
        .method("trend", "lowest, mean and highest values of the recent past", TREND, with(trend))
        .method("events", "events, the newest first", EVENTS, with(events))
        .method(
            "waveform",
            "the voltage around an event: samples (V), their rate, and the RMS trace",
            WAVEFORM,
            {
                move |params| {
                    let shared = Rc::clone(&recorded);
                    async move { waveform(&shared, &params).await }
                }
            },
        )
        .method("alerts", "what became of the alerts, per sink", &[], with(alerts))
        .method("alert_test", "sends a test alert and says what became of it", SINK, move |params| {
            let shared = Rc::clone(&test);
            async move { alert_test(&shared, &params).await }
        })
        .method("report", "a week after EN 50160: the verdict in numbers", REPORT, move |params| {
            let shared = Rc::clone(&verdict);
            async move { report::report(&shared, &params).await }
        })
        .method("report_html", "the same as a page, in parts", REPORT_HTML, move |params| {
            let (shared, parts) = (Rc::clone(&page), Rc::clone(&parts));
            async move { report::report_html(&shared, &parts, &params).await }
        })
        .method(
            "report_send",
            "sends a week to a sink now and says what became of it, or to all",
            REPORT_SEND,
            move |params| {
                let (shared, directory) = (Rc::clone(&send), directory.clone());
                async move { report::report_send(&shared, directory, &params).await }
            },
        )
        .method("reload", "reads the configuration again, as SIGHUP does", &[], move |_| {
            let shared = Rc::clone(&reload);
            async move { self::reload(&shared).await }
        })
        .event("powquty.event", "an event has ended: the object of the method events")
        .event("powquty.light", "the light of a characteristic has changed: an entry of lights in status")
}

fn status(state: &State, _: &Params) -> Result<Value, CallError> {
    let values = state.values();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": state.started.elapsed().as_secs(),
        "configuration": serde_json::to_value(&state.configuration)?,
        "values": {
            "voltage": values.voltage.map(|volts| rounded(volts, 1e3)),
            "frequency": values.frequency.map(|hertz| rounded(hertz, 1e4)),
            "thd": values.thd.map(|percent| rounded(percent, 1e3)),
            "pst": values.pst.map(|severity| rounded(severity, 1e3)),
            "plt": values.plt.map(|severity| rounded(severity, 1e3)),
            "at": values.at.map(Utc::rfc3339),
        },
        "source": { "kind": null, "state": "off", "rate_ppm": null, "frames": 0, "faults": {} },
        "clock": { "synchronised": null, "source": null },
        "position": null,
        "lights": [],
    });
    let (Some(monitor), Some(map)) = (&state.monitor, status.as_object_mut()) else { return Ok(status) };
    let Monitor { config, source, clock, outputs, .. } = monitor;
    map.insert(
        "source".to_owned(),
        json!({
            "kind": config.input.kind.name(),
            "state": source.phase.name(),
            "reason": source.reason,
            "rate": config.input.rate,
            "rate_ppm": clock.ppm().map(|ppm| rounded(ppm, 1e2)),
            "device": source.device,
            "starts": source.starts,
            "frames": source.frames,
            "samples": source.samples,
            "faults": faults(source),
        }),
    );
    map.insert(
        "clock".to_owned(),
        json!({
            "synchronised": clock.reference().is_synchronised(),
            "source": clock.reference().source().name(),
            "plausible": clock.plausible(),
            "steps": clock.reference().steps(),
            "started": clock.origin().map(|_| clock.utc(0.0).rfc3339()),
        }),
    );
    let place = monitor.position();
    let gps = monitor.gps.as_ref();
    let known = place.latitude.is_some() && place.longitude.is_some();
    let position = json!({
        "latitude": place.latitude,
        "longitude": place.longitude,
        "altitude": place.altitude,
        "accuracy": place.accuracy,
        "source": if gps.is_some_and(|look| look.fix.is_some()) { "gps" } else { "configuration" },
    });
    let receiver = gps.map(|look| {
        json!({
            "state": look.state,
            "reason": look.reason,
            "satellites": look.fix.and_then(|fix| fix.satellites),
            "garbage_lines": look.faults.garbage_lines,
            "long_lines": look.faults.long_lines,
        })
    });
    map.insert("gps".to_owned(), receiver.into());
    map.insert("position".to_owned(), if known { position } else { Value::Null });
    map.insert("device".to_owned(), json!({ "id": config.device.uuid, "host": config.device.host }));
    map.insert("nominal".to_owned(), nominal(monitor));
    map.insert("events".to_owned(), counts(monitor));
    let last = outputs.recent.iter().rev().take(LAST_EVENTS).map(Incident::to_json);
    map.insert("last_events".to_owned(), last.collect());
    map.insert("lights".to_owned(), serde_json::to_value(&outputs.lights)?);
    map.insert("open_events".to_owned(), outputs.open.iter().map(EventRecord::to_json).collect());
    map.insert("logs".to_owned(), logs(monitor));
    if let Some(alerts) = &state.alerts {
        map.insert("alerts".to_owned(), alerts.status());
    }
    Ok(status)
}

fn faults(source: &SourceState) -> Value {
    let line = source.line.frames;
    json!({
        "lost_frames": source.lost_frames,
        "missing_samples": source.missing_samples,
        "failures": source.failures,
        "torn": line.torn,
        "duplicates": line.duplicates,
        "gaps": line.gaps,
        "missing_frames": line.missing_frames,
        "garbage_bytes": line.garbage_bytes,
        "restarts": line.restarts,
        "counter_errors": line.counter_errors,
        "salvaged": line.salvaged,
        "silences": source.line.silences,
        "hangups": source.line.hangups,
    })
}

fn nominal(monitor: &Monitor) -> Value {
    let grid = &monitor.config.grid;
    json!({
        "voltage": grid.nominal_voltage,
        "frequency": grid.nominal_frequency.hertz(),
        "dip_threshold": grid.thresholds.dip,
        "swell_threshold": grid.thresholds.swell,
        "interruption_threshold": grid.thresholds.interruption,
        "hysteresis": grid.thresholds.hysteresis,
    })
}

fn counts(monitor: &Monitor) -> Value {
    let counts = KINDS.into_iter().zip(monitor.outputs.counts);
    Value::Object(counts.map(|(kind, count)| (kind.name().to_owned(), count.into())).collect())
}

fn logs(monitor: &Monitor) -> Value {
    let logs = &monitor.config.logs;
    let mut value = monitor.outputs.storage_status();
    if let Some(map) = value.as_object_mut() {
        map.insert("measurement_path".to_owned(), json!(logs.measurement_path));
        map.insert("event_path".to_owned(), json!(logs.event_path));
        map.insert("record_path".to_owned(), json!(logs.record_path));
        map.insert("raw".to_owned(), monitor.taps.status());
        map.insert("volatile".to_owned(), json!(crate::storage::is_volatile(&logs.record_path)));
    }
    value
}

fn live(state: &State, params: &Params) -> Result<Value, CallError> {
    let monitor = measuring(state)?;
    let live = monitor.live();
    let window = live.window;
    let volts = |value: Option<f64>| value.map(|volts| rounded(volts, 1e3));
    let mut answer = json!({
        "urms": rounded(live.urms, 1e3),
        "voltage": volts(window.map(|window| window.voltage)),
        "frequency": window.and_then(|window| window.frequency).map(|hertz| rounded(hertz, 1e4)),
        "fundamental": volts(window.and_then(|window| window.fundamental)),
        "thd": window.and_then(|window| window.thd).map(|thd| rounded(thd, 1e3)),
    });
    let Some(map) = answer.as_object_mut() else { return Ok(answer) };
    if params.optional_flag("waveform")?.unwrap_or(false) {
        let samples: Value = live.samples.iter().map(|&volts| rounded(f64::from(volts), 1e2)).collect();
        map.insert("waveform".to_owned(), json!({ "rate": live.rate, "samples": samples }));
    }
    if params.optional_flag("harmonics")?.unwrap_or(false) {
        let spectrum = window.and_then(|window| Some((window.harmonics?, window.fundamental?)));
        let value = |order: usize| {
            let (harmonics, fundamental) = spectrum?;
            let share = f64::from(harmonics.get(order - 1)?) / fundamental;
            share.is_finite().then(|| rounded(share * 100.0, 1e3))
        };
        let orders: Value = (1..=ORDERS)
            .map(|order| json!({ "order": order, "percent": value(order), "limit": en50160::CURRENT.harmonic(order) }))
            .collect();
        map.insert("harmonics".to_owned(), orders);
    }
    Ok(answer)
}

fn trend(state: &State, params: &Params) -> Result<Value, CallError> {
    let monitor = measuring(state)?;
    let name = params.text("quantity")?;
    let quantity = Quantity::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, quantity)| quantity);
    let quantity =
        quantity.ok_or_else(|| CallError::argument("quantity", "expected voltage, frequency or thd"))?;
    let span = match params.optional_text("span")? {
        None => Duration::from_secs(600),
        Some(span) => parse_duration(span)
            .filter(|span| *span >= Duration::from_secs(1))
            .ok_or_else(|| CallError::argument("span", "expected a time such as 10m, 1h or 7d"))?,
    };
    let (step, points) = monitor.outputs.trend.points(quantity, span);
    let points: Value = points
        .take(MOST_POINTS)
        .map(|point| match point.values {
            Some([low, mean, high]) => {
                let value = |value: f32| rounded(f64::from(value), 1e4);
                json!([point.at.rfc3339(), value(low), value(mean), value(high)])
            }
            None => json!([point.at.rfc3339(), null, null, null]),
        })
        .collect();
    Ok(json!({ "quantity": name, "step": step, "points": points }))
}

fn events(state: &State, params: &Params) -> Result<Value, CallError> {
    let since =
        match params.optional_text("since")? {
            None => None,
            Some(text) => Some(Utc::parse_rfc3339(text).ok_or_else(|| {
                CallError::argument("since", "expected a time such as 2026-01-31T12:00:00Z")
            })?),
        };
    let kind = params.optional_text("kind")?;
    if kind.is_some_and(|kind| !Incident::KINDS.contains(&kind)) {
        let expected = format!("expected {}", Incident::KINDS.join(", "));
        return Err(CallError::argument("kind", &expected));
    }
    let wanted = |incident: &&Incident| {
        since.is_none_or(|since| incident.start() >= since) && kind.is_none_or(|kind| incident.kind() == kind)
    };
    let recent = state.monitor.iter().flat_map(|monitor| monitor.outputs.recent.iter().rev());
    let page = page(recent.filter(wanted), params)?;
    let waveforms = state.monitor.as_ref().map(|monitor| monitor.outputs.waveforms()).unwrap_or_default();
    let events = page.items.into_iter().map(|event| {
        let mut value = event.to_json();
        value["waveform"] = (has_waveform(event.kind()) && waveforms.holds(event.start())).into();
        value
    });
    Ok(json!({ "events": events.collect::<Value>(), "total": page.total }))
}

/// Harmonics have none, and of an outage there is nothing to see.
fn has_waveform(kind: &str) -> bool {
    KINDS.iter().any(|known| known.name() == kind) && kind != EventKind::Harmonic.name()
}

async fn waveform(shared: &Shared, params: &Params) -> Result<Value, CallError> {
    let id = params.text("id")?.to_owned();
    let start = event::start_of_id(&id)
        .ok_or_else(|| CallError::argument("id", "expected the id of an event such as 1795170325717-dip"))?;
    let path = measuring(&shared.borrow())?.outputs.waveforms().path_of(start);
    let missing = || CallError::not_found("there is no waveform of this event, or no longer");
    let path = path.ok_or_else(missing)?;
    let answer = tokio::task::spawn_blocking(move || {
        let recorded = Recorded::read(&path)?;
        Ok::<Value, io::Error>(recorded_json(&id, start, &recorded))
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
        Ok(Err(error)) => Err(CallError::internal(error.to_string())),
        Err(error) => Err(CallError::internal(error.to_string())),
    }
}

/// Times in seconds from the first sample.
fn recorded_json(id: &str, start: Utc, recorded: &Recorded) -> Value {
    let Recorded { rate, nominal, samples, rms, .. } = recorded;
    let volts = |volts: f32| rounded(f64::from(volts), 1e2);
    let rms: Value =
        rms.iter().map(|&(at, level)| json!([rounded(f64::from(at), 1e6), volts(level)])).collect();
    json!({
        "id": id,
        "start": recorded.start.rfc3339(),
        "trigger": rounded(start.seconds() - recorded.start.seconds(), 1e6),
        "rate": rate,
        "duration": rounded(samples.len() as f64 / rate, 1e6),
        "nominal": { "voltage": nominal.voltage, "frequency": nominal.frequency },
        "samples": samples.iter().map(|&level| volts(level)).collect::<Value>(),
        "rms": rms,
    })
}

fn alerts(state: &State, _: &Params) -> Result<Value, CallError> {
    let alerts = state.alerts.as_ref().ok_or_else(unconfigured)?;
    Ok(alerts.status())
}

async fn alert_test(shared: &Shared, params: &Params) -> Result<Value, CallError> {
    let alerts = shared.borrow().alerts.clone().ok_or_else(unconfigured)?;
    let sink = SinkKind::from_name(params.text("sink")?)
        .ok_or_else(|| CallError::argument("sink", "expected slack, mqtt, email or exec"))?;
    let result = alerts.test(sink).await;
    Ok(json!({ "delivered": result.delivered, "answer": result.answer }))
}

async fn reload(shared: &Shared) -> Result<Value, CallError> {
    let (done, answered) = oneshot::channel();
    let reloads = shared.borrow().reloads.clone();
    if reloads.try_send(done).is_err() || answered.await.is_err() {
        return Err(CallError::new(openwrt::service::ErrorCode::Busy, "a reload is under way"));
    }
    let state = shared.borrow();
    Ok(json!({ "configuration": serde_json::to_value(&state.configuration)? }))
}

fn measuring(state: &State) -> Result<&Monitor, CallError> {
    state.monitor.as_ref().ok_or_else(unconfigured)
}

fn unconfigured() -> CallError {
    CallError::not_ready("there is no configuration that can be read; see `status`")
}

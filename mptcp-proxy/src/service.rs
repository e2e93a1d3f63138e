// SPDX-License-Identifier: Apache-2.0
//! What can be asked of the daemon and done with it from outside.

use std::rc::Rc;
use std::time::Duration;

use alerts::{Alerts, SinkKind};
use openwrt::reload::Outcome;
use openwrt::service::{page, Arg, ArgKind, CallError, Params, Service, LIMIT, OFFSET};
use serde_json::{json, Value};

use crate::connections::{Connection, Phase, Way};
use crate::daemon::Daemon;
use crate::doctor;
use crate::packet;
use crate::path::{Path, Paths, Standing};
use crate::splice;
use crate::sys;
use crate::upstream::{State, Upstream};
use crate::watch::{Trend, PATH_EVENT, SERVER_EVENT};

const CONNECTIONS_ARGS: &[Arg] = &[OFFSET, LIMIT];
const TREND_ARGS: &[Arg] = &[Arg::optional("span", ArgKind::Number, "seconds to look back (default: 3600)")];
const SINK_ARGS: &[Arg] = &[Arg::required("sink", ArgKind::Text, "slack, mqtt, email or exec")];
const PATH_ARGS: &[Arg] = &[
    Arg::required("name", ArgKind::Text, "name of the path"),
    Arg::required("action", ArgKind::Text, "up or down"),
];

/// The object `mptcp-proxy`.
pub fn service(daemon: &Rc<Daemon>, trend: &Rc<Trend>, alerts: &Rc<Alerts>) -> Service {
    let asked = daemon.clone();
    let service = Service::new("mptcp-proxy", "mptcp-proxy")
        .event(PATH_EVENT, "a path came up or went down: its object of `status`")
        .event(SERVER_EVENT, "a server came or went: its object of `status`");
    let asked_trend = trend.clone();
    let service = service.method("trend", "the recent past of the paths", TREND_ARGS, move |params| {
        let span = params.optional_duration("span").map(|span| span.unwrap_or(Duration::from_secs(3600)));
        let answer = span.map(|span| asked_trend.points(span, time::OffsetDateTime::now_utc()));
        async move { answer }
    });
    let examined = daemon.clone();
    let service = service.method("doctor", "checks everything the proxy needs", &[], move |_| {
        let daemon = examined.clone();
        async move { Ok(json!(doctor::examine(&daemon).await)) }
    });
    let told = alerts.clone();
    let service = service.method("alerts", "what became of the alerts, per sink", &[], move |_| {
        let status = told.status();
        async move { Ok(status) }
    });
    let tested = alerts.clone();
    let service = service.method(
        "alert_test",
        "sends a test alert and says what became of it",
        SINK_ARGS,
        move |params| {
            let alerts = tested.clone();
            async move {
                let sink = SinkKind::from_name(params.text("sink")?)
                    .ok_or_else(|| CallError::argument("sink", "expected slack, mqtt, email or exec"))?;
                let result = alerts.test(sink).await;
                Ok(json!({ "delivered": result.delivered, "answer": result.answer }))
            }
        },
    );
    let service = service.method("status", "configuration, servers, paths and counters", &[], move |_| {
        let status = status(&asked);
        async move { Ok(status) }
    });
    let asked = daemon.clone();
    let service = service.method("reload", "reads the configuration again", &[], move |_| {
        let daemon = asked.clone();
        async move {
            let outcome = daemon.reload().await;
            Ok(json!({ "applied": outcome == Outcome::Applied }))
        }
    });
    let asked = daemon.clone();
    let service = service.method("connections", "open connections", CONNECTIONS_ARGS, move |params| {
        let listed = page(asked.connections.list(), &params);
        let answer = listed.map(|page| {
            let items: Vec<Value> = page.items.iter().map(|connection| describe(connection)).collect();
            json!({ "connections": items, "total": page.total })
        });
        async move { answer }
    });
    let asked = daemon.clone();
    let service =
        service.method("path", "switches a path on or off until the next start", PATH_ARGS, move |params| {
            let answer = switch(&asked, &params);
            async move { answer }
        });
    let asked = daemon.clone();
    service.method("drain", "takes no new connections; open ones go on", &[], move |_| {
        asked.drain();
        let left = asked.connections.len();
        async move { Ok(json!({ "connections": left })) }
    })
}

fn switch(daemon: &Daemon, params: &Params) -> Result<Value, CallError> {
    let name = params.text("name")?;
    let off = match params.text("action")? {
        "up" => false,
        "down" => true,
        _ => return Err(CallError::argument("action", "expected up or down")),
    };
    let path = daemon.paths.all().into_iter().find(|path| path.config.name == name);
    let path = path.ok_or_else(|| CallError::not_found(format!("no path {name}")))?;
    daemon.manager.switch(&path, off);
    Ok(json!({ "state": path.standing().state(), "reason": path.standing().reason() }))
}

/// The answer of `status`.
pub fn status(daemon: &Daemon) -> Value {
    let servers: Vec<Value> = daemon
        .clients()
        .iter()
        .flat_map(|client| client.upstreams())
        .map(|upstream| describe_server(&upstream))
        .collect();
    let (mut tunnelled, mut direct, mut blocked, mut refused) = (0u32, 0u32, 0u32, 0u32);
    let (mut raced, mut pooled, mut without_mptcp) = (0u32, 0u32, 0u32);
    let mut limited = 0u32;
    let (mut flows, mut udp, mut dns) = (0, [0u32; 3], [0u32; 2]);
    for client in daemon.clients() {
        tunnelled = tunnelled.wrapping_add(client.counters.tunnelled.get());
        direct = direct.wrapping_add(client.counters.direct.get());
        blocked = blocked.wrapping_add(client.counters.blocked.get());
        refused = refused.wrapping_add(client.counters.refused.get());
        limited = limited.wrapping_add(client.counters.limited.get());
        let entry = &client.entry.counters;
        flows += client.entry.flows();
        for (sum, counter) in udp.iter_mut().zip([&entry.tunnelled, &entry.direct, &entry.dropped]) {
            *sum = sum.wrapping_add(counter.get());
        }
        for (sum, counter) in dns.iter_mut().zip([&entry.dns_tunnelled, &entry.dns_direct]) {
            *sum = sum.wrapping_add(counter.get());
        }
        for upstream in client.upstreams() {
            raced = raced.wrapping_add(upstream.counters.raced.get());
            pooled = pooled.wrapping_add(upstream.counters.pooled.get());
            without_mptcp = without_mptcp.wrapping_add(upstream.counters.without_mptcp.get());
        }
    }
    let (mut served, mut unproven, mut denied, mut plain) = (0u32, 0u32, 0u32, 0u32);
    for server in daemon.servers() {
        served = served.wrapping_add(server.counters.served.get());
        unproven = unproven.wrapping_add(server.counters.unproven.get());
        denied = denied.wrapping_add(server.counters.denied.get());
        limited = limited.wrapping_add(server.counters.limited.get());
        plain = plain.wrapping_add(server.counters.without_mptcp.get());
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": daemon.started.elapsed().as_secs(),
        "configuration": &*daemon.configuration.borrow(),
        "splice": daemon.unspliced.as_deref().unwrap_or("ok"),
        "draining": daemon.draining.get(),
        "servers": servers,
        "paths": paths(daemon),
        "packets": {
            "client": daemon.entry().map(|entry| json!({
                "state": entry.standing().name(),
                "addresses": entry.addresses().into_iter().flatten().map(|a| a.to_string()).collect::<Vec<_>>(),
                "counters": describe_packets(&entry.counters),
            })),
            "server": daemon.exit().map(|exit| json!({
                "clients": exit.clients(),
                "counters": describe_packets(&exit.counters),
            })),
        },
        "counters": {
            "connections": daemon.connections.len(),
            "tunnelled": tunnelled,
            "direct": direct,
            "blocked": blocked,
            "refused": refused,
            "raced": raced,
            "pooled": pooled,
            "without_mptcp": without_mptcp,
            "timed_out": daemon.connections.timed_out(),
            "altered": daemon.connections.altered(),
            "served": served,
            "served_without_mptcp": plain,
            "unproven": unproven,
            "denied": denied,
            "limited": limited,
            "spliced_bytes": splice::spliced_bytes(),
            "udp_flows": flows,
            "udp_tunnelled": udp[0],
            "udp_direct": udp[1],
            "udp_dropped": udp[2],
            "dns_tunnelled": dns[0],
            "dns_direct": dns[1],
        },
    })
}

fn describe_packets(counters: &packet::Counters) -> Value {
    let dropped: serde_json::Map<String, Value> =
        counters.dropped().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
    json!({ "sent": counters.sent.get(), "received": counters.received.get(), "dropped": dropped })
}

fn paths(daemon: &Daemon) -> Vec<Value> {
    let subflows = subflows(daemon);
    daemon.paths.all().iter().map(|path| describe_carried(path, &subflows)).collect()
}

/// The object of a server in `status` and in its event.
pub fn describe_server(upstream: &Upstream) -> Value {
    json!({
        "name": &*upstream.config.name,
        "address": upstream.config.address.to_string(),
        "state": state_name(upstream.state()),
        "since": seconds(upstream.since().elapsed()),
        "rtt": upstream.rtt().map(seconds),
        "pool": upstream.pooled(),
    })
}

/// `unknown`, `up` or `down`.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Unknown => "unknown",
        State::Up => "up",
        State::Down => "down",
    }
}

/// The object of a path in `status` and in its event.
pub fn describe_path(daemon: &Daemon, path: &Path) -> Value {
    describe_carried(path, &subflows(daemon))
}

fn describe_carried(path: &Path, subflows: &[sys::Subflow]) -> Value {
    let (received, sent, count) = carried(path, subflows);
    let standing = path.standing();
    let health = path.health.borrow();
    json!({
        "name": path.config.name,
        "device": *path.device.borrow(),
        "address": path.addresses.get().into_iter().flatten().next().map(|address| address.to_string()),
        "state": standing.state(),
        "reason": standing.reason(),
        "switched_off": standing == Standing::SwitchedOff,
        "rtt": health.rtt().map(seconds),
        "loss": health.loss().map(|loss| (f64::from(loss) * 1000.0).round() / 1000.0),
        "rx_bytes": received,
        "tx_bytes": sent,
        "subflows": count,
        // A subflow is proof; otherwise what the last connection that began here came to.
        "mptcp": if count > 0 { Some(true) } else { path.mptcp.get() },
    })
}

/// The subflows of all open connections.
pub fn subflows(daemon: &Daemon) -> Vec<sys::Subflow> {
    let connections = daemon.connections.list();
    let of_one =
        |connection: &Rc<Connection>| sys::subflows(connection.tunnel.borrow().as_ref()?.as_ref()).ok();
    connections.iter().filter_map(of_one).flatten().collect()
}

/// What a path has carried: bytes received, bytes sent, and the number of its subflows now.
pub fn carried(path: &Path, subflows: &[sys::Subflow]) -> (u64, u64, usize) {
    let own = subflows.iter().filter(|subflow| path.addresses.get().contains(&Some(subflow.local.ip())));
    let ended = Paths::bytes(path);
    own.fold((ended.0, ended.1, 0), |(received, sent, count), subflow| {
        (received + subflow.received, sent + subflow.sent, count + 1)
    })
}

fn describe(connection: &Connection) -> Value {
    let subflows: Vec<Value> = connection
        .tunnel
        .borrow()
        .as_ref()
        .and_then(|tunnel| sys::subflows(tunnel.as_ref()).ok())
        .unwrap_or_default()
        .iter()
        .map(|subflow| {
            json!({
                "local": subflow.local.ip().to_string(),
                "remote": subflow.remote.ip().to_string(),
                "rtt": f64::from(subflow.rtt_us) / 1e6,
                "tx_bytes": subflow.sent,
                "rx_bytes": subflow.received,
                "retransmits": subflow.retransmits,
            })
        })
        .collect();
    json!({
        "id": connection.id,
        "source": connection.source.to_string(),
        "target": connection.target.to_string(),
        "way": match &connection.way {
            Way::Tunnel(_) => "tunnel",
            Way::Direct => "direct",
            Way::Served(_) => "served",
        },
        "server": match &connection.way {
            Way::Tunnel(name) => Some(&**name),
            Way::Direct | Way::Served(_) => None,
        },
        "user": match &connection.way {
            Way::Served(name) => Some(&**name),
            Way::Direct | Way::Tunnel(_) => None,
        },
        "state": match connection.phase() {
            Phase::Connecting => "connecting",
            Phase::Open => "open",
            Phase::HalfClosed => "half_closed",
        },
        "age": seconds(connection.since.elapsed()),
        "tx_bytes": connection.up.get(),
        "rx_bytes": connection.down.get(),
        "subflows": subflows,
    })
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

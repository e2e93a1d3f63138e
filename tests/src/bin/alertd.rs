// SPDX-License-Identifier: Apache-2.0
//! The smallest daemon that has something to say: raises what it is asked to, delivers it by the crate `alerts`, and is
//! configured by the alert options of `/etc/config/alertd`. The tests of delivery kill it.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use alerts::{Alert, AlertHandle, Alerts, Attachment, Config, Identity, Severity, SinkKind, Worst};
use openwrt::cli::{self, Command, Common, Spec};
use openwrt::reload::{self, Configuration, Reading, Signal};
use openwrt::service::{Arg, ArgKind, CallError, ErrorCode, Params, Service};
use openwrt::uci::{Problems, Reader, Source};
use serde_json::{json, Value};
use tokio::time::Instant;

const SPEC: Spec = Spec {
    name: "alertd",
    version: env!("CARGO_PKG_VERSION"),
    about: "raises alerts for tests",
    subcommands: &[alerts::ALERT_TEST],
};

const RAISE: [Arg; 5] = [
    Arg { name: "kind", kind: ArgKind::Text, optional: false, doc: "kind of all of them" },
    Arg { name: "subject", kind: ArgKind::Text, optional: false, doc: "subject of all of them" },
    Arg { name: "count", kind: ArgKind::Integer, optional: true, doc: "how many, 1" },
    Arg { name: "spread", kind: ArgKind::Number, optional: true, doc: "over how many seconds, 0" },
    Arg { name: "attach", kind: ArgKind::List, optional: true, doc: "files that go along, HTML" },
];
const TEST: [Arg; 1] = [Arg { name: "sink", kind: ArgKind::Text, optional: false, doc: "which one" }];
const PUBLISH: [Arg; 2] = [
    Arg { name: "topic", kind: ArgKind::Text, optional: false, doc: "where to" },
    Arg { name: "payload", kind: ArgKind::Text, optional: false, doc: "what" },
];

struct State {
    configuration: RefCell<Configuration<Config>>,
    handle: AlertHandle,
    alerts: Alerts,
    common: Common,
}

fn main() -> ExitCode {
    let (common, command) = match cli::parse(&SPEC, std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(&SPEC),
    };
    match command {
        Command::Run => run(common),
        Command::Check => cli::main_check(&read(&common.source).map(|(_, problems)| problems)),
        Command::Status { json } => cli::main_status(&SPEC, &common, json, cli::generic_status),
        Command::Call { method, params } => cli::main_call(&SPEC, &common, &method, &params),
        Command::Help { topic } => cli::main_help(&SPEC, topic.as_deref()),
        Command::Version => cli::main_version(&SPEC),
        Command::Other(_, args) => alerts::alert_test(&SPEC, &args, &common.socket(&SPEC)),
    }
}

fn read(source: &Source) -> Reading<Config> {
    let package = source.load("alertd")?;
    let mut problems = Problems::new();
    let section = problems.require(&package, "alertd", "alertd");
    let mut reader = Reader::new("alertd", section, &mut problems);
    let config = Config::read(&mut reader);
    reader.finish();
    Ok((config, problems))
}

fn run(common: Common) -> ExitCode {
    common.init_logging(&SPEC);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&SPEC, error),
    };
    let result = tokio::task::LocalSet::new().block_on(&runtime, serve(common));
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&SPEC, error),
    }
}

async fn serve(common: Common) -> std::io::Result<()> {
    let mut signals = reload::signals()?;
    let configuration = Configuration::boot(read(&common.source));
    configuration.log();
    let Some(config) = configuration.current().cloned() else {
        return Err(std::io::Error::other("no configuration"));
    };
    let identity =
        Identity { daemon: "alertd".into(), host: "router".into(), device_id: "test device".into() };
    let (handle, alerts) = alerts::start(config, identity, &common.run_dir);
    let state = Rc::new(State { configuration: RefCell::new(configuration), handle, alerts, common });
    let _running = service(&state).start(&state.common.run_dir, &state.common.ubus)?;
    log::info!("started");
    while let Signal::Reload = signals.next().await {
        state.reload();
    }
    state.alerts.flush().await;
    state.alerts.goodbye().await;
    Ok(())
}

fn service(state: &Rc<State>) -> Service {
    let [for_status, for_alerts, for_raise, for_test, for_link, for_values] =
        [(); 6].map(|()| Rc::clone(state));
    Service::new("alertd", "alertd")
        .method("status", "sinks and configuration", &[], move |_| {
            let status = json!({
                "alerts": for_status.alerts.status(),
                "configuration": *for_status.configuration.borrow(),
            });
            async move { Ok(status) }
        })
        .method("alerts", "what became of the alerts", &[], move |_| {
            let status = for_alerts.alerts.status();
            async move { Ok(status) }
        })
        .method("raise", "raises alerts; answers when they are in the outbox", &RAISE, move |params| {
            let state = Rc::clone(&for_raise);
            async move { state.raise(&params).await }
        })
        .method("alert_test", "sends a test message now", &TEST, move |params| {
            let state = Rc::clone(&for_test);
            async move { state.test(&params).await }
        })
        .method("connectivity_returned", "as netifd's event would", &[], move |_| {
            for_link.alerts.connectivity_returned();
            async move { Ok(Value::Null) }
        })
        .method("publish", "a measurement", &PUBLISH, move |params| {
            let published = params.text("topic").and_then(|topic| {
                let payload = params.text("payload")?;
                Ok(for_values.alerts.telemetry().publish_latest(topic, payload, false))
            });
            async move { published.map(Value::from) }
        })
}

impl State {
    fn reload(&self) {
        let outcome = self.configuration.borrow_mut().reload(read(&self.common.source));
        self.configuration.borrow().log();
        log::info!("reload: {outcome:?}");
        if let Some(config) = self.configuration.borrow().current() {
            self.alerts.reconfigure(config.clone());
        }
    }

    async fn raise(&self, params: &Params) -> Result<Value, CallError> {
        let (kind, subject) = (params.text("kind")?, params.text("subject")?);
        let count = params.optional_integer("count")?.unwrap_or(1);
        let spread = params.optional_number("spread")?.unwrap_or(0.0);
        let attachments: Vec<Attachment> = params
            .optional_list("attach")?
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|path| Attachment {
                name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                media_type: "text/html".to_owned(),
                path: path.into(),
            })
            .collect();
        let start = Instant::now();
        let mut ids = Vec::new();
        for index in 0..count {
            #[allow(clippy::cast_precision_loss)] // thousands
            let share = index as f64 / count as f64;
            if spread > 0.0 {
                tokio::time::sleep_until(start + std::time::Duration::from_secs_f64(spread * share)).await;
            }
            #[allow(clippy::cast_precision_loss)] // thousands
            let residual = 90.0 - (index % 50) as f64;
            let at = std::time::SystemTime::now().into();
            let alert = Alert::new(kind, Severity::Warning, subject, at)
                .fact("residual_voltage", format!("{residual} %"))
                .measure(residual, "%", Worst::Lowest);
            let alert = Alert { attachments: attachments.clone(), ..alert };
            let id = self.handle.raise(alert);
            if count <= 200 {
                ids.push(id);
            }
        }
        self.alerts.flush().await;
        Ok(json!({ "ids": ids }))
    }

    async fn test(&self, params: &Params) -> Result<Value, CallError> {
        let Some(sink) = SinkKind::from_name(params.text("sink")?) else {
            return Err(CallError::new(ErrorCode::InvalidArgument, "no such sink"));
        };
        let result = self.alerts.test(sink).await;
        Ok(json!({ "delivered": result.delivered, "answer": result.answer }))
    }
}

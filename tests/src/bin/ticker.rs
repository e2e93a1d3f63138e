// SPDX-License-Identifier: Apache-2.0
//! The smallest daemon: counts, tells its subscribers, is configured by `/etc/config/ticker`.
//!
//! It shows how the parts of `openwrt` fit together, and the tests of what all daemons have in common run it.
//!
//! ```text
//! config ticker 'ticker'
//!         option interval '100ms'
//! ```

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use openwrt::cli::{self, Command, Common, Spec, Subcommand, UsageError};
use openwrt::reload::{self, Configuration, Reading, Signal};
use openwrt::service::{Events, Service};
use openwrt::uci::{Problems, Reader, Source};
use serde_json::{json, Value};
use tokio::sync::Notify;

const SPEC: Spec = Spec {
    name: "ticker",
    version: env!("CARGO_PKG_VERSION"),
    about: "counts, and tells whoever listens",
    subcommands: &[Subcommand {
        name: "count",
        usage: "NUMBER",
        about: "print the numbers up to NUMBER and end",
        help: "",
    }],
};

struct Config {
    interval: Duration,
}

struct State {
    configuration: RefCell<Configuration<Config>>,
    count: Cell<u32>,
    reloaded: Notify,
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
        Command::Other(_, args) => match args.first().and_then(|arg| arg.to_str()?.parse().ok()) {
            Some(number) => count(number),
            None => UsageError::new("count: NUMBER is missing or no number").report(&SPEC),
        },
    }
}

fn count(number: u32) -> ExitCode {
    let numbers: String = (1..=number).map(|number| format!("{number}\n")).collect();
    cli::finish(&SPEC, cli::print(&numbers))
}

fn read(source: &Source) -> Reading<Config> {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(3600);
    let package = source.load("ticker")?;
    let mut problems = Problems::new();
    let section = problems.require(&package, "ticker", "ticker");
    let mut reader = Reader::new("ticker", section, &mut problems);
    let interval = reader.duration("interval", SHORTEST..=LONGEST, Duration::from_secs(1));
    reader.finish();
    Ok((Config { interval }, problems))
}

fn run(common: Common) -> ExitCode {
    common.init_logging(&SPEC);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&SPEC, error),
    };
    match tokio::task::LocalSet::new().block_on(&runtime, serve(common)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&SPEC, error),
    }
}

async fn serve(common: Common) -> std::io::Result<()> {
    let mut signals = reload::signals()?;
    let configuration = Configuration::boot(read(&common.source));
    configuration.log();
    let state = Rc::new(State {
        configuration: RefCell::new(configuration),
        count: Cell::new(0),
        reloaded: Notify::new(),
        common,
    });
    let service = service(&state);
    let events = service.events();
    let _running = service.start(&state.common.run_dir, &state.common.ubus)?;
    log::info!("started");
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => state.reload(),
                Signal::Stop => break,
            },
            () = state.tick() => state.tell(&events),
            () = state.reloaded.notified() => {}
        }
    }
    log::info!("stopped after {} ticks", state.count.get());
    Ok(())
}

fn service(state: &Rc<State>) -> Service {
    let (asked, told) = (Rc::clone(state), Rc::clone(state));
    Service::new("ticker", "ticker")
        .method("status", "the count so far", &[], move |_| {
            let status = asked.status();
            async move { Ok(status) }
        })
        .method("reload", "reads the configuration again", &[], move |_| {
            told.reload();
            let status = told.status();
            async move { Ok(status) }
        })
        .event("ticker.tick", "the count went up")
}

impl State {
    fn status(&self) -> Value {
        json!({ "count": self.count.get(), "configuration": *self.configuration.borrow() })
    }

    fn reload(&self) {
        let outcome = self.configuration.borrow_mut().reload(read(&self.common.source));
        self.configuration.borrow().log();
        log::info!("reload: {outcome:?}");
        self.reloaded.notify_one();
    }

    async fn tick(&self) {
        let interval = self.configuration.borrow().current().map(|config| config.interval);
        match interval {
            Some(interval) => tokio::time::sleep(interval).await,
            None => std::future::pending().await,
        }
    }

    fn tell(&self, events: &Events) {
        self.count.set(self.count.get().wrapping_add(1));
        events.emit("ticker.tick", json!({ "count": self.count.get() }));
    }
}

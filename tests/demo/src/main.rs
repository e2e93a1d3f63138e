// SPDX-License-Identifier: Apache-2.0
//! `make demo`: the real powqutyd on a simulated grid, with a web hook receiver, live in this terminal and in a browser.
//!
//! Ends with Ctrl-C, SIGTERM, a closed terminal or after `DEMO_SECONDS`, and leaves nothing behind.

mod pages;
mod screen;
mod stage;

use openwrt::reload::{signals, Signals};
use screen::Screen;
use stage::{News, Stage};
use std::process::ExitCode;
use std::time::Duration;

/// How often the terminal is brought up to date.
const PACE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let seconds = match std::env::var("DEMO_SECONDS") {
        Err(_) => None,
        Ok(text) => match text.parse::<u32>() {
            Ok(seconds) => Some(Duration::from_secs(seconds.into())),
            Err(_) => return failed(&format!("DEMO_SECONDS={text}: expected whole seconds")),
        },
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let result = runtime.block_on(async {
        // Before anything is put up, so that nothing is left behind.
        let signals = signals().map_err(|error| format!("cannot await signals: {error}"))?;
        show(signals, seconds).await
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(&reason),
    }
}

#[allow(clippy::print_stderr)] // this is what stderr is for
fn failed(reason: &str) -> ExitCode {
    eprintln!("demo: {reason}");
    ExitCode::FAILURE
}

async fn show(mut signals: Signals, seconds: Option<Duration>) -> Result<(), String> {
    let mut stage = Stage::set_up()?;
    let mut screen = Screen::new();
    screen.introduce(&stage);
    let end = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(seconds).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            // SIGHUP means here that the terminal is gone.
            _ = signals.next() => break Ok(()),
            () = &mut end => break Ok(()),
            _ = pace.tick() => match stage.news() {
                Ok(News { happened, now }) => screen.update(&happened, &now),
                Err(reason) => break Err(reason),
            }
        }
    };
    screen.leave();
    let farewell = stage.tear_down();
    if result.is_ok() {
        screen.farewell(&farewell);
    }
    result
}

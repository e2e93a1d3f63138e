// SPDX-License-Identifier: Apache-2.0
//! The ubus client against the double, and against a real ubusd where `UBUSD` names one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are not seen as tests

/// The same scenarios on the double and on a real ubusd.
mod both;
/// The `ubus` command on a real bus.
mod command;
/// What only a double can do: nonsense, a standstill, strict eyes.
mod double;

use serde_json::{json, Value};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { timeout(4 * DEADLINE, test).await.expect("the test ends") });
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

/// The part's methods wait, while the client under test needs this thread.
async fn beside<P, T>(part: &Arc<P>, act: impl FnOnce(&P) -> T + Send + 'static) -> T
where
    P: Send + Sync + 'static,
    T: Send + 'static,
{
    let part = Arc::clone(part);
    tokio::task::spawn_blocking(move || act(&part)).await.expect("the part does not panic")
}

/// One of each thing that JSON can say.
fn everything() -> Value {
    json!({
        "null": null, "yes": true, "no": false, "zero": 0, "minus": -5, "int32": i32::MIN, "int64": i64::MIN,
        "double": -0.125, "text": "Grüße \"x\"", "empty": "", "list": [1, "two", [3], {"four": 4}, null],
        "table": {"nested": {"deep": [true]}}, "none": {}, "nothing": [],
    })
}

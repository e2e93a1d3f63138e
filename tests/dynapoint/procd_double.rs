// SPDX-License-Identifier: Apache-2.0
//! A double of procd's object for hotplug scripts: keeps the environments it was called with and runs nothing.

use std::sync::{mpsc, Arc, Mutex};
use std::thread::{self, JoinHandle};

use openwrt::ubus::{ArgType, Client, Object};
use serde_json::json;

/// `hotplug.<subsystem>` on a bus; leaves it on drop.
pub struct ProcdDouble {
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProcdDouble {
    pub fn start(ubus: &std::path::Path, subsystem: &str) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let (shared, ubus, name) = (Arc::clone(&calls), ubus.to_owned(), format!("hotplug.{subsystem}"));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let client = Client::connect(ubus);
                let object = Object::new(name).method("call", &[("env", ArgType::Array)], move |request| {
                    let env = request.args["env"].as_array().cloned().unwrap_or_default();
                    let env = env.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect();
                    shared.lock().unwrap().push(env);
                    async move { Ok(json!({})) }
                });
                let published = client.publish(object);
                while !published.is_published() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                ready.send(()).unwrap();
                let _ = stopped.await;
            });
        });
        is_ready.recv().expect("the double is on the bus");
        Self { calls, stop: Some(stop), thread: Some(thread) }
    }

    /// The environments so far.
    pub fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for ProcdDouble {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A double of netifd: the objects `network.interface` and `network.wireless` with what dynapoint asks of them.
//!
//! It speaks through a real ubus connection; what it says has the form of netifd's answers, and nothing stands behind it.

use std::sync::{mpsc, Arc, Mutex};
use std::thread::{self, JoinHandle};

use openwrt::ubus::{Client, Object};
use serde_json::{json, Value};

/// Logical interfaces and access points as netifd would tell them; ends on drop.
pub struct NetifdDouble {
    state: Arc<Mutex<State>>,
    orders: Option<tokio::sync::mpsc::UnboundedSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    interfaces: Vec<Value>,
    wireless: Value,
}

impl NetifdDouble {
    pub fn start(ubus: &std::path::Path) -> Self {
        let state = Arc::new(Mutex::new(State { interfaces: vec![], wireless: json!({}) }));
        let (orders, mut incoming) = tokio::sync::mpsc::unbounded_channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let (shared, ubus) = (Arc::clone(&state), ubus.to_owned());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let client = Client::connect(ubus);
                let (for_dump, for_status) = (Arc::clone(&shared), Arc::clone(&shared));
                let interfaces =
                    client.publish(Object::new("network.interface").method("dump", &[], move |_| {
                        let answer = json!({ "interface": for_dump.lock().unwrap().interfaces });
                        async move { Ok(answer) }
                    }));
                let wireless =
                    client.publish(Object::new("network.wireless").method("status", &[], move |_| {
                        let answer = for_status.lock().unwrap().wireless.clone();
                        async move { Ok(answer) }
                    }));
                while !(interfaces.is_published() && wireless.is_published()) {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                ready.send(()).unwrap();
                while incoming.recv().await.is_some() {
                    let _ = interfaces.notify("interface.update", &json!({ "interface": "wan" }));
                }
            });
        });
        is_ready.recv().expect("the double is on the bus");
        Self { state, orders: Some(orders), thread: Some(thread) }
    }

    /// A logical interface with its device.
    pub fn set_interface(&self, name: &str, up: bool, device: &str) {
        let mut state = self.state.lock().unwrap();
        state.interfaces.retain(|interface| interface["interface"] != name);
        state.interfaces.push(json!({ "interface": name, "up": up, "l3_device": device, "device": device }));
        drop(state);
        self.tell();
    }

    /// The access points of `radio0`: section and device.
    pub fn set_access_points(&self, points: &[(&str, &str)]) {
        let interfaces: Vec<Value> =
            points.iter().map(|(section, ifname)| json!({ "section": section, "ifname": ifname })).collect();
        self.state.lock().unwrap().wireless = json!({ "radio0": { "up": true, "pending": false, "disabled": false, "interfaces": interfaces } });
        self.tell();
    }

    fn tell(&self) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(());
        }
    }
}

impl Drop for NetifdDouble {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

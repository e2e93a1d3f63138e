// SPDX-License-Identifier: Apache-2.0
//! MQTT: alerts with QoS 1 out of the outbox, values with QoS 0, on one connection where both go to the same broker.

mod connection;
pub(crate) mod fuzz;
mod session;
mod values;

use crate::config::{Broker, Config};
use crate::outbox::{Cure, Failure, Message};
use crate::render::{json, Context};
use crate::Identity;
use connection::{Connection, Request, Setup, State};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch, Notify};
use tokio::task::JoinHandle;
use values::{Value, Values};

/// How long an `alert_test` waits for the broker.
const TEST_TIMEOUT: Duration = Duration::from_secs(40);

/// Publishes measurements: never blocks, keeps the latest value per topic while the broker cannot be reached.
#[derive(Debug, Clone)]
pub struct Telemetry {
    values: Values,
}

impl Telemetry {
    /// Publishes with QoS 0; a value that is still waiting for the same topic is replaced. False when more than 128
    /// topics wait.
    pub fn publish_latest(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) -> bool {
        self.values.set(Value { topic: topic.to_owned(), payload: payload.into(), retain }, false)
    }

    /// Publishes retained, now and on each new connection, so that a broker that has forgotten knows again.
    pub fn announce(&self, topic: &str, payload: impl Into<Vec<u8>>) -> bool {
        self.values.set(Value { topic: topic.to_owned(), payload: payload.into(), retain: true }, true)
    }
}

/// The connections of one daemon.
pub(crate) struct Connections {
    identity: Identity,
    values: Values,
    telemetry: Option<Link>,
    events: Option<Link>,
}

/// One running connection.
struct Link {
    setup: Setup,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    kick: Rc<Notify>,
    stop: Rc<Notify>,
    task: JoinHandle<()>,
}

/// The way of alerts to their broker.
#[derive(Clone)]
pub(crate) struct Publisher {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    kick: Rc<Notify>,
    topic: String,
}

impl Connections {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self { identity: identity.clone(), values: Values::default(), telemetry: None, events: None }
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        Telemetry { values: self.values.clone() }
    }

    /// Opens, keeps and closes connections as the configuration asks. `wants_telemetry`: somebody publishes values.
    pub(crate) fn configure(&mut self, config: &Config, wants_telemetry: bool) {
        let mqtt = &config.mqtt;
        let telemetry = mqtt.telemetry.as_ref().filter(|_| wants_telemetry);
        let events = mqtt.events.as_ref();
        let shared = telemetry.is_some() && telemetry == events;
        let topic = self.base_topic(config);
        let setup = |broker: &Broker, role: &str| Setup {
            broker: broker.clone(),
            tls_verify: config.tls_verify,
            client_id: format!("{}{role}", client_id(&self.identity)),
            status_topic: format!("{topic}/status"),
        };
        let telemetry = telemetry.map(|broker| setup(broker, ""));
        // Beside a telemetry connection the one for events needs a name of its own: both may end at one broker.
        let role = if telemetry.is_some() { "-events" } else { "" };
        let events = events.filter(|_| !shared).map(|broker| Setup {
            status_topic: format!("{}/status", self.event_topic(config)),
            ..setup(broker, role)
        });
        let none = Values::default();
        replace(&mut self.telemetry, telemetry, &self.values);
        replace(&mut self.events, events, &none);
    }

    /// The way to the broker of the alerts, where there is one.
    pub(crate) fn publisher(&self, config: &Config) -> Option<Publisher> {
        config.mqtt.events.as_ref()?;
        let link = self.events.as_ref().or(self.telemetry.as_ref())?;
        Some(Publisher {
            requests: link.requests.clone(),
            state: link.state.clone(),
            kick: Rc::clone(&link.kick),
            topic: self.event_topic(config),
        })
    }

    /// Tries the brokers that are not connected now.
    pub(crate) fn kick(&self) {
        for link in self.telemetry.iter().chain(&self.events) {
            if !link.state.borrow().connected {
                link.kick.notify_one();
            }
        }
    }

    /// `connected`, and what is wrong, per connection.
    pub(crate) fn status(&self) -> serde_json::Value {
        let shared = self.events.is_none();
        let describe = |link: &Link, role: &str| {
            let state = link.state.borrow();
            serde_json::json!({
                "role": role,
                "broker": format!("{}:{}", link.setup.broker.host, link.setup.broker.port),
                "connected": state.connected,
                "error": state.error,
                "without_last_will": state.without_will,
            })
        };
        let role = if shared { "telemetry and alerts" } else { "telemetry" };
        let telemetry = self.telemetry.iter().map(|link| describe(link, role));
        telemetry.chain(self.events.iter().map(|link| describe(link, "alerts"))).collect()
    }

    /// Says goodbye to the brokers.
    pub(crate) async fn stop(&mut self) {
        let links = [self.telemetry.take(), self.events.take()];
        links.iter().flatten().for_each(|link| link.stop.notify_one());
        for link in links.into_iter().flatten() {
            let mut task = link.task;
            if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    fn base_topic(&self, config: &Config) -> String {
        let own = || format!("{}/{}", self.identity.daemon, self.identity.device_id);
        config.mqtt.topic.clone().unwrap_or_else(own)
    }

    fn event_topic(&self, config: &Config) -> String {
        config.mqtt.event_topic.clone().unwrap_or_else(|| format!("{}/event", self.base_topic(config)))
    }
}

impl Publisher {
    /// Publishes an alert and waits for the broker's acknowledgement, however long the broker cannot be reached.
    pub(crate) async fn deliver(&self, context: Context<'_>, message: &Message) -> Result<String, Failure> {
        let (reply, answer) = oneshot::channel();
        let payload = json::render(context, message, false);
        let request = Request { topic: self.topic.clone(), payload, reply };
        // Another connection has taken its place.
        let gone = || Failure { reason: "the connection was given up".into(), cure: Cure::Again };
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        Ok(format!("acknowledged by the broker (topic {})", self.topic))
    }

    /// As [`Publisher::deliver`], but gives up with the broker's or the network's answer.
    pub(crate) async fn test(&self, context: Context<'_>, message: &Message) -> Result<String, Failure> {
        let mut state = self.state.clone();
        let attempts = state.borrow().attempts;
        let failed = async {
            if !state.borrow().connected {
                self.kick.notify_one();
            }
            let failed = |state: &State| !state.connected && state.attempts != attempts;
            match state.wait_for(failed).await {
                Ok(state) => state.error.clone().unwrap_or_default(),
                Err(_) => "the connection was given up".into(),
            }
        };
        tokio::select! {
            result = self.deliver(context, message) => result,
            error = failed => Err(Failure::retry(error)),
            () = tokio::time::sleep(TEST_TIMEOUT) => Err(Failure::retry("the broker does not answer")),
        }
    }

    /// What keeps the broker away, if anything does.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.state.borrow();
        state.error.clone().filter(|_| !state.connected)
    }
}

fn replace(link: &mut Option<Link>, wanted: Option<Setup>, values: &Values) {
    if link.as_ref().map(|link| &link.setup) == wanted.as_ref() {
        return;
    }
    if let Some(old) = link.take() {
        // It says goodbye by itself.
        old.stop.notify_one();
    }
    *link = wanted.map(|setup| {
        let (requests, receiver) = mpsc::channel(1);
        let (sender, state) = watch::channel(State::default());
        let (kick, stop) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let connection = Connection {
            setup: setup.clone(),
            requests: receiver,
            values: values.clone(),
            state: sender,
            kick: Rc::clone(&kick),
            stop: Rc::clone(&stop),
        };
        Link { setup, requests, state, kick, stop, task: openwrt::task::spawn(connection.run()) }
    });
}

/// The same after every start, another one on every device, even when the devices were given the same name: two clients
/// with one id evict each other.
fn client_id(identity: &Identity) -> String {
    let device: String = identity
        .device_id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(32)
        .collect();
    format!("{}-{device}-{:08x}", identity.daemon, machine_hash())
}

/// FNV-1a of the first hardware address, or of the host's name where there is none.
fn machine_hash() -> u32 {
    let mut addresses: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("address")).ok())
        .filter(|address| address.trim().len() == 17 && address.trim() != "00:00:00:00:00:00")
        // Locally administered addresses may change with each boot.
        .filter(|address| u8::from_str_radix(&address[..2], 16).is_ok_and(|first| first & 2 == 0))
        .collect();
    addresses.sort_unstable();
    let seed = addresses.into_iter().next().or_else(|| std::fs::read_to_string("/etc/machine-id").ok());
    let seed = seed.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    seed.trim().bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

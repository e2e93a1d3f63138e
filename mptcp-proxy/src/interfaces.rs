// SPDX-License-Identifier: Apache-2.0
//! From logical interfaces and firewall zones to network devices.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use openwrt::ubus;
use openwrt::uci::{Package, Source};
use serde_json::Value;

use crate::config::Client;

/// netifd answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where to ask: netifd, or where there is none, the configuration files.
pub struct Interfaces {
    source: Source,
    ubus: PathBuf,
    client: OnceCell<ubus::Client>,
    /// What netifd said last: while ubusd or netifd restarts, the devices are still there.
    last: RefCell<BTreeMap<String, String>>,
}

/// Which device every interface has now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Devices {
    interfaces: BTreeMap<String, String>,
    zones: BTreeMap<String, Vec<String>>,
}

impl Interfaces {
    /// Asks nothing yet.
    pub fn new(source: Source, ubus: PathBuf) -> Self {
        Interfaces { source, ubus, client: OnceCell::new(), last: RefCell::default() }
    }

    /// What is known now.
    pub async fn devices(&self) -> Devices {
        let mut interfaces = BTreeMap::new();
        if let Ok(network) = self.source.load("network") {
            interfaces.extend(configured(&network));
        }
        if self.ubus.exists() {
            let client = self.client.get_or_init(|| ubus::Client::connect(self.ubus.clone()));
            let nothing = Value::Object(serde_json::Map::new());
            let asked = client.call("network.interface", "dump", &nothing);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => {
                    self.last.replace(running(&answer).collect());
                }
                Ok(Err(error)) => log::debug!("netifd: {error}"),
                Err(_) => log::debug!("netifd does not answer"),
            }
        }
        interfaces.extend(self.last.borrow().clone());
        let zones = self.source.load("firewall").map(|firewall| zones(&firewall)).unwrap_or_default();
        Devices { interfaces, zones }
    }
}

impl Devices {
    /// The devices whose traffic a client half takes.
    pub fn of_client(&self, client: &Client) -> Vec<String> {
        let of_zones = client.zones.iter().filter_map(|zone| self.zones.get(zone)).flatten();
        let interfaces = client.interfaces.iter().chain(of_zones);
        let mut devices: Vec<String> =
            interfaces.filter_map(|interface| self.of_interface(interface)).map(str::to_owned).collect();
        devices.extend(client.devices.iter().cloned());
        devices.sort();
        devices.dedup();
        devices
    }

    /// The device of an interface.
    pub fn of_interface(&self, interface: &str) -> Option<&str> {
        self.interfaces.get(interface).map(String::as_str)
    }
}

fn configured(network: &Package) -> impl Iterator<Item = (String, String)> + '_ {
    network.of_kind("interface").filter_map(|section| {
        let device = section.get("device").or_else(|| section.get("ifname"))?;
        Some((section.name().to_owned(), device.to_owned()))
    })
}

/// `ubus call network.interface dump`.
fn running(answer: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    let interfaces = answer.get("interface").and_then(Value::as_array).into_iter().flatten();
    interfaces.filter_map(|interface| {
        let name = interface.get("interface")?.as_str()?;
        let device = interface.get("l3_device").or_else(|| interface.get("device"))?.as_str()?;
        Some((name.to_owned(), device.to_owned()))
    })
}

fn zones(firewall: &Package) -> BTreeMap<String, Vec<String>> {
    let zones = firewall.of_kind("zone").filter_map(|section| {
        // Both forms are seen: a list, and an option with names between blanks.
        let networks = section
            .list("network")
            .iter()
            .flat_map(|value| value.split_whitespace())
            .map(str::to_owned)
            .collect();
        Some((section.get("name")?.to_owned(), networks))
    });
    zones.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test(flavor = "current_thread")]
    async fn while_ubusd_restarts_the_devices_stay() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let ubusd = lab::UbusdDouble::start();
                ubusd.publish("network.interface", json!({"dump": {}}), |_, _| {
                    Some(Ok(json!({"interface": [{"interface": "wan", "l3_device": "pppoe-wan"}]})))
                });
                let directory = tempfile::tempdir().unwrap();
                let source =
                    Source { config_dir: directory.path().into(), state_dir: directory.path().into() };
                let interfaces = Interfaces::new(source, ubusd.path().to_owned());
                let device = || async { interfaces.devices().await.of_interface("wan").map(str::to_owned) };
                assert_eq!(device().await.as_deref(), Some("pppoe-wan"));
                ubusd.stop();
                assert_eq!(device().await.as_deref(), Some("pppoe-wan"));
                ubusd.start_again();
                assert_eq!(device().await.as_deref(), Some("pppoe-wan"), "netifd is not back yet");
            })
            .await;
    }

    #[test]
    fn devices_come_from_netifd_and_zones_from_the_firewall() {
        let answer = json!({"interface": [
            {"interface": "lan", "device": "br-lan", "l3_device": "br-lan"},
            {"interface": "wan", "device": "eth1", "l3_device": "pppoe-wan"}, {"interface": "down"}]});
        let found: BTreeMap<_, _> = running(&answer).collect();
        assert_eq!(found["wan"], "pppoe-wan");
        assert_eq!(found.len(), 2);
        let text = "config zone\n option name 'lan'\n list network 'lan'\n list network 'guest'\nconfig zone\n option name wan\n option network 'wan wan6'\n";
        let firewall = Package::parse("firewall", text.as_bytes()).unwrap();
        assert_eq!(zones(&firewall)["lan"], ["lan", "guest"]);
        assert_eq!(zones(&firewall)["wan"], ["wan", "wan6"]);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Logical interfaces of netifd: the names in `/etc/config/network`, and the devices behind them at the moment.

use std::net::IpAddr;

use serde_json::{json, Value};

use crate::ubus::{Client, Error};

/// A logical interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, `wan`.
    pub name: String,
    /// netifd says that it is up.
    pub up: bool,
    /// The device that has its addresses (`pppoe-wan`), while there is one.
    pub device: Option<String>,
    /// Resolvers it brought.
    pub resolvers: Vec<IpAddr>,
}

impl Interface {
    /// Reads one interface from what netifd says of it; `None` for what is no interface.
    ///
    /// `l3_device` is the device with the addresses, `device` the one below it; while an interface is down only the
    /// latter is known.
    pub fn from_status(status: &Value) -> Option<Self> {
        let text = |key: &str| status.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let resolvers = status.get("dns-server").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Some(Self {
            name: text("interface")?.to_owned(),
            up: status.get("up").and_then(Value::as_bool).unwrap_or(false),
            device: text("l3_device").or_else(|| text("device")).map(str::to_owned),
            resolvers: resolvers
                .iter()
                .filter_map(Value::as_str)
                .filter_map(|text| text.parse().ok())
                .collect(),
        })
    }
}

/// Reads the answer of `network.interface dump`.
pub fn from_dump(dump: &Value) -> Vec<Interface> {
    let interfaces = dump.get("interface").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    interfaces.iter().filter_map(Interface::from_status).collect()
}

/// Asks netifd for all logical interfaces.
///
/// # Errors
/// [`Error::NoObject`] where there is no netifd, [`Error::Unavailable`] where there is no ubusd; see [`Error`].
pub async fn dump(client: &Client) -> Result<Vec<Interface>, Error> {
    let answer = client.call("network.interface", "dump", &json!({})).await?;
    Ok(from_dump(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_netifd_says() {
        let dump = json!({ "interface": [
            { "interface": "loopback", "up": true, "l3_device": "lo", "device": "lo", "dns-server": [] },
            { "interface": "wan", "up": true, "l3_device": "pppoe-wan", "device": "eth0.2",
              "dns-server": ["192.0.2.53", "2001:db8::53", "junk", 7] },
            { "interface": "wan6", "up": false, "device": "eth0.2" },
            { "interface": "vpn", "up": false },
            { "up": true }, "nonsense"
        ] });
        let interfaces = from_dump(&dump);
        let devices: Vec<_> =
            interfaces.iter().map(|i| (i.name.as_str(), i.up, i.device.as_deref())).collect();
        assert_eq!(
            devices,
            [
                ("loopback", true, Some("lo")),
                ("wan", true, Some("pppoe-wan")),
                ("wan6", false, Some("eth0.2")),
                ("vpn", false, None)
            ]
        );
        assert_eq!(
            interfaces[1].resolvers,
            ["192.0.2.53".parse::<IpAddr>().unwrap(), "2001:db8::53".parse().unwrap()]
        );
        assert_eq!(from_dump(&json!(null)), []);
    }
}

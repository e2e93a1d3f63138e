// SPDX-License-Identifier: Apache-2.0
//! What the kernel and netifd say of the way to the Internet. Pure: a snapshot, and questions to it.

use std::net::IpAddr;

use openwrt::interfaces::Interface;
use openwrt::netlink::{Link, Route};

use crate::verdict::{Families, Family};

const MAIN_TABLE: u32 = 254;

/// Links, default routes and logical interfaces at a moment.
#[derive(Debug, Default)]
pub struct Network {
    /// Every device.
    pub links: Vec<Link>,
    /// Default routes of the main table.
    pub defaults: Vec<Route>,
    /// Logical interfaces; empty without netifd.
    pub interfaces: Vec<Interface>,
}

/// A device with its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway<'a> {
    /// The device.
    pub link: &'a Link,
    /// The router; absent on point-to-point links.
    pub address: Option<IpAddr>,
}

/// How the link of a rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It is there; the text changes whenever the way to the Internet does (device, gateway).
    Up(String),
    /// It is not, for this reason.
    Lost(String),
}

impl Network {
    /// Keeps of all routes those that count here.
    pub fn set_routes(&mut self, routes: Vec<Route>) {
        self.defaults.clear();
        for route in routes.into_iter().filter(Self::counts) {
            // By metric; of equal ones the kernel takes the one it lists first.
            let at = self.defaults.partition_point(|known| known.metric <= route.metric);
            self.defaults.insert(at, route);
        }
    }

    /// A default route of the main table.
    #[must_use]
    pub fn counts(route: &Route) -> bool {
        route.destination.length == 0 && route.kind == 1 && route.table == MAIN_TABLE
    }

    /// Takes a new or changed device in; says whether anything that matters here changed.
    pub fn set_link(&mut self, link: Link) -> bool {
        match self.links.iter_mut().find(|known| known.index == link.index) {
            Some(known) => {
                let same = known.name == link.name
                    && known.is_up() == link.is_up()
                    && known.has_carrier() == link.has_carrier()
                    && known.hardware == link.hardware;
                *known = link;
                !same
            }
            None => {
                self.links.push(link);
                true
            }
        }
    }

    /// Forgets a device.
    pub fn remove_link(&mut self, index: u32) {
        self.links.retain(|link| link.index != index);
    }

    /// The device of that name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The logical interface of that name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The device behind a logical interface; a name that netifd does not know is that of a device.
    ///
    /// # Errors
    /// Why there is none.
    pub fn device<'a>(&'a self, interface: &'a str) -> Result<&'a str, String> {
        match self.interface(interface) {
            Some(Interface { device: Some(device), .. }) => Ok(device),
            Some(Interface { device: None, .. }) => Err(format!("interface {interface} has no device")),
            None if self.link(interface).is_some() => Ok(interface),
            None => Err(format!("there is no interface or device {interface}")),
        }
    }

    /// The default route that the kernel would use, through `device` where one is given.
    #[must_use]
    pub fn gateway(&self, family: Family, device: Option<&str>) -> Option<Gateway<'_>> {
        self.defaults
            .iter()
            .filter(|route| route.destination.address.is_ipv4() == (family == Family::V4))
            .flat_map(|route| &route.next_hops)
            .find_map(|hop| {
                let link = self.links.iter().find(|link| link.index == hop.link)?;
                let usable =
                    link.is_up() && link.has_carrier() && device.is_none_or(|device| link.name == device);
                usable.then_some(Gateway { link, address: hop.gateway })
            })
    }

    /// Up and with a carrier, or why not.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn carrier(&self, interface: &str) -> Result<&Link, String> {
        let device = self.device(interface)?;
        let link = self.link(device).ok_or_else(|| format!("there is no device {device}"))?;
        match () {
            () if !link.is_up() => Err(format!("{device} is down")),
            () if !link.has_carrier() => Err(format!("{device} has no carrier")),
            () => Ok(link),
        }
    }

    /// How the link that counts for a rule stands: that of its interface, or else the default routes of its families.
    #[must_use]
    pub fn link_state(&self, interface: Option<&str>, families: Families) -> LinkState {
        let identity = |family| self.gateway(family, None).map(|gateway| describe(&gateway));
        let Some(interface) = interface else {
            let (four, six) = (identity(Family::V4), identity(Family::V6));
            return match families {
                Families::Only(Family::V4) => four.ok_or("no IPv4 default route"),
                Families::Only(Family::V6) => six.ok_or("no IPv6 default route"),
                Families::Both => match (four, six) {
                    (Some(four), Some(six)) => Ok(format!("{four}, {six}")),
                    (None, _) => Err("no IPv4 default route"),
                    (_, None) => Err("no IPv6 default route"),
                },
                Families::Any => match (four, six) {
                    (None, None) => Err("no default route"),
                    (four, six) => Ok([four, six].into_iter().flatten().collect::<Vec<_>>().join(", ")),
                },
            }
            .map_or_else(|reason| LinkState::Lost(reason.to_owned()), LinkState::Up);
        };
        if self.interface(interface).is_some_and(|interface| !interface.up) {
            return LinkState::Lost(format!("interface {interface} is down"));
        }
        match self.carrier(interface) {
            Ok(link) => {
                let gateways =
                    Family::ALL.into_iter().filter_map(|family| self.gateway(family, Some(&link.name)));
                let gateways: Vec<String> = gateways.map(|gateway| describe(&gateway)).collect();
                LinkState::Up(format!("{} {}", link.name, gateways.join(", ")))
            }
            Err(reason) => LinkState::Lost(reason),
        }
    }
}

fn describe(gateway: &Gateway<'_>) -> String {
    match gateway.address {
        Some(address) => format!("{address} on {}", gateway.link.name),
        None => gateway.link.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openwrt::netlink::{NextHop, Prefix};

    const UP: u32 = 0x1;
    const CARRIER: u32 = 0x1_0000;

    fn link(index: u32, name: &str, flags: u32) -> Link {
        Link {
            index,
            name: name.to_owned(),
            flags,
            mtu: 1500,
            master: None,
            oper_state: 0,
            kind: None,
            hardware: vec![],
        }
    }

    fn default_route(link: u32, gateway: &str, metric: u32) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        let any = if gateway.is_ipv4() { Prefix::ANY_V4 } else { Prefix::ANY_V6 };
        let hop = NextHop { link, gateway: Some(gateway), dead: false };
        Route { metric, ..Route::unicast(any, MAIN_TABLE, hop) }
    }

    fn network() -> Network {
        let mut network = Network {
            links: vec![link(2, "eth0", UP | CARRIER), link(3, "wwan0", UP | CARRIER)],
            ..Network::default()
        };
        network.set_routes(vec![
            default_route(3, "10.0.0.1", 20),
            default_route(2, "192.0.2.1", 10),
            default_route(2, "fe80::1", 1024),
        ]);
        network
    }

    #[test]
    fn the_best_living_route_is_the_gateway() {
        let mut network = network();
        assert_eq!(network.gateway(Family::V4, None).unwrap().address, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(network.gateway(Family::V4, Some("wwan0")).unwrap().link.name, "wwan0");
        network.set_link(link(2, "eth0", UP));
        assert_eq!(network.gateway(Family::V4, None).unwrap().link.name, "wwan0");
        assert_eq!(network.gateway(Family::V6, None), None);
    }

    #[test]
    fn the_last_default_route_is_the_link_that_counts() {
        let mut network = network();
        let state = |network: &Network, families| network.link_state(None, families);
        assert_eq!(
            state(&network, Families::Any),
            LinkState::Up("192.0.2.1 on eth0, fe80::1 on eth0".to_owned())
        );
        assert!(network.set_link(link(2, "eth0", UP)));
        assert_eq!(state(&network, Families::Any), LinkState::Up("10.0.0.1 on wwan0".to_owned()));
        assert_eq!(state(&network, Families::Both), LinkState::Lost("no IPv6 default route".to_owned()));
        assert!(network.set_link(link(3, "wwan0", 0)));
        assert_eq!(state(&network, Families::Any), LinkState::Lost("no default route".to_owned()));
        assert!(!network.set_link(link(3, "wwan0", 0)));
    }

    #[test]
    fn a_named_interface_is_followed() {
        let mut network = network();
        let wan = |device: Option<&str>, up| Interface {
            name: "wan".to_owned(),
            up,
            device: device.map(str::to_owned),
            resolvers: vec![],
        };
        assert_eq!(
            network.link_state(Some("wan"), Families::Any),
            LinkState::Lost("there is no interface or device wan".to_owned())
        );
        network.interfaces = vec![wan(Some("eth0"), true)];
        assert!(matches!(network.link_state(Some("wan"), Families::Any), LinkState::Up(_)));
        network.interfaces = vec![wan(Some("wwan0"), true)];
        assert_eq!(
            network.link_state(Some("wan"), Families::Any),
            LinkState::Up("wwan0 10.0.0.1 on wwan0".to_owned())
        );
        network.interfaces = vec![wan(Some("wwan0"), false)];
        assert_eq!(
            network.link_state(Some("wan"), Families::Any),
            LinkState::Lost("interface wan is down".to_owned())
        );
        network.interfaces = vec![wan(None, true)];
        assert_eq!(
            network.link_state(Some("wan"), Families::Any),
            LinkState::Lost("interface wan has no device".to_owned())
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Endpoints and limits of the kernel's MPTCP path manager (generic netlink family `mptcp_pm`, linux/mptcp_pm.h).

use std::net::IpAddr;

use openwrt::netlink::wire::{Attribute, Builder, ACK, DUMP};
use openwrt::netlink::{Connection, Error, Family, Malformed};

const NAME: &str = "mptcp_pm";
const VERSION: u8 = 1;

const ADD_ADDR: u8 = 1;
const DEL_ADDR: u8 = 2;
const GET_ADDR: u8 = 3;
const SET_LIMITS: u8 = 5;
const GET_LIMITS: u8 = 6;

const ATTR_ADDR: u16 = 1;
const ATTR_RCV_ADD_ADDRS: u16 = 2;
const ATTR_SUBFLOWS: u16 = 3;

const ADDR_FAMILY: u16 = 1;
const ADDR_ID: u16 = 2;
const ADDR_V4: u16 = 3;
const ADDR_V6: u16 = 4;
const ADDR_FLAGS: u16 = 6;
const ADDR_INTERFACE: u16 = 7;

/// `MPTCP_PM_ADDR_FLAG_SUBFLOW`: open a subflow from this address.
pub const SUBFLOW: u32 = 2;
/// `MPTCP_PM_ADDR_FLAG_BACKUP`: use it when nothing else is left.
pub const BACKUP: u32 = 4;
/// The kernel takes no more subflows per connection.
const MAX_SUBFLOWS: u32 = 8;

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its number; 0 lets the kernel choose.
    pub id: u8,
    /// [`SUBFLOW`], [`BACKUP`] and others.
    pub flags: u32,
    /// Number of its device.
    pub link: u32,
}

/// The path manager of this network namespace.
#[derive(Debug)]
pub struct PathManager {
    connection: Connection,
    family: Family,
}

impl PathManager {
    /// Finds it; fails on a kernel without MPTCP.
    pub fn open() -> Result<Self, Error> {
        let mut connection = Connection::generic()?;
        let family = Family::resolve(&mut connection, NAME, VERSION)?;
        Ok(PathManager { connection, family })
    }

    /// All endpoints, ours and others.
    pub fn endpoints(&mut self) -> Result<Vec<Endpoint>, Error> {
        let mut found = Vec::new();
        self.connection.exchange(self.family.request(GET_ADDR, DUMP), |message| {
            for attribute in Family::attributes(message)? {
                let attribute = attribute?;
                if attribute.kind == ATTR_ADDR {
                    found.extend(parse(&attribute)?);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Adds an endpoint; `EEXIST` if its address is one already.
    pub fn add(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let request = self.family.request(ADD_ADDR, ACK);
        self.connection.order(write(request, endpoint))
    }

    /// Removes an endpoint, and with it the subflows from its address.
    pub fn delete(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let request = self.family.request(DEL_ADDR, ACK);
        self.connection.order(write(request, endpoint))
    }

    /// Allows every connection at least this many further subflows; never lowers what others have set.
    pub fn allow_subflows(&mut self, wanted: u32) -> Result<(), Error> {
        let (mut accepted, mut subflows) = (0, 0);
        self.connection.exchange(self.family.request(GET_LIMITS, ACK), |message| {
            for attribute in Family::attributes(message)? {
                let attribute = attribute?;
                match attribute.kind {
                    ATTR_RCV_ADD_ADDRS => accepted = attribute.u32()?,
                    ATTR_SUBFLOWS => subflows = attribute.u32()?,
                    _ => {}
                }
            }
            Ok(())
        })?;
        let wanted = wanted.min(MAX_SUBFLOWS);
        if subflows >= wanted {
            return Ok(());
        }
        let request = self.family.request(SET_LIMITS, ACK);
        self.connection
            .order(request.attribute_u32(ATTR_RCV_ADD_ADDRS, accepted).attribute_u32(ATTR_SUBFLOWS, wanted))
    }
}

fn write(request: Builder, endpoint: &Endpoint) -> Builder {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    request.nested(ATTR_ADDR, |inner| {
        let (family, kind) = match endpoint.address {
            IpAddr::V4(_) => (AF_INET, ADDR_V4),
            IpAddr::V6(_) => (AF_INET6, ADDR_V6),
        };
        let inner = inner.attribute(ADDR_FAMILY, &family.to_ne_bytes()).attribute_ip(kind, endpoint.address);
        let inner = inner.attribute_u32(ADDR_FLAGS, endpoint.flags);
        let inner =
            if endpoint.link == 0 { inner } else { inner.attribute_u32(ADDR_INTERFACE, endpoint.link) };
        if endpoint.id == 0 {
            return inner;
        }
        inner.attribute(ADDR_ID, &[endpoint.id])
    })
}

/// Reads an endpoint; `None` for one without an address.
pub fn parse(attribute: &Attribute<'_>) -> Result<Option<Endpoint>, Malformed> {
    let (mut address, mut id, mut flags, mut link) = (None, 0, 0, 0);
    for inner in attribute.nested() {
        let inner = inner?;
        match inner.kind {
            ADDR_ID => id = inner.u8()?,
            ADDR_V4 | ADDR_V6 => address = Some(inner.ip()?),
            ADDR_FLAGS => flags = inner.u32()?,
            ADDR_INTERFACE => link = inner.u32()?,
            _ => {}
        }
    }
    Ok(address.map(|address| Endpoint { address, id, flags, link }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::Netns;
    use openwrt::netlink::wire::{attributes, messages};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_endpoint_is_read_back(v6: bool, bits: u128, id: u8, flags: u32, link: u32) {
            let address = if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) };
            let endpoint = Endpoint { address, id, flags, link };
            let bytes = write(Builder::new(30, 0).fixed(&[0; 4]), &endpoint).finish(1);
            let message = messages(&bytes).next().unwrap().unwrap();
            let attribute = attributes(&message.payload[4..]).next().unwrap().unwrap();
            prop_assert_eq!(parse(&attribute), Ok(Some(endpoint)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(payload: Vec<u8>) {
            let _ = parse(&Attribute { kind: ATTR_ADDR, payload: &payload });
        }
    }

    #[test]
    fn endpoints_and_limits_are_kept_in_the_kernel() {
        let namespace = Netns::new("pm");
        namespace.ip("link add wan type veth peer name other");
        namespace.ip("link set wan up");
        namespace.ip("addr add 192.0.2.1/24 dev wan");
        namespace.enter(|| {
            let mut manager = PathManager::open().unwrap();
            let endpoint =
                Endpoint { address: "192.0.2.1".parse().unwrap(), id: 0, flags: SUBFLOW | BACKUP, link: 0 };
            manager.add(&endpoint).unwrap();
            assert!(manager.add(&endpoint).unwrap_err().errno().is_some());
            let found = manager.endpoints().unwrap();
            assert_eq!(
                (found.len(), found[0].address, found[0].flags),
                (1, endpoint.address, endpoint.flags)
            );
            manager.allow_subflows(5).unwrap();
            manager.allow_subflows(3).unwrap();
            manager.delete(&found[0]).unwrap();
            assert!(manager.endpoints().unwrap().is_empty());
        });
        let limits = namespace.ip("mptcp limits show");
        assert!(limits.contains("subflows 5"), "{limits}");
    }
}

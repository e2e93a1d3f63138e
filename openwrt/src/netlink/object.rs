// SPDX-License-Identifier: Apache-2.0
//! The rtnetlink objects: links, addresses, routes, neighbours, rules (rtnetlink(7)).

use std::net::IpAddr;

use super::prefix::Prefix;
use super::wire::{attributes, u16_at, u32_at, Builder, Malformed, Message, ACK, CREATE, EXCLUSIVE, REPLACE};

pub(super) const LINK: u16 = 16;
pub(super) const ADDRESS: u16 = 20;
pub(super) const ROUTE: u16 = 24;
pub(super) const NEIGHBOUR: u16 = 28;
pub(super) const RULE: u16 = 32;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const MAIN_TABLE: u32 = 254;
const PROTO_STATIC: u8 = 4;

/// Something new or changed, or something removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The object is gone; otherwise it is there as given.
    pub removed: bool,
    /// The object.
    pub object: Object,
}

/// One object of the kernel's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A network device.
    Link(Link),
    /// An address of a device.
    Address(Address),
    /// A route.
    Route(Route),
    /// A neighbour (ARP, NDP).
    Neighbour(Neighbour),
    /// A routing rule.
    Rule(Rule),
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    /// Bytes.
    pub mtu: u32,
    /// The bridge or bond it belongs to.
    pub master: Option<u32>,
    /// `IFLA_OPERSTATE` (RFC 2863): 6 is up, 2 is down, 0 is unknown.
    pub oper_state: u8,
    /// Kind of a virtual device: `bridge`, `veth`, `batadv`, …
    pub kind: Option<String>,
    /// Hardware address.
    pub hardware: Vec<u8>,
}

impl Link {
    /// Set up by the administrator (`IFF_UP`).
    pub fn is_up(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// A signal on the wire or an association (`IFF_LOWER_UP`).
    pub fn has_carrier(&self) -> bool {
        self.flags & 0x1_0000 != 0
    }

    /// Up and able to pass packets (`IFF_RUNNING`).
    pub fn is_running(&self) -> bool {
        self.is_up() && self.flags & 0x40 != 0
    }

    /// The loopback device.
    pub fn is_loopback(&self) -> bool {
        self.flags & 0x8 != 0
    }
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Number of the device.
    pub link: u32,
    /// The address and the length of its prefix.
    pub prefix: Prefix,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl Address {
    /// Usable as a source address: neither tentative nor a failed duplicate nor deprecated.
    pub fn is_usable(&self) -> bool {
        const DEPRECATED: u32 = 0x20;
        const TENTATIVE: u32 = 0x40;
        const DAD_FAILED: u32 = 0x08;
        const OPTIMISTIC: u32 = 0x04;
        self.flags & (DEPRECATED | DAD_FAILED) == 0
            && (self.flags & TENTATIVE == 0 || self.flags & OPTIMISTIC != 0)
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; a length of 0 is the default route.
    pub destination: Prefix,
    /// Routing table; 254 is `main`, 255 `local`.
    pub table: u32,
    /// `RTN_*`: 1 unicast, 2 local, 6 blackhole, 7 unreachable.
    pub kind: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTPROT_*`: who put it there.
    pub protocol: u8,
    /// Metric; lower wins.
    pub metric: u32,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Where it goes; several for a multipath route, none for a blackhole.
    pub next_hops: Vec<NextHop>,
}

/// One way of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextHop {
    /// Number of the device; 0 when the kernel did not say (next-hop objects).
    pub link: u32,
    /// The router, absent when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// `RTNH_F_DEAD` or `RTNH_F_LINKDOWN`: the kernel does not use it now.
    pub dead: bool,
}

impl Route {
    /// A unicast route in `table` as an administrator would set it.
    pub fn unicast(destination: Prefix, table: u32, hop: NextHop) -> Self {
        const SCOPE_LINK: u8 = 253;
        Route {
            destination,
            table,
            kind: 1,
            scope: if hop.gateway.is_none() && destination.address.is_ipv4() { SCOPE_LINK } else { 0 },
            protocol: PROTO_STATIC,
            metric: 0,
            source: None,
            next_hops: vec![hop],
        }
    }

    /// A default route that passes packets: unicast, with at least one living next hop.
    pub fn is_default(&self) -> bool {
        self.destination.length == 0 && self.kind == 1 && self.next_hops.iter().any(|hop| !hop.dead)
    }

    pub(super) fn request(&self, add: bool) -> Builder {
        let mut fixed = [0; 12];
        fixed[0] = family(self.destination.address);
        fixed[1] = self.destination.length;
        fixed[4] = u8::try_from(self.table).unwrap_or(0);
        fixed[5] = self.protocol;
        fixed[6] = self.scope;
        fixed[7] = self.kind;
        let (kind, flags) = if add { (ROUTE, ACK | CREATE | REPLACE) } else { (ROUTE + 1, ACK) };
        let mut builder = Builder::new(kind, flags).fixed(&fixed).attribute_u32(15, self.table);
        if self.destination.length > 0 {
            builder = builder.attribute_ip(1, self.destination.address);
        }
        if self.metric != 0 {
            builder = builder.attribute_u32(6, self.metric);
        }
        if let Some(source) = self.source {
            builder = builder.attribute_ip(7, source);
        }
        if let Some(hop) = self.next_hops.first() {
            if let Some(gateway) = hop.gateway {
                builder = builder.attribute_ip(5, gateway);
            }
            if hop.link != 0 {
                builder = builder.attribute_u32(4, hop.link);
            }
        }
        builder
    }
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the device.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// `NUD_*`.
    pub state: u16,
    /// Hardware address, empty while unknown.
    pub hardware: Vec<u8>,
}

impl Neighbour {
    /// The kernel has recent proof that it answers (`NUD_REACHABLE`), or was told so (`NUD_PERMANENT`, `NUD_NOARP`).
    pub fn is_reachable(&self) -> bool {
        self.state & (0x02 | 0x40 | 0x80) != 0
    }

    /// Asked and did not answer (`NUD_FAILED`).
    pub fn is_failed(&self) -> bool {
        self.state & 0x20 != 0
    }
}

/// A routing rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Order; lower first.
    pub priority: u32,
    /// Table to look up.
    pub table: u32,
    /// Source of the packet.
    pub source: Option<Prefix>,
    /// Destination of the packet.
    pub destination: Option<Prefix>,
    /// Mark and mask of the packet.
    pub mark: Option<(u32, u32)>,
    /// Device it came in by.
    pub input: Option<String>,
    /// Device it is bound to.
    pub output: Option<String>,
    /// `FR_ACT_*`: 1 looks up the table.
    pub action: u8,
}

impl Rule {
    /// A rule that matches everything of the family and looks up `table`.
    pub fn lookup(ipv6: bool, priority: u32, table: u32) -> Self {
        Rule {
            ipv6,
            priority,
            table,
            source: None,
            destination: None,
            mark: None,
            input: None,
            output: None,
            action: 1,
        }
    }

    pub(super) fn request(&self, add: bool) -> Builder {
        let mut fixed = [0; 12];
        fixed[0] = if self.ipv6 { AF_INET6 } else { AF_INET };
        fixed[1] = self.destination.map_or(0, |prefix| prefix.length);
        fixed[2] = self.source.map_or(0, |prefix| prefix.length);
        fixed[4] = u8::try_from(self.table).unwrap_or(0);
        fixed[7] = self.action;
        let (kind, flags) = if add { (RULE, ACK | CREATE | EXCLUSIVE) } else { (RULE + 1, ACK) };
        let mut builder = Builder::new(kind, flags).fixed(&fixed);
        builder = builder.attribute_u32(15, self.table).attribute_u32(6, self.priority);
        if let Some(prefix) = self.destination {
            builder = builder.attribute_ip(1, prefix.address);
        }
        if let Some(prefix) = self.source {
            builder = builder.attribute_ip(2, prefix.address);
        }
        if let Some((mark, mask)) = self.mark {
            builder = builder.attribute_u32(10, mark).attribute_u32(16, mask);
        }
        if let Some(name) = &self.input {
            builder = builder.attribute_text(3, name);
        }
        if let Some(name) = &self.output {
            builder = builder.attribute_text(17, name);
        }
        builder
    }
}

impl Address {
    pub(super) fn request(&self, add: bool) -> Builder {
        let address = self.prefix.address;
        let mut fixed = [0; 8];
        fixed[0] = family(address);
        fixed[1] = self.prefix.length;
        fixed[3] = self.scope;
        fixed[4..8].copy_from_slice(&self.link.to_ne_bytes());
        let (kind, flags) = if add { (ADDRESS, ACK | CREATE | EXCLUSIVE) } else { (ADDRESS + 1, ACK) };
        let builder = Builder::new(kind, flags).fixed(&fixed).attribute_ip(2, address);
        let builder = builder.attribute_ip(1, self.peer.unwrap_or(address));
        if self.flags == 0 {
            return builder;
        }
        builder.attribute_u32(8, self.flags)
    }
}

/// Reads a message of the rtnetlink family; `None` when it is not about one of the five objects (or about one that
/// has no IP address, such as a bridge's forwarding entry).
pub fn parse(message: &Message<'_>) -> Result<Option<Change>, Malformed> {
    let removed = message.kind & 3 == 1;
    if message.kind & 3 > 1 {
        return Ok(None);
    }
    let object = match message.kind & !3 {
        LINK => parse_link(message.payload)?.map(Object::Link),
        ADDRESS => parse_address(message.payload)?.map(Object::Address),
        ROUTE => parse_route(message.payload)?.map(Object::Route),
        NEIGHBOUR => parse_neighbour(message.payload)?.map(Object::Neighbour),
        RULE => parse_rule(message.payload)?.map(Object::Rule),
        _ => None,
    };
    Ok(object.map(|object| Change { removed, object }))
}

fn parse_link(payload: &[u8]) -> Result<Option<Link>, Malformed> {
    let (fixed, rest) = payload.split_at_checked(16).ok_or(Malformed("link without ifinfomsg"))?;
    if fixed[0] != 0 {
        return Ok(None);
    }
    let mut link = Link {
        index: u32_at(fixed, 4).unwrap_or(0),
        name: String::new(),
        flags: u32_at(fixed, 8).unwrap_or(0),
        mtu: 0,
        master: None,
        oper_state: 0,
        kind: None,
        hardware: Vec::new(),
    };
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => link.hardware = attribute.payload.to_vec(),
            3 => attribute.text()?.clone_into(&mut link.name),
            4 => link.mtu = attribute.u32()?,
            10 => link.master = Some(attribute.u32()?),
            16 => link.oper_state = attribute.u8()?,
            18 => {
                for info in attribute.nested() {
                    let info = info?;
                    if info.kind == 1 {
                        link.kind = Some(info.text()?.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some(link))
}

fn parse_address(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    let (fixed, rest) = payload.split_at_checked(8).ok_or(Malformed("address without ifaddrmsg"))?;
    let mut flags = u32::from(fixed[2]);
    let (mut address, mut local) = (None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => address = Some(attribute.ip()?),
            2 => local = Some(attribute.ip()?),
            8 => flags = attribute.u32()?,
            _ => {}
        }
    }
    let Some(own) = local.or(address) else { return Ok(None) };
    let prefix = Prefix::new(own, fixed[1]).ok_or(Malformed("prefix longer than its address"))?;
    let peer = address.filter(|peer| *peer != own);
    Ok(Some(Address { link: u32_at(fixed, 4).unwrap_or(0), prefix, peer, scope: fixed[3], flags }))
}

fn parse_route(payload: &[u8]) -> Result<Option<Route>, Malformed> {
    const CLONED: u32 = 0x200;
    let (fixed, rest) = payload.split_at_checked(12).ok_or(Malformed("route without rtmsg"))?;
    let flags = u32_at(fixed, 8).unwrap_or(0);
    let any = match fixed[0] {
        AF_INET => Prefix::ANY_V4,
        AF_INET6 => Prefix::ANY_V6,
        _ => return Ok(None),
    };
    if flags & CLONED != 0 {
        return Ok(None);
    }
    let mut hop = NextHop { dead: is_dead(flags), ..NextHop::default() };
    let mut multipath = Vec::new();
    let mut route = Route {
        destination: any,
        table: u32::from(fixed[4]),
        kind: fixed[7],
        scope: fixed[6],
        protocol: fixed[5],
        metric: 0,
        source: None,
        next_hops: Vec::new(),
    };
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => {
                route.destination = Prefix::new(attribute.ip()?, fixed[1])
                    .ok_or(Malformed("prefix longer than its address"))?;
            }
            4 => hop.link = attribute.u32()?,
            5 => hop.gateway = Some(attribute.ip()?),
            6 => route.metric = attribute.u32()?,
            7 => route.source = Some(attribute.ip()?),
            9 => multipath = parse_hops(attribute.payload)?,
            15 => route.table = attribute.u32()?,
            18 => hop.gateway = Some(parse_via(attribute.payload)?),
            _ => {}
        }
    }
    route.next_hops = match multipath.is_empty() {
        false => multipath,
        true if hop.link != 0 || hop.gateway.is_some() => vec![hop],
        true => Vec::new(),
    };
    Ok(Some(route))
}

fn parse_hops(mut bytes: &[u8]) -> Result<Vec<NextHop>, Malformed> {
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0).ok_or(Malformed("next hop cut short"))?);
        if length < 8 || length > bytes.len() {
            return Err(Malformed("length of a next hop out of range"));
        }
        let mut hop = NextHop {
            link: u32_at(bytes, 4).unwrap_or(0),
            gateway: None,
            dead: is_dead(u32::from(bytes[2])),
        };
        for attribute in attributes(&bytes[8..length]) {
            let attribute = attribute?;
            match attribute.kind {
                5 => hop.gateway = Some(attribute.ip()?),
                18 => hop.gateway = Some(parse_via(attribute.payload)?),
                _ => {}
            }
        }
        hops.push(hop);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(hops)
}

/// `RTA_VIA`: a gateway of the other family (RFC 8950), 2 bytes of family before the address.
fn parse_via(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let payload = bytes.get(2..).ok_or(Malformed("gateway cut short"))?;
    super::wire::Attribute { kind: 18, payload }.ip()
}

fn is_dead(flags: u32) -> bool {
    const DEAD: u32 = 1;
    const LINK_DOWN: u32 = 16;
    flags & (DEAD | LINK_DOWN) != 0
}

fn parse_neighbour(payload: &[u8]) -> Result<Option<Neighbour>, Malformed> {
    let (fixed, rest) = payload.split_at_checked(12).ok_or(Malformed("neighbour without ndmsg"))?;
    if !matches!(fixed[0], AF_INET | AF_INET6) {
        return Ok(None);
    }
    let (mut address, mut hardware) = (None, Vec::new());
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => address = Some(attribute.ip()?),
            2 => hardware = attribute.payload.to_vec(),
            _ => {}
        }
    }
    let link = u32_at(fixed, 4).unwrap_or(0);
    let state = u16_at(fixed, 8).unwrap_or(0);
    Ok(address.map(|address| Neighbour { link, address, state, hardware }))
}

fn parse_rule(payload: &[u8]) -> Result<Option<Rule>, Malformed> {
    let (fixed, rest) = payload.split_at_checked(12).ok_or(Malformed("rule without fib_rule_hdr"))?;
    let ipv6 = match fixed[0] {
        AF_INET => false,
        AF_INET6 => true,
        _ => return Ok(None),
    };
    let mut rule = Rule { action: fixed[7], ..Rule::lookup(ipv6, 0, u32::from(fixed[4])) };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => rule.destination = Prefix::new(attribute.ip()?, fixed[1]),
            2 => rule.source = Prefix::new(attribute.ip()?, fixed[2]),
            3 => rule.input = Some(attribute.text()?.to_owned()),
            6 => rule.priority = attribute.u32()?,
            10 => mark = Some(attribute.u32()?),
            15 => rule.table = attribute.u32()?,
            16 => mask = attribute.u32()?,
            17 => rule.output = Some(attribute.text()?.to_owned()),
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    Ok(Some(rule))
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// The main routing table.
impl Route {
    /// Number of the table `main`.
    pub const MAIN: u32 = MAIN_TABLE;
}

#[cfg(test)]
mod tests {
    use super::super::wire::messages;
    use super::*;
    use proptest::prelude::*;

    fn read(builder: Builder) -> Change {
        let bytes = builder.finish(1);
        let message = messages(&bytes).next().unwrap().unwrap();
        parse(&message).unwrap().unwrap()
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        prop_oneof![
            (any::<u32>(), 1u8..=32)
                .prop_map(|(bits, length)| Prefix { address: IpAddr::V4(bits.into()), length }),
            (any::<u128>(), 1u8..=128)
                .prop_map(|(bits, length)| Prefix { address: IpAddr::V6(bits.into()), length }),
        ]
    }

    proptest! {
        #[test]
        fn any_payload_is_parsed_without_panic(kind in 16u16..36, payload: Vec<u8>) {
            let bytes = Builder::new(kind, 0).fixed(&payload).finish(0);
            for message in messages(&bytes).flatten() {
                let _ = parse(&message);
            }
        }

        #[test]
        fn a_route_is_read_back(destination in prefix(), table: u32, metric: u32, link in 1u32.., gateway: bool, add: bool) {
            let gateway = gateway.then_some(destination.address);
            let hop = NextHop { link, gateway, dead: false };
            let route = Route { metric, ..Route::unicast(destination, table, hop) };
            prop_assert_eq!(read(route.request(add)), Change { removed: !add, object: Object::Route(route) });
        }

        #[test]
        fn a_rule_is_read_back(source in prefix(), priority: u32, table: u32, mark: Option<(u32, u32)>, add: bool) {
            let ipv6 = source.address.is_ipv6();
            let rule = Rule {
                source: Some(source), mark, input: Some("eth0".to_owned()), ..Rule::lookup(ipv6, priority, table)
            };
            prop_assert_eq!(read(rule.request(add)), Change { removed: !add, object: Object::Rule(rule) });
        }

        #[test]
        fn an_address_is_read_back(prefix in prefix(), link: u32, scope: u8, flags: u32, add: bool) {
            let address = Address { link, prefix, peer: None, scope, flags };
            prop_assert_eq!(read(address.request(add)), Change { removed: !add, object: Object::Address(address) });
        }
    }
}

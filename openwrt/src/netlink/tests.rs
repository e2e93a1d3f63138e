// SPDX-License-Identifier: Apache-2.0
//! Against the real kernel, in a namespace of our own.

use std::net::IpAddr;
use std::time::Duration;

use lab::Netns;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lab() -> (Netns, Netns) {
    let (own, other) = (Netns::new("nl"), Netns::new("nl-peer"));
    own.join("wan", &other, "peer");
    own.ip("addr add 192.0.2.1/24 dev wan");
    own.ip("addr add 2001:db8::1/64 dev wan nodad");
    (own, other)
}

#[test]
fn dumps_show_what_ip_set_up() {
    let (own, _other) = lab();
    own.ip("route add default via 192.0.2.254 dev wan metric 7");
    own.ip("route add 198.51.100.0/24 nexthop via 192.0.2.253 nexthop via 192.0.2.252");
    own.ip("-6 route add 2001:db8:1::/48 via 2001:db8::2");
    own.ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev wan nud permanent");
    own.ip("rule add from 192.0.2.1 fwmark 0x10/0xf0 lookup 1234 priority 99");
    own.enter(|| {
        let mut connection = Connection::route().unwrap();
        let links = connection.links().unwrap();
        let wan = links.iter().find(|link| link.name == "wan").unwrap();
        assert_eq!((wan.kind.as_deref(), wan.mtu, wan.is_up()), (Some("veth"), 1500, true));
        assert!(links.iter().any(Link::is_loopback));

        let addresses = connection.addresses().unwrap();
        let v4 = addresses.iter().find(|address| address.prefix.address == ip("192.0.2.1")).unwrap();
        assert_eq!((v4.link, v4.prefix.length, v4.is_usable()), (wan.index, 24, true));
        assert!(addresses.iter().any(|address| address.prefix.address == ip("2001:db8::1")));

        let routes = connection.routes().unwrap();
        let default = routes.iter().find(|route| route.is_default()).unwrap();
        assert_eq!((default.metric, default.table), (7, Route::MAIN));
        assert_eq!(default.next_hops[0].gateway, Some(ip("192.0.2.254")));
        let multipath = routes.iter().find(|route| route.destination.address == ip("198.51.100.0")).unwrap();
        assert_eq!(multipath.next_hops.len(), 2);
        assert!(routes.iter().any(|route| route.destination == "2001:db8:1::/48".parse().unwrap()));

        let neighbours = connection.neighbours().unwrap();
        let neighbour = neighbours.iter().find(|neighbour| neighbour.address == ip("192.0.2.9")).unwrap();
        assert_eq!((neighbour.is_reachable(), neighbour.hardware.last()), (true, Some(&9)));

        let rules = connection.rules().unwrap();
        let rule = rules.iter().find(|rule| rule.priority == 99).unwrap();
        assert_eq!((rule.table, rule.mark), (1234, Some((0x10, 0xf0))));
        assert_eq!(rule.source, Some(Prefix::host(ip("192.0.2.1"))));
    });
}

#[test]
fn routes_rules_and_addresses_are_added_and_deleted() {
    let (own, _other) = lab();
    own.enter(|| {
        let mut connection = Connection::route().unwrap();
        let wan = connection.links().unwrap().into_iter().find(|link| link.name == "wan").unwrap().index;
        let hop = NextHop { link: wan, gateway: Some(ip("192.0.2.254")), dead: false };
        let route = Route::unicast(Prefix::ANY_V4, 4711, hop);
        let rule = Rule { source: Some(Prefix::host(ip("192.0.2.1"))), ..Rule::lookup(false, 500, 4711) };
        let prefix = Prefix::new(ip("192.0.2.77"), 24).unwrap();
        let address = Address { link: wan, prefix, peer: None, scope: 0, flags: 0 };
        connection.add_route(&route).unwrap();
        connection.add_route(&route).unwrap();
        connection.add_rule(&rule).unwrap();
        connection.add_address(&address).unwrap();
        assert_eq!(connection.add_rule(&rule).unwrap_err().errno(), Some(17), "EEXIST");
        assert!(connection.routes().unwrap().contains(&route));
        assert!(connection.rules().unwrap().contains(&rule));
        assert!(connection.addresses().unwrap().iter().any(|found| found.prefix == prefix));

        connection.delete_route(&route).unwrap();
        connection.delete_rule(&rule).unwrap();
        connection.delete_address(&address).unwrap();
        assert_eq!(connection.delete_route(&route).unwrap_err().errno(), Some(3), "ESRCH");
        assert!(!connection.routes().unwrap().contains(&route));
        assert!(!connection.rules().unwrap().contains(&rule));
        assert!(!connection.addresses().unwrap().iter().any(|found| found.prefix == prefix));
    });
}

#[test]
fn the_monitor_tells_of_links_addresses_and_routes() {
    let (own, other) = lab();
    own.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut monitor = Monitor::new(Topics::NETWORK).unwrap();
            let wan = Connection::route().unwrap().links().unwrap();
            let wan = wan.into_iter().find(|link| link.name == "wan").unwrap();
            own.ip("route add default via 192.0.2.254 dev wan");
            wait_for(&mut monitor, |change| {
                matches!(&change.object, Object::Route(route) if !change.removed && route.is_default())
            })
            .await;
            own.ip("addr del 192.0.2.1/24 dev wan");
            wait_for(&mut monitor, |change| {
                matches!(&change.object, Object::Address(address)
                    if change.removed && address.prefix.address == ip("192.0.2.1"))
            })
            .await;
            other.ip("link set peer down");
            wait_for(&mut monitor, |change| {
                matches!(&change.object, Object::Link(link) if link.index == wan.index && !link.has_carrier())
            })
            .await;
        });
    });
}

async fn wait_for(monitor: &mut Monitor, wanted: impl Fn(&Change) -> bool) {
    let search = async {
        loop {
            if matches!(monitor.next().await.unwrap(), Event::Change(change) if wanted(&change)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("the change was not reported");
}

#[test]
fn an_overrun_is_reported() {
    let (own, _other) = lab();
    own.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut monitor = Monitor::new(Topics { routes: true, ..Topics::default() }).unwrap();
            let mut connection = Connection::route().unwrap();
            let wan = connection.links().unwrap().into_iter().find(|link| link.name == "wan").unwrap().index;
            let hop = NextHop { link: wan, gateway: None, dead: false };
            for last in 0..=255u8 {
                for third in 0..40u8 {
                    let prefix = Prefix::host(IpAddr::from([198, 51, third, last]));
                    connection.add_route(&Route::unicast(prefix, 99, hop)).unwrap();
                }
            }
            let search = async {
                let mut event = monitor.next().await.unwrap();
                while event != Event::Overrun {
                    event = monitor.next().await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, search).await.expect("no overrun after 10240 unread changes");
        });
    });
}

#[test]
fn generic_families_are_resolved_and_asked() {
    let (own, _other) = lab();
    own.enter(|| {
        let mut connection = Connection::generic().unwrap();
        let controller = Family::resolve(&mut connection, "nlctrl", 1).unwrap();
        let mut families = 0;
        let request = controller.request(3, wire::DUMP);
        connection
            .exchange(request, |message| {
                families += usize::from(Family::attributes(message)?.flatten().any(|a| a.kind == 2));
                Ok(())
            })
            .unwrap();
        assert!(families > 0);
        let missing = Family::resolve(&mut connection, "no_such_family", 1).unwrap_err();
        assert!(matches!(missing, Error::NoFamily(_)), "{missing}");
    });
}

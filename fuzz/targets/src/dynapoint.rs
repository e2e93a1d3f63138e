// SPDX-License-Identifier: Apache-2.0
//! What dynapoint reads: its configuration, answers of the internet, of hostapd and of netifd.

use crate::split;
use dynapoint::condition::Condition;
use dynapoint::config::{Config, Sources};
use dynapoint::probe::http::{self, Expect};
use dynapoint::probe::url::{Host, Url};
use dynapoint::probe::{dns, icmp};
use dynapoint::ssid::{render, Names, Ssid, MAX_BYTES};
use dynapoint::verdict::{Family, Outcome};
use dynapoint::wireless::{air, bss_config, hostapd::Status};
use openwrt::uci::{Package, Problems};

/// `/etc/config/dynapoint`, a NUL, `/etc/config/wireless`, a NUL, `/etc/config/system`.
pub(crate) fn config(bytes: &[u8]) {
    let (own, rest) = split(bytes);
    let (wireless, system) = split(rest);
    let Ok(own) = Package::parse("dynapoint", own) else { return };
    let (wireless, system) = (Package::parse("wireless", wireless), Package::parse("system", system));
    let sources = Sources { dynapoint: &own, wireless: wireless.as_ref().ok(), system: system.as_ref().ok() };
    let mut problems = Problems::new();
    let config = Config::read(sources, &mut problems);
    assert!(config.rules.len() <= own.sections().len());
    let host = config.host_name.as_deref().unwrap_or_default();
    for section in own.sections().iter().flat_map(openwrt::uci::Section::options) {
        for value in section.values() {
            let _ = Condition::parse(value.as_str());
            let names = Names { ssid: "net", host, mac: Some([1; 6]) };
            assert!(render(value.as_str(), names).as_bytes().len() <= MAX_BYTES);
        }
    }
}

/// A URL: nothing of it ends a line of the request.
pub(crate) fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(url) = Url::parse(&text) else { return };
    let request = http::request(&url);
    let lines = request.split(|&byte| byte == b'\n').count();
    assert_eq!(lines, 7, "{:?}", String::from_utf8_lossy(&request));
    let again = format!("http://{}{}", url.host, url.path);
    assert_eq!(Url::parse(&again).map(|again| (again.host, again.path)), Ok((url.host, url.path)));
}

/// The answer of a web server: an expected body, a NUL, the answer.
pub(crate) fn http_answer(bytes: &[u8]) {
    let (expected, answer) = split(bytes);
    let url = Url::parse("http://www.example.org/generate_204").unwrap();
    let expect = Expect {
        status: Expect::parse_status(&String::from_utf8_lossy(expected)).unwrap_or_default(),
        body: (!expected.is_empty()).then(|| String::from_utf8_lossy(expected).into_owned()),
    };
    // Read as it arrives: the verdict on the head falls at one byte and stays.
    let head = (0..=answer.len().min(http::MAX_HEAD + 1024))
        .step_by(97)
        .chain([answer.len()])
        .find_map(|length| http::parse_head(&answer[..length]).transpose());
    let Some(Ok(head)) = head else { return };
    assert!(head.bytes <= answer.len() && head.bytes > 0);
    let _ = http::needs_body(&expect, &head);
    let (Outcome::Failed(said) | Outcome::Portal(said)) =
        http::judge(&url, &expect, &head, &answer[head.bytes..])
    else {
        return;
    };
    assert!(said.len() < 400 && !said.contains(char::is_control), "{said:?}");
}

/// A resolver's answer; also `resolv.conf` and `hosts`.
pub(crate) fn dns_answer(bytes: &[u8]) {
    for family in Family::ALL {
        let question = dns::question(0x1234, "www.example.org", family).unwrap();
        let _ = dns::answer(&question, bytes);
        // Past what only an answer to this question has.
        let mut answer = question.clone();
        answer[2] |= 0x80;
        let counts = bytes.len().min(4);
        answer[6..6 + counts].copy_from_slice(&bytes[..counts]);
        answer.extend(&bytes[counts..]);
        if let Some(dns::Answer::Addresses(addresses)) = dns::answer(&question, &answer) {
            assert!(
                addresses.len() <= 64 && addresses.iter().all(|it| it.is_ipv4() == (family == Family::V4))
            );
        }
        let text = String::from_utf8_lossy(bytes);
        assert!(dns::resolvers(&text).len() <= 3);
        let _ = dns::in_hosts(&text, "router", family);
        if let Some(question) = dns::question(1, &text, family) {
            assert!(question.len() <= 12 + 255 + 4);
        }
    }
}

/// A packet on a raw ICMP socket.
pub(crate) fn icmp(bytes: &[u8]) {
    for family in Family::ALL {
        let request = icmp::request(family, 7, 9, *b"01234567");
        if icmp::reply(family, &request, bytes) == Some(icmp::Reply::Echo) {
            let ours = bytes.windows(12).any(|window| window == &request[4..]);
            assert!(ours, "an echo of something else");
        }
    }
}

/// hostapd's answer to `STATUS`.
pub(crate) fn hostapd_status(bytes: &[u8]) {
    let status = Status::parse(&String::from_utf8_lossy(bytes));
    assert!(status.bsses.len() <= 64 && status.bsses.iter().all(|bss| !bss.ifname.is_empty()));
    let _ = status.busy();
    for bss in &status.bsses {
        let _ = Ssid::from_bytes(&bss.ssid);
        assert!(bss.ssid.len() <= bytes.len() * 3);
    }
}

/// hostapd's configuration of a radio, as netifd wrote it.
pub(crate) fn hostapd_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let ssid = Ssid::cut("new name\nwith a line");
    for device in bss_config::devices(&text).take(64) {
        let Some(cut) = bss_config::cut_out(&text, device, &ssid, Some("02:00:00:00:00:01")) else {
            continue;
        };
        assert!(cut.len() <= text.len() + device.len() + 200);
        // The last one counts.
        assert!(cut.ends_with("\nssid2=6e6577206e616d650a776974682061206c696e65\n"), "{cut}");
    }
    let _ = Host::parse(&text);
}

/// What netifd says of interfaces and radios.
pub(crate) fn netifd(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    for interface in openwrt::interfaces::from_dump(&value) {
        assert!(!interface.name.is_empty() && interface.device.as_deref() != Some(""));
    }
    let _ = air::read_netifd(&value);
}

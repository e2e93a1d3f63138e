// SPDX-License-Identifier: Apache-2.0
//! hostapd's configuration of one BSS, cut out of that of its radio, to put a BSS back that was taken out. Pure.
//!
//! netifd writes `/var/run/hostapd-<phy>.conf`: options of the radio, `interface=` with the options of the first BSS,
//! then `bss=` with those of each further one.

use super::hostapd::hex;
use crate::ssid::Ssid;

/// The configuration of the BSS on `ifname`, under the name `ssid`, for `ADD bss_config=`; `None` where `radio` does
/// not describe it. `bssid` fills in where the file leaves the address to hostapd.
#[must_use]
pub fn cut_out(radio: &str, ifname: &str, ssid: &Ssid, bssid: Option<&str>) -> Option<String> {
    let mut radio_lines = Vec::new();
    let mut own = None::<Vec<&str>>;
    let mut current = None;
    for line in radio.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some(("interface" | "bss", name)) => {
                current = Some(name);
                if name == ifname {
                    own = Some(Vec::new());
                }
            }
            _ if current.is_none() => radio_lines.push(line),
            _ if current == Some(ifname) => own.iter_mut().for_each(|lines| lines.push(line)),
            _ => {}
        }
    }
    let own = own?;
    let mut text = String::new();
    for line in radio_lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("interface={ifname}\n"));
    let key = |line: &&str| line.split('=').next().unwrap_or_default().to_owned();
    for line in own.iter().filter(|line| !matches!(key(line).as_str(), "ssid" | "ssid2")) {
        text.push_str(line);
        text.push('\n');
    }
    if let Some(bssid) = bssid.filter(|_| !own.iter().any(|line| key(line) == "bssid")) {
        text.push_str(&format!("bssid={bssid}\n"));
    }
    text.push_str(&format!("ssid2={}\n", hex(ssid.as_bytes())));
    Some(text)
}

/// The devices of the BSSes a radio's configuration describes, the first BSS first.
pub fn devices(radio: &str) -> impl Iterator<Item = &str> {
    radio.lines().filter_map(|line| match line.trim().split_once('=') {
        Some(("interface" | "bss", name)) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RADIO: &str = "driver=nl80211\nhw_mode=g\nchannel=6\n\ninterface=phy0-ap0\nssid=private\nwpa=2\n\
                         bssid=02:00:00:00:00:00\n#default_macaddr\nbss=phy0-ap1\nctrl_interface=/var/run/hostapd\n\
                         ssid=freifunk\nutf8_ssid=1\nbss=phy0-ap2\nssid=third\nbssid=02:00:00:00:00:02\n";

    #[test]
    fn one_bss_with_its_radio_and_nothing_else() {
        let text = cut_out(RADIO, "phy0-ap1", &Ssid::cut("äb"), Some("02:00:00:00:00:01")).unwrap();
        assert_eq!(
            text,
            "driver=nl80211\nhw_mode=g\nchannel=6\ninterface=phy0-ap1\nctrl_interface=/var/run/hostapd\nutf8_ssid=1\n\
             bssid=02:00:00:00:00:01\nssid2=c3a462\n"
        );
        let text = cut_out(RADIO, "phy0-ap2", &Ssid::cut("x"), Some("ff:ff:ff:ff:ff:ff")).unwrap();
        assert!(text.contains("bssid=02:00:00:00:00:02\n") && !text.contains("ff:ff"));
        assert_eq!(cut_out(RADIO, "phy1-ap0", &Ssid::cut("x"), None), None);
        assert_eq!(devices(RADIO).collect::<Vec<_>>(), ["phy0-ap0", "phy0-ap1", "phy0-ap2"]);
    }

    #[test]
    fn a_name_cannot_smuggle_options_in() {
        let text = cut_out(RADIO, "phy0-ap1", &Ssid::cut("a\nwpa=0"), None).unwrap();
        assert!(!text.contains("wpa=0"));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Names of networks: templates, and the 32 bytes an SSID may have.

use std::fmt;

/// An SSID holds 0 to 32 bytes (IEEE 802.11-2020, 9.4.2.2).
pub const MAX_BYTES: usize = 32;

/// A valid SSID: at most [`MAX_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssid(Vec<u8>);

impl Ssid {
    /// Cuts `name` to what fits, on a character boundary.
    #[must_use]
    pub fn cut(name: &str) -> Self {
        let mut end = name.len().min(MAX_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self(name.as_bytes()[..end].to_vec())
    }

    /// Takes what hostapd or the kernel report, which need not be UTF-8; `None` above 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MAX_BYTES).then(|| Self(bytes.to_vec()))
    }

    /// The bytes on the air.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Ssid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Ssid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What a template can name.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `%s`: the SSID in the configuration.
    pub ssid: &'a str,
    /// `%h`: the host name of the router.
    pub host: &'a str,
    /// `%m`: the last three bytes of the access point's MAC address, six hexadecimal digits.
    pub mac: Option<[u8; 6]>,
}

/// Fills in `%s`, `%h`, `%m` and `%%`; anything else stays as it is, and the result is cut to 32 bytes.
///
/// Where the template ends in a shorter piece that should survive the cut, put it first: what is cut is the end.
#[must_use]
pub fn render(template: &str, names: Names<'_>) -> Ssid {
    let mut out = String::with_capacity(MAX_BYTES * 2);
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let mut after = rest[at + 1..].chars();
        match after.next() {
            Some('s') => out.push_str(names.ssid),
            Some('h') => out.push_str(names.host),
            Some('m') => push_mac_tail(&mut out, names.mac),
            Some('%') => out.push('%'),
            Some(other) => {
                out.push('%');
                out.push(other);
            }
            None => out.push('%'),
        }
        rest = after.as_str();
    }
    out.push_str(rest);
    Ssid::cut(&out)
}

fn push_mac_tail(out: &mut String, mac: Option<[u8; 6]>) {
    use fmt::Write;
    if let Some([.., a, b, c]) = mac {
        // Writing to a String cannot fail.
        let _ = write!(out, "{a:02x}{b:02x}{c:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: Names<'static> =
        Names { ssid: "freifunk", host: "node-0815", mac: Some([2, 0, 0, 0xab, 0xcd, 0x0e]) };

    #[test]
    fn fills_in_every_placeholder() {
        assert_eq!(render("%s_%h", NAMES).as_bytes(), b"freifunk_node-0815");
        assert_eq!(render("%m 100%% %x%", NAMES).as_bytes(), b"abcd0e 100% %x%");
        assert_eq!(render("offline", NAMES).as_bytes(), b"offline");
    }

    #[test]
    fn placeholders_in_values_are_not_filled_in_again() {
        let names = Names { ssid: "%h%s", host: "%m", mac: None };
        assert_eq!(render("%s %h%m", names).as_bytes(), b"%h%s %m");
    }

    #[test]
    fn cuts_between_characters_not_within_one() {
        let name = format!("{}{}", "x".repeat(31), "ä");
        assert_eq!(Ssid::cut(&name).as_bytes(), "x".repeat(31).as_bytes());
        assert_eq!(Ssid::cut(&"😀".repeat(9)).as_bytes(), "😀".repeat(8).as_bytes());
    }

    proptest! {
        #[test]
        fn never_longer_than_an_ssid_and_always_utf8(template in ".{0,60}", ssid in ".{0,40}", host in ".{0,40}", mac in any::<[u8; 6]>()) {
            let name = render(&template, Names { ssid: &ssid, host: &host, mac: Some(mac) });
            prop_assert!(name.as_bytes().len() <= MAX_BYTES);
            prop_assert!(std::str::from_utf8(name.as_bytes()).is_ok());
        }

        #[test]
        fn what_fits_is_untouched_and_what_does_not_is_its_longest_prefix(name in ".{0,40}") {
            let cut = Ssid::cut(&name);
            let kept = std::str::from_utf8(cut.as_bytes()).unwrap();
            prop_assert!(name.starts_with(kept));
            match name[kept.len()..].chars().next() {
                None => {}
                Some(next) => prop_assert!(kept.len() + next.len_utf8() > MAX_BYTES),
            }
        }

        #[test]
        fn the_plain_template_is_the_configured_name(ssid in ".{0,40}") {
            let names = Names { ssid: &ssid, host: "h", mac: None };
            prop_assert_eq!(render("%s", names), Ssid::cut(&ssid));
        }
    }
}

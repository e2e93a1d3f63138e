// SPDX-License-Identifier: Apache-2.0
//! `config check`, and the checks that `hosts` stands for.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use openwrt::uci::{Package, Problems, Reader, Section};

use super::{RuleConfig, FAMILIES, MS, PACKAGE};
use crate::check::{Check, Kind};
use crate::probe::http::Expect;
use crate::probe::url::{split_port, Host, Scheme, Url};

const TYPES: [&str; 10] =
    ["http", "https", "dns", "icmp", "tcp", "route", "carrier", "neighbour", "batman", "script"];

/// Reads every `config check` into its rule.
pub(super) fn read_all(package: &Package, rules: &mut [RuleConfig], problems: &mut Problems) {
    for section in package.of_kind("check") {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let rule = match (reader.optional_text("rule"), rules.len()) {
            (Some(name), _) => rules.iter().position(|rule| rule.name == name).ok_or(name),
            // With a single rule there is no doubt to whom a check belongs.
            (None, 1) => Ok(0),
            (None, _) => Err(String::new()),
        };
        match rule {
            Ok(index) => {
                let check = check(section, &rules[index], &mut reader);
                rules[index].checks.extend(check);
                reader.finish();
            }
            Err(name) if name.is_empty() => {
                reader.problem("rule", None, "missing: the rule this check belongs to");
            }
            Err(name) => reader.problem("rule", Some(&name), "no such rule; the check is left out"),
        }
    }
}

/// `expect_status` and `expect_body`.
pub(super) fn expect(reader: &mut Reader<'_>) -> Expect {
    Expect {
        status: reader.parsed("expect_status", Expect::parse_status).unwrap_or_default(),
        body: reader.optional_text("expect_body"),
    }
}

/// An entry of `hosts`: a URL, `http://` where it has no scheme.
pub(super) fn host(text: &str, expect: &Expect) -> Result<(String, Kind), String> {
    let url = supported(Url::parse(text)?)?;
    Ok((text.to_owned(), Kind::Http(url, expect.clone())))
}

fn supported(url: Url) -> Result<Url, String> {
    if url.scheme == Scheme::Https && !cfg!(feature = "tls") {
        return Err("this build checks http only; https needs the package dynapoint-tls".to_owned());
    }
    Ok(url)
}

fn check(section: &Section, rule: &RuleConfig, reader: &mut Reader<'_>) -> Option<Check> {
    let choices: Vec<(&str, &str)> = TYPES.iter().map(|word| (*word, *word)).collect();
    let Some(word) = reader.optional_choice("type", &choices) else {
        if !reader.has("type") {
            reader.problem("type", None, format!("missing, expected one of: {}", TYPES.join(", ")));
        }
        return None;
    };
    let kind = kind(word, section, reader)?;
    let interface = reader.optional_text("interface").or_else(|| rule.interface.clone());
    if matches!(kind, Kind::Carrier) && interface.is_none() {
        reader.problem("interface", None, "missing: the interface whose carrier counts");
        return None;
    }
    Some(Check {
        name: section.label(),
        kind,
        interface,
        families: reader.optional_choice("family", &FAMILIES),
        timeout: reader.duration("timeout", MS * 50..=Duration::from_secs(300), rule.timeout),
    })
}

fn kind(word: &str, section: &Section, reader: &mut Reader<'_>) -> Option<Kind> {
    let target = if word == "script" { None } else { reader.optional_text("target") };
    let needs_target = matches!(word, "http" | "https" | "dns" | "icmp" | "tcp");
    if needs_target && target.is_none() {
        reader.problem("target", None, "missing: what is to be checked");
        return None;
    }
    let target = target.unwrap_or_default();
    let kind = match word {
        "http" | "https" => {
            let expect = expect(reader);
            let text = if target.contains("://") { target.clone() } else { format!("{word}://{target}") };
            Url::parse(&text).and_then(supported).map(|mut url| {
                url.port = reader.optional_port("port").unwrap_or(url.port);
                Kind::Http(url, expect)
            })
        }
        "dns" => {
            let port = reader.port("port", 53);
            let resolver = reader.parsed("resolver", |text| resolver(text, port));
            match Host::parse(&target) {
                Ok(Host::Name(name)) => Ok(Kind::Dns { name, resolver }),
                _ => Err("expected the name to ask for".to_owned()),
            }
        }
        "icmp" => Host::parse(&target).map(Kind::Icmp),
        "tcp" => {
            let port = reader.optional_port("port");
            split_port(&target, port.unwrap_or(0)).and_then(|(host, port)| match port {
                0 => Err("needs a port: the option port, or HOST:PORT".to_owned()),
                port => Host::parse(host).map(|host| Kind::Tcp(host, port)),
            })
        }
        "route" => Ok(Kind::Route),
        "carrier" => Ok(Kind::Carrier),
        "neighbour" if target.is_empty() => Ok(Kind::Neighbour(None)),
        "neighbour" => target
            .parse()
            .map(|address| Kind::Neighbour(Some(address)))
            .map_err(|_| "expected an IP address".to_owned()),
        "batman" => {
            let upper = reader.number("upper_limit", 0.0..=1e6, 45.0);
            let lower = reader.number("lower_limit", 0.0..=1e6, upper.min(35.0));
            let device = if target.is_empty() { "bat0".to_owned() } else { target.clone() };
            if lower > upper {
                Err("lower_limit is above upper_limit".to_owned())
            } else {
                Ok(Kind::Batman { device, lower, upper })
            }
        }
        _ => match reader.optional_path("target") {
            Some(path) => {
                if !Path::new(&path).exists() {
                    reader.warning(
                        "target",
                        Some(&path.display().to_string()),
                        "there is no such program now",
                    );
                }
                return Some(Kind::Script(path));
            }
            None => {
                if section.get("target").is_none() {
                    reader.problem("target", None, "missing: the program to run");
                }
                return None;
            }
        },
    };
    kind.map_err(|reason| reader.problem("target", Some(&target), reason)).ok()
}

fn resolver(text: &str, port: u16) -> Result<(IpAddr, u16), String> {
    let (address, port) = split_port(text, port)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address
        .parse()
        .map(|address| (address, port))
        .map_err(|_| "expected the address of a resolver".to_owned())
}

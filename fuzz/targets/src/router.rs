// SPDX-License-Identifier: Apache-2.0
//! Configuration, and what an OpenWrt router keeps in files: for all daemons.

use crate::split;
use openwrt::timezone::Zone;
use openwrt::uci::{format_duration, parse_duration, Package, Problems, Reader, Section};
use std::time::Duration;

/// A configuration file.
pub(crate) fn uci_text(bytes: &[u8]) {
    if let Ok(package) = Package::parse("package", bytes) {
        check(&package, bytes.len());
    }
}

/// Uncommitted changes over a configuration file, with a NUL between the two.
pub(crate) fn uci_delta(bytes: &[u8]) {
    let (text, delta) = split(bytes);
    let Ok(mut package) = Package::parse("package", text) else { return };
    let skipped = package.overlay(delta);
    assert!(skipped <= delta.len());
    check(&package, bytes.len());
}

fn check(package: &Package, size: usize) {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut values = 0;
    for (at, section) in package.sections().iter().enumerate() {
        assert!(is_name(section.name()) && section.kind().bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(package.section(&format!("@[{at}]")).is_some());
        // A type with a bracket cannot be spelt in `@type[0]`, for libuci neither.
        assert!(section.kind().contains(['[', ']']) || package.section(&section.label()).is_some());
        for option in section.options() {
            assert!(is_name(option.name()));
            values += option.values().iter().map(|value| value.as_bytes().len()).sum::<usize>();
            assert!(section.option(option.name()).is_some());
        }
    }
    assert!(package.sections().len() <= size && values <= size);
}

/// A value as every type an option can have.
pub(crate) fn uci_values(bytes: &[u8]) {
    let quoted = String::from_utf8_lossy(bytes).replace('\0', "").replace('\'', "'\\''");
    let text = format!(
        "config kind 'name'\n\toption value '{quoted}'\n\tlist values '{quoted}'\n\tlist values 'x'\n"
    );
    let package =
        Package::parse("package", text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let section = &package.sections()[0];
    each_type(section);
    let value = section.get("value").unwrap_or_default();
    if let Some(duration) = parse_duration(value) {
        let shown = format_duration(duration);
        assert_eq!(
            parse_duration(&shown).map(|again| again.as_millis()),
            Some(duration.as_millis()),
            "{shown}"
        );
    }
}

fn each_type(section: &Section) {
    let mut problems = Problems::new();
    let mut reader = Reader::new("package", Some(section), &mut problems);
    reader.flag("value", false);
    assert!((10..=20).contains(&reader.integer("value", 10..=20u8, 10)));
    assert!((-5..=i64::MAX).contains(&reader.integer("value", -5..=i64::MAX, 0)));
    assert!((0.5..=2e9).contains(&reader.number("value", 0.5..=2e9, 1.0)));
    let hour = Duration::from_secs(3600);
    assert!((Duration::ZERO..=hour).contains(&reader.duration("value", Duration::ZERO..=hour, hour)));
    reader.choice("value", &[("one", 1), ("two", 2)], 1);
    let host = reader.host("value", "localhost");
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "{host:?}");
    assert!(reader.port("value", 1) > 0);
    assert!(reader.path("value", "/").is_absolute());
    assert!(reader.list("values").len() <= 2);
    if let Some(secret) = reader.secret("value") {
        assert_eq!(format!("{secret:?}").matches("***").count(), 1);
    }
    reader.problem("value", Some(section.get("value").unwrap_or_default()), "shown nowhere");
    reader.finish();
    // From `secret` on the value is in no problem; a value of few letters may stand in any text.
    let value = section.get("value").unwrap_or_default();
    let last = problems.iter().rfind(|problem| problem.reason == "shown nowhere").unwrap();
    assert!(last.value.as_deref() != Some(value) || value == "***");
}

/// The alert options of a section of any daemon.
pub(crate) fn alert_config(bytes: &[u8]) {
    let Ok(package) = Package::parse("package", bytes) else { return };
    for section in package.sections() {
        let mut problems = Problems::new();
        let mut reader = Reader::new("package", Some(section), &mut problems);
        let config = alerts::Config::read(&mut reader);
        reader.finish();
        if let Some(exec) = &config.exec {
            assert!(exec.command.first().is_some_and(|program| !program.is_empty()));
        }
        if let Some(email) = &config.email {
            let lines = email.to.iter().chain([&email.from, &email.host]);
            assert!(
                !email.to.is_empty() && lines.into_iter().all(|line| !line.contains(['\r', '\n'])),
                "{email:?}"
            );
        }
    }
}

/// The journal of the outbox.
pub(crate) fn outbox_journal(bytes: &[u8]) {
    assert!(alerts::fuzz::journal(bytes) <= bytes.len());
}

/// `/etc/TZ`, and the moments it is asked for.
pub(crate) fn timezone(bytes: &[u8]) {
    let (moment, text) = bytes.split_at(bytes.len().min(8));
    let Some(zone) = std::str::from_utf8(text).ok().and_then(Zone::parse) else { return };
    let moment = moment.try_into().map_or(0, i64::from_le_bytes);
    for moment in [moment, moment % 300_000_000_000, 0] {
        let offset = zone.offset_s(moment);
        assert!(offset.abs() <= 8 * 86_400, "{offset}");
    }
}

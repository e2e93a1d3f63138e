// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;
use std::time::Duration;

use super::super::value::{format_duration, is_host, nearest, parse_duration};
use super::{ProblemSeverity, Problems, Reader, Secret};
use crate::uci::Package;

/// Reads a section that holds the lines, and gives what the closure read and the problems as printed.
fn read<T>(lines: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Vec<String>) {
    let package = Package::parse("test", format!("config t n\n{lines}").as_bytes()).unwrap();
    let mut problems = Problems::new();
    let mut reader = Reader::new("test", package.section("n"), &mut problems);
    let value = read(&mut reader);
    reader.finish();
    (value, problems.iter().map(ToString::to_string).collect())
}

fn value<T>(text: &str, ask: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, String> {
    let (value, problems) = read(&format!("option o '{}'", text.replace('\'', "'\\''")), ask);
    problems.into_iter().next().map_or(Ok(value), Err)
}

#[test]
fn flags_in_every_spelling() {
    for text in ["1", "on", "yes", "true", "enabled", " 1 "] {
        assert_eq!(value(text, |reader| reader.flag("o", false)), Ok(true), "{text}");
    }
    for text in ["0", "off", "no", "false", "disabled"] {
        assert_eq!(value(text, |reader| reader.flag("o", true)), Ok(false), "{text}");
    }
    let reason = "expected 1/0, on/off, yes/no, true/false or enabled/disabled";
    assert_eq!(value("2", |reader| reader.flag("o", true)), Err(format!("test:n.o: 2: {reason}")));
    assert!(value("True", |reader| reader.flag("o", true)).is_err());
}

#[test]
fn integers_keep_to_their_range() {
    assert_eq!(value("5", |reader| reader.integer("o", 1..=5_u8, 2)), Ok(5));
    assert_eq!(value("-5", |reader| reader.integer("o", -5..=5, 0)), Ok(-5));
    assert_eq!(value("0xFF", |reader| reader.integer("o", 0..=u32::MAX, 0)), Ok(255));
    assert_eq!(value("18446744073709551615", |reader| reader.integer("o", 0..=u64::MAX, 0)), Ok(u64::MAX));
    for text in ["6", "0", "-1", "1.5", "x", "0x", "0x-1", "99999999999999999999", "1 2", "٣"] {
        let expected = format!("test:n.o: {text}: expected an integer from 1 to 5");
        assert_eq!(value(text, |reader| reader.integer("o", 1..=5_u8, 2)), Err(expected));
    }
    let (number, _) = read("option o 6", |reader| reader.integer("o", 1..=5_u8, 2));
    assert_eq!(number, 2, "the default");
    assert_eq!(read("", |reader| reader.optional_integer("o", 1..=5_u8)), (None, vec![]));
}

#[test]
fn numbers_are_finite_and_in_range() {
    assert_eq!(value("2.5", |reader| reader.number("o", 0.0..=100.0, 1.0)), Ok(2.5));
    assert_eq!(value("1e1", |reader| reader.optional_number("o", 0.0..=100.0)), Ok(Some(10.0)));
    for text in ["nan", "inf", "-inf", "101", "2,5", "2.5V"] {
        let expected = format!("test:n.o: {text}: expected a number from 0 to 100");
        assert_eq!(value(text, |reader| reader.number("o", 0.0..=100.0, 1.0)), Err(expected));
    }
    for (range, words) in [
        (0.0..=f64::MAX, " of at least 0"),
        (f64::NEG_INFINITY..=0.5, " of at most 0.5"),
        (f64::MIN..=f64::INFINITY, ""),
    ] {
        let expected = format!("test:n.o: x: expected a number{words}");
        assert_eq!(value("x", |reader| reader.optional_number("o", range)), Err(expected));
    }
}

#[test]
fn durations_in_every_unit() {
    let ms = Duration::from_millis;
    for (text, duration) in [
        ("5", ms(5_000)),
        ("250ms", ms(250)),
        ("5s", ms(5_000)),
        ("10m", ms(600_000)),
        ("2h", ms(7_200_000)),
        ("7d", ms(604_800_000)),
        ("0", ms(0)),
        ("0.5", ms(500)),
        ("1.25s", ms(1_250)),
        ("0.5ms", Duration::from_micros(500)),
        ("1.5d", ms(129_600_000)),
        ("0.000000000000000000000001d", ms(0)),
        ("0.999999999999999999d", Duration::from_nanos(86_399_999_999_999)),
    ] {
        assert_eq!(parse_duration(text), Some(duration), "{text}");
    }
    for text in [
        "",
        "s",
        "-5",
        "+5",
        "5 s",
        "5sec",
        "1.s",
        ".5",
        "1..5",
        "1.2.3",
        "1e3",
        "5M",
        "99999999999999999999d",
        "٣s",
    ] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
    assert_eq!(parse_duration("213503982334601d"), None, "beyond 64 bits of milliseconds");
    for text in ["250ms", "5s", "90s", "10m", "2h", "7d", "0s", "1500ms"] {
        assert_eq!(format_duration(parse_duration(text).unwrap()), text);
    }
    let ask = |reader: &mut Reader<'_>| reader.duration("o", ms(100)..=ms(3_600_000), ms(1_000));
    assert_eq!(value("2h", ask), Err("test:n.o: 2h: expected a duration from 100ms to 1h".into()));
    assert_eq!(
        value("soon", ask),
        Err("test:n.o: soon: expected a duration such as 250ms, 5s, 10m, 2h or 7d".into())
    );
}

#[test]
fn choices_hint_at_the_nearest() {
    let ask = |reader: &mut Reader<'_>| reader.choice("o", &[("starttls", 1), ("tls", 2), ("none", 3)], 1);
    assert_eq!(value("tls", ask), Ok(2));
    assert_eq!(
        value("startls", ask),
        Err("test:n.o: startls: expected one of starttls, tls, none; did you mean starttls?".into())
    );
    assert_eq!(value("ssl3", ask), Err("test:n.o: ssl3: expected one of starttls, tls, none".into()));
}

#[test]
fn hosts_ports_and_paths() {
    for host in [
        "192.0.2.1",
        "::1",
        "2001:db8::1",
        "fe80::1%br-lan",
        "localhost",
        "mqtt.example.org",
        "example.org.",
        "my_host",
        "1and1.com",
    ] {
        assert!(is_host(host), "{host}");
    }
    for host in [
        "a b",
        "-a",
        "a-",
        "a..b",
        "http://x",
        "300.1.1.1",
        "1.2.3",
        "[::1]",
        "a/b",
        "x:80",
        "fe80::1%",
        "1.2.3.4%eth0",
        "ä.org",
        ".",
    ] {
        assert!(!is_host(host), "{host}");
    }
    assert!(!is_host(&"a".repeat(64)) && is_host(&"a".repeat(63)));
    assert!(is_host(&"a.".repeat(127)) && !is_host(&"a.".repeat(128)));
    assert_eq!(
        value("a b", |reader| reader.host("o", "localhost")),
        Err("test:n.o: a b: expected a host name or an IP address".into())
    );
    assert_eq!(value("1883", |reader| reader.port("o", 1)), Ok(1883));
    for text in ["0", "65536", "-1", "http"] {
        let expected = format!("test:n.o: {text}: expected a port from 1 to 65535");
        assert_eq!(value(text, |reader| reader.port("o", 1)), Err(expected));
    }
    assert_eq!(value("/tmp/x", |reader| reader.path("o", "/")), Ok(PathBuf::from("/tmp/x")));
    assert!(value("tmp/x", |reader| reader.path("o", "/")).is_err());
}

#[test]
fn lists_and_single_values_stand_in_for_each_other() {
    let list = |reader: &mut Reader<'_>| reader.list("o");
    assert_eq!(read("list o a\nlist o 'b c'\nlist o ''\n", list), (vec!["a".into(), "b c".into()], vec![]));
    assert_eq!(read("option o 'a b'\n", list), (vec!["a b".into()], vec![]));
    assert_eq!(read("", list), (vec![], vec![]));
    let text = |reader: &mut Reader<'_>| reader.text("o", "d");
    assert_eq!(read("list o a\n", text), ("a".into(), vec![]));
    assert_eq!(
        read("list o a\nlist o b\n", text),
        ("d".into(), vec!["test:n.o: expected one value (option), found a list of 2".into()])
    );
    let even = |text: &str| match text.parse::<u8>() {
        Ok(number) if number % 2 == 0 => Ok(number),
        _ => Err("expected an even number".to_owned()),
    };
    assert_eq!(
        read("list o 2\nlist o 3\nlist o 4\nlist o x\n", |reader| reader.list_of("o", even)),
        (
            vec![2, 4],
            vec![
                "test:n.o: 3: expected an even number".into(),
                "test:n.o: x: expected an even number".into()
            ]
        )
    );
}

#[test]
fn a_secret_shows_nowhere() {
    let lines = "list key hunter2\nlist key hunter3\noption pasword hunter4\noption token hunter5\n";
    let ((key, token), problems) = read(lines, |reader| {
        let secrets = (reader.secret("key"), reader.secret("token"));
        reader.optional_text("password");
        reader.problem("token", Some("hunter5"), "too short");
        secrets
    });
    assert_eq!(key, None);
    assert_eq!(
        problems,
        [
            "test:n.key: expected one value (option), found a list of 2",
            "test:n.token: ***: too short",
            "test:n.pasword: unknown option, ignored; did you mean password?",
        ]
    );
    let token = token.unwrap();
    assert_eq!(token.expose(), "hunter5");
    let shown = format!("{token} {token:?} {}", serde_json::to_string(&Secret::new("hunter6")).unwrap());
    assert_eq!(shown, "*** *** \"***\"");
}

#[test]
fn every_problem_is_reported_not_only_the_first() {
    let lines = "option a x\noption b 99\noption c maybe\noption d 'no path'\noption e 1h\noption good 5\n";
    let (good, problems) = read(lines, |reader| {
        reader.integer("a", 0..=9, 0);
        reader.number("b", 0.0..=9.5, 0.0);
        reader.flag("c", false);
        reader.path("d", "/");
        reader.duration("e", Duration::ZERO..=Duration::from_secs(60), Duration::ZERO);
        reader.integer("good", 0..=9, 0)
    });
    assert_eq!(good, 5);
    let places: Vec<&str> = problems.iter().map(|line| &line[..9]).collect();
    assert_eq!(places, ["test:n.a:", "test:n.b:", "test:n.c:", "test:n.d:", "test:n.e:"]);
}

#[test]
fn unknown_options_warn_with_the_nearest_name() {
    let lines = "option dip_treshold 90\noption enabled 1\noption zzz 1\noption known 1\noption enable 1\n";
    let package = Package::parse("test", format!("config t\n{lines}").as_bytes()).unwrap();
    let mut problems = Problems::new();
    let mut reader = Reader::new("test", package.sections().first(), &mut problems);
    reader.number("dip_threshold", 0.0..=100.0, 90.0);
    reader.flag("enabled", true);
    reader.ignore(&["known"]);
    reader.finish();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "test:@t[0].dip_treshold: unknown option, ignored; did you mean dip_threshold?",
            "test:@t[0].zzz: unknown option, ignored",
            "test:@t[0].enable: unknown option, ignored",
        ],
        "what is set already was not meant"
    );
    assert!(
        !problems.has_errors() && problems.iter().all(|problem| problem.severity == ProblemSeverity::Warning)
    );
}

#[test]
fn nearest_names() {
    let names = ["mqtt_host", "mqtt_port", "interval", "a"];
    let nearest = |word: &str| nearest(word, names.into_iter());
    assert_eq!(nearest("mqtt_hots"), Some("mqtt_host"), "a swap is one slip");
    assert_eq!(nearest("mqtthost"), Some("mqtt_host"));
    assert_eq!(nearest("intervall"), Some("interval"));
    assert_eq!(nearest("b"), None, "half of a word is no slip");
    assert_eq!(nearest("timeout"), None);
    assert_eq!(nearest(&"x".repeat(100_000)), None);
}

#[test]
fn problems_take_the_shape_of_the_contract() {
    let mut problems = Problems::new();
    let package = Package::parse("test", b"config t n\noption o '\x1b[2J\n'\noption p '\xff'\n").unwrap();
    let mut reader = Reader::new("test", package.section("n"), &mut problems);
    reader.flag("o", false);
    assert_eq!(reader.optional_text("p"), None);
    reader.problem("", None, "the whole section");
    reader.finish();
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "test:n.o: \\u{1b}[2J\\n: expected 1/0, on/off, yes/no, true/false or enabled/disabled",
            "test:n.p: \u{fffd}: expected text in UTF-8",
            "test:n: the whole section",
        ]
    );
    assert!(problems.has_errors());
    assert_eq!(
        serde_json::to_value(&problems).unwrap()[2],
        serde_json::json!({"file": "test", "section": "n", "option": "", "value": null, "reason": "the whole section"})
    );
}

#[test]
fn a_missing_section_gives_defaults_and_no_problem() {
    let mut problems = Problems::new();
    let mut reader = Reader::new("test", None, &mut problems);
    assert_eq!(reader.integer("a", 0..=9, 7), 7);
    assert!(!reader.has("a") && reader.list("b").is_empty());
    reader.problem("a", None, "of the default");
    reader.finish();
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), ["test:a: of the default"]);
}

#[test]
fn the_number_of_problems_is_bounded() {
    let lines: String = (0..1000).map(|n| format!("list o x{n}\n")).collect();
    let package = Package::parse("test", format!("config t n\n{lines}").as_bytes()).unwrap();
    let mut problems = Problems::new();
    let mut reader = Reader::new("test", package.section("n"), &mut problems);
    reader.list_of("o", |_| Err::<(), _>("no".to_owned()));
    reader.list_of("o", |_| Err::<(), _>("no".to_owned()));
    reader.finish();
    assert_eq!(problems.len(), 200);
    let last = problems.iter().last().unwrap().to_string();
    assert!(last.starts_with("test: ") && last.ends_with(" more problems"), "{last}");
    assert_eq!(problems.iter().next().unwrap().to_string(), "test:n.o: x0: no");
}

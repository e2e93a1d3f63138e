// SPDX-License-Identifier: Apache-2.0
//! The same changes by the genuine `uci` and by `openwrt::uci::Writer`: the same deltas, the same files, byte by byte.
//!
//! `UCI_ORACLE_WRITES` and `UCI_ORACLE_SEED` run more or other sequences than `make test` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step of a test is a failed test

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use openwrt::uci::{Package, Source, Writer};
use uci_oracle::{generate, Rng, PACKAGE};

const SEQUENCES: usize = 400;

/// Values that are hard to quote, and plain ones. None with a line end: the `uci` command takes its input by lines.
const VALUES: [&str; 14] = [
    "1",
    "two words",
    "it's",
    "''",
    "\"quoted\"",
    "a=b",
    "#no comment",
    "grün",
    "back\\slash",
    "a;b",
    " lead",
    "trail ",
    "$HOME",
    "x'y'z",
];
const NAMES: [&str; 7] = ["a", "b", "opt", "list_1", "x9", "n", "longer_name"];

/// One change, as `uci` is told it and as `Writer` is.
#[derive(Debug, Clone)]
enum Step {
    Add(&'static str),
    Set(String, Option<String>, String),
    AddList(String, String, String),
    RemoveList(String, String, String),
    Remove(String, Option<String>, Option<usize>),
    Rename(String, Option<String>, String),
    Reorder(String, usize),
    Revert(Option<String>, Option<String>),
    Commit,
}

/// Built beside the library that cargo has put on the search path for this test.
fn genuine_uci() -> PathBuf {
    let path = std::env::var_os("LD_LIBRARY_PATH").expect("cargo test sets LD_LIBRARY_PATH");
    let uci =
        std::env::split_paths(&path).map(|lib| lib.join("../bin/uci")).find(|program| program.is_file());
    uci.expect("libuci-sys builds the command line tool, too").canonicalize().unwrap()
}

struct Side {
    _dir: tempfile::TempDir,
    source: Source,
}

impl Side {
    fn new(config: &[u8]) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let source = Source { config_dir: dir.path().join("config"), state_dir: dir.path().join("state") };
        fs::create_dir(&source.config_dir).unwrap();
        fs::write(source.file(PACKAGE), config).unwrap();
        Self { _dir: dir, source }
    }

    /// Configuration and delta.
    fn files(&self) -> (String, String) {
        let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        (read(self.source.file(PACKAGE)), read(self.source.state_dir.join(PACKAGE)))
    }
}

#[test]
fn the_same_changes_leave_the_same_bytes() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let sequences = number("UCI_ORACLE_WRITES").map_or(SEQUENCES, |count| usize::try_from(count).unwrap());
    let mut rng = Rng::new(number("UCI_ORACLE_SEED").unwrap_or(1));
    let uci = genuine_uci();
    let (mut steps_done, mut effective, mut committed) = (0, 0, 0);
    for sequence in 0..sequences {
        let config = loop {
            let case = generate::case(&mut rng);
            // Names that are no UTF-8 cannot be given on a command line of text.
            let usable =
                Package::parse(PACKAGE, &case.config).is_ok_and(|package| !package.sections().is_empty());
            if usable && case.config.len() < 4000 {
                break case.config;
            }
        };
        let (theirs, ours) = (Side::new(&config), Side::new(&config));
        let writer = Writer::new(ours.source.clone());
        for _ in 0..1 + rng.below(12) {
            let step = step(&mut rng, &ours.source.load(PACKAGE).unwrap());
            let before = ours.files();
            let by_uci = run(&uci, &theirs.source, &step);
            let by_us = apply(&writer, &step);
            let (left, right) = (theirs.files(), ours.files());
            assert_eq!(
                left,
                right,
                "sequence {sequence}: {step:?} of\n{config:?}\nuci: {by_uci:?}, ours: {by_us:?}",
                config = String::from_utf8_lossy(&config)
            );
            steps_done += 1;
            effective += usize::from(before != right);
            committed += usize::from(before.0 != right.0);
        }
    }
    println!("{sequences} sequences, {steps_done} steps, {effective} with an effect, {committed} commits that wrote");
    assert!(effective > steps_done / 3 && committed > sequences / 10, "the steps prove too little");
}

/// What is refused by one is refused by the other, and nothing is written. Where `uci` writes what it could not read
/// again (a new name that is none), it is only we who refuse.
#[test]
fn what_is_refused_leaves_nothing() {
    let config = b"config t 'n'\n\toption a 'b'\n";
    let (theirs, ours) = (Side::new(config), Side::new(config));
    let writer = Writer::new(ours.source.clone());
    let uci = genuine_uci();
    for step in [
        Step::Set("none".into(), Some("a".into()), "1".into()),
        Step::Set("@t[3]".into(), Some("a".into()), "1".into()),
        Step::Set("n".into(), Some("no-name".into()), "1".into()),
        Step::Remove("none".into(), None, None),
        Step::Remove("n".into(), Some("none".into()), None),
        Step::AddList("none".into(), "a".into(), "1".into()),
        Step::Rename("none".into(), None, "m".into()),
        Step::Reorder("none".into(), 0),
    ] {
        assert!(!run(&uci, &theirs.source, &step), "uci takes {step:?}");
        assert!(!apply(&writer, &step), "we take {step:?}");
        assert_eq!(theirs.files(), ours.files());
    }
    assert_eq!(ours.files().1, "");
}

/// Programs that write at the same time wait for each other: no change is lost and the delta stays whole.
#[test]
fn both_write_the_same_delta_at_once() {
    let side = Side::new(b"config t 'n'\n");
    let uci = genuine_uci();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (source, uci) = (side.source.clone(), uci.clone());
            scope.spawn(move || {
                for count in 0..25 {
                    let option = format!("o{writer}_{count}");
                    let step = Step::Set("n".into(), Some(option), count.to_string());
                    let done = if writer == 0 {
                        run(&uci, &source, &step)
                    } else {
                        apply(&Writer::new(source.clone()), &step)
                    };
                    assert!(done, "{step:?}");
                }
            });
        }
    });
    assert_eq!(side.files().1.lines().count(), 50);
    Writer::new(side.source.clone()).commit(PACKAGE).unwrap();
    assert_eq!(side.source.load(PACKAGE).unwrap().section("n").unwrap().options().len(), 50);
}

fn run(uci: &Path, source: &Source, step: &Step) -> bool {
    let path = |section: &str, option: Option<&str>| match option {
        Some(option) => format!("{PACKAGE}.{section}.{option}"),
        None => format!("{PACKAGE}.{section}"),
    };
    let (word, tuple) = match step {
        Step::Add(kind) => ("add", format!("{PACKAGE} {kind}")),
        Step::Set(section, option, value) => ("set", format!("{}={value}", path(section, option.as_deref()))),
        Step::AddList(section, option, value) => {
            ("add_list", format!("{}={value}", path(section, Some(option))))
        }
        Step::RemoveList(section, option, value) => {
            ("del_list", format!("{}={value}", path(section, Some(option))))
        }
        Step::Remove(section, option, None) => ("delete", path(section, option.as_deref())),
        Step::Remove(section, option, Some(item)) => {
            ("delete", format!("{}={item}", path(section, option.as_deref())))
        }
        Step::Rename(section, option, name) => {
            ("rename", format!("{}={name}", path(section, option.as_deref())))
        }
        Step::Reorder(section, position) => ("reorder", format!("{}={position}", path(section, None))),
        Step::Revert(None, _) => ("revert", PACKAGE.to_owned()),
        Step::Revert(Some(section), option) => ("revert", path(section, option.as_deref())),
        Step::Commit => ("commit", PACKAGE.to_owned()),
    };
    let mut command = Command::new(uci);
    command.arg("-q").arg("-c").arg(&source.config_dir).arg("-t").arg(&source.state_dir).arg(word);
    match step {
        Step::Add(kind) => command.arg(PACKAGE).arg(kind),
        _ => command.arg(&tuple),
    };
    let output = command.stdin(Stdio::null()).output().unwrap();
    // A crash of uci is none of ours, but has to be seen.
    if output.status.code().is_none() {
        let _ = writeln!(std::io::stderr(), "uci {word} {tuple}: {}", output.status);
    }
    output.status.success()
}

fn apply(writer: &Writer, step: &Step) -> bool {
    match step {
        Step::Add(kind) => writer.add(PACKAGE, kind).is_ok(),
        Step::Set(section, option, value) => writer.set(PACKAGE, section, option.as_deref(), value).is_ok(),
        Step::AddList(section, option, value) => writer.add_list(PACKAGE, section, option, value).is_ok(),
        Step::RemoveList(section, option, value) => {
            writer.remove_list(PACKAGE, section, option, value).is_ok()
        }
        Step::Remove(section, option, item) => {
            writer.remove(PACKAGE, section, option.as_deref(), *item).is_ok()
        }
        Step::Rename(section, option, name) => {
            writer.rename(PACKAGE, section, option.as_deref(), name).is_ok()
        }
        Step::Reorder(section, position) => writer.reorder(PACKAGE, section, *position).is_ok(),
        Step::Revert(section, option) => {
            writer.revert(PACKAGE, section.as_deref(), option.as_deref()).is_ok()
        }
        Step::Commit => writer.commit(PACKAGE).is_ok(),
    }
}

/// Mostly about what the package has.
fn step(rng: &mut Rng, package: &Package) -> Step {
    let sections = package.sections();
    let present = sections.get(rng.below(sections.len().max(1)));
    let section = match (rng.below(10), present) {
        (0, _) | (_, None) => rng.pick(&NAMES).to_owned(),
        (1, Some(section)) if !section.kind().contains(['[', ']', '.', '=']) => {
            format!("@{}[-1]", section.kind())
        }
        (_, Some(section)) => section.name().to_owned(),
    };
    let options = present.map(|section| section.options()).unwrap_or_default();
    let known = options.get(rng.below(options.len().max(1)));
    let option = match known {
        Some(option) if rng.percent(65) => option.name().to_owned(),
        _ => rng.pick(&NAMES).to_owned(),
    };
    let value = match known.and_then(|option| option.values().first()) {
        Some(value) if rng.percent(30) && value.is_utf8() && !value.as_str().contains(['\n', '\r']) => {
            value.as_str().to_owned()
        }
        _ => rng.pick(&VALUES).to_owned(),
    };
    match rng.below(20) {
        0 | 1 => Step::Add(rng.pick(&["t", "u", "rule", "x-y"])),
        2..=5 => Step::Set(section, Some(option), value),
        6 => Step::Set(section, Some(option), String::new()),
        7 => Step::Set(section, None, rng.pick(&["t", "rule"]).to_owned()),
        8..=10 => Step::AddList(section, option, value),
        11 | 12 => Step::RemoveList(section, option, value),
        13 => Step::Remove(section, None, None),
        14 => Step::Remove(section, Some(option), rng.percent(50).then(|| rng.below(3))),
        15 => Step::Rename(section, rng.percent(50).then_some(option), rng.pick(&NAMES).to_owned()),
        16 | 17 => Step::Reorder(section, rng.below(5)),
        18 => match rng.below(3) {
            0 => Step::Revert(None, None),
            1 => Step::Revert(Some(section), None),
            _ => Step::Revert(Some(section), Some(option)),
        },
        _ => Step::Commit,
    }
}

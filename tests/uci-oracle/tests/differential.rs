// SPDX-License-Identifier: Apache-2.0
//! Thousands of generated files and deltas through libuci and through `openwrt::uci`.
//!
//! `UCI_ORACLE_CASES` and `UCI_ORACLE_SEED` run more or other cases than `make test` does.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed step of a test is a failed test

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use openwrt::uci;
use uci_oracle::generate::{self, Case};
use uci_oracle::{libuci, ours, Rng, Tree, PACKAGE};

const CASES: usize = 20_000;

/// A configuration and a state directory, empty at first.
struct Bench {
    directory: tempfile::TempDir,
    source: uci::Source,
}

impl Bench {
    fn new() -> Self {
        // In memory where that is possible: rewriting the same files on a busy disk takes ten times as long.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let source = uci::Source {
            config_dir: directory.path().join("config"),
            state_dir: directory.path().join("state"),
        };
        fs::create_dir(&source.config_dir).unwrap();
        fs::create_dir(&source.state_dir).unwrap();
        Bench { directory, source }
    }

    fn write(&self, case: &Case) {
        fs::write(self.source.config_dir.join(PACKAGE), &case.config).unwrap();
        let delta = self.source.state_dir.join(PACKAGE);
        match &case.delta {
            Some(text) => fs::write(delta, text).unwrap(),
            None if delta.exists() => fs::remove_file(delta).unwrap(),
            None => {}
        }
    }

    fn both(&self) -> (Result<Tree, i32>, Result<Tree, uci::Error>) {
        (libuci::load(&self.source.config_dir, &self.source.state_dir), ours(&self.source))
    }

    fn differ(&self, case: &Case) -> bool {
        self.write(case);
        !agree(&self.both())
    }
}

/// Both refuse, or both give the same.
fn agree((theirs, ours): &(Result<Tree, i32>, Result<Tree, uci::Error>)) -> bool {
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

#[test]
fn generated_files_and_deltas_read_alike() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let cases = number("UCI_ORACLE_CASES").map_or(CASES, |cases| usize::try_from(cases).unwrap());
    let mut rng = Rng::new(number("UCI_ORACLE_SEED").unwrap_or(1));
    let bench = Bench::new();
    // Past the test harness' capture: were libuci to crash, this is what would be left.
    writeln!(std::io::stderr(), "cases pass through {}", bench.directory.path().display()).unwrap();

    let (mut accepted, mut refused, mut changed) = (0, 0, 0);
    let mut different = HashSet::new();
    for index in 0..cases {
        let case = generate::case(&mut rng);
        bench.write(&case);
        let both = bench.both();
        if !agree(&both) {
            let smallest = shrink(case, |case| bench.differ(case));
            bench.write(&smallest);
            let (theirs, ours) = bench.both();
            panic!("case {index} differs; cut down to\n{smallest:?}libuci: {theirs:?}\nours: {ours:?}");
        }
        match both {
            (Ok(tree), _) => {
                accepted += 1;
                different.insert(format!("{tree:?}"));
                if case.delta.is_some() {
                    bench.write(&Case { delta: None, ..case });
                    changed += usize::from(bench.both().1.unwrap() != tree);
                }
            }
            (Err(_), Err(error)) => {
                refused += 1;
                let lines = case.config.iter().filter(|byte| **byte == b'\n').count() + 1;
                assert!((1..=lines).contains(&error.line().unwrap()), "{error} in {case:?}");
            }
            (Err(_), Ok(_)) => unreachable!("they would not agree"),
        }
    }
    println!("{cases} cases: {accepted} accepted ({} different results, {changed} changed by a delta), {refused} refused", different.len());
    // The generator must not wander off into cases that prove little.
    assert!(
        accepted > cases / 3 && refused > cases / 10 && changed > cases / 10 && different.len() > cases / 4
    );
}

/// Leaves out what can be left out without losing the difference: first lines, then bytes.
fn shrink(mut case: Case, differ: impl Fn(&Case) -> bool) -> Case {
    if differ(&Case { delta: None, ..case.clone() }) {
        case.delta = None;
    }
    for by_line in [true, false] {
        let config = smaller(&case.config, by_line, |config| {
            differ(&Case { config: config.to_vec(), ..case.clone() })
        });
        case.config = config;
        if let Some(delta) = &case.delta {
            let delta = smaller(delta, by_line, |delta| {
                !generate::is_undefined(delta)
                    && differ(&Case { delta: Some(delta.to_vec()), ..case.clone() })
            });
            case.delta = Some(delta);
        }
    }
    case
}

fn smaller(text: &[u8], by_line: bool, differ: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = if by_line {
        text.split_inclusive(|byte| *byte == b'\n').collect()
    } else {
        text.chunks(1).collect()
    };
    let mut index = 0;
    while index < pieces.len() {
        let mut fewer = pieces.clone();
        fewer.remove(index);
        if differ(&fewer.concat()) {
            pieces = fewer;
            index = 0;
        } else {
            index += 1;
        }
    }
    pieces.concat()
}

/// Cases that made a difference once, or that the documentation speaks of.
#[test]
fn known_oddities_read_alike() {
    let bench = Bench::new();
    let p = PACKAGE;
    for (config, delta) in [
        ("", ""),
        ("package x\n", ""),
        ("config t n; option a b\n", ""),
        ("config t 'n'; option a b\n", ""),
        ("config t ; option a b\n", ""),
        ("config t ;; option a b\n", ""),
        ("config t n ;\n", ""),
        ("config t n ; # x", ""),
        ("config t n\noption a 'x\n", ""),
        ("config t n\noption a \\\n\n", ""),
        ("config t n\noption a b\\\n c\n", ""),
        ("config t n\noption a \\\n;option b c\n", ""),
        ("config t n\noption a b\\", ""),
        ("config t n\noption a \"b\\", ""),
        ("config t n\noption a b\\\r\nc\n", ""),
        ("config t n\noption a\x0bb\n", ""),
        ("package\r e", ""),
        ("config t\nconfig t cfg01b619\noption a b\n", ""),
        ("config t n\nconfig t n\nconfig t n\noption a b\n", ""),
        ("config t n\nconfig t n\nconfig t n\nconfig t m\noption a b\n", ""),
        ("config t n\n", "P.n.a='b'\n^P.n='0'\nP.m='t'\n^P.m='-1'\n@P.m='n'\nP.n.c='d'\n"),
        ("config t n\nlist a 1\nlist a 2\n", "-P.n.a='0'\n-P.n.a='0'\n-P.n.a='0'\n|P.n.a='3'\n"),
        ("config t n\nlist a 1\nlist a 2\nlist a 1\n", "~P.n.a='1'\n"),
        ("config t n\noption a 1\n", "~P.n.a='1'\n|P.n.a='2'\n"),
        ("config t n\n", "+P.cfg02b619='t'\nP.cfg02b619.a='it'\\''s'\n"),
        ("config t n\n", "P.n='u'\nP.n='v'\n@P.n='m'\n-P.m\n"),
        ("config t n\noption a b\n", "@P.n.a='c'\n@P.n.c='c'\nP.n.c=''\n"),
        ("config t n\n", "P.n.a='b'"),
        ("config t n\n", "P.n.a='b' \nP.n.b='c'\r\nP.n.c='d'#x\nP.n.d=e;x\nP.n.e='f';x\n"),
    ] {
        let delta = delta.replace("P.", &format!("{p}."));
        let case = Case { config: config.into(), delta: Some(delta.into()) };
        bench.write(&case);
        let both = bench.both();
        assert!(agree(&both), "{case:?}libuci: {:?}\nours: {:?}", both.0, both.1);
    }
}

#[test]
fn what_is_no_file_is_refused_alike() {
    let bench = Bench::new();
    let (theirs, ours) = bench.both();
    assert!(theirs.is_err(), "no file");
    assert_eq!(ours.unwrap_err().cause(), &uci::Cause::Missing);

    let path = bench.source.config_dir.join(PACKAGE);
    fs::create_dir(&path).unwrap();
    let (theirs, ours) = bench.both();
    assert!(theirs.is_err(), "a directory");
    assert_eq!(ours.unwrap_err().cause(), &uci::Cause::NotAFile);

    fs::remove_dir(&path).unwrap();
    let elsewhere = bench.directory.path().join("elsewhere");
    fs::write(&elsewhere, "config t n\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    // A delta that is no file is left out.
    fs::create_dir(bench.source.state_dir.join(PACKAGE)).unwrap();
    let (theirs, ours) = bench.both();
    assert_eq!(theirs.unwrap(), ours.unwrap());
}

/// `rust-uci`, the binding that programs in Rust use, finds the same section under extended names.
#[test]
fn extended_names_find_the_same_sections() {
    let bench = Bench::new();
    let text = "config a x\noption v 1\nconfig b\noption v 2\nconfig a\noption v 3\nconfig x-y z\noption v 4\nlist w 5\n";
    bench.write(&Case { config: text.into(), delta: None });
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut theirs = rust_uci::Uci::new().unwrap();
    theirs.set_config_dir(&path(&bench.source.config_dir)).unwrap();
    theirs.set_save_dir(&path(&bench.source.state_dir)).unwrap();
    let ours = bench.source.load(PACKAGE).unwrap();

    let mut names: Vec<String> = [
        "x", "z", "a", "", "@", "@a", "@a[", "@a]", "@a[]", "@a[0", "@a[0]]", "@a[0][0]", "@a[ 0]", "@a[+1]",
        "@a[0 ]", "@a[0x0]", "@a[--1]", "@ä[0]",
    ]
    .map(str::to_owned)
    .into();
    for kind in ["a", "b", "x-y", "", "c"] {
        names.extend((-5..5).map(|index| format!("@{kind}[{index}]")));
    }
    let mut found = 0;
    for name in &names {
        let theirs = theirs.get(&format!("{PACKAGE}.{name}.v")).ok();
        let ours = ours.section(name).and_then(|section| section.get("v"));
        assert_eq!(theirs.as_deref(), ours, "{name:?}");
        found += usize::from(ours.is_some());
    }
    assert!(found > 20, "{found} of {}", names.len());
}

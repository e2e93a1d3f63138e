// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{Source, MAX_FILE_BYTES};
use crate::uci::{Cause, Problems};

fn source() -> (tempfile::TempDir, Source) {
    let directory = tempfile::tempdir().unwrap();
    let source =
        Source { config_dir: directory.path().join("config"), state_dir: directory.path().join("state") };
    fs::create_dir(&source.config_dir).unwrap();
    (directory, source)
}

#[test]
fn a_delta_lies_over_the_file() {
    let (_directory, source) = source();
    fs::write(source.file("p"), "config t n\n\toption a 1\n").unwrap();
    assert_eq!(source.load("p").unwrap().section("n").unwrap().get("a"), Some("1"));
    fs::create_dir(&source.state_dir).unwrap();
    fs::write(source.state_dir.join("p"), "p.n.a='2'\nnonsense\np.n.b='3'\n").unwrap();
    let package = source.load("p").unwrap();
    assert_eq!(package.section("n").unwrap().get("a"), Some("2"));
    assert_eq!(package.section("n").unwrap().get("b"), Some("3"));
}

#[test]
fn what_cannot_be_read_says_so_in_one_line() {
    let (directory, source) = source();
    let at = |name: &str| source.file(name).display().to_string();
    let line = |name: &str| {
        let line = source.load(name).unwrap_err().to_string();
        assert_eq!(line.lines().count(), 1);
        line
    };
    assert_eq!(line("p"), format!("{}: no such file, expected a UCI configuration file", at("p")));
    fs::create_dir(source.file("d")).unwrap();
    assert_eq!(line("d"), format!("{}: not a regular file, expected a UCI configuration file", at("d")));
    fs::write(source.file("b"), b"\x7fELF\x02\x01\x01\0\0\0").unwrap();
    assert_eq!(
        line("b"),
        format!("{}: line 1: binary data, expected a UCI configuration file (text)", at("b"))
    );
    fs::write(source.file("big"), vec![b'#'; MAX_FILE_BYTES + 1]).unwrap();
    assert_eq!(line("big"), format!("{}: larger than 256 KiB", at("big")));
    fs::write(source.file("s"), "config t n\nopt a b\n").unwrap();
    assert!(line("s").starts_with(&format!("{}: line 2: expected ", at("s"))));
    assert_eq!(line("../p"), "../p: not a package name, expected letters, digits, _, - or .");

    fs::write(source.file("at_the_limit"), vec![b'#'; MAX_FILE_BYTES]).unwrap();
    assert!(source.load("at_the_limit").is_ok());

    let elsewhere = Source { config_dir: directory.path().join("nowhere"), ..source.clone() };
    let error = elsewhere.load("p").unwrap_err();
    assert_eq!(error.cause(), &Cause::MissingDirectory);
    let inside_a_file = Source { config_dir: source.file("s"), ..source.clone() };
    let error = inside_a_file.load("p").unwrap_err().to_string();
    assert!(error.contains("cannot be read: Not a directory"), "{error}");
}

#[test]
fn a_directory_without_permission_says_so() {
    let (_directory, source) = source();
    fs::write(source.file("p"), "").unwrap();
    fs::set_permissions(&source.config_dir, fs::Permissions::from_mode(0o000)).unwrap();
    let loaded = source.load("p");
    fs::set_permissions(&source.config_dir, fs::Permissions::from_mode(0o700)).unwrap();
    match loaded {
        Err(error) => assert!(error.to_string().contains("cannot be read: Permission denied"), "{error}"),
        Ok(_) => assert_eq!(fs::metadata(source.file("p")).unwrap().uid(), 0, "only root reads on"),
    }
}

#[test]
fn an_empty_file_lacks_the_section_a_daemon_needs() {
    let (_directory, source) = source();
    fs::write(source.file("p"), "").unwrap();
    let mut problems = Problems::new();
    assert!(problems.require(&source.load("p").unwrap(), "t", "n").is_none());
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["p:n: the file is empty, expected a section: config t 'n'"]);
}

#[test]
fn a_delta_that_cannot_be_read_is_left_out() {
    let (_directory, source) = source();
    fs::write(source.file("p"), "config t n\n\toption a 1\n").unwrap();
    fs::create_dir_all(source.state_dir.join("p")).unwrap();
    assert_eq!(source.load("p").unwrap().section("n").unwrap().get("a"), Some("1"));
}

#[test]
fn a_writer_that_never_lets_go_of_its_lock_only_delays() {
    let (_directory, source) = source();
    fs::write(source.file("p"), "config t n\n").unwrap();
    let writer = fs::File::open(source.file("p")).unwrap();
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let started = std::time::Instant::now();
    assert!(source.load("p").is_ok());
    assert!(started.elapsed() >= super::LOCK_WAIT);
}

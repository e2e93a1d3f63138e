// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)] // a failed step of a test is a failed test

use super::*;
use crate::uci::Command;
use tempfile::TempDir;

const TEXT: &str =
    "\nconfig t 'a'\n\toption x '1'\n\tlist l 'p'\n\tlist l 'q'\n\nconfig u\n\toption y 'it'\\''s'\n\n";

fn lab() -> (TempDir, Writer) {
    let dir = TempDir::new().unwrap();
    let source = Source { config_dir: dir.path().join("config"), state_dir: dir.path().join("delta") };
    fs::create_dir(&source.config_dir).unwrap();
    fs::write(source.file("p"), TEXT).unwrap();
    fs::set_permissions(source.file("p"), fs::Permissions::from_mode(0o640)).unwrap();
    (dir, Writer::new(source))
}

fn delta(writer: &Writer) -> String {
    fs::read_to_string(writer.source().state_dir.join("p")).unwrap_or_default()
}

fn config(writer: &Writer) -> String {
    fs::read_to_string(writer.source().file("p")).unwrap()
}

#[test]
fn each_change_is_one_line() {
    let (_dir, writer) = lab();
    let anonymous = writer.source().load("p").unwrap().sections()[1].name().to_owned();
    writer.set("p", "@u[0]", Some("y"), "it's\nnew").unwrap();
    writer.set("p", "a", Some("x"), "1").unwrap();
    writer.set("p", "b", None, "t").unwrap();
    writer.add_list("p", "a", "l", "r").unwrap();
    writer.remove_list("p", "a", "l", "p").unwrap();
    writer.remove("p", "a", Some("l"), Some(0)).unwrap();
    writer.reorder("p", "b", 0).unwrap();
    writer.rename("p", "b", None, "c").unwrap();
    writer.remove("p", "a", Some("x"), None).unwrap();
    assert_eq!(
        delta(&writer),
        format!(
            "p.{anonymous}.y='it'\\''s\nnew'\np.b='t'\n|p.a.l='r'\n~p.a.l='p'\n-p.a.l='0'\n^p.b='0'\n@p.b='c'\n-p.a.x\n"
        )
    );
    let commands: Vec<Command> =
        writer.changes("p").unwrap().into_iter().map(|change| change.command).collect();
    assert_eq!(commands[..3], [Command::Set, Command::Set, Command::ListAdd]);
    writer.commit("p").unwrap();
    assert_eq!(delta(&writer), "");
    assert_eq!(
        config(&writer),
        "\nconfig t 'c'\n\nconfig t 'a'\n\tlist l 'r'\n\nconfig u\n\toption y 'it'\\''s\nnew'\n\n"
    );
}

#[test]
fn a_commit_keeps_mode_and_link_and_leaves_nothing_beside() {
    let (dir, writer) = lab();
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(writer.source().file("p"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, writer.source().file("p")).unwrap();
    writer.set("p", "a", Some("x"), "2").unwrap();
    writer.commit("p").unwrap();
    assert!(fs::symlink_metadata(writer.source().file("p")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o777, 0o640);
    assert!(config(&writer).contains("option x '2'"));
    assert_eq!(fs::read_dir(&writer.source().config_dir).unwrap().count(), 1);
}

#[test]
fn an_empty_delta_does_not_touch_the_file() {
    let (_dir, writer) = lab();
    let before = fs::metadata(writer.source().file("p")).unwrap().ino();
    writer.commit("p").unwrap();
    writer.set("p", "a", Some("x"), "1").unwrap();
    writer.commit("p").unwrap();
    assert_eq!(fs::metadata(writer.source().file("p")).unwrap().ino(), before);
}

#[test]
fn reverting_takes_back_what_it_names() {
    let (_dir, writer) = lab();
    for (option, value) in [("x", "2"), ("y", "3")] {
        writer.set("p", "a", Some(option), value).unwrap();
    }
    let added = writer.add("p", "u").unwrap();
    writer.revert("p", Some("a"), Some("x")).unwrap();
    assert_eq!(delta(&writer), format!("p.a.y='3'\n+p.{added}='u'\n"));
    writer.revert("p", Some("a"), None).unwrap();
    assert_eq!(delta(&writer), format!("+p.{added}='u'\n"));
    writer.revert("p", None, None).unwrap();
    assert_eq!(delta(&writer), "");
}

#[test]
fn what_uci_does_not_allow_changes_nothing() {
    let (_dir, writer) = lab();
    assert!(matches!(writer.set("p", "a", Some("x-y"), "1"), Err(WriteError::BadName { .. })));
    assert!(matches!(writer.set("p", "a", Some("x"), "\u{1}"), Err(WriteError::BadValue)));
    assert!(matches!(writer.set("p", "no", Some("x"), "1"), Err(WriteError::NotFound { .. })));
    assert!(matches!(writer.set("p", "@u[7]", None, "t"), Err(WriteError::BadName { .. })));
    assert!(matches!(writer.remove("p", "a", Some("no"), None), Err(WriteError::NotFound { .. })));
    assert!(matches!(writer.rename("p", "a", None, "a b"), Err(WriteError::BadName { .. })));
    assert!(matches!(writer.add("p", "two words"), Err(WriteError::BadName { .. })));
    assert!(matches!(writer.add("../p", "t"), Err(WriteError::Read(_))));
    assert_eq!(delta(&writer), "");
}

#[test]
fn a_locked_file_is_reported_not_waited_for() {
    let (_dir, writer) = lab();
    writer.set("p", "a", Some("x"), "2").unwrap();
    let holder = File::open(writer.source().state_dir.join("p")).unwrap();
    rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
    assert!(matches!(writer.set("p", "a", Some("x"), "3"), Err(WriteError::Locked(_))));
    drop(holder);
    writer.set("p", "a", Some("x"), "3").unwrap();
}

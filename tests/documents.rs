// SPDX-License-Identifier: Apache-2.0
//! `docs/RELIABILITY.md` and `docs/SECURITY.md` name a test for whatever they say, and every test they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The list below a table: `[D1]: tests/file.rs name_of_the_test`, one or more on a line with commas between names.
fn references(text: &str) -> BTreeMap<&str, (&str, Vec<&str>)> {
    let lines = text.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("- [")?.split_once("] `")?;
        let (file, names) = rest.split_once("`: ")?;
        Some((key, (file, names.split(", ").map(|name| name.trim_matches('`')).collect())))
    });
    lines.collect()
}

/// Whether the file has a test function of that name.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let declared = [format!("fn {name}("), format!("fn {name}<")];
    lines.iter().enumerate().any(|(at, line)| {
        let before = &lines[at.saturating_sub(4)..at];
        declared.iter().any(|it| line.trim_start().trim_start_matches("async ").starts_with(it.as_str()))
            && (before.iter().any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
                || is_property(&lines[..at]))
    })
}

/// Inside `proptest!` each function has `#[test]` before it as well, with documentation in between at most.
fn is_property(before: &[&str]) -> bool {
    before.iter().rev().take(12).any(|line| line.trim() == "#[test]")
}

/// The keys that stand in brackets.
fn keys(cell: &str) -> Vec<&str> {
    let parts = cell.split('[').skip(1).filter_map(|part| part.split_once(']').map(|(key, _)| key));
    parts.flat_map(|keys| keys.split([',', ' '])).filter(|key| !key.is_empty()).collect()
}

fn check(document: &str) {
    let text = read(document);
    let references = references(&text);
    assert!(references.len() > 10, "{document}: {} references", references.len());
    for (key, (file, names)) in &references {
        let source = read(file);
        for name in names {
            assert!(is_test(&source, name), "{document}, [{key}]: {file} has no test {name}");
        }
    }
    let mut used = BTreeSet::new();
    let rows = text.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| fault") && !line.starts_with("| claim")
    });
    let mut cells = 0;
    for row in rows {
        for cell in row.trim_matches('|').split('|').skip(1) {
            let cell = cell.trim();
            // What does not concern a daemon says so, and why; what nobody has shown says that.
            if cell.starts_with("n/a") || cell.starts_with("not shown") {
                assert!(cell.len() > 8, "{document}: a cell without a reason in: {row}");
                continue;
            }
            let named = keys(cell);
            assert!(!named.is_empty(), "{document}: a cell without a test in: {row}");
            for key in named {
                assert!(references.contains_key(key), "{document}: [{key}] leads nowhere: {row}");
                used.insert(key);
            }
            cells += 1;
        }
    }
    assert!(cells > 10, "{document}: {cells} cells");
    let idle: Vec<_> = references.keys().filter(|key| !used.contains(**key)).collect();
    assert!(idle.is_empty(), "{document}: named by no cell: {idle:?}");
}

#[test]
fn every_cell_of_the_fault_matrix_names_a_test_that_exists() {
    check("docs/RELIABILITY.md");
}

#[test]
fn every_claim_about_security_names_a_test_that_exists() {
    check("docs/SECURITY.md");
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    let source = read("tests/documents.rs");
    assert!(is_test(&source, "a_test_that_does_not_exist_is_noticed"));
    assert!(!is_test(&source, "check") && !is_test(&source, "a_test_that_never_was"));
}

// SPDX-License-Identifier: Apache-2.0
//! What a session may do, read from the `rpcd/acl.d` files of the packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// What a user may do with the groups of the ACL files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// The `read` and the `write` parts.
    ReadWrite,
    /// The `read` parts.
    Read,
}

/// All ACL groups.
#[derive(Debug, Default)]
pub(crate) struct Acl {
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(default)]
    read: Grants,
    #[serde(default)]
    write: Grants,
}

/// Scope to what is granted in it: objects and their functions, or objects alone, whose function is then the part's name.
type Grants = BTreeMap<String, Grant>;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Grant {
    Objects(Vec<String>),
    Functions(BTreeMap<String, Value>),
}

impl Acl {
    /// Adds the groups of a directory of JSON files; none at all if there is no such directory.
    pub(crate) fn add_directory(&mut self, directory: &Path) -> Result<(), String> {
        for (path, text) in json_files(directory)? {
            let groups: BTreeMap<String, Group> =
                serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
            self.groups.extend(groups);
        }
        Ok(())
    }

    /// Whether a user with these rights may use this function of the object.
    pub(crate) fn permits(&self, rights: Rights, scope: &str, object: &str, function: &str) -> bool {
        if scope == "access-group" {
            return self.groups.contains_key(object) && (function == "read" || rights == Rights::ReadWrite);
        }
        self.groups.values().any(|group| {
            let parts = [("read", &group.read), ("write", &group.write)];
            let parts = parts.into_iter().take(if rights == Rights::ReadWrite { 2 } else { 1 });
            parts
                .filter_map(|(part, grants)| Some((part, grants.get(scope)?)))
                .any(|(part, grant)| grant.permits(part, object, function))
        })
    }
}

impl Grant {
    fn permits(&self, part: &str, object: &str, function: &str) -> bool {
        match self {
            Grant::Objects(objects) => {
                function == part && objects.iter().any(|pattern| matches(pattern, object))
            }
            Grant::Functions(objects) => {
                objects.iter().any(|(pattern, granted)| matches(pattern, object) && names(granted, function))
            }
        }
    }
}

/// One function, a list of them, or `*`.
fn names(granted: &Value, function: &str) -> bool {
    match granted {
        Value::String(one) => matches(one, function),
        Value::Array(several) => several.iter().filter_map(Value::as_str).any(|one| matches(one, function)),
        _ => false,
    }
}

/// `*` for any text, `?` for any character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // How far the last `*` reaches, to come back to.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The `.json` files of a directory in the order of their names.
pub(crate) fn json_files(directory: &Path) -> Result<Vec<(String, String)>, String> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.display().to_string();
        fs::read_to_string(path).map_err(|error| format!("{name}: {error}")).map(|text| (name, text))
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed step of a test is a failed test
mod tests {
    use super::*;

    fn acl() -> Acl {
        let text = r#"{"app": {"read": {"ubus": {"thing": ["status", "get_*"]}, "uci": ["thing"],
            "file": {"/etc/init.d/thing start": ["exec"]}}, "write": {"uci": ["thing"], "ubus": {"thing": "*"}}}}"#;
        Acl { groups: serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn reading_and_writing_are_apart() {
        let acl = acl();
        assert!(acl.permits(Rights::Read, "ubus", "thing", "status"));
        assert!(acl.permits(Rights::Read, "ubus", "thing", "get_all"));
        assert!(!acl.permits(Rights::Read, "ubus", "thing", "reboot"));
        assert!(acl.permits(Rights::ReadWrite, "ubus", "thing", "reboot"));
        assert!(acl.permits(Rights::Read, "uci", "thing", "read"));
        assert!(!acl.permits(Rights::Read, "uci", "thing", "write"));
        assert!(acl.permits(Rights::ReadWrite, "uci", "thing", "write"));
        assert!(!acl.permits(Rights::ReadWrite, "uci", "network", "read"));
        assert!(acl.permits(Rights::Read, "file", "/etc/init.d/thing start", "exec"));
        assert!(!acl.permits(Rights::ReadWrite, "file", "/etc/init.d/thing stop", "exec"));
        assert!(acl.permits(Rights::Read, "access-group", "app", "read"));
        assert!(!acl.permits(Rights::Read, "access-group", "app", "write"));
    }

    #[test]
    fn who_may_read_the_pages_changes_nothing_and_sees_no_password() {
        const LOOKS: [&str; 10] = [
            "status",
            "history",
            "live",
            "trend",
            "events",
            "waveform",
            "report",
            "report_html",
            "connections",
            "doctor",
        ];
        let mut groups = BTreeMap::new();
        for app in ["powquty", "dynapoint", "mptcp-proxy"] {
            let directory =
                format!("{}/../luci-app-{app}/root/usr/share/rpcd/acl.d", env!("CARGO_MANIFEST_DIR"));
            let mut acl = Acl::default();
            acl.add_directory(Path::new(&directory)).unwrap();
            assert_eq!(acl.groups.len(), 2, "{directory}");
            groups.extend(acl.groups);
        }
        for (name, group) in &groups {
            for (scope, grant) in &group.read {
                match (scope.as_str(), grant) {
                    ("ubus", Grant::Functions(objects)) => {
                        let functions = objects.values().flat_map(|granted| granted.as_array().unwrap());
                        functions.for_each(|function| {
                            assert!(LOOKS.contains(&function.as_str().unwrap()), "{name}: {function}");
                        });
                    }
                    // The configuration has the passwords in it: that is a group of its own.
                    ("uci", Grant::Objects(_)) => assert!(name.ends_with("-settings"), "{name}"),
                    (scope, _) => panic!("{name}: {scope} to read"),
                }
            }
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("*b*b", "abab", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}

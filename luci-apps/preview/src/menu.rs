// SPDX-License-Identifier: Apache-2.0
//! The menu, from the `luci/menu.d` files of the packages.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{json, Value};

use crate::acl::{json_files, Acl, Rights};

/// All entries by their path, such as `admin/services/powquty`.
#[derive(Debug, Default)]
pub(crate) struct Menu {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    order: Option<i32>,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    depends: Depends,
}

#[derive(Debug, Default, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Action {
    /// Shows `view/PATH.js`.
    View { path: String },
    /// Stands for another entry.
    Alias { path: String },
    /// Stands for the first of its children.
    #[serde(alias = "none")]
    #[default]
    FirstChild,
}

#[derive(Debug, Default, Deserialize)]
struct Depends {
    #[serde(default)]
    acl: Vec<String>,
    #[serde(default)]
    uci: BTreeMap<String, Value>,
}

/// What an address leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Path of the entry itself.
    pub(crate) path: String,
    /// `view/NAME.js`, without directory and ending.
    pub(crate) view: String,
    /// The user may look but not write.
    pub(crate) readonly: bool,
}

impl Menu {
    /// Adds a directory of JSON files; nothing if there is no such directory.
    pub(crate) fn add_directory(&mut self, directory: &Path) -> Result<(), String> {
        for (path, text) in json_files(directory)? {
            let entries: BTreeMap<String, Entry> =
                serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
            self.entries.extend(entries);
        }
        Ok(())
    }

    /// The page at an address, for a user with these rights; `configs` are the packages that exist.
    pub(crate) fn page(&self, path: &str, acl: &Acl, rights: Rights, configs: &Path) -> Option<Page> {
        let mut path = path.trim_matches('/').to_owned();
        // Aliases may lead in a circle.
        for _ in 0..8 {
            let entry = self.entries.get(&path).filter(|entry| entry.visible(acl, rights, configs))?;
            path = match &entry.action {
                Action::View { path: view } => {
                    let view = view.clone();
                    let may_write = |group: &String| acl.permits(rights, "access-group", group, "write");
                    let readonly = !entry.depends.acl.iter().all(may_write);
                    return Some(Page { path, view, readonly });
                }
                Action::Alias { path } => path.clone(),
                Action::FirstChild => self.children(&path, acl, rights, configs).first()?.0.to_owned(),
            };
        }
        None
    }

    /// What stands below a path, as the browser draws it.
    pub(crate) fn tree(&self, path: &str, acl: &Acl, rights: Rights, configs: &Path) -> Value {
        self.children(path, acl, rights, configs)
            .into_iter()
            .filter(|(_, entry)| entry.title.is_some())
            .map(|(path, entry)| (path, entry, self.tree(path, acl, rights, configs)))
            // What stands for its children is nothing without them.
            .filter(|(_, entry, below)| {
                !matches!(entry.action, Action::FirstChild)
                    || below.as_array().is_some_and(|below| !below.is_empty())
            })
            .map(|(path, entry, below)| json!({ "path": path, "title": entry.title, "children": below }))
            .collect()
    }

    fn children(&self, path: &str, acl: &Acl, rights: Rights, configs: &Path) -> Vec<(&str, &Entry)> {
        let mut children: Vec<(&str, &Entry)> = self
            .entries
            .iter()
            .filter(|(candidate, _)| candidate.rsplit_once('/').is_some_and(|(parent, _)| parent == path))
            .filter(|(_, entry)| entry.visible(acl, rights, configs))
            .map(|(path, entry)| (path.as_str(), entry))
            .collect();
        children.sort_by_key(|(path, entry)| (entry.order.unwrap_or(1000), *path));
        children
    }
}

impl Entry {
    fn visible(&self, acl: &Acl, rights: Rights, configs: &Path) -> bool {
        self.depends.acl.iter().all(|group| acl.permits(rights, "access-group", group, "read"))
            && self.depends.uci.keys().all(|package| configs.join(package).is_file())
    }
}

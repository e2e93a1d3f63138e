// SPDX-License-Identifier: Apache-2.0
//! The ubus object `uci` as rpcd has it: changes are the session's own until they are applied, and an apply is taken back
//! unless it is confirmed in time.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use openwrt::uci::{Cause, Change, Command, Opt, Package, Section, Source, Text, WriteError, Writer};
use serde_json::{json, Map, Value};
use tokio::task::{spawn_local, JoinHandle};

use crate::rpc::{status, Arguments, Failure, Host, Reply};
use crate::services::Reloader;
use crate::session::Session;

/// Seconds until an apply is taken back, if the caller names none.
const ROLLBACK_S: u64 = 90;

/// The object's state.
pub(crate) struct UciObject {
    source: Source,
    pending: Rc<RefCell<Option<Pending>>>,
}

/// An apply that is not confirmed yet.
struct Pending {
    session: String,
    /// Packages and their files from before.
    before: Vec<(String, Vec<u8>)>,
    timer: JoinHandle<()>,
}

impl UciObject {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, pending: Rc::default() }
    }

    /// The configuration that daemons see.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn call(&self, host: &Host, session: &Session, method: &str, arguments: &Arguments) -> Reply {
        let request = Request { host, session, arguments, writer: self.writer(session) };
        match method {
            "configs" => Ok(json!({ "configs": self.configs() })),
            "get" | "state" => request.get(),
            "add" => request.add(),
            "set" => request.set(),
            "delete" => request.delete(),
            "rename" => request.rename(),
            "order" => request.order(),
            "changes" => self.changes(&request),
            "revert" => request.revert(),
            "commit" => request.commit(),
            "apply" => self.apply(&request),
            "confirm" => self.confirm(session),
            "rollback" => self.rollback(host, session),
            _ => Err(status::METHOD_NOT_FOUND.into()),
        }
    }

    /// Throws away what a session has not applied.
    pub(crate) fn forget(&self, session: &str) {
        // Most sessions have changed nothing.
        let _ = fs::remove_dir_all(self.state_dir(session));
    }

    /// Each session has a delta directory of its own.
    fn state_dir(&self, session: &str) -> PathBuf {
        self.source.state_dir.with_file_name(format!("uci-{session}"))
    }

    fn writer(&self, session: &Session) -> Writer {
        let state_dir = self.state_dir(&session.id);
        Writer::new(Source { config_dir: self.source.config_dir.clone(), state_dir })
    }

    fn configs(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.source.config_dir).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    /// The packages the session has changed and may read.
    fn changed(&self, request: &Request<'_>) -> Vec<(String, Vec<Change>)> {
        self.configs()
            .into_iter()
            .filter(|name| request.may(name, "read"))
            .filter_map(|name| Some((request.writer.changes(&name).ok()?, name)))
            .filter(|(changes, _)| !changes.is_empty())
            .map(|(changes, name)| (name, changes))
            .collect()
    }

    fn changes(&self, request: &Request<'_>) -> Reply {
        if request.arguments.contains_key("config") {
            let config = request.config("read")?;
            let changes = request.writer.changes(config).map_err(failure)?;
            return Ok(json!({ "changes": changes.iter().map(described).collect::<Vec<_>>() }));
        }
        let all: Map<String, Value> = self
            .changed(request)
            .into_iter()
            .map(|(name, changes)| (name, changes.iter().map(described).collect()))
            .collect();
        Ok(json!({ "changes": all }))
    }

    fn apply(&self, request: &Request<'_>) -> Reply {
        if self.pending.borrow().is_some() {
            return Err(status::PERMISSION_DENIED.into());
        }
        let changed: Vec<String> = self.changed(request).into_iter().map(|(name, _)| name).collect();
        if changed.is_empty() {
            return Err(status::NO_DATA.into());
        }
        if !changed.iter().all(|name| request.may(name, "write")) {
            return Err(status::PERMISSION_DENIED.into());
        }
        let mut before = Vec::new();
        for name in &changed {
            before.push((name.clone(), fs::read(self.source.file(name)).map_err(|_| status::UNKNOWN_ERROR)?));
            request.writer.commit(name).map_err(failure)?;
        }
        request.host.services.reloader().reload(&changed);
        if request.arguments.get("rollback").and_then(Value::as_bool) == Some(true) {
            let seconds = request.arguments.get("timeout").and_then(Value::as_u64);
            let wait = Duration::from_secs(seconds.unwrap_or(ROLLBACK_S));
            let (pending, source) = (Rc::clone(&self.pending), self.source.clone());
            let reloader = request.host.services.reloader();
            let timer = spawn_local(async move {
                tokio::time::sleep(wait).await;
                if let Some(pending) = pending.borrow_mut().take() {
                    log::info!("the configuration was not confirmed and is taken back");
                    restore(&source, &pending.before, &reloader);
                }
            });
            let session = request.session.id.clone();
            *self.pending.borrow_mut() = Some(Pending { session, before, timer });
        }
        Ok(Value::Null)
    }

    fn confirm(&self, session: &Session) -> Reply {
        self.take(session).map(|pending| {
            pending.timer.abort();
            Value::Null
        })
    }

    fn rollback(&self, host: &Host, session: &Session) -> Reply {
        self.take(session).map(|pending| {
            pending.timer.abort();
            restore(&self.source, &pending.before, &host.services.reloader());
            Value::Null
        })
    }

    fn take(&self, session: &Session) -> Result<Pending, Failure> {
        let mut pending = self.pending.borrow_mut();
        match pending.as_ref() {
            None => Err(status::NO_DATA.into()),
            Some(open) if open.session != session.id => Err(status::PERMISSION_DENIED.into()),
            Some(_) => pending.take().ok_or(status::NO_DATA.into()),
        }
    }
}

fn restore(source: &Source, before: &[(String, Vec<u8>)], reloader: &Reloader) {
    for (name, text) in before {
        if let Err(error) = fs::write(source.file(name), text) {
            log::error!("{name} cannot be taken back: {error}");
        }
    }
    let names: Vec<String> = before.iter().map(|(name, _)| name.clone()).collect();
    reloader.reload(&names);
}

struct Request<'a> {
    host: &'a Host,
    session: &'a Session,
    arguments: &'a Arguments,
    writer: Writer,
}

impl Request<'_> {
    fn may(&self, config: &str, function: &str) -> bool {
        self.host.acl.permits(self.session.rights, "uci", config, function)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.text(name).ok_or_else(|| status::INVALID_ARGUMENT.into())
    }

    /// The package, if it is given and permitted.
    fn config(&self, function: &str) -> Result<&str, Failure> {
        let config = self.needed("config")?;
        self.may(config, function).then_some(config).ok_or_else(|| status::PERMISSION_DENIED.into())
    }

    fn get(&self) -> Reply {
        let config = self.config("read")?;
        let package = self.writer.source().load(config).map_err(WriteError::Read).map_err(failure)?;
        if let Some(name) = self.text("section") {
            let section = package.section(name).ok_or(status::NOT_FOUND)?;
            return match self.text("option") {
                Some(option) => {
                    let found = section.options().iter().find(|found| found.name() == option);
                    Ok(json!({ "value": value(found.ok_or(status::NOT_FOUND)?) }))
                }
                None => Ok(json!({ "values": described_section(&package, section) })),
            };
        }
        let kind = self.text("type");
        let sections =
            package.sections().iter().filter(|section| kind.is_none_or(|kind| kind == section.kind()));
        let sections: Map<String, Value> = sections
            .filter(|section| self.fits(section))
            .map(|section| (section.name().to_owned(), described_section(&package, section)))
            .collect();
        Ok(json!({ "values": sections }))
    }

    /// Whether a section has the values asked for by `match`.
    fn fits(&self, section: &Section) -> bool {
        let Some(wanted) = self.arguments.get("match").and_then(Value::as_object) else { return true };
        wanted.iter().all(|(option, wanted)| section.get(option) == wanted.as_str())
    }

    fn add(&self) -> Reply {
        let config = self.config("write")?;
        let kind = self.needed("type")?;
        let section = match self.text("name") {
            Some(name) => {
                self.writer.set(config, name, None, kind).map_err(failure)?;
                name.to_owned()
            }
            None => self.writer.add(config, kind).map_err(failure)?,
        };
        self.write_values(config, &section)?;
        Ok(json!({ "section": section }))
    }

    fn set(&self) -> Reply {
        let config = self.config("write")?;
        let section = self.needed("section")?;
        if let Some(kind) = self.text("type") {
            self.writer.set(config, section, None, kind).map_err(failure)?;
        }
        self.write_values(config, section)?;
        Ok(Value::Null)
    }

    fn write_values(&self, config: &str, section: &str) -> Result<(), Failure> {
        let Some(values) = self.arguments.get("values").and_then(Value::as_object) else { return Ok(()) };
        for (option, value) in values {
            match value {
                Value::Array(items) => {
                    let items: Vec<String> = items.iter().filter_map(plain).collect();
                    let items: Vec<&str> = items.iter().map(String::as_str).collect();
                    self.writer.set_list(config, section, option, &items).map_err(failure)?;
                }
                value => {
                    let value = plain(value).ok_or(status::INVALID_ARGUMENT)?;
                    self.writer.set(config, section, Some(option), &value).map_err(failure)?;
                }
            }
        }
        Ok(())
    }

    fn delete(&self) -> Reply {
        let config = self.config("write")?;
        let section = self.needed("section")?;
        if let Some(options) = self.arguments.get("options").and_then(Value::as_array) {
            for option in options.iter().filter_map(Value::as_str) {
                // One that is gone already is no error, as in rpcd.
                let _ = self.writer.remove(config, section, Some(option), None);
            }
            return Ok(Value::Null);
        }
        self.writer.remove(config, section, self.text("option"), None).map_err(failure)?;
        Ok(Value::Null)
    }

    fn rename(&self) -> Reply {
        let config = self.config("write")?;
        let (section, name) = (self.needed("section")?, self.needed("name")?);
        self.writer.rename(config, section, self.text("option"), name).map_err(failure)?;
        Ok(Value::Null)
    }

    fn order(&self) -> Reply {
        let config = self.config("write")?;
        let sections = self.arguments.get("sections").and_then(Value::as_array);
        let names = sections.ok_or(status::INVALID_ARGUMENT)?.iter().filter_map(Value::as_str);
        for (position, name) in names.enumerate() {
            self.writer.reorder(config, name, position).map_err(failure)?;
        }
        Ok(Value::Null)
    }

    fn revert(&self) -> Reply {
        let config = self.config("write")?;
        self.writer.revert(config, None, None).map_err(failure)?;
        Ok(Value::Null)
    }

    fn commit(&self) -> Reply {
        let config = self.config("write")?;
        self.writer.commit(config).map_err(failure)?;
        self.host.services.reloader().reload(&[config.to_owned()]);
        Ok(Value::Null)
    }
}

/// Text, a number, or true and false as 1 and 0.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        _ => None,
    }
}

fn value(option: &Opt) -> Value {
    match option.values() {
        [value] if !option.is_list() => json!(value.as_str()),
        values => values.iter().map(Text::as_str).collect(),
    }
}

fn described_section(package: &Package, section: &Section) -> Value {
    let index = package.sections().iter().position(|other| other.name() == section.name());
    let mut all = Map::new();
    all.insert(".anonymous".into(), json!(section.is_anonymous()));
    all.insert(".type".into(), json!(section.kind()));
    all.insert(".name".into(), json!(section.name()));
    all.insert(".index".into(), json!(index));
    all.extend(section.options().iter().map(|option| (option.name().to_owned(), value(option))));
    Value::Object(all)
}

/// Command, section, option, value; what is not there is left out.
fn described(change: &Change) -> Value {
    let command = match change.command {
        Command::Add => "add",
        Command::Set => "set",
        Command::Remove => "remove",
        Command::Rename => "rename",
        Command::Reorder => "order",
        Command::ListAdd => "list-add",
        Command::ListRemove => "list-del",
    };
    let value = change.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
    let parts = [Some(command.to_owned()), Some(change.section.clone()), change.option.clone(), value];
    parts.into_iter().flatten().collect()
}

#[allow(clippy::needless_pass_by_value)] // fits map_err
fn failure(error: WriteError) -> Failure {
    let status = match &error {
        WriteError::NotFound { .. } => status::NOT_FOUND,
        WriteError::Read(error) if *error.cause() == Cause::Missing => status::NOT_FOUND,
        WriteError::BadName { .. } | WriteError::BadValue => status::INVALID_ARGUMENT,
        _ => {
            log::warn!("{error}");
            status::UNKNOWN_ERROR
        }
    };
    status.into()
}

// SPDX-License-Identifier: Apache-2.0
//! `/ubus`: JSON-RPC as uhttpd's ubus module answers it, after the ACLs have been asked.

use std::path::{Path, PathBuf};

use openwrt::uci::Source;
use serde_json::{json, Map, Value};

use crate::acl::Acl;
use crate::menu::Menu;
use crate::services::Services;
use crate::session::{Session, Sessions, NOBODY};
use crate::system;
use crate::uci_object::UciObject;

/// Everything a request may reach.
pub(crate) struct Host {
    pub(crate) apps: PathBuf,
    pub(crate) acl: Acl,
    pub(crate) menu: Menu,
    pub(crate) sessions: Sessions,
    pub(crate) services: Services,
    pub(crate) uci: UciObject,
}

/// A ubus status other than 0, sometimes with words of the object about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u32,
    pub(crate) data: Option<Value>,
}

/// The statuses of ubus that are used here.
pub(crate) mod status {
    pub(crate) const INVALID_ARGUMENT: u32 = 2;
    pub(crate) const METHOD_NOT_FOUND: u32 = 3;
    pub(crate) const NOT_FOUND: u32 = 4;
    pub(crate) const NO_DATA: u32 = 5;
    pub(crate) const PERMISSION_DENIED: u32 = 6;
    pub(crate) const UNKNOWN_ERROR: u32 = 9;
}

/// What a method gives back.
pub(crate) type Reply = Result<Value, Failure>;

/// Arguments of a call.
pub(crate) type Arguments = Map<String, Value>;

impl From<u32> for Failure {
    fn from(status: u32) -> Self {
        Failure { status, data: None }
    }
}

impl Host {
    pub(crate) fn new(apps: PathBuf, source: Source, services: Services) -> Result<Self, String> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("root");
        let mut roots: Vec<PathBuf> = vec![own];
        roots.extend(app_directories(&apps).into_iter().map(|app| app.join("root")));
        let mut acl = Acl::default();
        let mut menu = Menu::default();
        for root in roots {
            acl.add_directory(&root.join("usr/share/rpcd/acl.d"))?;
            menu.add_directory(&root.join("usr/share/luci/menu.d"))?;
        }
        let uci = UciObject::new(source);
        Ok(Host { apps, acl, menu, sessions: Sessions::default(), services, uci })
    }

    /// The answer to a posted message or a list of them.
    pub(crate) async fn answer(&self, body: &[u8]) -> Value {
        match serde_json::from_slice(body) {
            Ok(Value::Array(messages)) => {
                let mut answers = Vec::with_capacity(messages.len());
                for message in messages {
                    answers.push(self.message(&message).await);
                }
                Value::Array(answers)
            }
            Ok(message) => self.message(&message).await,
            Err(_) => error(&Value::Null, -32700, "Parse error"),
        }
    }

    async fn message(&self, message: &Value) -> Value {
        let id = &message["id"];
        let params = message["params"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [Value::String(session), Value::String(object), Value::String(method), Value::Object(arguments), ..] =
            params
        else {
            return error(id, -32602, "Invalid params");
        };
        if message["method"] != "call" {
            return error(id, -32601, "Method not found");
        }
        let session = self.sessions.find(session);
        if !self.permits(session.as_deref(), object, method) {
            return error(id, -32002, "Access denied");
        }
        let reply = match self.call(session.as_deref(), object, method, arguments).await {
            None => return error(id, -32000, "Object not found"),
            Some(Ok(Value::Null)) => json!([0]),
            Some(Ok(reply)) => json!([0, reply]),
            Some(Err(Failure { status, data: Some(data) })) => json!([status, data]),
            Some(Err(Failure { status, data: None })) => json!([status]),
        };
        json!({ "jsonrpc": "2.0", "id": id, "result": reply })
    }

    fn permits(&self, session: Option<&Session>, object: &str, method: &str) -> bool {
        // Who has a session may take another user's.
        if object == "session" && method == "login" {
            return true;
        }
        session.is_some_and(|session| self.acl.permits(session.rights, "ubus", object, method))
    }

    /// `None`: there is no such object.
    async fn call(
        &self,
        session: Option<&Session>,
        object: &str,
        method: &str,
        arguments: &Arguments,
    ) -> Option<Reply> {
        if object == "session" {
            return Some(self.session(session, method, arguments));
        }
        let session = session?;
        if object == "uci" {
            return Some(self.uci.call(self, session, method, arguments));
        }
        if let Some(reply) = self.services.forward(object, method, arguments).await {
            return reply;
        }
        system::call(self, session, object, method, arguments).await
    }

    fn session(&self, session: Option<&Session>, method: &str, arguments: &Arguments) -> Reply {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        match (method, session) {
            ("login", _) => {
                let session = self.sessions.login(text("username"), text("password"));
                let session = session.ok_or(status::PERMISSION_DENIED)?;
                Ok(json!({ "ubus_rpc_session": session.id, "timeout": 300, "expires": 300,
                    "data": { "username": session.user } }))
            }
            ("access", Some(session)) => {
                let permitted =
                    self.acl.permits(session.rights, text("scope"), text("object"), text("function"));
                Ok(json!({ "access": permitted }))
            }
            ("destroy", Some(session)) => {
                self.sessions.destroy(&session.id);
                self.uci.forget(&session.id);
                Ok(Value::Null)
            }
            (_, None) => Err(status::PERMISSION_DENIED.into()),
            _ => Err(status::METHOD_NOT_FOUND.into()),
        }
    }

    /// The session of a cookie, or a new one of the first user.
    pub(crate) fn session_of(&self, cookie: Option<&str>) -> Option<std::rc::Rc<Session>> {
        let (user, _) = crate::session::USERS[0];
        cookie
            .filter(|id| *id != NOBODY)
            .and_then(|id| self.sessions.find(id))
            .or_else(|| self.sessions.login(user, user))
    }
}

/// The packages beside the preview, in the order of their names.
pub(crate) fn app_directories(apps: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(apps).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("luci-")));
    found.sort();
    found
}

fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

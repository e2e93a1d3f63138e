// SPDX-License-Identifier: Apache-2.0
//! The other objects that pages ask, as far as they make sense on this machine: files, init scripts, network devices.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{json, Map, Value};

use crate::rpc::{app_directories, status, Arguments, Host, Reply};
use crate::services::NAMES;
use crate::session::Session;

/// The largest file that is read, as in rpcd.
const MAX_READ: u64 = 256 * 1024;

/// `None`: there is no such object.
pub(crate) async fn call(
    host: &Host,
    session: &Session,
    object: &str,
    method: &str,
    arguments: &Arguments,
) -> Option<Reply> {
    Some(match object {
        "file" => file(host, session, method, arguments).await,
        "rc" => rc(host, method, arguments).await,
        "service" => service(host, method),
        "luci" => luci(host, method, arguments).await,
        "network.interface" => interfaces(host, method),
        "preview" => preview(host, method),
        _ => return None,
    })
}

async fn file(host: &Host, session: &Session, method: &str, arguments: &Arguments) -> Reply {
    let may = |object: &str, function: &str| host.acl.permits(session.rights, "file", object, function);
    if method == "exec" {
        let command = text(arguments, "command").ok_or(status::INVALID_ARGUMENT)?;
        let params = arguments.get("params").and_then(Value::as_array).cloned().unwrap_or_default();
        let params: Vec<&str> = params.iter().filter_map(Value::as_str).collect();
        let line = std::iter::once(command).chain(params.iter().copied()).collect::<Vec<_>>().join(" ");
        if !may(command, "exec") && !may(&line, "exec") {
            return Err(status::PERMISSION_DENIED.into());
        }
        let name = command.strip_prefix("/etc/init.d/").ok_or(status::NOT_FOUND)?;
        let done = host.services.act(name, params.first().copied().unwrap_or_default()).await;
        let (code, said) = match done {
            Ok(()) => (0, String::new()),
            Err(error) => (1, error),
        };
        return Ok(json!({ "code": code, "stdout": "", "stderr": said }));
    }
    let name = text(arguments, "path").ok_or(status::INVALID_ARGUMENT)?;
    let path = Path::new(name);
    // ACLs are about paths as they are written.
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(status::INVALID_ARGUMENT.into());
    }
    let function = if method == "stat" { "list" } else { method };
    let permitted = may(name, function) || (method == "stat" && may(name, "read"));
    if !permitted {
        return Err(status::PERMISSION_DENIED.into());
    }
    match method {
        "read" => {
            let metadata = fs::metadata(path).map_err(|_| status::NOT_FOUND)?;
            if !metadata.is_file() || metadata.len() > MAX_READ {
                return Err(status::INVALID_ARGUMENT.into());
            }
            let data = fs::read(path).map_err(|_| status::PERMISSION_DENIED)?;
            Ok(json!({ "data": String::from_utf8_lossy(&data) }))
        }
        "list" => {
            let entries = fs::read_dir(path).map_err(|_| status::NOT_FOUND)?;
            let described = entries.flatten().filter_map(|entry| {
                let mut described = describe(&entry.path())?;
                described.insert("name".into(), json!(entry.file_name().to_string_lossy()));
                Some(Value::Object(described))
            });
            Ok(json!({ "entries": described.collect::<Vec<_>>() }))
        }
        "stat" => describe(path).map(Value::Object).ok_or_else(|| status::NOT_FOUND.into()),
        _ => Err(status::METHOD_NOT_FOUND.into()),
    }
}

fn describe(path: &Path) -> Option<Map<String, Value>> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "fifo",
        () => "file",
    };
    let described = json!({ "path": path.to_string_lossy(), "type": kind, "size": metadata.size(),
        "mode": metadata.mode(), "mtime": metadata.mtime() });
    match described {
        Value::Object(described) => Some(described),
        _ => None,
    }
}

async fn rc(host: &Host, method: &str, arguments: &Arguments) -> Reply {
    match method {
        "list" => {
            let wanted = text(arguments, "name");
            let listed: Map<String, Value> = NAMES
                .into_iter()
                .filter(|name| wanted.is_none_or(|wanted| wanted == *name))
                .filter(|name| host.services.is_installed(name))
                .map(|name| {
                    let running = host.services.runs(name);
                    (name.to_owned(), json!({ "start": 90, "enabled": true, "running": running }))
                })
                .collect();
            Ok(Value::Object(listed))
        }
        "init" => {
            let name = text(arguments, "name").ok_or(status::INVALID_ARGUMENT)?;
            let action = text(arguments, "action").ok_or(status::INVALID_ARGUMENT)?;
            host.services.act(name, action).await.map(|()| Value::Null).map_err(|error| {
                log::warn!("{name} {action}: {error}");
                status::UNKNOWN_ERROR.into()
            })
        }
        _ => Err(status::METHOD_NOT_FOUND.into()),
    }
}

fn service(host: &Host, method: &str) -> Reply {
    if method != "list" {
        return Err(status::METHOD_NOT_FOUND.into());
    }
    let listed: Map<String, Value> = NAMES
        .into_iter()
        .filter(|name| host.services.runs(name))
        .map(|name| (name.to_owned(), json!({ "instances": { "instance1": { "running": true } } })))
        .collect();
    Ok(Value::Object(listed))
}

async fn luci(host: &Host, method: &str, arguments: &Arguments) -> Reply {
    match method {
        "getInitList" => {
            let Value::Object(listed) = rc(host, "list", arguments).await? else {
                return Err(status::UNKNOWN_ERROR.into());
            };
            let short = |about: &Value| json!({ "index": about["start"], "enabled": about["enabled"] });
            Ok(listed.iter().map(|(name, about)| (name.clone(), short(about))).collect::<Map<_, _>>().into())
        }
        "setInitAction" => rc(host, "init", arguments).await.map(|_| json!({ "result": true })),
        _ => Err(status::METHOD_NOT_FOUND.into()),
    }
}

/// What netifd would say of the sections of /etc/config/network.
fn interfaces(host: &Host, method: &str) -> Reply {
    if method != "dump" {
        return Err(status::METHOD_NOT_FOUND.into());
    }
    let Ok(network) = host.uci.source().load("network") else { return Ok(json!({ "interface": [] })) };
    let described = network.of_kind("interface").map(|section| {
        let device = section.get("device").unwrap_or_default();
        json!({ "interface": section.name(), "up": Path::new("/sys/class/net").join(device).exists(),
            "proto": section.get("proto"), "device": device, "l3_device": device })
    });
    Ok(json!({ "interface": described.collect::<Vec<_>>() }))
}

/// What our own client asks: network devices, and the boxes of the overview page.
fn preview(host: &Host, method: &str) -> Reply {
    match method {
        "devices" => Ok(json!({ "devices": names_in(Path::new("/sys/class/net")) })),
        "includes" => {
            let boxes = app_directories(&host.apps)
                .into_iter()
                .flat_map(|app| names_in(&app.join("htdocs/luci-static/resources/view/status/include")));
            let boxes = boxes.filter_map(|name| Some(name.strip_suffix(".js")?.to_owned()));
            Ok(json!({ "includes": boxes.collect::<Vec<_>>() }))
        }
        _ => Err(status::METHOD_NOT_FOUND.into()),
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn text<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

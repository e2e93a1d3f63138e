// SPDX-License-Identifier: Apache-2.0
//! Pages, their files, and the way to `/ubus`.

use std::convert::Infallible;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::rpc::{app_directories, Host};
use crate::session::USERS;
use crate::translation;

/// uhttpd takes no larger message either.
const MAX_BODY: usize = 64 * 1024;

/// Only what lies here; the client compiles page files, as LuCI does, and the report comes as a blob.
const POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'";

type Answer = Response<Full<Bytes>>;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, host: Rc<Host>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly too many open files; that passes.
                log::warn!("no connection: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let host = Rc::clone(&host);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let host = Rc::clone(&host);
                async move { Ok::<_, Infallible>(answer(&host, request).await) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                log::debug!("connection: {error}");
            }
        });
    }
}

async fn answer(host: &Host, request: Request<Incoming>) -> Answer {
    let mut answer = route(host, request).await;
    let headers = answer.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

async fn route(host: &Host, request: Request<Incoming>) -> Answer {
    // A page of somebody else's that calls itself by a name leading here shall not get in.
    let name = request.headers().get(HOST).and_then(|name| name.to_str().ok()).unwrap_or_default();
    if !is_local(name) {
        return plain(StatusCode::FORBIDDEN, "this machine only: use http://127.0.0.1 or http://localhost");
    }
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, path) if path.trim_end_matches('/') == "/ubus" => ubus(host, request).await,
        (&Method::GET | &Method::HEAD, "/") => redirect("/cgi-bin/luci/"),
        (&Method::GET | &Method::HEAD, "/generate_204") => plain(StatusCode::NO_CONTENT, ""),
        (&Method::GET | &Method::HEAD, path) => {
            if let Some(file) = path.strip_prefix("/luci-static/") {
                static_file(host, file)
            } else if let Some(page) = path.strip_prefix("/cgi-bin/luci") {
                shell(host, &request, page)
            } else {
                plain(StatusCode::NOT_FOUND, "there is nothing here")
            }
        }
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, "GET, or POST to /ubus"),
    }
}

async fn ubus(host: &Host, request: Request<Incoming>) -> Answer {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => {
            let answer = host.answer(&body.to_bytes()).await;
            with_type(StatusCode::OK, "application/json", answer.to_string().into_bytes())
        }
        Err(_) => plain(StatusCode::PAYLOAD_TOO_LARGE, "at most 64 KiB"),
    }
}

/// The page around a view: what the client must know, and the client.
fn shell(host: &Host, request: &Request<Incoming>, page: &str) -> Answer {
    let cookie = |name: &str| {
        let cookies = request.headers().get(COOKIE)?.to_str().ok()?;
        let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
    };
    let Some(session) = host.session_of(cookie("sysauth").as_deref()) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers");
    };
    let configs = &host.uci.source().config_dir;
    let path = match page.trim_matches('/') {
        "" => "admin",
        path => path,
    };
    let found = host.menu.page(path, &host.acl, session.rights, configs);
    if let Some(found) = found.as_ref().filter(|found| found.path != path) {
        return redirect(&format!("/cgi-bin/luci/{}", found.path));
    }
    let language =
        cookie("lang").filter(|name| name.len() == 2 && name.bytes().all(|b| b.is_ascii_lowercase()));
    let language = language.unwrap_or_else(|| "en".into());
    let environment = json!({
        "sessionid": session.id,
        "user": session.user,
        "users": USERS.map(|(name, _)| name),
        "path": path,
        "view": found.as_ref().map(|page| &page.view),
        "readonly": found.as_ref().is_none_or(|page| page.readonly),
        "menu": host.menu.tree("admin", &host.acl, session.rights, configs),
        "language": language,
        "translations": translation::messages(&app_directories(&host.apps), &language),
    });
    // In a script element only `<` could end it.
    let environment = environment.to_string().replace('<', "\\u003c");
    let html =
        include_str!("../web/shell.html").replace("@LANGUAGE@", &language).replace("@ENV@", &environment);
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut answer = with_type(status, "text/html; charset=utf-8", html.into_bytes());
    let cookie = format!("sysauth={}; Path=/; SameSite=Strict", session.id);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

/// `resources/…` of the client and of the apps, as they would lie in /www/luci-static; `preview/…` is the client's own.
fn static_file(host: &Host, path: &str) -> Answer {
    let path = Path::new(path);
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return plain(StatusCode::NOT_FOUND, "not a file");
    }
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/web"));
    let apps = app_directories(&host.apps).into_iter().map(|app| app.join("htdocs/luci-static"));
    let file = std::iter::once(own).chain(apps).map(|root| root.join(path)).find(|file| file.is_file());
    match file.and_then(|file| fs::read(file).ok()) {
        Some(content) => with_type(StatusCode::OK, content_type(path), content),
        None => plain(StatusCode::NOT_FOUND, "no such file"),
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    matches!(name, "localhost" | "::1") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn redirect(to: &str) -> Answer {
    let mut answer = plain(StatusCode::FOUND, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

fn with_type(status: StatusCode, kind: &'static str, content: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(content)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_machine() {
        for (host, local) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("[::1]:80", true),
            ("127.0.0.2", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }
}

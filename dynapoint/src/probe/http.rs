// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 as a checker needs it: one request, the head of one answer, and what that answer means.
//!
//! Nothing is followed: a redirect is an answer, and mostly that of a captive portal.

use super::url::{Host, Url};
use crate::verdict::Outcome;

/// The longest head that is read.
pub const MAX_HEAD: usize = 8 * 1024;
/// As much of a body is looked at.
pub const MAX_BODY: usize = 4 * 1024;

/// What is expected of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Status codes, as ranges; empty: as [`judge`] says.
    pub status: Vec<(u16, u16)>,
    /// Text that the beginning of the body contains.
    pub body: Option<String>,
}

impl Expect {
    /// Reads `204`, `200-299` or several with commas or blanks between them.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse_status(text: &str) -> Result<Vec<(u16, u16)>, String> {
        let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        text.split([',', ' '])
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                match (code(from), code(to)) {
                    (Some(from), Some(to)) if from <= to => Ok((from, to)),
                    _ => Err("expected HTTP status codes such as 204 or 200-299".to_owned()),
                }
            })
            .collect()
    }
}

/// The request to send.
#[must_use]
pub fn request(url: &Url) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: dynapoint/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.path,
        url.authority(),
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes()
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// `Content-Length`.
    pub length: Option<usize>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// Bytes up to the body.
    pub bytes: usize,
}

/// Reads the head from what has arrived; `None` while it is not complete.
///
/// # Errors
/// Why this is no HTTP.
pub fn parse_head(received: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let bytes = match response.parse(received) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if received.len() >= MAX_HEAD => {
            return Err("endless HTTP header".to_owned())
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer is no HTTP ({error})")),
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    Ok(Some(Head {
        status: response.code.unwrap_or(0),
        location: header("location"),
        length: header("content-length").and_then(|length| length.parse().ok()),
        chunked: header("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")),
        bytes,
    }))
}

/// Whether the body is needed for [`judge`].
#[must_use]
pub fn needs_body(expect: &Expect, head: &Head) -> bool {
    expect.body.is_some() && head.length != Some(0) && !matches!(head.status, 204 | 304)
}

/// What an answer means.
///
/// 1. 511 (RFC 6585, 6) is a captive portal, whatever is expected.
/// 2. `expect_status`, where given, must match. Otherwise a URL whose path ends in `generate_204` or `gen_204` must
///    give 204, and any other must give 2xx or a redirect within the same site.
/// 3. `expect_body`, where given, must be in the beginning of the body.
///
/// A redirect to another site, a success where another status was due and a success without the expected body are
/// what captive portals do; 4xx and 5xx are failures.
#[must_use]
pub fn judge(url: &Url, expect: &Expect, head: &Head, body: &[u8]) -> Outcome {
    let status = head.status;
    if status == 511 {
        return Outcome::Portal("the network asks to log in (511)".to_owned());
    }
    let default_204 = [(204, 204)];
    let path = url.path.split('?').next().unwrap_or_default();
    let due = if !expect.status.is_empty() {
        &expect.status[..]
    } else if path.ends_with("generate_204") || path.ends_with("gen_204") {
        &default_204[..]
    } else {
        &[]
    };
    let elsewhere = leads_elsewhere(url, head);
    let fits = match due {
        [] => (200..300).contains(&status) || ((300..400).contains(&status) && elsewhere.is_none()),
        due => due.iter().any(|(from, to)| (*from..=*to).contains(&status)),
    };
    if !fits {
        return match (status, elsewhere) {
            (300..=399, Some(site)) => Outcome::Portal(format!("redirected to {site} ({status})")),
            (200..=299, _) => Outcome::Portal(format!("answered {status} where another answer was due")),
            _ => Outcome::Failed(format!("answered {status}")),
        };
    }
    match &expect.body {
        Some(text) if !contains(body, text.as_bytes()) => {
            let reason = format!("answered {status} with an unexpected body");
            if status < 400 {
                Outcome::Portal(reason)
            } else {
                Outcome::Failed(reason)
            }
        }
        _ => Outcome::Passed,
    }
}

/// The site a redirect leads to, where that is not the one that was asked.
fn leads_elsewhere(url: &Url, head: &Head) -> Option<String> {
    let location = head.location.as_deref()?;
    if location.starts_with('/') && !location.starts_with("//") {
        return None;
    }
    let absolute = location.strip_prefix("//").map(|rest| format!("http://{rest}"));
    let absolute = absolute.as_deref().unwrap_or(location);
    if !absolute.contains("://") {
        return None;
    }
    // Only the site matters; a target we would not ask for ourselves may have any path.
    let end = absolute.find("://").map_or(0, |at| at + 3);
    let end = absolute[end..].find(['/', '?', '#']).map_or(absolute.len(), |at| end + at);
    let Ok(target) = Url::parse(&absolute[..end]) else { return Some("an unreadable address".to_owned()) };
    (!same_site(&url.host, &target.host)).then(|| target.host.to_string())
}

/// The same host, or names that share their last two labels and have at least two.
fn same_site(one: &Host, other: &Host) -> bool {
    match (one, other) {
        (Host::Name(one), Host::Name(other)) => {
            one == other || (one.contains('.') && last_two(one) == last_two(other))
        }
        (one, other) => one == other,
    }
}

fn last_two(name: &str) -> Option<&str> {
    let dot = name.rfind('.')?;
    Some(name[..dot].rfind('.').map_or(name, |at| &name[at + 1..]))
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(status: u16, location: Option<&str>) -> Head {
        Head { status, location: location.map(str::to_owned), length: None, chunked: false, bytes: 0 }
    }

    fn word(url: &str, expect: &Expect, status: u16, location: Option<&str>, body: &str) -> &'static str {
        judge(&Url::parse(url).unwrap(), expect, &head(status, location), body.as_bytes()).word()
    }

    #[test]
    fn without_expectations_the_site_itself_must_answer() {
        let any = Expect::default();
        let verdict = |status, location| word("http://example.com", &any, status, location, "");
        assert_eq!(verdict(200, None), "passed");
        assert_eq!(verdict(204, None), "passed");
        assert_eq!(verdict(301, Some("https://www.example.com/")), "passed");
        assert_eq!(verdict(302, Some("/index.html")), "passed");
        assert_eq!(verdict(302, Some("http://portal.hotel.test/login?from=example.com")), "portal");
        assert_eq!(verdict(302, Some("//portal.hotel.test/")), "portal");
        assert_eq!(verdict(302, Some("http://192.168.0.1/login")), "portal");
        assert_eq!(verdict(302, Some("https://evil.test\u{7f}/")), "portal");
        assert_eq!(verdict(302, None), "passed");
        assert_eq!(verdict(511, None), "portal");
        assert_eq!(verdict(404, None), "failed");
        assert_eq!(verdict(500, None), "failed");
    }

    #[test]
    fn generate_204_must_give_204() {
        let any = Expect::default();
        let verdict = |status, location| word("http://check.test/generate_204", &any, status, location, "");
        assert_eq!(verdict(204, None), "passed");
        assert_eq!(verdict(200, None), "portal");
        assert_eq!(verdict(302, Some("http://portal.test/")), "portal");
        assert_eq!(verdict(503, None), "failed");
    }

    #[test]
    fn expected_status_and_body_are_checked() {
        let status = Expect { status: Expect::parse_status("200-201, 404").unwrap(), body: None };
        assert_eq!(word("http://a.test/", &status, 404, None, ""), "passed");
        assert_eq!(word("http://a.test/", &status, 201, None, ""), "passed");
        assert_eq!(word("http://a.test/", &status, 202, None, ""), "portal");
        assert_eq!(word("http://a.test/", &status, 403, None, ""), "failed");
        let body = Expect { status: vec![], body: Some("success".to_owned()) };
        assert_eq!(word("http://a.test/", &body, 200, None, "success\n"), "passed");
        assert_eq!(word("http://a.test/", &body, 200, None, "<html>Log in"), "portal");
        assert_eq!(word("http://a.test/", &body, 200, None, ""), "portal");
    }

    #[test]
    fn an_address_is_its_own_site() {
        let any = Expect::default();
        assert_eq!(word("http://10.0.0.1/", &any, 302, Some("http://10.0.0.1/x"), ""), "passed");
        assert_eq!(word("http://10.0.0.1/", &any, 302, Some("http://10.0.0.2/x"), ""), "portal");
        assert_eq!(word("http://localhost/", &any, 302, Some("http://portal/"), ""), "portal");
    }

    #[test]
    fn status_lists_are_read_or_refused() {
        assert_eq!(Expect::parse_status("204").unwrap(), [(204, 204)]);
        for wrong in ["20", "600", "200-100", "ok", "200-"] {
            assert!(Expect::parse_status(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn heads_arrive_in_pieces() {
        let text = b"HTTP/1.1 302 Found\r\nLOCATION: http://x/ \r\nContent-Length: 12\r\n\r\nbody";
        for end in 0..text.len() - 4 {
            assert_eq!(parse_head(&text[..end]), Ok(None), "{end}");
        }
        let head = parse_head(text).unwrap().unwrap();
        assert_eq!((head.status, head.location.as_deref(), head.length), (302, Some("http://x/"), Some(12)));
        assert_eq!(&text[head.bytes..], b"body");
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n").is_err());
    }

    #[test]
    fn the_request_is_what_servers_expect() {
        let text = String::from_utf8(request(&Url::parse("http://a.test:81/x?y").unwrap())).unwrap();
        assert!(text.starts_with("GET /x?y HTTP/1.1\r\nHost: a.test:81\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), location in ".{0,60}") {
            let _ = parse_head(&bytes);
            let mut text = b"HTTP/1.1 302 X\r\nLocation: ".to_vec();
            text.extend(location.bytes());
            text.extend(b"\r\n\r\n");
            if let Ok(Some(head)) = parse_head(&text) {
                let _ = judge(&Url::parse("http://example.com").unwrap(), &Expect::default(), &head, &bytes);
            }
        }
    }
}

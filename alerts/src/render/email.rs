// SPDX-License-Identifier: Apache-2.0
//! A mail: plain text and HTML with the same content, files attached.

use super::{label, losses_sentence, mark, Context};
use crate::config::Email;
use crate::outbox::Message;
use crate::{Alert, Fact};
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment as Part, MultiPart, SinglePart};
use lettre::Message as Mail;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use time::OffsetDateTime;

/// Larger files stay on the router; most servers refuse mails above 10 MB, and this is held in memory.
const ATTACHMENTS_BYTES: u64 = 2 * 1024 * 1024;

/// Largest page of [`Alert::html`].
const PAGE_BYTES: u64 = 128 * 1024;

/// The mail, as it goes over the wire.
pub(crate) fn render(
    config: &Email,
    context: Context<'_>,
    message: &Message,
    now: OffsetDateTime,
) -> Result<Mail, Box<dyn Error>> {
    let alert = &message.alert;
    let identity = context.identity;
    let domain = config.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let subject: String =
        format!("[{}] {}", identity.host, alert.subject).replace(|c: char| c.is_control(), " ");
    let mut mail = Mail::builder()
        .from(config.from.parse()?)
        .subject(subject)
        .date(now.into())
        .message_id(Some(message_id(&alert.id, domain)))
        .header(AutoSubmitted)
        .header(ContentClass(
            format!("{} {}", alert.daemon, alert.kind)
                .replace(|c: char| !c.is_ascii_graphic() && c != ' ', "_"),
        ));
    for to in &config.to {
        mail = mail.to(to.parse()?);
    }
    if let Some(id) = &alert.recovers {
        let id = message_id(id, domain);
        mail = mail.in_reply_to(id.clone()).references(id);
    }
    let (files, left_out) = read_attachments(message);
    let body = MultiPart::alternative()
        .singlepart(SinglePart::plain(text(context, message, &left_out)))
        .singlepart(SinglePart::html(html(context, message, &left_out)));
    if files.is_empty() {
        return Ok(mail.multipart(body)?);
    }
    let mut mixed = MultiPart::mixed().multipart(body);
    for (name, media_type, content) in files {
        let media_type = media_type.parse::<ContentType>().or_else(|_| "application/octet-stream".parse())?;
        mixed = mixed.singlepart(Part::new(name).body(content, media_type));
    }
    Ok(mail.multipart(mixed)?)
}

/// The same for every attempt, so that a mail that arrives twice is recognised.
fn message_id(id: &str, domain: &str) -> String {
    let plain: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("<{plain}@{domain}>")
}

type Files = Vec<(String, String, Vec<u8>)>;

/// The files and the names of those that cannot go along, with the reason.
fn read_attachments(message: &Message) -> (Files, Vec<String>) {
    let mut room = ATTACHMENTS_BYTES;
    let (mut files, mut left_out) = (Files::new(), Vec::new());
    for file in &message.alert.attachments {
        let size = std::fs::metadata(&file.path).map(|data| data.len());
        match size.and_then(|size| if size > room { Ok(None) } else { std::fs::read(&file.path).map(Some) }) {
            Ok(Some(content)) => {
                room = room.saturating_sub(content.len() as u64);
                files.push((file.name.clone(), file.media_type.clone(), content));
            }
            Ok(None) => left_out.push(format!(
                "{} is too large to be sent; it lies at {}",
                file.name,
                file.path.display()
            )),
            Err(error) => left_out.push(format!("{} could not be attached: {error}", file.name)),
        }
    }
    (files, left_out)
}

fn text(context: Context<'_>, message: &Message, left_out: &[String]) -> String {
    let alert = &message.alert;
    let mut text = format!("{}\n\n", alert.subject);
    let width = alert.facts.iter().map(|fact| label(&fact.key).chars().count()).max().unwrap_or(0).min(30);
    for fact in &alert.facts {
        let _ = writeln!(text, "{:width$}  {}", label(&fact.key), fact.value);
    }
    for line in left_out.iter().cloned().chain(losses_sentence(message.losses)) {
        let _ = write!(text, "\n{line}\n");
    }
    let identity = context.identity;
    let _ = write!(
        text,
        "\n-- \n{} on {} ({})\n{}, severity {}, kind {}, id {}\n",
        alert.daemon,
        identity.host,
        identity.device_id,
        context.local_time(alert.at),
        alert.severity.name(),
        alert.kind,
        alert.id
    );
    text
}

fn html(context: Context<'_>, message: &Message, left_out: &[String]) -> String {
    let alert = &message.alert;
    let mut html = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"></head>\
         <body style=\"font-family:sans-serif\"><h2>{} {}</h2>",
        mark(alert.severity),
        escape(&alert.subject)
    );
    html.push_str(&alert.html.as_deref().and_then(read_page).unwrap_or_else(|| table(alert)));
    for line in left_out.iter().cloned().chain(losses_sentence(message.losses)) {
        let _ = write!(html, "<p>{}</p>", escape(&line));
    }
    let identity = context.identity;
    let _ = write!(
        html,
        "<p><small>{} on {} ({})<br>{}, severity {}, kind {}, id {}</small></p></body></html>",
        escape(&alert.daemon),
        escape(&identity.host),
        escape(&identity.device_id),
        context.local_time(alert.at),
        alert.severity.name(),
        escape(&alert.kind),
        escape(&alert.id)
    );
    html
}

fn table(alert: &Alert) -> String {
    let row = |fact: &Fact| {
        let (key, value) = (escape(&label(&fact.key)), escape(&fact.value));
        format!("<tr><th align=\"left\">{key}</th><td>{value}</td></tr>")
    };
    let rows: String = alert.facts.iter().map(row).collect();
    format!("<table cellpadding=\"4\">{rows}</table>")
}

/// The daemon's own page; a file that has gone or grown is no reason to send no mail.
fn read_page(path: &Path) -> Option<String> {
    let mut page = String::new();
    let mut file = File::open(path).ok()?.take(PAGE_BYTES + 1);
    let read = file.read_to_string(&mut page).ok()?;
    (read as u64 <= PAGE_BYTES).then_some(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// No vacation message answers this (RFC 3834 5).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

/// Daemon and kind, for the receiver's filters.
#[derive(Debug, Clone)]
struct ContentClass(String);

impl Header for ContentClass {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Alert")
    }
    fn parse(text: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Mails with their attachments, taken by a real exim and read by a parser that is none of ours.

use crate::setup::{Options, Parts};
use lab::MailServer;
use mailparse::{DispositionType, MailHeaderMap as _, ParsedMail};
use serde_json::json;

/// Every part that is no container, in order.
fn leaves<'a>(mail: &'a ParsedMail<'a>) -> Vec<&'a ParsedMail<'a>> {
    match mail.subparts.is_empty() {
        true => vec![mail],
        false => mail.subparts.iter().flat_map(leaves).collect(),
    }
}

#[test]
fn a_report_goes_along_byte_for_byte_and_what_is_too_large_is_named() {
    let parts = Parts::new();
    let mail = MailServer::start(&parts.certificate);
    let daemon = parts.start(&Options::default().email(mail.port()));
    // Long lines, dots alone on a line, bytes above 127: what SMTP and MIME have to protect.
    let mut report = "<!DOCTYPE html>\n<p>Spannung – 230 V\n.\n..\nFrom here\n".to_owned();
    report.push_str(&"<td>é&nbsp;=3D</td>".repeat(4000));
    let (small, large) =
        (parts.environment.data("week 47 – Übersicht.html"), parts.environment.data("large.html"));
    std::fs::write(&small, &report).unwrap();
    std::fs::write(&large, vec![b'x'; 3 * 1024 * 1024]).unwrap();
    let attach =
        [&small, &large, &parts.environment.data("gone.html")].map(|path| path.display().to_string());
    let params =
        json!({ "kind": "report", "subject": "Wöchentlicher Bericht: 100 % < grün", "attach": attach });
    let answer = daemon.call("raise", &params).unwrap();

    let raw = mail.wait_for_count(1).remove(0);
    let parsed = mailparse::parse_mail(raw.as_bytes()).unwrap();
    assert_eq!(parsed.ctype.mimetype, "multipart/mixed");
    assert_eq!(
        parsed.headers.get_first_value("Subject").unwrap(),
        "[router] Wöchentlicher Bericht: 100 % < grün"
    );
    let id = format!("<{}@lab.example>", answer["ids"][0].as_str().unwrap());
    assert_eq!(parsed.headers.get_first_value("Message-ID").unwrap(), id);
    assert_eq!(parsed.subparts[0].ctype.mimetype, "multipart/alternative");

    let leaves = leaves(&parsed);
    let types: Vec<_> = leaves.iter().map(|part| part.ctype.mimetype.as_str()).collect();
    assert_eq!(types, ["text/plain", "text/html", "text/html"]);
    let (plain, html) = (leaves[0].get_body().unwrap(), leaves[1].get_body().unwrap());
    for text in [&plain, &html] {
        assert!(text.contains("large.html is too large to be sent; it lies at "), "{text}");
        assert!(text.contains("gone.html could not be attached: No such file"), "{text}");
    }
    assert!(plain.starts_with("Wöchentlicher Bericht: 100 % < grün\r\n"), "{plain}");
    assert!(html.contains("Wöchentlicher Bericht: 100 % &lt; grün</h2>"), "{html}");
    let disposition = leaves[2].get_content_disposition();
    assert_eq!(disposition.disposition, DispositionType::Attachment);
    assert_eq!(disposition.params["filename"], "week 47 – Übersicht.html");
    assert_eq!(leaves[2].get_body_raw().unwrap(), report.as_bytes());
}

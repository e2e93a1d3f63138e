// SPDX-License-Identifier: Apache-2.0
//! A message of Slack's Block Kit for an incoming webhook
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).

use super::{label, losses_sentence, mark, Context};
use crate::config::Slack;
use crate::outbox::Message;
use serde_json::{json, Value};

/// Limits of Slack's Block Kit reference.
const FIELDS_PER_SECTION: usize = 10;
const FIELD_CHARACTERS: usize = 2000;
const TEXT_CHARACTERS: usize = 3000;

/// The request's body.
pub(crate) fn render(config: &Slack, context: Context<'_>, message: &Message) -> Value {
    let alert = &message.alert;
    let subject = format!("{} {}", mark(alert.severity), escape(&alert.subject));
    let mut blocks = vec![section(&format!("*{subject}*"))];
    let fields: Vec<Value> = alert
        .facts
        .iter()
        .map(|fact| {
            mrkdwn(&format!("*{}*\n{}", escape(&label(&fact.key)), escape(&fact.value)), FIELD_CHARACTERS)
        })
        .collect();
    blocks.extend(
        fields.chunks(FIELDS_PER_SECTION).map(|fields| json!({ "type": "section", "fields": fields })),
    );
    if let Some(sentence) = losses_sentence(message.losses) {
        blocks.push(section(&escape(&sentence)));
    }
    let files: Vec<_> = alert.attachments.iter().map(|file| file.name.as_str()).collect();
    let mut line = format!(
        "{} · {} · {} · {}",
        escape(&context.identity.host),
        escape(&context.identity.device_id),
        escape(&alert.daemon),
        context.local_time(alert.at)
    );
    if !files.is_empty() {
        line.push_str(&format!(" · on the router: {}", escape(&files.join(", "))));
    }
    line.push_str(&format!(" · id {}", escape(&alert.id)));
    blocks.push(json!({ "type": "context", "elements": [mrkdwn(&line, FIELD_CHARACTERS)] }));

    let mut body = json!({ "text": subject, "blocks": blocks, "unfurl_links": false });
    if let Some(channel) = &config.channel {
        body["channel"] = json!(channel);
    }
    if let Some(user) = &config.user {
        body["username"] = json!(user);
    }
    body
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(text, TEXT_CHARACTERS) })
}

/// `verbatim`: Slack turns nothing in it into links or mentions.
fn mrkdwn(escaped: &str, most: usize) -> Value {
    json!({ "type": "mrkdwn", "text": clip(escaped, most), "verbatim": true })
}

/// The three characters that Slack's texts give a meaning (`&`, `<`, `>`).
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(most - 1).collect();
            // Not through the middle of an entity.
            let whole = kept
                .rfind('&')
                .filter(|&at| !kept[at..].contains(';'))
                .map_or(kept.as_str(), |at| &kept[..at]);
            format!("{whole}…")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Losses;
    use crate::{Alert, Identity, Severity};
    use openwrt::uci::Secret;
    use time::OffsetDateTime;

    fn message(alert: Alert) -> Value {
        let identity =
            Identity { daemon: "powqutyd".into(), host: "rou<ter".into(), device_id: "a&b".into() };
        let config = Slack {
            webhook: Secret::new("https://example.org"),
            channel: Some("#general".into()),
            user: Some("PowQutyEvent".into()),
        };
        let losses = Losses { full: 2, expired: 1, refused: 0 };
        let message = Message { seq: 0, alert, losses };
        render(&config, Context { identity: &identity, utc_offset_s: 3600 }, &message)
    }

    fn alert(subject: &str) -> Alert {
        Alert::new("dip", Severity::Critical, subject, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn what_slack_would_interpret_is_escaped() {
        let body = message(alert("<!channel> & <@U1>").fact("residual_voltage", "43 % <b>"));
        assert_eq!(body["text"], "🔴 &lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(body["channel"], "#general");
        assert_eq!(body["username"], "PowQutyEvent");
        assert_eq!(body["blocks"][1]["fields"][0]["text"], "*Residual voltage*\n43 % &lt;b&gt;");
        assert_eq!(
            body["blocks"][2]["text"]["text"],
            "3 earlier alerts were not delivered: 2 because the outbox was full, 1 because they were too old"
        );
        let context = body["blocks"][3]["elements"][0]["text"].as_str().unwrap();
        assert!(
            context.starts_with("rou&lt;ter · a&amp;b ·  · 1970-01-01 01:00:00 +01:00 · id"),
            "{context}"
        );
    }

    #[test]
    fn many_and_long_facts_stay_within_the_limits() {
        let mut alert = alert("x");
        for index in 0..24 {
            alert = alert.fact(&format!("fact_{index}"), "&".repeat(1000));
        }
        let body = message(alert);
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        let fields: Vec<_> = blocks.iter().filter_map(|block| block["fields"].as_array()).collect();
        assert_eq!(fields.iter().map(|fields| fields.len()).collect::<Vec<_>>(), [10, 10, 4]);
        for text in
            fields.iter().flat_map(|fields| fields.iter()).map(|field| field["text"].as_str().unwrap())
        {
            assert!(text.chars().count() <= 2000);
            assert!(text.ends_with("&amp;…"), "an entity is cut: {text}");
        }
    }
}

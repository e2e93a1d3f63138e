// SPDX-License-Identifier: Apache-2.0
//! An HTTPS server that holds senders to what Slack documents for incoming webhooks and Block Kit.

use crate::setup::Parts;
use lab::webhook::{Answer, Request};
use lab::Webhook;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Slack allows one message per second and "short bursts"; here it is ten times faster, so that tests end.
const PER_SECOND: f64 = 10.0;
const BURST: f64 = 10.0;

/// The server; ends on drop.
pub(crate) struct Slack {
    webhook: Webhook,
    state: Arc<Mutex<State>>,
}

struct State {
    accepted: Vec<Value>,
    /// How the next requests are answered instead.
    trouble: VecDeque<Trouble>,
    refused: Option<Answer>,
    tokens: f64,
    filled: Instant,
}

/// What a server may do to a good request.
pub(crate) enum Trouble {
    /// Answer this and keep nothing.
    Answer(Answer),
    /// Keep the message, but cut the connection before the answer.
    AcceptAndCut,
}

impl Slack {
    pub(crate) fn start(parts: &Parts) -> Self {
        let webhook = Webhook::start_tls(&parts.certificate);
        let state = Arc::new(Mutex::new(State {
            accepted: Vec::new(),
            trouble: VecDeque::new(),
            refused: None,
            tokens: BURST,
            filled: Instant::now(),
        }));
        let judged = Arc::clone(&state);
        webhook.judge(move |request| Some(lock(&judged).judge(request)));
        Self { webhook, state }
    }

    pub(crate) fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.webhook.port())
    }

    /// The messages it took.
    pub(crate) fn accepted(&self) -> Vec<Value> {
        lock(&self.state).accepted.clone()
    }

    /// The alerts' ids of the messages it took.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.accepted().iter().map(id_of).collect()
    }

    /// The next good request meets this.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        lock(&self.state).trouble.push_back(trouble);
    }

    /// From now on everything is answered so.
    pub(crate) fn refuse(&self, answer: Answer) {
        lock(&self.state).refused = Some(answer);
    }
}

/// The id stands at the end of the context line.
fn id_of(message: &Value) -> String {
    let blocks = message["blocks"].as_array().map_or(&[][..], Vec::as_slice);
    let line = blocks.last().and_then(|block| block["elements"][0]["text"].as_str()).unwrap_or_default();
    line.rsplit("id ").next().unwrap_or_default().to_owned()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn judge(&mut self, request: &Request) -> Answer {
        if let Some(answer) = &self.refused {
            return answer.clone();
        }
        if request.method != "POST"
            || !request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"))
        {
            return Answer::Status(400, "invalid_payload".into());
        }
        let Ok(message) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::Status(400, "invalid_payload".into());
        };
        if let Err(wrong) = check(&message) {
            return Answer::Status(400, format!("invalid_blocks: {wrong}"));
        }
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * PER_SECOND).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            return Answer::WithHeaders(429, vec!["Retry-After: 1".into()], "rate_limited".into());
        }
        self.tokens -= 1.0;
        match self.trouble.pop_front() {
            Some(Trouble::Answer(answer)) => answer,
            Some(Trouble::AcceptAndCut) => {
                self.accepted.push(message);
                Answer::Cut
            }
            None => {
                self.accepted.push(message);
                Answer::ok()
            }
        }
    }
}

/// The limits of Slack's reference of Block Kit.
fn check(message: &Value) -> Result<(), String> {
    let text = |value: &Value, most: usize| -> Result<(), String> {
        let text = value["text"].as_str().ok_or("a text object without text")?;
        let length = text.chars().count();
        if !matches!(value["type"].as_str(), Some("mrkdwn" | "plain_text")) || length == 0 || length > most {
            return Err(format!("a text of {length} characters, at most {most}"));
        }
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>']) {
            let known = ["&amp;", "&lt;", "&gt;"].iter().any(|entity| rest[at..].starts_with(entity));
            if !known {
                return Err(format!("not escaped: {text}"));
            }
            rest = &rest[at + 1..];
        }
        Ok(())
    };
    if message["text"].as_str().is_none_or(|text| text.is_empty() || text.len() > 40_000) {
        return Err("no text".into());
    }
    let blocks = message["blocks"].as_array().ok_or("no blocks")?;
    if blocks.len() > 50 {
        return Err(format!("{} blocks", blocks.len()));
    }
    for block in blocks {
        match block["type"].as_str() {
            Some("section") => {
                let fields = block["fields"].as_array();
                if !block["text"].is_null() {
                    text(&block["text"], 3000)?;
                }
                if block["text"].is_null() && fields.is_none_or(Vec::is_empty)
                    || fields.is_some_and(|f| f.len() > 10)
                {
                    return Err("a section needs a text or 1 to 10 fields".into());
                }
                fields.into_iter().flatten().try_for_each(|field| text(field, 2000))?;
            }
            Some("context") => {
                let elements =
                    block["elements"].as_array().filter(|elements| (1..=10).contains(&elements.len()));
                elements
                    .ok_or("a context of 1 to 10 elements")?
                    .iter()
                    .try_for_each(|element| text(element, 3000))?;
            }
            other => return Err(format!("block of type {other:?}")),
        }
    }
    Ok(())
}

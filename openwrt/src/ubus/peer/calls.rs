// SPDX-License-Identifier: Apache-2.0
//! Calls in both directions, and events to others.

use super::super::message::{decode_data, encode_data, Draft, Fields, Message};
use super::super::{ArgType, Description, Error, Failure, Status};
use super::{Action, Link, Outcome, Peer, Purpose, Request, Ticket, Token, INVOCATIONS, REQUESTS};
use serde_json::Value;
use std::time::Instant;

/// ubusd's own object that spreads events (`UBUS_SYSTEM_OBJECT_EVENT`).
pub(super) const EVENT_OBJECT: u32 = 1;
/// Objects that one lookup may bring.
const DESCRIPTIONS: usize = 1024;

/// A call of this client under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) token: Token,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Asking ubusd for the number of the object.
    Finding { object: String, method: String, args: Vec<u8>, id: Option<u32> },
    /// The object has been asked; of several data messages the last counts.
    Invoked { answer: Option<Result<Value, Error>> },
    /// Asking ubusd for all objects of a pattern.
    Listing { pattern: String, found: Vec<Description> },
}

impl Call {
    pub(super) fn data(&mut self, fields: &Fields<'_>) {
        match &mut self.stage {
            Stage::Finding { object, id, .. } if fields.path.as_ref() == Some(object) => {
                *id = fields.object.or(*id);
            }
            Stage::Invoked { answer } => {
                *answer = fields.data.map(|data| decode_data(data).map_err(|_| Error::Malformed));
            }
            Stage::Listing { found, .. } if found.len() < DESCRIPTIONS => found.extend(description(fields)),
            _ => {}
        }
    }
}

fn description(fields: &Fields<'_>) -> Option<Description> {
    let signature = decode_data(fields.signature.unwrap_or_default()).ok()?;
    let methods = signature.as_object()?.iter().map(|(method, args)| {
        let args = args.as_object().into_iter().flatten();
        let typed = args.map(|(arg, number)| (arg.clone(), ArgType::from_wire(number.as_i64().unwrap_or(0))));
        (method.clone(), typed.collect())
    });
    Some(Description { name: fields.path.clone()?, id: fields.object?, methods: methods.collect() })
}

impl Peer {
    /// Calls `method` of `object`; [`Action::Finished`] brings the answer.
    pub(crate) fn call(
        &mut self,
        object: &str,
        method: &str,
        args: &Value,
        deadline: Instant,
    ) -> Result<Token, Error> {
        if !args.is_object() && !args.is_null() {
            return Err(Error::NotAnObject);
        }
        // With a trailing `*` ubusd would find other objects.
        if object.is_empty() || object.ends_with('*') {
            return Err(Error::NoObject);
        }
        let (object, method) = (object.to_owned(), method.to_owned());
        self.begin(Stage::Finding { object, method, args: encode_data(args)?, id: None }, deadline)
    }

    /// Finds the objects of a pattern: a name, or the beginning of a name and `*`.
    pub(crate) fn list(&mut self, pattern: &str, deadline: Instant) -> Result<Token, Error> {
        self.begin(Stage::Listing { pattern: pattern.to_owned(), found: Vec::new() }, deadline)
    }

    /// Nobody waits for this call any more.
    pub(crate) fn forget(&mut self, token: Token) {
        self.requests
            .retain(|_, request| !matches!(&request.purpose, Purpose::Call(call) | Purpose::WaitingCall(call) if call.token == token));
    }

    fn begin(&mut self, stage: Stage, deadline: Instant) -> Result<Token, Error> {
        self.last_token = self.last_token.wrapping_add(1);
        let token = Token(self.last_token);
        match self.link {
            Link::Down => Err(Error::Unavailable),
            Link::Coming { .. } if self.requests.len() >= REQUESTS => Err(Error::Overloaded),
            Link::Coming { .. } => {
                let purpose = Purpose::WaitingCall(Call { token, stage });
                let seq = self.free_seq();
                self.requests.insert(seq, Request { peer: 0, deadline, purpose });
                Ok(token)
            }
            Link::Up => self.ask(Call { token, stage }, deadline).map(|()| token),
        }
    }

    pub(super) fn start_waiting_calls(&mut self) {
        let waiting: Vec<u16> = self
            .requests
            .iter()
            .filter(|(_, request)| matches!(request.purpose, Purpose::WaitingCall(_)))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in waiting {
            let Some(Request { deadline, purpose: Purpose::WaitingCall(call), .. }) =
                self.requests.remove(&seq)
            else {
                continue;
            };
            let token = call.token;
            if let Err(error) = self.ask(call, deadline) {
                self.finish(token, Err(error));
            }
        }
    }

    /// Sends the first request of a call.
    fn ask(&mut self, call: Call, deadline: Instant) -> Result<(), Error> {
        let draft = match &call.stage {
            Stage::Finding { object, .. } => Draft::lookup(object),
            Stage::Listing { pattern, .. } => Draft::lookup(pattern),
            Stage::Invoked { .. } => return Ok(()),
        };
        self.request(draft, deadline, Purpose::Call(call))
    }

    pub(super) fn call_answered(&mut self, call: Call, status: Status, deadline: Instant) {
        let token = call.token;
        match call.stage {
            Stage::Finding { id: Some(id), method, args, .. } if status == Status::Ok => {
                let invoked = Purpose::Call(Call { token, stage: Stage::Invoked { answer: None } });
                if let Err(error) = self.request(Draft::invoke(id, &method, &args), deadline, invoked) {
                    self.finish(token, Err(error));
                }
            }
            // An object whose methods are all denied is found, but not shown.
            Stage::Finding { .. } if matches!(status, Status::Ok | Status::NotFound) => {
                self.finish(token, Err(Error::NoObject));
            }
            Stage::Invoked { answer } if status == Status::Ok => {
                self.finish(token, answer.unwrap_or(Ok(Value::Null)).map(Outcome::Reply));
            }
            Stage::Invoked { answer } => {
                let detail = answer.and_then(Result::ok);
                self.finish(token, Err(Error::Failed { status, detail }));
            }
            Stage::Listing { found, .. } if matches!(status, Status::Ok | Status::NotFound) => {
                self.finish(token, Ok(Outcome::Objects(found)));
            }
            Stage::Finding { .. } | Stage::Listing { .. } => {
                self.finish(token, Err(Error::Failed { status, detail: None }));
            }
        }
    }

    /// Broadcasts an event; one that cannot be sent is dropped and counted.
    pub(crate) fn send_event(&mut self, name: &str, data: &Value, now: Instant) -> Result<(), Error> {
        if !data.is_object() {
            return Err(Error::NotAnObject);
        }
        let args = encode_data(&serde_json::json!({ "id": name, "data": data }))?;
        let draft = Draft::invoke(EVENT_OBJECT, "send", &args);
        self.request(draft, now + super::PATIENCE, Purpose::Formality)
            .inspect_err(|_| self.counters.dropped = self.counters.dropped.saturating_add(1))
    }

    /// An invoke message: a call of a published object, an event, or a notification.
    pub(super) fn invoked(&mut self, message: &Message, fields: Fields<'_>, now: Instant) {
        let Some(object) = fields.object else { return };
        let ticket = Ticket {
            connection: self.connection,
            seq: message.seq,
            caller: message.peer,
            object,
            // ubusd itself sends events as peer 0 and wants no answer.
            answer: !fields.no_reply && message.peer != 0,
        };
        let Some(key) = self.by_id.get(&object).copied() else {
            return self.answer(&ticket, Status::NotFound);
        };
        let Some(method) = fields.method else { return self.answer(&ticket, Status::InvalidArgument) };
        let Ok(args) = decode_data(fields.data.unwrap_or_default()) else {
            self.counters.unreadable = self.counters.unreadable.saturating_add(1);
            return self.answer(&ticket, Status::InvalidArgument);
        };
        if !self.is_published(key) {
            self.answer(&ticket, Status::Ok);
            return self.heard(key, method, args, message.len(), now);
        }
        if self.invocations >= INVOCATIONS {
            self.counters.refused = self.counters.refused.saturating_add(1);
            return self.answer(&ticket, Status::NoMemory);
        }
        self.invocations += 1;
        let (user, group) = (fields.user, fields.group);
        self.actions.push_back(Action::Invoke { key, ticket, method, args, user, group });
    }

    /// A handler's answer; one for a connection that is gone is dropped.
    #[allow(clippy::needless_pass_by_value)] // a ticket is good for one answer
    pub(crate) fn reply(&mut self, ticket: Ticket, result: Result<Value, Failure>) {
        if ticket.connection != self.connection || self.link != Link::Up {
            return;
        }
        self.invocations = self.invocations.saturating_sub(1);
        if !ticket.answer {
            return;
        }
        let (data, status) = match result {
            Ok(data) => (Some(data), Status::Ok),
            Err(Failure { status: Status::Ok, detail }) => (detail, Status::UnknownError),
            Err(Failure { status, detail }) => (detail, status),
        };
        let sent = data.map_or(Ok(()), |data| {
            let payload = encode_data(&data)?;
            self.send(Draft::data(ticket.caller, ticket.object, &payload), ticket.seq)
        });
        let status = match sent {
            Ok(()) => status,
            Err(error) => {
                log::warn!("ubus: answer not sent: {error}");
                self.counters.lost_replies = self.counters.lost_replies.saturating_add(1);
                Status::SystemError
            }
        };
        self.answer(&ticket, status);
    }

    fn answer(&mut self, ticket: &Ticket, status: Status) {
        if !ticket.answer {
            return;
        }
        if self.send(Draft::status(ticket.caller, ticket.object, status), ticket.seq).is_err() {
            self.counters.lost_replies = self.counters.lost_replies.saturating_add(1);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use serde_json::json;

const HELLO: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4];
const SECOND: Duration = Duration::from_secs(1);

/// A peer with a made-up ubusd at the other end and a made-up clock.
struct Setup {
    peer: Peer,
    now: Instant,
}

impl Setup {
    fn new() -> Self {
        let mut setup = Self { peer: Peer::new(), now: Instant::now() };
        setup.connect();
        setup
    }

    fn connect(&mut self) {
        self.peer.connecting(self.now);
        self.peer.received(&HELLO, self.now).unwrap();
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut decoder = Decoder::default();
        std::iter::from_fn(|| self.peer.outgoing()).for_each(|bytes| decoder.feed(&bytes));
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    fn one_sent(&mut self, kind: Kind) -> Message {
        let mut sent = self.sent();
        assert_eq!(sent.iter().map(|m| m.kind).collect::<Vec<_>>(), [Some(kind)]);
        sent.remove(0)
    }

    fn answer(&mut self, request: &Message, id: Option<u32>, status: Status) {
        let mut bytes = Vec::new();
        if let Some(id) = id {
            bytes.extend(Draft::data(request.peer, id, &[]).encode(request.seq).unwrap());
        }
        bytes.extend(Draft::status(request.peer, 0, status).encode(request.seq).unwrap());
        self.peer.received(&bytes, self.now).unwrap();
    }

    fn invoke(&mut self, object: u32, seq: u16) -> Ticket {
        let mut bytes = Draft::invoke(object, "method", &[]).encode(seq).unwrap();
        bytes[4..8].copy_from_slice(&77u32.to_be_bytes());
        self.peer.received(&bytes, self.now).unwrap();
        match self.peer.action() {
            Some(Action::Invoke { ticket, .. }) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass to the next deadline and says how long that was.
    fn wait(&mut self) -> (Duration, Result<(), Fault>) {
        let deadline = self.peer.deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        (waited, self.peer.tick(deadline))
    }
}

#[test]
fn a_silent_stranger_is_left_after_ten_seconds() {
    let mut setup = Setup { peer: Peer::new(), now: Instant::now() };
    setup.peer.connecting(setup.now);
    assert_eq!(setup.wait(), (10 * SECOND, Err(Fault::NoGreeting)));
}

#[test]
fn an_unanswered_registration_is_a_fault() {
    let mut setup = Setup::new();
    setup.peer.publish("object".into(), vec![], setup.now);
    assert_eq!(setup.wait(), (10 * SECOND, Err(Fault::Unanswered)));
    setup.peer.disconnected(Some(&Fault::Unanswered));
    assert_eq!(setup.peer.counters().malformed, 1);
    assert_eq!(setup.peer.deadline(), None);
    setup.connect();
    setup.one_sent(Kind::AddObject);
}

#[test]
fn a_refused_object_is_offered_again_ever_more_slowly() {
    let mut setup = Setup::new();
    let key = setup.peer.publish("object".into(), vec![], setup.now);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let request = setup.one_sent(Kind::AddObject);
        setup.answer(&request, None, Status::InvalidArgument);
        let (pause, result) = setup.wait();
        assert_eq!(result, Ok(()));
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    let request = setup.one_sent(Kind::AddObject);
    setup.answer(&request, Some(5), Status::Ok);
    assert!(setup.peer.is_ready(key));
    assert_eq!(setup.peer.deadline(), None);
}

#[test]
fn an_object_withdrawn_while_it_is_added_is_removed() {
    let mut setup = Setup::new();
    let key = setup.peer.publish("object".into(), vec![], setup.now);
    let request = setup.one_sent(Kind::AddObject);
    setup.peer.withdraw(key, setup.now);
    assert!(setup.sent().is_empty());
    setup.answer(&request, Some(5), Status::Ok);
    assert_eq!(setup.one_sent(Kind::RemoveObject).fields().object, Some(5));
}

#[test]
fn calls_wait_for_a_connection_that_is_coming_but_not_longer_than_they_may() {
    let mut setup = Setup { peer: Peer::new(), now: Instant::now() };
    let deadline = setup.now + SECOND;
    assert_eq!(setup.peer.call("object", "method", &Value::Null, deadline), Err(Error::Unavailable));
    setup.peer.connecting(setup.now);
    let first = setup.peer.call("object", "method", &Value::Null, deadline).unwrap();
    assert_eq!(setup.wait(), (SECOND, Ok(())));
    assert!(matches!(
        setup.peer.action(),
        Some(Action::Finished { token, result: Err(Error::Timeout) }) if token == first
    ));

    let deadline = setup.now + 20 * SECOND;
    setup.peer.call("object", "method", &Value::Null, deadline).unwrap();
    let given_up = setup.peer.call("object", "other", &Value::Null, deadline).unwrap();
    setup.peer.forget(given_up);
    setup.peer.received(&HELLO, setup.now).unwrap();
    setup.one_sent(Kind::Lookup);
    setup.peer.disconnected(None);
    assert!(matches!(setup.peer.action(), Some(Action::Finished { result: Err(Error::Unavailable), .. })));
    assert!(setup.peer.action().is_none());
}

#[test]
fn an_answer_must_name_the_object_that_was_asked() {
    let mut setup = Setup::new();
    setup.peer.call("object", "method", &Value::Null, setup.now + SECOND).unwrap();
    let lookup = setup.one_sent(Kind::Lookup);
    let mut forged = lookup.clone();
    forged.peer = 99;
    setup.answer(&forged, None, Status::NotFound);
    assert!(setup.peer.action().is_none());
    setup.answer(&lookup, None, Status::NotFound);
    assert!(matches!(setup.peer.action(), Some(Action::Finished { result: Err(Error::NoObject), .. })));
}

#[test]
fn a_late_answer_does_not_reach_a_new_connection() {
    let mut setup = Setup::new();
    setup.peer.publish("object".into(), vec![], setup.now);
    let request = setup.one_sent(Kind::AddObject);
    setup.answer(&request, Some(5), Status::Ok);
    let (late, lost) = (setup.invoke(5, 1), setup.invoke(5, 2));
    setup.peer.disconnected(None);
    setup.peer.reply(lost, Ok(Value::Null));
    setup.connect();
    let request = setup.one_sent(Kind::AddObject);
    setup.answer(&request, Some(5), Status::Ok);
    setup.peer.reply(late, Ok(Value::Null));
    assert!(setup.sent().is_empty());
    let ticket = setup.invoke(5, 3);
    setup.peer.reply(ticket, Ok(json!({})));
    assert_eq!(setup.sent().len(), 2);
}

#[test]
fn sequence_numbers_in_use_are_skipped() {
    let mut setup = Setup::new();
    let far = setup.now + 1000 * SECOND;
    setup.peer.call("slow", "method", &Value::Null, far).unwrap();
    let slow = setup.one_sent(Kind::Lookup);
    for _ in 0..70_000 {
        let token = setup.peer.call("quick", "method", &Value::Null, far).unwrap();
        assert_ne!(setup.one_sent(Kind::Lookup).seq, slow.seq);
        setup.peer.forget(token);
    }
}

#[test]
fn requests_are_limited() {
    let mut setup = Setup::new();
    let far = setup.now + SECOND;
    let taken =
        (0..2 * REQUESTS).map_while(|_| setup.peer.call("object", "method", &Value::Null, far).ok()).count();
    assert_eq!(taken, REQUESTS);
    assert_eq!(setup.peer.call("object", "method", &Value::Null, far), Err(Error::Overloaded));
}

/// The way of a subscription: watch for new objects, look, wait for the object, subscribe.
#[test]
fn a_subscription_waits_for_its_object() {
    let mut setup = Setup::new();
    let key = setup.peer.subscribe("object".into(), setup.now);
    let [watch, own] = <[Message; 2]>::try_from(setup.sent()).unwrap();
    setup.answer(&watch, Some(5), Status::Ok);
    let register = setup.one_sent(Kind::Invoke);
    setup.answer(&own, Some(6), Status::Ok);
    let look = setup.one_sent(Kind::Lookup);
    setup.answer(&look, None, Status::NotFound);
    // What came before the watch stood has to be looked for once more.
    setup.answer(&register, None, Status::Ok);
    let look = setup.one_sent(Kind::Lookup);
    setup.answer(&look, None, Status::NotFound);
    assert!(!setup.peer.is_ready(key));

    for (path, looks) in [("other", 0), ("object", 1)] {
        let data = super::super::message::encode_data(&json!({ "id": 8, "path": path })).unwrap();
        let mut event = Draft::invoke(5, "ubus.object.add", &data).encode(1).unwrap();
        event[4..8].copy_from_slice(&[0; 4]);
        setup.peer.received(&event, setup.now).unwrap();
        let sent = setup.sent();
        assert_eq!(sent.len(), looks, "{path}");
        for look in sent {
            setup.answer(&look, Some(8), Status::Ok);
        }
    }
    let subscribe = setup.one_sent(Kind::Subscribe);
    assert_eq!((subscribe.fields().object, subscribe.fields().target), (Some(6), Some(8)));
    setup.answer(&subscribe, None, Status::Ok);
    assert!(matches!(setup.peer.action(), Some(Action::Attached { key: attached }) if attached == key));
    assert_eq!(setup.peer.deadline(), None);
}

#[test]
fn the_name_of_a_subscription_is_no_pattern() {
    let mut setup = Setup::new();
    setup.peer.subscribe("hostapd.*".into(), setup.now);
    let [_, own] = <[Message; 2]>::try_from(setup.sent()).unwrap();
    setup.answer(&own, Some(6), Status::Ok);
    assert!(setup.sent().is_empty());
}

proptest! {
    #[test]
    fn whatever_ubusd_sends_nothing_panics(
        messages in prop::collection::vec(
            (0u8..12, 0u16..8, prop_oneof![Just(0u32), Just(5), Just(6)], prop::collection::vec(any_attr(), 0..6)), 1..40),
        junk in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut setup = Setup::new();
        setup.peer.publish("object".into(), vec![], setup.now);
        setup.peer.listen("pattern".into(), setup.now);
        setup.peer.subscribe("object".into(), setup.now);
        setup.peer.call("object", "method", &Value::Null, setup.now + SECOND).unwrap();
        for (kind, seq, peer, attrs) in messages {
            let body = attrs.concat();
            let mut bytes = vec![0, kind];
            bytes.extend(seq.to_be_bytes());
            bytes.extend(peer.to_be_bytes());
            bytes.extend((body.len() as u32 + 4).to_be_bytes());
            bytes.extend(body);
            prop_assert!(setup.peer.received(&bytes, setup.now).is_ok());
            while let Some(action) = setup.peer.action() {
                if let Action::Invoke { ticket, args, .. } = action {
                    setup.peer.reply(ticket, Ok(args));
                }
            }
            setup.now += Duration::from_millis(100);
            if setup.peer.tick(setup.now).is_err() {
                setup.peer.disconnected(None);
                setup.connect();
            }
        }
        prop_assert_eq!(setup.peer.invocations, 0);
        let _ = setup.peer.received(&junk, setup.now);
    }
}

/// Right, wrong and senseless attributes.
fn any_attr() -> impl Strategy<Value = Vec<u8>> {
    let attr = |id: u8, payload: Vec<u8>| {
        let mut bytes = (u32::from(id) << 24 | (payload.len() as u32 + 4)).to_be_bytes().to_vec();
        bytes.extend(payload);
        bytes.resize(bytes.len().div_ceil(4) * 4, 0);
        bytes
    };
    prop_oneof![
        (1u8..10, prop_oneof![Just(0u32), Just(4), Just(5), Just(6)])
            .prop_map(move |(id, number)| attr(id, number.to_be_bytes().to_vec())),
        (2u8..14).prop_map(move |id| attr(id, b"object\0".to_vec())),
        Just(attr(9, vec![1])),
        Just(attr(7, vec![0x85, 0, 0, 12, 0, 1, b'a', 0, 0, 0, 0, 1])),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..24))
            .prop_map(move |(id, payload)| attr(id, payload)),
        prop::collection::vec(any::<u8>(), 0..12),
    ]
}

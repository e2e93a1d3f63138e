// SPDX-License-Identifier: Apache-2.0
use super::{beside, everything, run, until, DEADLINE};
use lab::UbusdDouble;
use openwrt::ubus::{ArgType, Client, Error, Object, ObjectHandle, Request, Status, Update};
use serde_json::json;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub(super) fn serve(client: &Client) -> ObjectHandle {
    client.publish(
        Object::new("test.object")
            .method(
                "all",
                &[
                    ("any", ArgType::Any),
                    ("array", ArgType::Array),
                    ("table", ArgType::Table),
                    ("string", ArgType::String),
                    ("int64", ArgType::Int64),
                    ("int32", ArgType::Int32),
                    ("int16", ArgType::Int16),
                    ("bool", ArgType::Bool),
                    ("double", ArgType::Double),
                ],
                |request: Request| async move { Ok(request.args) },
            )
            .method("refuse", &[], |_| async { Err(Status::NotSupported.into()) }),
    )
}

#[test]
fn the_double_understands_every_message() {
    run(async {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let object = serve(&client);
        let signature = beside(&bus, |bus| bus.signature("test.object")).await;
        let all = json!({
            "any": 0, "array": 1, "table": 2, "string": 3, "int64": 4, "int32": 5, "int16": 6, "bool": 7, "double": 8,
        });
        assert_eq!(signature, json!({ "all": all, "refuse": {} }));
        let answer = beside(&bus, |bus| bus.call("test.object", "all", everything())).await;
        assert_eq!(answer, Ok(everything()));
        assert_eq!(beside(&bus, |bus| bus.call("test.object", "refuse", json!({}))).await, Err(8));
        assert_eq!(beside(&bus, |bus| bus.call("test.object", "absent", json!({}))).await, Err(3));

        // Nobody is subscribed: nothing is sent.
        object.notify("early", &everything()).unwrap();
        beside(&bus, |bus| bus.subscribe("test.object")).await;
        until("the subscriber is seen", || object.has_subscribers()).await;
        object.notify("late", &everything()).unwrap();
        assert_eq!(beside(&bus, |bus| bus.take_notification("test.object", "late")).await, everything());
        assert_eq!((bus.notification_count(), bus.unheard_notifications()), (0, 0));

        client.send_event("test.event", &everything()).unwrap();
        assert_eq!(beside(&bus, |bus| bus.take_event("test.event")).await, everything());
    });
}

#[test]
fn the_client_understands_the_double() {
    run(async {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let mut events = client.listen("test.*");
        let mut subscription = client.subscribe("other.object");
        until("the pattern", || events.is_registered()).await;
        let publish = |bus: &UbusdDouble| {
            bus.publish("other.object", json!({"echo": {"text": 3}}), |method, args| match method {
                "echo" => Some(Ok(args.clone())),
                "never" => None,
                _ => Some(Err(3)),
            });
        };
        publish(&bus);
        assert_eq!(timeout(DEADLINE, subscription.recv()).await.unwrap(), Some(Update::Attached));
        assert_eq!(client.call("other.object", "echo", &everything()).await, Ok(everything()));
        let absent = client.call("other.object", "absent", &json!({})).await;
        assert_eq!(absent, Err(Error::Failed { status: Status::MethodNotFound, detail: None }));
        let never = client.call_within(Duration::from_millis(50), "other.object", "never", &json!({})).await;
        assert_eq!(never, Err(Error::Timeout));
        let found = client.lookup("other.object").await.unwrap();
        assert_eq!(found[0].methods, [("echo".to_owned(), vec![("text".to_owned(), ArgType::String)])]);

        beside(&bus, |bus| bus.notify("other.object", "news", &everything())).await;
        let news = Update::Notification { kind: "news".into(), data: everything() };
        assert_eq!(timeout(DEADLINE, subscription.recv()).await.unwrap(), Some(news));
        bus.send_event("test.event", &everything());
        assert_eq!(timeout(DEADLINE, events.recv()).await.unwrap().unwrap().data, everything());
        bus.withdraw("other.object");
        assert_eq!(timeout(DEADLINE, subscription.recv()).await.unwrap(), Some(Update::Detached));
        publish(&bus);
        assert_eq!(timeout(DEADLINE, subscription.recv()).await.unwrap(), Some(Update::Attached));
    });
}

#[test]
fn oversized_and_foreign_messages_end_the_connection() {
    let too_long = [&[0u8, 2, 0, 1, 0, 0, 0, 0][..], &((1u32 << 20) + 1).to_be_bytes()].concat();
    let too_short = vec![0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3];
    let version_one = vec![1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4];
    run(async move {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let object = serve(&client);
        for (count, bytes) in (1..).zip([too_long, too_short, version_one]) {
            until("the object", || object.is_published()).await;
            bus.send_raw(&bytes);
            until("the fault is counted", || client.counters().malformed == count).await;
            until("the connection is new", || client.counters().connections == count + 1).await;
        }
        assert_eq!(beside(&bus, |bus| bus.call("test.object", "all", everything())).await, Ok(everything()));
    });
}

#[test]
fn malformed_payloads_cost_no_connection() {
    // An answer that nobody waits for, an unknown kind, garbage attributes.
    let stray = vec![0, 2, 0xff, 0xff, 0, 0, 0, 9, 0, 0, 0, 4];
    let unknown = vec![0, 99, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4];
    let garbage = [&[0u8, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 12][..], &[0xff; 8]].concat();
    let second_greeting = vec![0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4];
    run(async move {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let object = serve(&client);
        until("the object", || object.is_published()).await;
        for bytes in [stray, unknown, garbage, second_greeting] {
            bus.send_raw(&bytes);
        }
        assert_eq!(beside(&bus, |bus| bus.call("test.object", "all", everything())).await, Ok(everything()));
        assert_eq!((client.counters().connections, client.counters().malformed), (1, 0));
    });
}

#[test]
fn absent_ubusd_is_no_error() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ubus.sock");
        let client = Client::connect(&path);
        let object = serve(&client);
        let call = timeout(DEADLINE, client.call("any", "thing", &json!({}))).await.unwrap();
        assert_eq!(call, Err(Error::Unavailable));
        assert_eq!(client.send_event("test.event", &json!({})), Err(Error::Unavailable));
        object.notify("news", &json!({})).unwrap();
        assert!(!client.is_connected() && !object.is_published());
    });
}

/// Something listens there, but it is no ubusd: silence is waited out elsewhere (`peer`), other words end it at once.
#[test]
fn a_stranger_on_the_socket_is_left() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ubus.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let stranger = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                // The client may be gone after the first bytes.
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
            }
        });
        let client = Client::connect(&path);
        until("two faults", || client.counters().malformed == 2).await;
        assert_eq!(client.counters().connections, 0);
        stranger.join().unwrap();
    });
}

#[test]
fn a_ubusd_that_does_not_read_costs_bounded_memory() {
    run(async {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let object = serve(&client);
        beside(&bus, |bus| bus.subscribe("test.object")).await;
        until("the subscriber is seen", || object.has_subscribers()).await;
        bus.set_paused(true);
        let data = json!({ "text": "x".repeat(50_000) });
        let mut sent = 0;
        for _ in 0..200 {
            let event = client.send_event("test.event", &data);
            let notification = object.notify("news", &data);
            sent += u32::from(event.is_ok()) + u32::from(notification.is_ok());
            for result in [event, notification] {
                assert!(matches!(result, Ok(()) | Err(Error::Overloaded)), "{result:?}");
            }
            tokio::task::yield_now().await;
        }
        // 20 MB were offered; 2 MiB and what the socket holds were taken.
        assert!((41..100).contains(&sent), "{sent}");
        assert_eq!(client.counters().dropped, 400 - sent);
        let call = client.call_within(Duration::from_millis(50), "test.object", "all", &data).await;
        assert!(matches!(call, Err(Error::Timeout | Error::Overloaded)), "{call:?}");
        bus.set_paused(false);
        assert_eq!(beside(&bus, |bus| bus.call("test.object", "all", everything())).await, Ok(everything()));
        assert_eq!(client.counters().connections, 1);
    });
}

#[test]
fn an_application_that_does_not_read_loses_the_oldest_events() {
    run(async {
        let bus = Arc::new(UbusdDouble::start());
        let client = Client::connect(bus.path());
        let mut events = client.listen("test.*");
        until("the pattern", || events.is_registered()).await;
        beside(&bus, |bus| (0..300).for_each(|n| bus.send_event("test.event", &json!({ "n": n })))).await;
        until("44 are lost", || events.lost() == 44).await;
        assert_eq!(events.recv().await.unwrap().data, json!({"n": 44}));
        for n in 45..300 {
            assert_eq!(events.recv().await.unwrap().data, json!({ "n": n }));
        }
    });
}

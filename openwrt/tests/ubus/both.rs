// SPDX-License-Identifier: Apache-2.0
use super::{everything, until, DEADLINE};
use lab::{Ubusd, UbusdDouble};
use openwrt::ubus::{ArgType, Client, Error, Failure, Object, Request, Status, Subscription, Update};
use serde_json::{json, Value};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

enum Bus {
    Double(UbusdDouble),
    Real(Ubusd),
}

impl Bus {
    fn path(&self) -> PathBuf {
        match self {
            Self::Double(double) => double.path().to_owned(),
            Self::Real(ubusd) => ubusd.path(),
        }
    }

    fn stop(&self) {
        match self {
            Self::Double(double) => double.stop(),
            Self::Real(ubusd) => ubusd.stop(),
        }
    }

    fn start_again(&self) {
        match self {
            Self::Double(double) => double.start_again(),
            Self::Real(ubusd) => ubusd.start_again(),
        }
    }
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod double {
            $(#[test] fn $name() { crate::run(super::$name(super::Bus::Double(lab::UbusdDouble::start()))); })*
        }
        mod real {
            $(#[test] fn $name() {
                if let Some(ubusd) = lab::Ubusd::from_env() {
                    crate::run(super::$name(super::Bus::Real(ubusd)));
                }
            })*
        }
    };
}

on_both!(
    a_served_object_can_be_found_and_called,
    answers_may_come_late_and_out_of_order,
    a_call_can_time_out_and_be_given_up,
    large_answers_and_too_large_ones,
    events_reach_the_patterns_of_others,
    subscriptions_follow_their_object,
    everything_comes_back_with_ubusd,
    a_taken_name_is_had_later,
    too_many_calls_at_a_time_are_refused,
    what_is_dropped_leaves_the_bus,
);

fn echo() -> Object {
    Object::new("test.echo")
        .method(
            "echo",
            &[("text", ArgType::String), ("count", ArgType::Int32)],
            |request: Request| async move { Ok(request.args) },
        )
        .method("who", &[], |request: Request| async move { Ok(json!(request.user)) })
        .method("list", &[], |_| async { Ok(json!([1, 2])) })
        .method("nothing", &[], |_| async { Ok(Value::Null) })
        .method("fail", &[("flag", ArgType::Bool)], |_| async {
            Err(Failure { status: Status::PermissionDenied, detail: Some(json!({"why": "it is night"})) })
        })
        .method("panic", &[], |_| async { panic!("the panic of a handler, on purpose") })
}

async fn a_served_object_can_be_found_and_called(bus: Bus) {
    let daemon = Client::connect(bus.path());
    let _object = daemon.publish(echo());
    let other = Client::connect(bus.path());
    until("the object", || _object.is_published()).await;

    let found = other.lookup("test.*").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "test.echo");
    let methods: Vec<&str> = found[0].methods.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(methods, ["echo", "fail", "list", "nothing", "panic", "who"]);
    let args = vec![("count".to_owned(), ArgType::Int32), ("text".to_owned(), ArgType::String)];
    assert_eq!(found[0].methods[0].1, args);
    assert_eq!(other.lookup("absent*").await.unwrap(), []);

    let call = async |method: &str, args: Value| other.call("test.echo", method, &args).await;
    assert_eq!(call("echo", everything()).await.unwrap(), everything());
    assert_eq!(call("echo", Value::Null).await.unwrap(), json!({}));
    assert_eq!(call("who", json!({})).await.unwrap(), json!({"result": "root"}));
    assert_eq!(call("list", json!({})).await.unwrap(), json!({"result": [1, 2]}));
    assert_eq!(call("nothing", json!({})).await.unwrap(), json!({}));
    let denied =
        Error::Failed { status: Status::PermissionDenied, detail: Some(json!({"why": "it is night"})) };
    assert_eq!(call("fail", json!({})).await, Err(denied));
    let failed = |status| Err(Error::Failed { status, detail: None });
    assert_eq!(call("absent", json!({})).await, failed(Status::MethodNotFound));
    assert_eq!(call("panic", json!({})).await, failed(Status::UnknownError));
    assert_eq!(call("echo", json!([])).await, Err(Error::NotAnObject));
    for absent in ["absent", "", "test.*"] {
        assert_eq!(other.call(absent, "echo", &json!({})).await, Err(Error::NoObject), "{absent}");
    }
    // A daemon may call itself.
    assert_eq!(daemon.call("test.echo", "echo", &json!({"a": 1})).await.unwrap(), json!({"a": 1}));
}

/// Answers when its gate opens.
fn gated(gate: &std::rc::Rc<tokio::sync::Notify>) -> Object {
    let gate = gate.clone();
    Object::new("test.gate").method("fast", &[], |request: Request| async move { Ok(request.args) }).method(
        "slow",
        &[],
        move |request: Request| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Ok(request.args)
            }
        },
    )
}

async fn answers_may_come_late_and_out_of_order(bus: Bus) {
    let gate = std::rc::Rc::new(tokio::sync::Notify::new());
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(gated(&gate));
    let other = Client::connect(bus.path());
    until("the object", || object.is_published()).await;

    let slow = tokio::task::spawn_local({
        let other = other.clone();
        async move { other.call("test.gate", "slow", &json!({"n": 1})).await }
    });
    for n in 0..20 {
        assert_eq!(other.call("test.gate", "fast", &json!({ "n": n })).await.unwrap(), json!({ "n": n }));
    }
    assert!(!slow.is_finished());
    gate.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), json!({"n": 1}));
}

async fn a_call_can_time_out_and_be_given_up(bus: Bus) {
    let gate = std::rc::Rc::new(tokio::sync::Notify::new());
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(gated(&gate));
    let other = Client::connect(bus.path());
    until("the object", || object.is_published()).await;

    let short = Duration::from_millis(100);
    assert_eq!(other.call_within(short, "test.gate", "slow", &json!({"n": 1})).await, Err(Error::Timeout));
    // Given up by the caller itself.
    assert!(timeout(short, other.call("test.gate", "slow", &json!({"n": 2}))).await.is_err());
    // The late answers confuse nobody.
    gate.notify_waiters();
    for n in 3..10 {
        assert_eq!(other.call("test.gate", "fast", &json!({ "n": n })).await.unwrap(), json!({ "n": n }));
    }
}

async fn large_answers_and_too_large_ones(bus: Bus) {
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(Object::new("test.large").method(
        "get",
        &[("bytes", ArgType::Int32)],
        |request: Request| async move {
            let bytes = request.args["bytes"].as_u64().ok_or(Status::InvalidArgument)?;
            Ok(json!({ "data": "x".repeat(bytes as usize) }))
        },
    ));
    let other = Client::connect(bus.path());
    until("the object", || object.is_published()).await;

    for bytes in [0, 1, 100_000, 1_048_000] {
        let answer = other.call("test.large", "get", &json!({ "bytes": bytes })).await.unwrap();
        assert_eq!(answer["data"].as_str().unwrap().len(), bytes);
    }
    let too_large = other.call("test.large", "get", &json!({"bytes": 1 << 20})).await;
    assert_eq!(too_large, Err(Error::Failed { status: Status::SystemError, detail: None }));
    assert_eq!(daemon.counters().lost_replies, 1);
    assert_eq!(other.call("test.large", "get", &json!({"bytes": "1"})).await, {
        Err(Error::Failed { status: Status::InvalidArgument, detail: None })
    });
    let argument = json!({ "data": "x".repeat(1 << 20) });
    assert_eq!(other.call("test.large", "get", &argument).await, Err(Error::TooLarge));
    assert!(daemon.is_connected() && other.is_connected());
}

async fn events_reach_the_patterns_of_others(bus: Bus) {
    let sender = Client::connect(bus.path());
    let receiver = Client::connect(bus.path());
    let mut all = receiver.listen("test.*");
    let mut one = receiver.listen("test.two");
    let own = sender.listen("test.*");
    until("the patterns", || all.is_registered() && one.is_registered() && own.is_registered()).await;

    for name in ["other.zero", "test.one", "test.two"] {
        sender.send_event(name, &everything()).unwrap();
    }
    assert_eq!(sender.send_event("test.bad", &json!("text")), Err(Error::NotAnObject));
    for expected in ["test.one", "test.two"] {
        let event = timeout(DEADLINE, all.recv()).await.unwrap().unwrap();
        assert_eq!((event.name.as_str(), &event.data), (expected, &everything()));
    }
    assert_eq!(timeout(DEADLINE, one.recv()).await.unwrap().unwrap().name, "test.two");
    assert_eq!((all.lost(), one.lost(), own.lost()), (0, 0, 0));
}

async fn next(subscription: &mut Subscription) -> Update {
    timeout(DEADLINE, subscription.recv()).await.expect("an update in time").expect("the subscription lives")
}

async fn subscriptions_follow_their_object(bus: Bus) {
    let daemon = Client::connect(bus.path());
    let other = Client::connect(bus.path());
    let mut subscription = other.subscribe("test.echo");
    let mut second = other.subscribe("test.echo");
    until("the connections", || other.is_connected() && daemon.is_connected()).await;

    for round in 0..3 {
        let object = daemon.publish(echo());
        assert_eq!(next(&mut subscription).await, Update::Attached);
        assert_eq!(next(&mut second).await, Update::Attached);
        until("subscribers", || object.has_subscribers()).await;
        object.notify("news", &json!({ "round": round })).unwrap();
        assert_eq!(object.notify("bad", &json!([])), Err(Error::NotAnObject));
        let news = Update::Notification { kind: "news".into(), data: json!({ "round": round }) };
        assert_eq!(next(&mut subscription).await, news);
        assert_eq!(next(&mut second).await, news);
        drop(object);
        assert_eq!(next(&mut subscription).await, Update::Detached);
        assert_eq!(next(&mut second).await, Update::Detached);
        assert!(!subscription.is_attached());
    }
    drop((subscription, second));
    let object = daemon.publish(echo());
    until("the object", || object.is_published()).await;
    other.call("test.echo", "echo", &json!({})).await.unwrap();
    assert!(!object.has_subscribers());
}

async fn everything_comes_back_with_ubusd(bus: Bus) {
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(echo());
    let other = Client::connect(bus.path());
    let mut events = other.listen("test.event");
    let mut subscription = other.subscribe("test.echo");

    for round in 1..=3 {
        assert_eq!(next(&mut subscription).await, Update::Attached);
        until("registrations", || object.has_subscribers() && events.is_registered()).await;
        assert_eq!(other.call("test.echo", "echo", &everything()).await.unwrap(), everything());
        object.notify("news", &json!({})).unwrap();
        assert!(matches!(next(&mut subscription).await, Update::Notification { .. }));
        daemon.send_event("test.event", &json!({ "round": round })).unwrap();
        assert_eq!(timeout(DEADLINE, events.recv()).await.unwrap().unwrap().data, json!({ "round": round }));
        assert_eq!((daemon.counters().connections, daemon.counters().malformed), (round, 0));

        bus.stop();
        assert_eq!(next(&mut subscription).await, Update::Detached);
        until("the loss is seen", || !daemon.is_connected() && !object.is_published()).await;
        assert!(!object.has_subscribers());
        assert_eq!(daemon.send_event("test.event", &json!({})), Err(Error::Unavailable));
        assert_eq!(daemon.counters().dropped, round);
        let call = other.call("test.echo", "echo", &json!({})).await;
        assert_eq!(call, Err(Error::Unavailable));
        bus.start_again();
    }
}

async fn a_taken_name_is_had_later(bus: Bus) {
    let first = Client::connect(bus.path());
    let object = first.publish(echo());
    until("the object", || object.is_published()).await;
    let second = Client::connect(bus.path());
    let waiting = second.publish(echo());
    until("the second", || second.is_connected()).await;
    second.call("test.echo", "echo", &json!({})).await.unwrap();
    assert!(!waiting.is_published());
    drop(object);
    until("the second has the name", || waiting.is_published()).await;
}

async fn too_many_calls_at_a_time_are_refused(bus: Bus) {
    let gate = std::rc::Rc::new(tokio::sync::Notify::new());
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(gated(&gate));
    let other = Client::connect(bus.path());
    until("the object", || object.is_published()).await;
    let calls: Vec<_> = (0..80)
        .map(|n| {
            let other = other.clone();
            tokio::task::spawn_local(async move { other.call("test.gate", "slow", &json!({ "n": n })).await })
        })
        .collect();
    until("16 refusals", || calls.iter().filter(|call| call.is_finished()).count() == 16).await;
    assert_eq!(daemon.counters().refused, 16);
    for call in calls {
        if !call.is_finished() {
            gate.notify_one();
        }
        match call.await.unwrap() {
            Ok(_) => {}
            refused => assert_eq!(refused, Err(Error::Failed { status: Status::NoMemory, detail: None })),
        }
    }
    assert_eq!(other.call("test.gate", "fast", &json!({})).await.unwrap(), json!({}));
}

async fn what_is_dropped_leaves_the_bus(bus: Bus) {
    let other = Client::connect(bus.path());
    let daemon = Client::connect(bus.path());
    let object = daemon.publish(echo());
    drop(daemon);
    until("the object", || object.is_published()).await;
    other.call("test.echo", "echo", &json!({})).await.unwrap();
    drop(object);
    let gone = async {
        while !other.lookup("test.*").await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
}

// SPDX-License-Identifier: Apache-2.0
//! The service as a ubus object, before the test double of ubusd.

use std::time::Duration;

use lab::UbusdDouble;
use serde_json::json;
use tokio::task::{spawn_blocking, LocalSet};
use tokio::time::{sleep, timeout};

use super::*;

/// Runs a service named `dynapoint` beside a test that plays the other processes on the bus.
fn beside_a_service(test: impl FnOnce(&UbusdDouble, &Events, &Path) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let ubusd = UbusdDouble::start();
        let dir = tempfile::tempdir().unwrap();
        let running = service().start(dir.path(), ubusd.path()).unwrap();
        let (events, socket) = (running.events(), running.socket().to_owned());
        let played = spawn_blocking(move || test(&ubusd, &events, &socket));
        timeout(Duration::from_secs(60), played).await.expect("the test hangs").unwrap();
    });
}

fn service() -> Service {
    const FORCE: &[Arg] = &[
        Arg::required("rule", ArgKind::Text, "the rule"),
        Arg::optional("for", ArgKind::Number, "seconds"),
        Arg::optional("round", ArgKind::Integer, "number of the round"),
        Arg::optional("probe", ArgKind::Flag, "whether to probe"),
        Arg::optional("names", ArgKind::List, "names"),
        Arg::optional("filter", ArgKind::Object, "conditions"),
    ];
    Service::new("dynapoint", "dynapoint")
        .method("force", "forces a rule", FORCE, |params| async move {
            match params.text("rule")? {
                "internet" => Ok(json!({
                    "for": params.optional_number("for")?,
                    "round": params.optional_integer("round")?,
                    "probe": params.optional_flag("probe")?,
                    "names": params.optional_list("names")?,
                    "filter": params.optional_object("filter")?,
                })),
                other => Err(CallError::not_found(format!("no rule `{other}`"))),
            }
        })
        .method("slow", "answers late", &[], |_| async {
            sleep(Duration::from_millis(50)).await;
            Ok(json!({}))
        })
        .event("dynapoint.transition", "a rule changed its state")
}

#[test]
fn the_object_shows_its_methods_with_their_types() {
    beside_a_service(|ubusd, _, _| {
        ubusd.wait_for_object("dynapoint");
        let signature = ubusd.signature("dynapoint");
        let methods: Vec<_> = signature.as_object().unwrap().keys().cloned().collect();
        assert_eq!(methods, ["force", "help", "slow"]);
        // The numbers of blobmsg: string, double, int32, bool, array, table.
        assert_eq!(
            signature["force"],
            json!({"rule": 3, "for": 8, "round": 5, "probe": 7, "names": 1, "filter": 2})
        );
    });
}

#[test]
fn a_call_gets_the_same_answer_as_over_the_socket() {
    beside_a_service(|ubusd, _, socket| {
        let args = json!({
            "rule": "internet", "for": 90.5, "round": 7, "probe": true, "names": ["a"], "filter": {"b": 1}
        });
        let over_ubus = ubusd.call("dynapoint", "force", args.clone()).unwrap();
        assert_eq!(over_ubus, lab::ask(socket, "force", &args).unwrap());
        assert_eq!(over_ubus["for"], 90.5);
        assert_eq!(over_ubus["probe"], true);
        let help = ubusd.call("dynapoint", "help", json!({})).unwrap();
        assert_eq!(help["methods"][0]["name"], "force");
    });
}

#[test]
fn the_session_that_rpcd_adds_is_no_argument() {
    beside_a_service(|ubusd, _, _| {
        let args = json!({"rule": "internet", "ubus_rpc_session": "00000000000000000000000000000000"});
        assert!(ubusd.call("dynapoint", "force", args).is_ok());
    });
}

#[test]
fn errors_have_their_status_and_their_reason() {
    beside_a_service(|ubusd, _, _| {
        let failed = |args| ubusd.call_with_detail("dynapoint", "force", args).unwrap_err();
        assert_eq!(failed(json!({})).0, 2);
        assert_eq!(failed(json!({"rule": 1})).0, 2);
        let (status, detail) = failed(json!({"rule": "wan"}));
        assert_eq!(status, 4);
        assert_eq!(detail, Some(json!({"error": {"code": "not_found", "message": "no rule `wan`"}})));
        assert_eq!(ubusd.call("dynapoint", "nothing", json!({})), Err(3));
    });
}

#[test]
fn events_notify_the_subscribers_also_after_ubusd_came_back() {
    beside_a_service(|ubusd, events, _| {
        ubusd.subscribe("dynapoint");
        let transition = json!({"rule": "internet", "state": "offline"});
        // The client learns by itself that there is a subscriber now; until then nothing is sent.
        let notified = |number: i32| {
            let mut event = transition.clone();
            event["number"] = json!(number);
            lab::wait_for("a notification", lab::PATIENCE, || {
                events.emit("dynapoint.transition", event.clone());
                (ubusd.notification_count() > 0).then_some(())
            });
            ubusd.take_notification("dynapoint", "dynapoint.transition")
        };
        let data = notified(1);
        assert_eq!((&data["rule"], &data["state"]), (&json!("internet"), &json!("offline")));
        ubusd.stop();
        ubusd.start_again();
        ubusd.subscribe("dynapoint");
        while ubusd.notification_count() > 0 {
            ubusd.take_notification("dynapoint", "dynapoint.transition");
        }
        notified(2);
        assert!(ubusd.call("dynapoint", "slow", json!({})).is_ok());
    });
}

#[test]
fn a_burst_that_overruns_the_queue_does_not_end_the_notifications() {
    beside_a_service(|ubusd, events, _| {
        ubusd.subscribe("dynapoint");
        for number in 0..5 * SUBSCRIBER_QUEUE {
            events.emit("dynapoint.transition", json!({ "number": number }));
        }
        lab::wait_for("a notification after the burst", lab::PATIENCE, || {
            events.emit("dynapoint.transition", json!({"last": true}));
            (0..ubusd.notification_count())
                .map(|_| ubusd.take_notification("dynapoint", "dynapoint.transition"))
                .find(|data| data["last"] == true)
        });
    });
}

#[test]
fn the_object_goes_with_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let ubusd = std::sync::Arc::new(UbusdDouble::start());
        let dir = tempfile::tempdir().unwrap();
        let running = service().start(dir.path(), ubusd.path()).unwrap();
        let bus = std::sync::Arc::clone(&ubusd);
        spawn_blocking(move || bus.wait_for_object("dynapoint")).await.unwrap();
        drop(running);
        let bus = std::sync::Arc::clone(&ubusd);
        spawn_blocking(move || bus.wait_until_gone("dynapoint")).await.unwrap();
    });
}

#[test]
fn the_ubus_command_on_a_real_bus_gets_answers_and_reasons() {
    let Some(ubusd) = lab::Ubusd::from_env() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let dir = tempfile::tempdir().unwrap();
        let running = service().start(dir.path(), &ubusd.path()).unwrap();
        let events = running.events();
        let played = spawn_blocking(move || {
            let ubus = |args: &[&str]| {
                let output = ubusd.ubus(args);
                (output.status.code(), String::from_utf8(output.stdout).unwrap())
            };
            lab::wait_for("the object", lab::PATIENCE, || {
                ubus(&["list"]).1.contains("dynapoint").then_some(())
            });
            let (_, list) = ubus(&["-v", "list", "dynapoint"]);
            assert!(list.contains("\"rule\":\"String\"") && list.contains("\"probe\":\"Boolean\""), "{list}");
            let args = r#"{"rule": "internet", "for": 90, "round": 7, "probe": false}"#;
            let (code, answer) = ubus(&["call", "dynapoint", "force", args]);
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert_eq!((code, &answer["for"], &answer["probe"]), (Some(0), &json!(90.0), &json!(false)));
            let (code, reason) = ubus(&["call", "dynapoint", "force", r#"{"rule": "wan"}"#]);
            assert_eq!(code, Some(252), "-4, not found");
            assert!(reason.contains("no rule `wan`"), "{reason}");

            let mut command = ubusd.command();
            command.args(["subscribe", "dynapoint"]);
            let listener = lab::Daemon::start(command, "ubus subscribe", "/nonexistent".into());
            listener.wait_for("a notification", || {
                events.emit("dynapoint.transition", json!({"state": "offline"}));
                listener.log().contains("\"dynapoint.transition\": {\"state\":\"offline\"}").then_some(())
            });
        });
        timeout(Duration::from_secs(120), played).await.expect("the test hangs").unwrap();
    });
}

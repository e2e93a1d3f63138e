// SPDX-License-Identifier: Apache-2.0
use super::double::serve;
use super::{beside, run, until, DEADLINE};
use lab::Ubusd;
use openwrt::ubus::Client;
use serde_json::{json, Value};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use tokio::time::timeout;

/// The command prints to a pipe that the test reads line by line.
fn watch(ubusd: &Ubusd, args: &[&str]) -> (std::process::Child, std::sync::mpsc::Receiver<String>) {
    let mut child = ubusd.command().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

#[test]
fn the_ubus_command_on_a_real_bus() {
    let Some(ubusd) = Ubusd::from_env() else { return };
    let ubusd = Arc::new(ubusd);
    run(async move {
        let client = Client::connect(ubusd.path());
        let object = serve(&client);
        let mut events = client.listen("cli.*");
        until("the registrations", || object.is_published() && events.is_registered()).await;
        let ubus = async |args: &'static [&'static str]| {
            let output = beside(&ubusd, |ubusd| ubusd.ubus(args)).await;
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
        };

        let (code, list, _) = ubus(&["-v", "list"]).await;
        assert_eq!(code, 0);
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[0].starts_with("'test.object' @"), "{list}");
        let all =
            r#""array":"Array","table":"Table","string":"String","int64":"(unknown)","int32":"Integer""#;
        assert!(lines[1].contains(all) && lines[1].contains(r#""bool":"Boolean""#), "{list}");
        assert_eq!(lines[2], "\t\"refuse\":{}");

        const ARGUMENT: &str = r#"{"n":null,"yes":true,"i":-7,"l":9007199254740993,"d":0.5,"s":"Grüße","a":[1,"x",{}],"t":{"u":[]}}"#;
        let (code, answer, _) = ubus(&["call", "test.object", "all", ARGUMENT]).await;
        assert_eq!(code, 0);
        let sent: Value = serde_json::from_str(ARGUMENT).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), sent);
        let (code, _, error) = ubus(&["call", "test.object", "refuse"]).await;
        assert_eq!(code, 248, "-8 as an exit code");
        assert!(error.contains("Operation not supported"), "{error}");
        let (_, _, error) = ubus(&["call", "test.object", "absent"]).await;
        assert!(error.contains("Method not found"), "{error}");

        assert_eq!(ubus(&["send", "cli.event", r#"{"n":1}"#]).await.0, 0);
        assert_eq!(timeout(DEADLINE, events.recv()).await.unwrap().unwrap().data, json!({"n": 1}));

        let (mut listener, heard) = watch(&ubusd, &["listen", "test.*"]);
        let (mut subscriber, notified) = watch(&ubusd, &["subscribe", "test.object"]);
        until("the subscriber is seen", || object.has_subscribers()).await;
        object.notify("news", &json!({"n": 2})).unwrap();
        // `ubus listen` does not tell when it is ready.
        until("the event is heard", || {
            client.send_event("test.event", &json!({"n": 3})).unwrap();
            heard.try_recv().is_ok_and(|line| line == r#"{ "test.event": {"n":3} }"#)
        })
        .await;
        until("the notification is heard", || {
            notified.try_recv().is_ok_and(|line| line == r#"{ "news": {"n":2} }"#)
        })
        .await;
        subscriber.kill().unwrap();
        subscriber.wait().unwrap();
        until("the subscriber's end is seen", || !object.has_subscribers()).await;
        listener.kill().unwrap();
        listener.wait().unwrap();

        beside(&ubusd, Ubusd::start_again).await;
        until("the object is back", || object.is_published()).await;
        assert_eq!(ubus(&["call", "test.object", "all", ARGUMENT]).await.0, 0);
    });
}

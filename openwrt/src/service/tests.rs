// SPDX-License-Identifier: Apache-2.0
//! The service over its real socket.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, yield_now, LocalSet};
use tokio::time::sleep;

use super::*;

/// Far longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.expect("the test hangs") });
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(2)).await;
    }
}

fn service() -> Service {
    Service::new("powquty", "powqutyd")
        .method(
            "echo",
            "gives back its text",
            const { &[Arg::required("text", ArgKind::Text, "any")] },
            |params| async move { Ok(json!({ "text": params.text("text")? })) },
        )
        .method("fail", "always fails", &[], |_| async { Err(CallError::not_ready("no measurement yet")) })
        .event("powquty.event", "something happened to the voltage")
        .event("powquty.light", "a light changed")
}

struct Served {
    running: Running,
    _dir: TempDir,
}

impl Served {
    fn start(service: Service) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = service.start(dir.path(), &dir.path().join("no-ubus.sock")).unwrap();
        Self { running, _dir: dir }
    }

    fn socket(&self) -> PathBuf {
        self.running.socket().into()
    }

    async fn connect(&self) -> Raw {
        Raw(BufReader::new(UnixStream::connect(self.running.socket()).await.unwrap()))
    }
}

struct Raw(BufReader<UnixStream>);

impl Raw {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n")).await;
        self.line().await
    }

    /// Whether the server has closed: an orderly end, or a reset because it left something unread.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.0.read_to_end(&mut rest).await, Ok(0) | Err(_))
    }
}

#[test]
fn answers_and_errors_have_the_agreed_shape() {
    run(async {
        let served = Served::start(service());
        let mut peer = served.connect().await;
        assert_eq!(
            peer.ask(r#"{"method":"echo","params":{"text":"grüß"}}"#).await,
            json!({"result": {"text": "grüß"}})
        );
        assert_eq!(
            peer.ask(r#"{"method":"fail"}"#).await,
            json!({"error": {"code": "not_ready", "message": "no measurement yet"}})
        );
        assert_eq!(
            peer.ask(r#"{"method":"echo","params":{}}"#).await,
            json!({"error": {"code": "invalid_argument", "message": "argument `text`: is missing (must be a string)"}})
        );
        assert_eq!(peer.ask(r#"{"method":"live"}"#).await["error"]["code"], "not_found");
        assert_eq!(served.running.statistics().calls, 4);
    });
}

#[test]
fn what_is_no_request_is_answered_and_the_connection_lives_on() {
    run(async {
        let served = Served::start(service());
        let mut peer = served.connect().await;
        for (line, part) in [
            ("status", "is not JSON"),
            ("[1]", "must be an object"),
            ("{}", "`method`: is missing"),
            (r#"{"method":7}"#, "`method`: must be a string"),
            (r#"{"method":"echo","params":"x"}"#, "`params`: must be an object"),
            (r#"{"method":"echo","parms":{}}"#, "`parms`: is unknown"),
            (
                r#"{"method":"subscribe","params":{"events":["powquty.evnt"]}}"#,
                "powquty.event, powquty.light",
            ),
            (&"[".repeat(10_000), "is not JSON"),
        ] {
            let answer = peer.ask(line).await;
            assert_eq!(answer["error"]["code"], "invalid_argument", "{line}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{answer}");
        }
        peer.send(b"\xff\xfe\n").await;
        assert_eq!(peer.line().await["error"]["code"], "invalid_argument");
        peer.send("\n  \r\n").await;
        assert!(peer.ask(r#"{"method":"echo","params":{"text":"still here"}}"#).await["result"].is_object());
    });
}

#[test]
fn a_line_may_come_in_pieces_and_several_at_once() {
    run(async {
        let served = Served::start(service());
        let mut peer = served.connect().await;
        for byte in br#"{"method":"echo","params":{"text":"bytes"}}"# {
            peer.send([*byte]).await;
            yield_now().await;
        }
        peer.send("\n").await;
        assert_eq!(peer.line().await["result"]["text"], "bytes");
        let two = "{\"method\":\"echo\",\"params\":{\"text\":\"1\"}}\n{\"method\":\"echo\",\"params\":{\"text\":\"2\"}}";
        peer.send(two).await;
        peer.0.get_mut().shutdown().await.unwrap();
        assert_eq!(peer.line().await["result"]["text"], "1");
        assert_eq!(peer.line().await["result"]["text"], "2", "the last line needs no newline");
        assert!(peer.is_closed().await);
    });
}

#[test]
fn an_oversized_line_is_refused_and_ends_the_connection() {
    run(async {
        let mut service = service();
        service.limits.line = 2000;
        let served = Served::start(service);
        let mut peer = served.connect().await;
        let fitting = format!(r#"{{"method":"echo","params":{{"text":"{}"}}}}"#, "x".repeat(1900));
        assert!(peer.ask(&fitting).await["result"].is_object());
        // Never a newline: the answer comes when the limit is passed, not when the line ends.
        peer.send("x".repeat(2001)).await;
        let answer = peer.line().await;
        assert!(answer["error"]["message"].as_str().unwrap().contains("2000 bytes"), "{answer}");
        assert!(peer.is_closed().await);
        until(|| served.running.statistics().connections == 0).await;
    });
}

#[test]
fn an_unfinished_request_and_an_idle_connection_are_closed() {
    run(async {
        let mut service = service();
        service.limits.transfer = Duration::from_millis(50);
        let served = Served::start(service);
        let mut peer = served.connect().await;
        peer.send(r#"{"method":"#).await;
        assert!(peer.is_closed().await);

        let mut service = self::service();
        service.limits.idle = Duration::from_millis(50);
        let served = Served::start(service);
        assert!(served.connect().await.is_closed().await);
    });
}

#[test]
fn a_peer_that_does_not_take_its_answers_is_dropped() {
    run(async {
        let mut service = service()
            .method("big", "more than a socket buffers", &[], |_| async { Ok(json!("x".repeat(4 << 20))) });
        service.limits.transfer = Duration::from_millis(100);
        let served = Served::start(service);
        let mut peer = served.connect().await;
        peer.send("{\"method\":\"big\"}\n").await;
        until(|| served.running.statistics().calls == 1).await;
        until(|| served.running.statistics().connections == 0).await;
    });
}

#[test]
fn connections_are_limited_and_the_refused_one_is_told() {
    run(async {
        let mut service = service();
        service.limits.connections = 2;
        let served = Served::start(service);
        let first = served.connect().await;
        let _second = served.connect().await;
        until(|| served.running.statistics().connections == 2).await;
        assert_eq!(served.connect().await.line().await["error"]["code"], "busy");
        assert_eq!(served.running.statistics().refused, 1);
        // The blocking client says the same, although it may find the connection closed while it writes.
        let socket = served.socket();
        let refused = spawn_blocking(move || client::call(&socket, "help", &Value::Null)).await.unwrap();
        assert!(matches!(refused, Err(client::Error::Call(error)) if error.code == ErrorCode::Busy));
        drop(first);
        until(|| served.running.statistics().connections == 1).await;
        let mut third = served.connect().await;
        assert!(third.ask(r#"{"method":"help"}"#).await["result"].is_object());
    });
}

#[test]
fn a_slow_call_does_not_hold_up_other_connections() {
    run(async {
        let gate = Rc::new(Notify::new());
        let started = Rc::new(Cell::new(0));
        let (opened, counted) = (Rc::clone(&gate), Rc::clone(&started));
        let service = service().method("wait", "waits for the gate", &[], move |_| {
            counted.set(counted.get() + 1);
            let gate = Rc::clone(&opened);
            async move {
                gate.notified().await;
                Ok(json!("opened"))
            }
        });
        let served = Served::start(service);
        let (mut one, mut two) = (served.connect().await, served.connect().await);
        one.send("{\"method\":\"wait\"}\n").await;
        two.send("{\"method\":\"wait\"}\n").await;
        until(|| started.get() == 2).await;
        let mut three = served.connect().await;
        assert!(three.ask(r#"{"method":"echo","params":{"text":"x"}}"#).await["result"].is_object());
        gate.notify_waiters();
        assert_eq!(one.line().await["result"], "opened");
        assert_eq!(two.line().await["result"], "opened");
    });
}

#[test]
fn many_callers_each_get_their_own_answer() {
    run(async {
        let served = Served::start(service());
        let socket = served.socket();
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let socket = socket.clone();
                spawn_blocking(move || {
                    let mut client = client::Client::connect(&socket).unwrap();
                    for turn in 0..50 {
                        let text = format!("{caller}/{turn}");
                        let answer = client.call("echo", &json!({ "text": text })).unwrap();
                        assert_eq!(answer, json!({ "text": text }));
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(served.running.statistics().calls, 800);
    });
}

#[test]
fn a_subscription_delivers_in_order_and_only_what_was_asked() {
    run(async {
        let served = Served::start(service());
        let events = served.running.events();
        let mut all = served.connect().await;
        assert_eq!(
            all.ask(r#"{"method":"subscribe"}"#).await,
            json!({"result": {"subscribed": ["powquty.event", "powquty.light"]}})
        );
        let socket = served.socket();
        let lights =
            spawn_blocking(move || client::subscribe(&socket, &["powquty.light"]).unwrap()).await.unwrap();
        for number in 0..10 {
            events.emit("powquty.event", json!(number));
        }
        events.emit("powquty.light", json!({"light": "red"}));
        for number in 0..10 {
            assert_eq!(all.line().await, json!({"event": "powquty.event", "data": number}));
        }
        let mut lights = lights;
        let (first, lights) = spawn_blocking(move || (lights.next(), lights)).await.unwrap();
        let first = first.unwrap().unwrap();
        assert_eq!((first.name.as_str(), &first.data["light"]), ("powquty.light", &json!("red")));
        assert_eq!(served.running.statistics().subscribers, 2);
        drop((all, lights));
        until(|| served.running.statistics().connections == 0).await;
        assert_eq!(served.running.statistics().subscribers, 0);
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_nobody_else_notices() {
    run(async {
        let served = Served::start(service());
        let events = served.running.events();
        let mut deaf = served.connect().await;
        deaf.ask(r#"{"method":"subscribe"}"#).await;
        let mut good = served.connect().await;
        good.ask(r#"{"method":"subscribe"}"#).await;
        let mut sent = 0;
        // Until socket buffer and queue of the deaf one are full; the good one reads along.
        while served.running.statistics().subscribers_cut_off == 0 {
            events.emit("powquty.event", json!({"number": sent, "padding": "x".repeat(2000)}));
            assert_eq!(good.line().await["data"]["number"], sent);
            sent += 1;
            assert!(sent < 10_000, "the deaf subscriber is never cut off");
        }
        until(|| served.running.statistics().connections == 1).await;
        events.emit("powquty.light", json!("green"));
        assert_eq!(good.line().await["data"], "green");
        assert_eq!(served.running.statistics().subscribers, 1);
    });
}

#[test]
fn help_lists_what_was_declared() {
    run(async {
        let served = Served::start(service());
        let mut peer = served.connect().await;
        let help = &peer.ask(r#"{"method":"help"}"#).await["result"];
        assert_eq!(help["object"], "powquty");
        let names: Vec<_> =
            help["methods"].as_array().unwrap().iter().map(|method| &method["name"]).collect();
        assert_eq!(names, ["echo", "fail", "help", "subscribe"]);
        assert_eq!(
            help["methods"][0]["args"],
            json!([{"name": "text", "type": "text", "optional": false, "doc": "any"}])
        );
        assert_eq!(help["events"][1], json!({"name": "powquty.light", "doc": "a light changed"}));
        let one = peer.ask(r#"{"method":"help","params":{"method":"echo"}}"#).await;
        assert_eq!(one["result"]["doc"], "gives back its text");
    });
}

#[test]
fn a_method_that_takes_for_ever_ends_in_an_error() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let service = service().method("hang", "never ends", &[], |_| std::future::pending());
        let error = service.table.call("hang", Value::Null).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(error.message.contains("60 s"));
    });
}

#[test]
fn the_socket_is_private_and_goes_with_the_service() {
    run(async {
        let served = Served::start(service());
        let socket = served.socket();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut peer = served.connect().await;
        assert!(peer.ask(r#"{"method":"help"}"#).await["result"].is_object());
        let Served { running, _dir } = served;
        drop(running);
        assert!(!socket.exists());
        assert!(peer.is_closed().await, "open connections end with the service");
        assert!(matches!(client::Client::connect(&socket), Err(client::Error::NotRunning(_))));
    });
}

#[test]
fn the_client_tells_what_is_wrong() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("powqutyd.sock");
        let error = client::call(&path, "status", &Value::Null).unwrap_err().to_string();
        assert_eq!(error, format!("not running (nobody serves {})", path.display()));

        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut client = client::Client::connect(&path).unwrap();
        client.set_timeout(Some(Duration::from_millis(20))).unwrap();
        assert!(matches!(client.call("status", &Value::Null), Err(client::Error::NoAnswer(_))));

        let mut client = client::Client::connect(&path).unwrap();
        drop(listener);
        let error = client.call("status", &Value::Null).unwrap_err();
        assert!(matches!(error, client::Error::Io(..)), "{error}");
    });
}

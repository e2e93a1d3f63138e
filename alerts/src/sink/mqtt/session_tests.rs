// SPDX-License-Identifier: Apache-2.0
//! The connection's rules, byte by byte.

use super::*;

const PEER: &str = "broker:1883";

fn broker(version5: bool) -> Broker {
    Broker { host: "broker".into(), port: 1883, version5, login: None, tls: None }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn session(version5: bool) -> Session {
    Session::new(&broker(version5), PEER, "client", None, at(0))
}

/// A session whose broker took it in.
fn connected(version5: bool) -> Session {
    let mut session = session(version5);
    session.take_outgoing(at(0));
    session.receive(if version5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
    assert_eq!(session.next_event(), Ok(Some(Event::Connected)));
    session
}

fn closed(session: &mut Session) -> Closed {
    loop {
        match session.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("still open"),
            Err(closed) => return closed,
        }
    }
}

#[test]
fn connect_names_version_client_will_and_login() {
    let will = Will { topic: "t/status".into(), payload: "offline" };
    let login = Some(("user".to_owned(), openwrt::uci::Secret::new("pass")));
    for (version5, level) in [(false, 4), (true, 5)] {
        let broker = Broker { login: login.clone(), ..broker(version5) };
        let bytes = Session::new(&broker, PEER, "client", Some(&will), at(0)).take_outgoing(at(0));
        // Clean session, will with QoS 1 and retain, user name and password (3.1.2.3).
        assert_eq!(bytes[2..10], [0, 4, b'M', b'Q', b'T', b'T', level, 0b1110_1110]);
        assert_eq!(bytes[10..12], [0, 40], "keep alive");
        for part in ["client", "t/status", "offline", "user", "pass"] {
            assert!(bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
    }
}

#[test]
fn only_the_acknowledgement_of_the_alert_in_flight_counts() {
    for version5 in [false, true] {
        let mut session = connected(version5);
        session.publish_alert("t", b"one".to_vec(), at(1)).unwrap();
        assert!(session.is_busy());
        let bytes = session.take_outgoing(at(1));
        // QoS 1, topic, packet identifier 1.
        assert_eq!((bytes[0], &bytes[2..7]), (0x32, &[0, 1, b't', 0, 1][..]));
        session.receive(&[0x40, 2, 0, 9]);
        assert_eq!(session.next_event(), Ok(None), "of another one");
        session.receive(&[0x40]);
        session.receive(&[2, 0]);
        assert_eq!(session.next_event(), Ok(None), "not whole yet");
        session.receive(&[1, 0x40, 2, 0, 1]);
        assert_eq!(session.next_event(), Ok(Some(Event::Answered(Ok(())))));
        assert_eq!(session.next_event(), Ok(None), "a repeated one");
        session.publish_alert("t", b"two".to_vec(), at(2)).unwrap();
        assert_eq!(session.take_outgoing(at(2))[5..7], [0, 2]);
    }
}

#[test]
fn version_5_may_refuse_a_message() {
    let mut session = connected(true);
    for (reason, expected) in [
        (0x10, Ok(())),
        (0x87, Err((Cure::Retry, "broker:1883 does not let us publish to this topic (access list)"))),
        (0x97, Err((Cure::Retry, "broker:1883 refused the message: quota exceeded"))),
        (0x99, Err((Cure::Drop, "broker:1883 does not accept the message's form"))),
    ] {
        session.publish_alert("t", Vec::new(), at(0)).unwrap();
        let id = u8::try_from(session.next_id).unwrap();
        session.receive(&[0x40, 3, 0, id, reason]);
        let expected = expected.map_err(|(cure, reason): (_, &str)| Failure { reason: reason.into(), cure });
        assert_eq!(session.next_event(), Ok(Some(Event::Answered(expected))));
    }
}

#[test]
fn values_are_published_without_acknowledgement() {
    let mut session = connected(false);
    session.publish_value("t", b"1".to_vec(), true).unwrap();
    assert_eq!(session.take_outgoing(at(0))[..], [0x31, 4, 0, 1, b't', b'1']);
    assert!(!session.is_busy());
}

#[test]
fn refusals_are_told_apart() {
    for (version5, bytes, not_authorised, expected) in [
        (false, &[0x20, 2, 0, 4][..], true, "broker:1883 does not accept the user name or password"),
        (
            false,
            &[0x20, 2, 0, 5],
            true,
            "broker:1883 does not let us in: wrong user name or password, or not on its access list",
        ),
        (false, &[0x20, 2, 0, 1], false, "broker:1883 does not speak MQTT 3.1.1; set mqtt_version"),
        (true, &[0x20, 2, 0, 1], false, "broker:1883 does not speak MQTT 5; set mqtt_version"),
        (true, &[0x20, 3, 0, 0x86, 0], true, "broker:1883 does not accept the user name or password"),
        (true, &[0x20, 3, 0, 0x89, 0], false, "broker:1883 refused the connection: server busy"),
        (
            true,
            &[0x20, 5, 0, 0, 2, 0x24, 0],
            false,
            "broker:1883 acknowledges nothing (no QoS 1): alerts need another broker",
        ),
        (
            false,
            b"HTTP/1.1 400",
            false,
            "broker:1883 does not speak MQTT as it should; is this the right port?",
        ),
        (
            false,
            b"SSH-2.0-x\r\n",
            false,
            "broker:1883 does not speak MQTT as it should; is this the right port?",
        ),
    ] {
        let mut session = session(version5);
        session.receive(bytes);
        assert_eq!(closed(&mut session), Closed { reason: expected.into(), not_authorised });
    }
}

#[test]
fn an_ended_connection_says_why() {
    let mut session = connected(true);
    session.receive(&[0xe0, 2, 0x8e, 0]);
    assert_eq!(closed(&mut session).reason, "broker:1883: another client with our client id took our place");
}

#[test]
fn a_silent_broker_is_pinged_and_given_up() {
    let mut session = connected(false);
    assert_eq!(session.next_tick(), at(30));
    session.tick(at(29)).unwrap();
    assert!(session.take_outgoing(at(29)).is_empty());
    session.tick(at(30)).unwrap();
    assert_eq!(session.take_outgoing(at(30))[..], [0xc0, 0]);
    session.receive(&[0xd0, 0]);
    assert_eq!(session.next_event(), Ok(None));
    assert_eq!(session.next_tick(), at(60));
    session.tick(at(60)).unwrap();
    session.take_outgoing(at(60));
    session.tick(at(74)).unwrap();
    assert_eq!(session.tick(at(75)), Err(Closed::because("broker:1883 does not answer")));
}

#[test]
fn a_missing_acknowledgement_ends_the_connection() {
    let mut session = connected(false);
    session.publish_alert("t", Vec::new(), at(5)).unwrap();
    session.take_outgoing(at(5));
    assert_eq!(session.next_tick(), at(25));
    session.tick(at(24)).unwrap();
    assert_eq!(session.tick(at(25)), Err(Closed::because("broker:1883 does not acknowledge")));
}

#[test]
fn the_brokers_limits_are_kept() {
    // Server keep alive 10 s, maximum packet size 20.
    let mut session = session(true);
    session.receive(&[0x20, 11, 0, 0, 8, 0x13, 0, 10, 0x27, 0, 0, 0, 20]);
    assert_eq!(session.next_event(), Ok(Some(Event::Connected)));
    assert!(session.next_tick() < at(10));
    session.take_outgoing(at(0));
    let failure = session.publish_alert("t", vec![b'x'; 100], at(0)).unwrap_err();
    assert_eq!(failure.cure, Cure::Drop);
    assert!(failure.reason.starts_with("broker:1883 takes at most 20 bytes"), "{}", failure.reason);
    assert!(session.take_outgoing(at(0)).is_empty() && !session.is_busy());
}

#[test]
fn any_bytes_are_survived() {
    let mut state = 1_u32;
    for round in 0..20_000 {
        let mut bytes = vec![0x20, 0x40, 0xe0, 0xd0, 0x30, 0x90]
            .into_iter()
            .cycle()
            .skip(round % 6)
            .take(1)
            .collect::<Vec<u8>>();
        for _ in 0..round % 24 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((state >> 24) as u8 & if round % 3 == 0 { 0x0f } else { 0xff });
        }
        for mut session in [session(true), connected(true), connected(false)] {
            let _ = session.publish_alert("t", Vec::new(), at(0));
            session.receive(&bytes);
            while let Ok(Some(_)) = session.next_event() {}
        }
    }
}

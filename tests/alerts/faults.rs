// SPDX-License-Identifier: Apache-2.0
//! The sentence an operator reads for each fault, in `alert_test` and in `status`.

use crate::setup::{Options, Parts};
use crate::slack::Slack;
use lab::broker::Setup;
use lab::webhook::Answer;
use lab::{Authority, Broker, Daemon, MailServer, Webhook};
use serde_json::json;
use std::net::TcpListener;

const SECRET_PATH: &str = "/services/T0SECRET/B0SECRET/xyzzy";

/// Both ways show the sentence, and nothing the daemon says holds a secret.
fn expect(parts: &Parts, daemon: &Daemon, sink: &str, sentence: &str) {
    let tested = daemon.call("alert_test", &json!({ "sink": sink })).unwrap();
    assert_eq!((tested["delivered"].as_bool(), tested["answer"].as_str()), (Some(false), Some(sentence)));
    parts.raise(daemon, "dip", "Dip");
    let status = daemon
        .wait_for_status(sentence, |status| status["alerts"][sink]["last_error"].as_str() == Some(sentence));
    assert_eq!(status["alerts"][sink]["queued"], 1);
    for said in [daemon.log(), status.to_string()] {
        for secret in ["SECRET", "xyzzy", lab::broker::PASSWORD, "wr0ng"] {
            assert!(!said.contains(secret), "{secret} is told:\n{said}");
        }
    }
}

fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn slack_fault(certificate: impl Fn(&Parts) -> lab::certs::Issued, sentence: &str) {
    let parts = Parts::new();
    let webhook = Webhook::start_tls(&certificate(&parts));
    let daemon = parts.start(&Options::default().slack(&parts.url(&webhook, SECRET_PATH)));
    expect(&parts, &daemon, "slack", &sentence.replace("PEER", &format!("localhost:{}", webhook.port())));
}

#[test]
fn expired_certificate() {
    slack_fault(
        |parts| parts.authority.issue_expired(&["localhost"]),
        "the certificate of PEER expired on 2020-12-31",
    );
}

#[test]
fn wrong_host_name() {
    slack_fault(
        |parts| parts.authority.issue(&["other.example"]),
        "the certificate of PEER is for other.example, not for localhost",
    );
}

#[test]
fn unknown_authority() {
    slack_fault(
        |_| Authority::new("somebody else").issue(&["localhost"]),
        "the certificate of PEER is signed by an authority this router does not know \
         (install ca-certificates, or name the authority's file)",
    );
}

#[test]
fn verification_switched_off_is_a_warning_in_status() {
    let parts = Parts::new();
    let webhook = Webhook::start_tls(&Authority::new("somebody else").issue_expired(&["other.example"]));
    let options = Options::default().slack(&parts.url(&webhook, SECRET_PATH)).option("tls_verify", "0");
    let daemon = parts.start(&options);
    let tested = daemon.call("alert_test", &json!({ "sink": "slack" })).unwrap();
    assert_eq!(tested, json!({ "delivered": true, "answer": "200 OK: ok" }));
    let status = daemon.call("status", &json!({})).unwrap();
    let warning = status["alerts"]["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("tls_verify is 0: servers are not verified"), "{warning}");
}

#[test]
fn webhook_that_is_gone_refused_and_redirected() {
    let parts = Parts::new();
    let slack = Slack::start(&parts);
    let peer = format!("localhost:{}", slack.webhook().port());
    let daemon = parts.start(&Options::default().slack(&slack.url(SECRET_PATH)));
    slack.refuse(Answer::Status(404, "no_service".into()));
    expect(
        &parts,
        &daemon,
        "slack",
        &format!("{peer} does not accept this webhook (404 Not Found: no_service)"),
    );

    let elsewhere = Webhook::start();
    let location = format!("Location: {}", elsewhere.url(SECRET_PATH));
    slack.refuse(Answer::WithHeaders(302, vec![location], String::new()));
    let tested = daemon.call("alert_test", &json!({ "sink": "slack" })).unwrap();
    let expected = format!(
        "{peer} sends us on to 127.0.0.1:{}, which is not followed; correct slack_webhook",
        elsewhere.port()
    );
    assert_eq!(tested["answer"], expected.as_str());
    assert!(elsewhere.requests().is_empty());

    slack.refuse(Answer::Cut);
    let tested = daemon.call("alert_test", &json!({ "sink": "slack" })).unwrap();
    assert_eq!(tested["answer"], format!("{peer} cut the connection").as_str());
}

#[test]
fn nobody_listens() {
    let parts = Parts::new();
    let port = closed_port();
    let url = format!("https://localhost:{port}{SECRET_PATH}");
    let daemon = parts.start(&Options::default().mqtt_at(port).slack(&url).email(port));
    let sentence = |host: &str| {
        format!("{host}:{port} refused the connection (nothing listens there, or a firewall rejects it)")
    };
    for (sink, host) in [("mqtt", "127.0.0.1"), ("slack", "localhost"), ("email", "localhost")] {
        let tested = daemon.call("alert_test", &json!({ "sink": sink })).unwrap();
        assert_eq!(tested["answer"], sentence(host).as_str());
    }
}

#[test]
fn name_that_cannot_be_resolved() {
    let parts = Parts::new();
    let url = format!("https://no-such-host.invalid{SECRET_PATH}");
    let options = Options::default().slack(&url).email(25).option("email_host", "no-such-host.invalid");
    let daemon = parts.start(&options.mqtt_at(1883).option("mqtt_host", "no-such-host.invalid"));
    for sink in ["slack", "email", "mqtt"] {
        let tested = daemon.call("alert_test", &json!({ "sink": sink })).unwrap();
        assert_eq!(
            tested["answer"],
            "no-such-host.invalid: the name cannot be resolved (is it right, and does this router's DNS work?)"
        );
    }
}

#[test]
fn wrong_password_at_the_broker() {
    for version in ["3.1.1", "5"] {
        let parts = Parts::new();
        let broker = Broker::start();
        let options =
            Options::default().mqtt(&broker).option("mqtt_pw", "wr0ng").option("mqtt_version", version);
        let daemon = parts.start(&options);
        let sentence = format!(
            "127.0.0.1:{} does not let us in: wrong user name or password, or not on its access list",
            broker.port()
        );
        expect(&parts, &daemon, "mqtt", &sentence);
    }
}

#[test]
fn broker_with_an_expired_certificate_and_one_for_another_name() {
    let parts = Parts::new();
    for (certificate, sentence) in [
        (parts.authority.issue_expired(&["localhost"]), "the certificate of PEER expired on 2020-12-31"),
        (parts.authority.issue(&["10.1.2.3"]), "the certificate of PEER is for 10.1.2.3, not for localhost"),
    ] {
        let broker = Setup::default().tls(&parts.authority, &certificate).start();
        let daemon = parts.start(&Options::default().mqtt_tls(&parts, &broker));
        let tested = daemon.call("alert_test", &json!({ "sink": "mqtt" })).unwrap();
        let expected = sentence.replace("PEER", &format!("localhost:{}", broker.tls_port()));
        assert_eq!(tested["answer"], expected.as_str());
    }
}

#[test]
fn broker_that_asks_for_a_certificate() {
    let parts = Parts::new();
    let broker = Setup::default().tls(&parts.authority, &parts.certificate).ask_clients().start();
    let daemon = parts.start(&Options::default().mqtt_tls(&parts, &broker));
    let tested = daemon.call("alert_test", &json!({ "sink": "mqtt" })).unwrap();
    let expected = format!("localhost:{} asks for a client certificate", broker.tls_port());
    assert_eq!(tested["answer"], expected.as_str());

    let own = parts.authority.issue_client("router");
    let options = Options::default()
        .mqtt_tls(&parts, &broker)
        .option("mqtt_cert", &own.cert.display().to_string())
        .option("mqtt_key", &own.key.display().to_string());
    parts.configure(&options);
    daemon.reload();
    daemon.wait_for_status("a connection", |status| status["alerts"]["connections"][0]["connected"] == true);
}

#[test]
fn port_without_tls_and_port_of_something_else() {
    let parts = Parts::new();
    let broker = Setup::default().tls(&parts.authority, &parts.certificate).start();
    let daemon = parts.start(&Options::default().mqtt_tls_at(&parts, broker.port()));
    let tested = daemon.call("alert_test", &json!({ "sink": "mqtt" })).unwrap();
    let answer = tested["answer"].as_str().unwrap();
    // mosquitto closes on the first byte that is not MQTT.
    assert_eq!(answer, format!("localhost:{} cut the connection", broker.port()));

    let parts = Parts::new();
    let webhook = Webhook::start();
    let daemon = parts.start(&Options::default().slack(&format!("https://localhost:{}/x", webhook.port())));
    let tested = daemon.call("alert_test", &json!({ "sink": "slack" })).unwrap();
    let answer = tested["answer"].as_str().unwrap();
    assert_eq!(answer, format!("localhost:{} cut the connection", webhook.port()));
}

#[test]
fn access_list_of_the_broker() {
    let parts = Parts::new();
    let list = parts.environment.data("acl");
    std::fs::write(&list, format!("user {}\ntopic write allowed/#\ntopic read #\n", lab::broker::USER))
        .unwrap();
    let broker = Setup::default().line(format!("acl_file {}", list.display())).start();
    let options = Options::default().mqtt(&broker).option("mqtt_version", "5");
    let daemon = parts.start(&options.clone().option("mqtt_event_topic", "forbidden/x"));
    let peer = format!("127.0.0.1:{}", broker.port());
    expect(&parts, &daemon, "mqtt", &format!("{peer} does not let us publish to this topic (access list)"));

    let subscriber = broker.subscribe("allowed/#");
    parts.configure(&options.option("mqtt_event_topic", "allowed/x"));
    daemon.reload();
    subscriber.wait_for("the alert that waited", |messages| {
        messages.iter().any(|message| message.topic == "allowed/x").then_some(())
    });
}

#[test]
fn mail_server_and_its_refusals() {
    let parts = Parts::new();
    let mail = MailServer::start(&parts.certificate);
    let peer = format!("localhost:{}", mail.port());
    let options = Options::default().email(mail.port());
    let daemon = parts.start(&options.clone().option("email_password", "wr0ng"));
    expect(
        &parts,
        &daemon,
        "email",
        &format!("{peer} does not accept the user name or password (535 Incorrect authentication data)"),
    );
    mail.full(true);
    parts.configure(&options);
    daemon.reload();
    let full = format!("{peer}: the mailbox is full, or the mail too large (552 5.2.2 Mailbox full)");
    let told = |sentence: &str| {
        daemon.wait_for_status(sentence, |status| {
            status["alerts"]["email"]["last_error"].as_str() == Some(sentence)
        });
        let tested = daemon.call("alert_test", &json!({ "sink": "email" })).unwrap();
        assert_eq!(tested["answer"], sentence);
    };
    told(&full);
    mail.full(false);
    mail.greylist(true);
    daemon.call("connectivity_returned", &json!({})).unwrap();
    told(&format!(
        "{peer} defers mail for ops@lab.example for now (451 4.7.1 Greylisted, please try again later)"
    ));
    assert!(mail.mails().is_empty());
    mail.greylist(false);
    daemon.call("connectivity_returned", &json!({})).unwrap();
    assert!(mail.wait_for_count(1)[0].contains("Subject: [router] Dip"));
    daemon.wait_for_status("no error", |status| status["alerts"]["email"]["last_error"].is_null());
}

#[test]
fn mail_over_tls_from_the_first_byte_and_certificates_of_mail_servers() {
    let parts = Parts::new();
    let mail = MailServer::start(&parts.certificate);
    let daemon = parts.start(&Options::default().email(mail.tls_port()).option("email_security", "tls"));
    let tested = daemon.call("alert_test", &json!({ "sink": "email" })).unwrap();
    assert_eq!(tested["delivered"], true, "{tested}");
    assert!(tested["answer"].as_str().unwrap().starts_with("250 OK id="), "{tested}");

    let expired = MailServer::start(&parts.authority.issue_expired(&["localhost"]));
    for (reloads, port, security) in [(1, expired.port(), "starttls"), (2, expired.tls_port(), "tls")] {
        parts.configure(&Options::default().email(port).option("email_security", security));
        daemon.reload();
        daemon.wait_for("the reload", || {
            (daemon.log().matches("reload: Applied").count() == reloads).then_some(())
        });
        let tested = daemon.call("alert_test", &json!({ "sink": "email" })).unwrap();
        let expected = format!("the certificate of localhost:{port} expired on 2020-12-31");
        assert_eq!(tested["answer"], expected.as_str());
    }
}

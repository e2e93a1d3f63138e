// SPDX-License-Identifier: Apache-2.0
//! Outages below TCP, and a full disk below the outbox.

use crate::setup::{Options, Parts};
use crate::slack::Slack;
use lab::{wait_for, Broker, FaultyLink, MailServer, Netns, PATIENCE};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVERS: &str = "10.77.0.2";

/// Not even a SYN is answered: each sink says so, nothing is lost, and everything goes out when the link is back.
#[test]
#[ignore = "waits for the time-outs of connecting, half a minute"]
fn where_even_syns_are_swallowed_everything_waits_and_arrives_afterwards() {
    let mut parts = Parts::new();
    parts.certificate = parts.authority.issue(&["localhost", "127.0.0.1", SERVERS]);
    let (router, internet) = (Netns::new("router"), Netns::new("internet"));
    router.join("wan", &internet, "up0");
    router.ip("addr add 10.77.0.1/24 dev wan");
    internet.ip(&format!("addr add {SERVERS}/24 dev up0"));
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router/event");
    let slack = Slack::start(&parts);
    let mail = MailServer::start(&parts.certificate);
    let address = SERVERS.parse().unwrap();
    let [to_broker, to_slack, to_mail] = [broker.port(), slack.webhook().port(), mail.port()]
        .map(|port| FaultyLink::from_namespace(&internet, address, port));
    let options = Options::default()
        .mqtt_at(to_broker.port())
        .option("mqtt_host", SERVERS)
        .slack(&format!("https://{SERVERS}:{}/x", to_slack.port()))
        .email(to_mail.port())
        .option("email_host", SERVERS);
    internet.run("nft add table ip hole");
    internet.run("nft add chain ip hole in { type filter hook input priority 0 ; }");
    internet.run("nft add rule ip hole in drop");
    let daemon = router.enter(|| parts.start(&options));
    let ids: Vec<_> = (0..5).map(|index| parts.raise(&daemon, &format!("kind_{index}"), "waits")).collect();
    for (sink, port) in [("mqtt", to_broker.port()), ("slack", to_slack.port()), ("email", to_mail.port())] {
        let sentence = format!("{SERVERS}:{port} does not answer");
        let status = daemon.wait_for_status(&sentence, |status| {
            status["alerts"][sink]["last_error"].as_str() == Some(sentence.as_str())
        });
        assert_eq!(status["alerts"][sink]["queued"], 5);
        assert_eq!(status["alerts"][sink]["dropped"], 0);
    }
    internet.run("nft delete table ip hole");
    daemon.call("connectivity_returned", &json!({})).unwrap();
    subscriber.wait_for_count(5);
    mail.wait_for_count(5);
    wait_for("all at Slack", PATIENCE, || (slack.ids().len() >= 5).then_some(()));
    assert_eq!(slack.ids(), ids, "oldest first, and none twice");
}

/// A file system of a few kilobytes; unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&at));
        Self(at)
    }

    /// Not a byte is left.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let error = fs::write(&filler, vec![0; 1024 * 1024]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

#[test]
fn a_full_disk_is_told_once_and_counted_and_alerts_go_out_all_the_same() {
    let parts = Parts::new();
    let disk = SmallDisk::mount(parts.environment.data("flash"));
    let path: &Path = &disk.0.join("outbox");
    let options = Options::default()
        .exec(&parts)
        .option("outbox_path", &path.display().to_string())
        .option("outbox_size_kb", "32");
    let daemon = parts.start(&options);
    parts.raise(&daemon, "first", "saved");
    wait_for("the first", PATIENCE, || (parts.hooked().len() == 1).then_some(()));
    let filler = disk.fill();
    // More than the rest of the last block of the file.
    let ids: Vec<_> = (0..40).map(|index| parts.raise(&daemon, &format!("kind_{index}"), "full")).collect();
    wait_for("all at the program", PATIENCE, || (parts.hooked().len() == 41).then_some(()));
    let arrived: Vec<_> =
        parts.hooked()[1..].iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(arrived, ids);
    let sentence = format!(
        "outbox {}: No space left on device (os error 28); alerts are kept in memory only and do not survive a restart",
        path.display()
    );
    assert_eq!(daemon.log().matches(&sentence).count(), 1, "{}", daemon.log());
    let status = daemon.call("status", &json!({})).unwrap();
    let warning = status["alerts"]["warnings"][0].as_str().unwrap_or_default();
    let failures = warning
        .strip_prefix(&sentence)
        .and_then(|rest| rest.strip_prefix(" (")?.strip_suffix(" failed writes)")?.parse::<u32>().ok());
    assert!(failures.is_some_and(|count| count > 1), "{warning}");

    // Room again: what waits is saved, and survives.
    let failing = parts.environment.data("failing");
    crate::setup::write_program(&failing, "#!/bin/sh\nexit 1\n");
    parts.configure(&options.clone().option("exec_command", &failing.display().to_string()));
    daemon.reload();
    let waiting = parts.raise(&daemon, "later", "waits");
    fs::remove_file(filler).unwrap();
    parts.raise(&daemon, "last", "waits");
    daemon.wait_for_log("writable again after");
    assert_eq!(daemon.call("status", &json!({})).unwrap()["alerts"]["warnings"], json!([]));
    daemon.kill();
    parts.configure(&options);
    let _daemon = parts.restart();
    wait_for("what was saved", PATIENCE, || {
        parts.hooked().iter().any(|event| event["id"].as_str() == Some(waiting.as_str())).then_some(())
    });
}

// SPDX-License-Identifier: Apache-2.0
//! What a reader of the manual does, and what an operator sees.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::process::{binary, Environment};
use serde_json::json;

use crate::bed::*;

/// The shell blocks of the README's section about two routers.
fn blocks() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let section = readme.split("## Quick start on two routers").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a block as it stands, but for the place of the configuration and for questions to the daemon.
fn paste(block: &str, environment: &Environment, bin: &std::path::Path) -> String {
    let block = block.replace("/etc/config", environment.config_dir().to_str().unwrap());
    let commands: Vec<&str> = block.lines().filter(|line| !line.starts_with("mptcp-proxy ")).collect();
    let path = format!(
        "{}:{}:{}",
        bin.display(),
        binary("mptcp-proxy").parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("sh").arg("-ec").arg(commands.join("\n")).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_quick_start_of_the_readme_works_as_pasted() {
    let bed = Bed::new();
    let bin = tempfile::tempdir().unwrap();
    let procd = bin.path().join("service");
    std::fs::write(&procd, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&procd, std::fs::Permissions::from_mode(0o755)).unwrap();
    let blocks = blocks();
    assert_eq!(blocks.len(), 2);
    let key = paste(&blocks[0], &bed.env2, bin.path());
    paste(&blocks[1].replace("key='…'", &format!("key='{}'", key.trim())), &bed.env1, bin.path());
    bed.env1.write_config(
        "network",
        "config interface 'lan'\n\toption device 'lan'\nconfig interface 'wan'\n\toption device 'p1'\n\
         config interface 'wan2'\n\toption device 'p2'\n",
    );
    for environment in [&bed.env1, &bed.env2] {
        let checked = environment.run("mptcp-proxy", ["check"]);
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), "no problems\n"));
    }
    let _r2 = start(&bed.r2, &bed.env2);
    let r1 = start(&bed.r1, &bed.env1);
    r1.wait_for_status("both paths", |status| {
        status["paths"][0]["state"] == "up" && status["paths"][1]["state"] == "up"
    });
    for address in [HOST2, HOST2_PRIVATE] {
        let service = bed.serve_at(&format!("{address}:0"), echo);
        assert_eq!(exchange(&bed.connect(service.address), b"hello".to_vec()).unwrap(), b"hello");
    }
    // r2 itself is a target too.
    let itself = service(&bed.r2, "10.2.0.1:0", echo);
    assert_eq!(exchange(&bed.connect(itself.address), b"r2".to_vec()).unwrap(), b"r2");
    let examined = r1.call("doctor", &json!({})).unwrap();
    for check in examined.as_array().unwrap() {
        assert_eq!(check["result"], "ok", "{examined:#}");
    }
    assert!(examined.as_array().unwrap().len() >= 8, "{examined:#}");
}

#[test]
fn the_shipped_configuration_is_free_of_problems_and_does_nothing() {
    let environment = Environment::new();
    environment
        .write_config("mptcp-proxy", include_str!("../../procd/mptcp-proxy/files/etc/config/mptcp-proxy"));
    let checked = environment.run("mptcp-proxy", ["check"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), "no problems\n"));
    let bed = Bed::new();
    let daemon = start(&bed.r1, &environment);
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!((&status["servers"], &status["paths"]), (&json!([]), &json!([])));
    assert!(!bed.r1.run("nft list tables").contains("mptcp_proxy"));
}

#[test]
fn every_mistake_of_a_configuration_is_named() {
    let environment = Environment::new();
    environment.write_config(
        "mptcp-proxy",
        "config client 'lan'\n\tlist server 'vps'\n\toption mode 'magic'\n\toption pol '3'\n\
         config upstream 'vps'\n\toption address 'vps.example'\n\toption key 'c2hvcnQ='\n\
         config path 'p'\n\toption role 'mastr'\n",
    );
    let checked = environment.run("mptcp-proxy", ["check"]);
    assert_eq!(checked.code, Some(1));
    let parts = [
        "lan.mode: magic",
        "lan.pol",
        "vps.address: vps.example",
        "vps.key",
        "lan.server",
        "p.interface",
        "p.role: mastr",
    ];
    for part in parts {
        assert!(checked.stdout.contains(part), "{part} is missing in:\n{}", checked.stdout);
    }
    assert!(!checked.stdout.contains("c2hvcnQ"), "a key is no message:\n{}", checked.stdout);
}

#[test]
fn a_lost_path_is_an_alert_and_so_is_its_return() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let log = bed.env1.data("alerts.log");
    let script = bed.env1.data("alert.sh");
    std::fs::write(&script, format!("#!/bin/sh\ncat >> {}\n", log.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let globals = format!(
        "config globals 'globals'\n\toption exec_notification '1'\n\toption exec_command '{}'\n",
        script.display()
    );
    bed.env1.write_config("mptcp-proxy", &format!("{globals}{}", client_config("", "")));
    let client = start(&bed.r1, &bed.env1);
    let events = client.subscribe();
    client.wait_for_status("both paths", |status| {
        status["paths"][0]["state"] == "up" && status["paths"][1]["state"] == "up"
    });
    // The watcher looks once a second; it has to have seen the path while it was up.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    bed.r2.ip("link set p2 down");
    let alerted =
        |kind: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(kind)).then_some(());
    client.wait_for("the alert of the lost path", || alerted("path_lost"));
    bed.r2.ip("link set p2 up");
    client.wait_for("the alert of its return", || alerted("path_returned"));
    drop(events);
}

#[test]
fn the_doctor_finds_a_server_that_is_not_there() {
    let bed = Bed::new();
    bed.env1.write_config("mptcp-proxy", &client_config("", ""));
    let client = start(&bed.r1, &bed.env1);
    client.wait_for_status("the server to be down", |status| status["servers"][0]["state"] == "down");
    let asked = bed.r1.enter(|| bed.env1.run("mptcp-proxy", ["doctor"]));
    assert_eq!(asked.code, Some(1), "{}", asked.stdout);
    for line in
        ["fail  server vps: does not answer", "fail  server vps by path one", "ok    kernel: speaks MPTCP"]
    {
        assert!(asked.stdout.contains(line), "{line} is missing in:\n{}", asked.stdout);
    }
}

#[test]
fn the_doctor_of_a_server_half_says_whom_it_serves() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let _client = bed.start_client("", "");
    let service = bed.serve(echo);
    let stream = bed.connect(service.address);
    server.wait_for_status("the connection", |status| status["counters"]["served"] == 1);
    let asked = bed.r2.enter(|| bed.env2.run("mptcp-proxy", ["doctor"]));
    assert_eq!(asked.code, Some(0), "{}{}", asked.stdout, asked.stderr);
    let line = "ok    server half vps: listens on [::]:1088 for 1 users; 1 connections now, 1 served, 0 unproven, 0 without MPTCP";
    assert!(asked.stdout.contains(line), "{}", asked.stdout);
    drop(stream);
}

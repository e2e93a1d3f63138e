// SPDX-License-Identifier: Apache-2.0
//! What comes from outside is data: no shell reads it, no header or line is made of it, and no answer sends us elsewhere.

use std::fs;
use std::time::Duration;

use lab::{wait_for, MailServer, Webhook, PATIENCE};
use serde_json::json;

use crate::rig::{answer, Rig, Web, HOST_V4};
use crate::setup::{write_program, Options, Parts};

#[test]
fn no_shell_reads_the_command_of_a_program_or_what_it_is_told() {
    let parts = Parts::new();
    let (marker, record) = (parts.environment.data("marker"), parts.environment.data("record"));
    let program = parts.environment.data("program");
    write_program(
        &program,
        &format!(
            "#!/bin/sh\nfor word; do echo \"$word\"; done >'{0}'\ncat >>'{0}'\necho done >>'{0}'\n",
            record.display()
        ),
    );
    let touch = format!("touch\t{}", marker.display());
    let command = format!("{} a;{touch} $({touch}) `{touch}` |{touch} &&{touch}", program.display());
    let daemon = parts.start(&Options::default().option("exec_command", &command));
    parts.raise(&daemon, "dip", &format!("$({touch}) `{touch}`; {touch}\n{touch}"));
    let told = wait_for("the program", PATIENCE, || {
        fs::read_to_string(&record).ok().filter(|text| text.ends_with("done\n"))
    });
    assert!(
        told.lines().any(|line| line == "a;touch") && told.lines().any(|line| line == "$(touch"),
        "{told}"
    );
    assert!(!marker.exists(), "a shell has read it");
}

#[test]
fn a_hook_of_dynapoint_gets_what_a_portal_says_as_data() {
    let rig = Rig::new();
    let web = Web::start(&rig, 80);
    let (marker, record, hook) = (rig.env.data("marker"), rig.env.data("record"), rig.env.data("hook"));
    write_program(&hook, &format!("#!/bin/sh\necho \"$ACTION $REASON\" >>'{}'\n", record.display()));
    let location = format!("Location: http://x$(touch {0})`touch {0}`;touch {0}/\r\n", marker.display());
    web.set(answer("302 Found", &location, ""));
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config globals 'globals'\n\toption hook '{}'\nconfig rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\
             \toption interval '300ms'\n\toption offline_threshold '1'\n\toption portal 'separate'\n",
            hook.display()
        ),
    );
    let _daemon = rig.start();
    wait_for("the hook", PATIENCE, || {
        fs::read_to_string(&record).ok().filter(|text| text.contains("portal"))
    });
    assert!(!marker.exists(), "a shell has read it");
}

#[test]
fn a_subject_with_line_ends_makes_no_header_of_a_mail() {
    let parts = Parts::new();
    let server = MailServer::start(&parts.certificate);
    let daemon = parts.start(&Options::default().email(server.port()));
    parts.raise(&daemon, "dip", "Dip\r\nBcc: everybody@example.org\r\n\r\n<b>body</b>");
    let mail = &server.wait_for_count(1)[0];
    let (head, _) = mail.split_once("\r\n\r\n").or_else(|| mail.split_once("\n\n")).unwrap();
    assert!(head.contains("Subject:") && head.contains("To:"), "{head}");
    assert!(!head.lines().any(|line| line.to_lowercase().starts_with("bcc:")), "{head}");
    // Addresses with line ends are no addresses.
    let options = Options::default().email(server.port());
    parts.configure(&options.option("email_from", "a@example.org\r\nBcc: x@example.org"));
    let check = parts.environment.run("alertd", ["check"]);
    assert!(check.stdout.contains("email_from"), "{}", check.stdout);
}

#[test]
fn a_target_with_line_ends_makes_no_header_of_a_request() {
    let rig = Rig::new();
    for target in [
        "http://10.9.0.2/x\r\nX-Made: up",
        "http://10.9.0.2\r\nX-Made: up/",
        "10.9.0.2/\r\n\r\nGET /y HTTP/1.1",
    ] {
        rig.env.write_config("dynapoint", &format!("config rule 'internet'\n\tlist hosts '{target}'\n"));
        let check = rig.env.run("dynapoint", ["check"]);
        assert_eq!(check.code, Some(1), "{}", check.stdout);
        assert!(check.stdout.contains("dynapoint:internet.hosts"), "{}", check.stdout);
    }
}

#[test]
fn a_redirect_of_a_check_is_followed_nowhere() {
    let rig = Rig::new();
    let (web, elsewhere) = (Web::start(&rig, 80), Web::start(&rig, 8080));
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\toption interval '200ms'\n\
             \toption offline_threshold '1'\n\toption portal 'separate'\n"
        ),
    );
    let targets = [
        format!("http://{HOST_V4}:8080/"),
        "//10.9.0.2:8080/x".to_owned(),
        "http://[fd09::2]:8080/".to_owned(),
    ];
    let daemon = rig.start();
    for target in targets {
        let before = web.requests().len();
        web.set(answer("307 Temporary Redirect", &format!("Location: {target}\r\n"), ""));
        wait_for("further rounds", PATIENCE, || (web.requests().len() > before + 3).then_some(()));
    }
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
    drop(daemon);
}

#[test]
fn a_redirect_of_a_web_hook_to_another_scheme_or_host_gets_no_alert() {
    let parts = Parts::new();
    let (hook, elsewhere) = (Webhook::start_tls(&parts.certificate), Webhook::start());
    let location = format!("Location: {}", elsewhere.url("/x"));
    hook.answer(lab::webhook::Answer::WithHeaders(307, vec![location], String::new()));
    let daemon = parts.start(&Options::default().slack(&parts.url(&hook, "/services/T/B/x")));
    let tested = daemon.call("alert_test", &json!({ "sink": "slack" })).unwrap();
    assert_eq!(tested["delivered"], false, "{tested}");
    std::thread::sleep(Duration::from_millis(300));
    assert!(elsewhere.requests().is_empty(), "the alert went elsewhere");
}

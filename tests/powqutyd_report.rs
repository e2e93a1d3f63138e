// SPDX-License-Identifier: Apache-2.0
//! `powqutyd report` from a record file alone: the same in every rendering, and mistakes that are named.

#[path = "powqutyd_report/sending.rs"]
mod sending;
#[path = "powqutyd_report/week.rs"]
mod week;

use lab::process::{binary, finish, Finished};
use lab::Environment;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use week::Supply;

fn report(environment: &Environment, args: &[&str]) -> Finished {
    let mut command = environment.command_of(&binary("powqutyd"), ["report"].iter().chain(args));
    command.env("TZ", "UTC0");
    finish(command, b"")
}

#[test]
fn text_json_and_page_tell_the_same() {
    let environment = Environment::new();
    let path = environment.data("powquty.rec");
    week::write(&path, Supply::Bad);
    let records = path.to_str().unwrap();
    let of_week = |format: &[&str]| {
        let done = report(&environment, &[&["--records", records, "--week", "2025-W02"], format].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        done.stdout
    };
    let summary: Value = serde_json::from_str(&of_week(&["--json"])).unwrap();
    let row = |name: &str| {
        let rows = summary["characteristics"].as_array().unwrap();
        rows.iter().find(|row| row["characteristic"] == name).unwrap().clone()
    };
    assert_eq!((&summary["light"], &row("h5")["light"]), (&"red".into(), &"red".into()));
    let n = row("voltage")["n"].as_u64().unwrap();
    let invalid = row("voltage")["invalid"].as_u64().unwrap();
    assert_eq!(n + invalid, week::SLOTS as u64);
    assert_eq!(row("interruption")["before"]["count"], 0);

    let text = of_week(&[]);
    assert!(text.starts_with("Power quality after EN 50160:2010, week 2025-W02: RED\n"), "{text}");
    let page = of_week(&["--html"]);
    let h5 = row("h5")["value"].as_f64().unwrap();
    for rendered in [&text, &page] {
        assert!(rendered.contains(&format!("{h5:.2} %")), "{h5}");
        assert!(rendered.contains(&format!("{n} of 1008 intervals valid")), "{rendered}");
    }
    let output = environment.data("page.html");
    assert_eq!(of_week(&["--html", "--output", output.to_str().unwrap()]), "");
    assert_eq!(fs::read_to_string(output).unwrap(), page);
}

/// Light and dark, 360 and 1280 px wide, printed: no error, no request, no overlapping text, nothing axe-core finds,
/// at most four sheets.
#[test]
fn a_browser_shows_the_page_without_fault() {
    let environment = Environment::new();
    let path = environment.data("powquty.rec");
    week::write(&path, Supply::Bad);
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    assert!(browser.join("node_modules").is_dir(), "playwright-core is missing: run tests/setup.sh test");
    for week in ["2025-W02", "2025-W01"] {
        let page = environment.data(&format!("{week}.html"));
        let page = page.to_str().unwrap();
        let records = path.to_str().unwrap();
        let done = report(&environment, &["--records", records, "--week", week, "--html", "--output", page]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(fs::metadata(page).unwrap().len() < 300_000);
        let mut look = Command::new("node");
        look.arg(browser.join("report.js")).arg(page).arg(environment.data(""));
        let looked = look.output().unwrap_or_else(|error| panic!("node: {error}: run tests/setup.sh test"));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(looked.status.success(), "{}{}", said(&looked.stdout), said(&looked.stderr));
    }
}

#[test]
fn what_is_missing_is_named() {
    let environment = Environment::new();
    let absent = environment.data("absent");
    let done = report(&environment, &["--records", absent.to_str().unwrap()]);
    assert_eq!(done.code, Some(1));
    let expected =
        format!("powqutyd: {}: cannot read: No such file or directory (os error 2)\n", absent.display());
    assert_eq!(done.stderr, expected);
    let text = environment.data("text");
    fs::write(&text, "This is no record file. ".repeat(500)).unwrap();
    let done = report(&environment, &["--records", text.to_str().unwrap()]);
    assert_eq!(
        (done.code, done.stderr),
        (Some(1), format!("powqutyd: {}: this is no record file\n", text.display()))
    );
    let done = report(&environment, &["--week", "47"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("expected an ISO week such as 2026-W47"), "{}", done.stderr);
}

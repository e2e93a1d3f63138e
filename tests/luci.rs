// SPDX-License-Identifier: Apache-2.0
//! The LuCI pages in a real browser, through the preview host, with the real daemons behind them.
//!
//! What the preview is not, its README says: this proves the pages, their ACLs and the daemons' methods, not LuCI itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::process::binary;
use lab::Environment;
use rustix::process::{kill_process, Pid, Signal};

/// The preview with all daemons, on a port of its own.
struct Preview {
    environment: Environment,
    program: Child,
    address: String,
}

impl Preview {
    fn start() -> Self {
        let environment = Environment::new();
        let path = |name: &str| environment.data(name).display().to_string();
        environment.write_config(
            "powquty",
            &format!(
                "config powquty 'powquty'\n\toption input 'wesense'\n\toption device_tty '{}'\n\toption dev_uuid 'scope'\n\
                 \toption powquty_path '{}'\n\toption powquty_event_path '{}'\n\toption record_path '{}'\n",
                path("oscilloscope"),
                path("measurements.csv"),
                path("events.csv"),
                path("records")
            ),
        );
        let mut command = Command::new(binary("preview"));
        command.args(["--listen", "127.0.0.1:0", "--config-dir"]).arg(environment.config_dir());
        command.arg("--state-dir").arg(environment.state_dir()).arg("--run-dir").arg(environment.run_dir());
        for daemon in ["powqutyd", "dynapoint", "mptcp-proxy"] {
            // Its absence would only show as a page without a daemon.
            let _ = binary(daemon);
            command.args(["--start", daemon]);
        }
        let mut program = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let preview = Self { environment, program, address: address.trim().to_owned() };
        assert!(preview.address.starts_with("http://127.0.0.1:"), "{address}");
        preview
    }

    /// Runs one of the scripts in `tests/browser/luci`; each fault it finds is a line.
    fn look(&self, script: &str) {
        let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        assert!(browser.join("node_modules").is_dir(), "playwright-core is missing: run tests/setup.sh test");
        let mut node = Command::new("node");
        node.arg(browser.join("luci").join(script))
            .env("BASE", &self.address)
            .env("CONFIG_DIR", self.environment.config_dir())
            .env("DATA_DIR", self.environment.data(""))
            .env("POWQUTYD", binary("powqutyd"));
        let looked = node.output().unwrap_or_else(|error| panic!("node: {error}: run tests/setup.sh test"));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        println!("{}", said(&looked.stdout));
        assert!(looked.status.success(), "{}", said(&looked.stderr));
    }
}

impl Drop for Preview {
    /// With the daemons it has started.
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.program.id()).unwrap_or_default()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..500 {
            if !matches!(self.program.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Light and dark, 360 and 1280 px: no error, no failed request, no poor contrast, no text over another.
#[test]
fn every_page_is_drawn_without_fault() {
    Preview::start().look("pages.js");
}

#[test]
fn what_happens_on_the_grid_shows_on_the_pages() {
    Preview::start().look("grid.js");
}

#[test]
fn forms_write_what_is_right_and_refuse_the_rest() {
    Preview::start().look("forms.js");
}

/// Every option a daemon reads is on its settings page, and the reverse.
#[test]
fn settings_pages_and_daemons_know_the_same_options() {
    Preview::start().look("options.js");
}

/// All of it goes when the preview ends.
#[test]
fn a_preview_in_a_scratch_directory_leaves_nothing_behind() {
    let parent = Environment::new();
    let mut command = Command::new(binary("preview"));
    command.args(["--listen", "127.0.0.1:0"]).env("TMPDIR", parent.data("")).stdout(Stdio::piped());
    let mut program = command.spawn().unwrap();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let left = || fs::read_dir(parent.data("")).unwrap().count();
    assert_eq!(left(), 1, "one directory while it runs");
    kill_process(Pid::from_raw(i32::try_from(program.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert!(program.wait().unwrap().success());
    assert_eq!(left(), 0);
}

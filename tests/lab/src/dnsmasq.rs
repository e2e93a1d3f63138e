// SPDX-License-Identifier: Apache-2.0
//! The real dnsmasq, inside a namespace.

use std::process::{Child, Stdio};

use crate::{wait_for, Netns, PATIENCE};

/// A dnsmasq in the foreground, killed on drop.
#[derive(Debug)]
pub struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts it with these options and no configuration file, and waits until it listens.
    pub fn start(namespace: &Netns, options: &[&str]) -> Self {
        let mut command = namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-daemon"]);
        command.args(["--bind-interfaces", "--except-interface=lo", "--user=root"]).args(options);
        let child = command.stderr(Stdio::null()).spawn().expect("dnsmasq");
        let listens = || namespace.run("ss -lnuH sport = :53").contains(":53").then_some(());
        wait_for("dnsmasq to listen", PATIENCE, listens);
        Dnsmasq(child)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the packages put around the daemons (`procd/`), unmodified under a real busybox ash in a root of its own. Only
//! procd's shell functions are stubs (`procd/rc.common-stub.sh`): they write down what procd would be told.

#[path = "procd/apk.rs"]
mod apk;
#[path = "procd/hotplug.rs"]
mod hotplug;
#[path = "procd/init.rs"]
mod init;
#[path = "procd/ipk.rs"]
mod ipk;
#[path = "procd/options.rs"]
mod options;
#[path = "procd/package.rs"]
mod package;
#[path = "procd/rights.rs"]
mod rights;

use std::path::{Path, PathBuf};

use lab::OpenwrtRoot;

/// Daemon, its account, and the packages it reads.
const DAEMONS: [(&str, &str, &[&str]); 3] = [
    ("powqutyd", "powquty", &["powquty"]),
    ("dynapoint", "dynapoint", &["dynapoint", "wireless", "system", "network"]),
    ("mptcp-proxy", "mptcp-proxy", &["mptcp-proxy", "network", "firewall"]),
];

/// The directory of a daemon's package.
fn package(daemon: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../procd").join(daemon)
}

/// A router with the packages of all daemons, their accounts and ujail.
fn router() -> OpenwrtRoot {
    let root = OpenwrtRoot::new();
    for (id, (daemon, account, _)) in (500..).zip(DAEMONS) {
        root.install(&package(daemon).join("files"));
        root.add_account(account, id);
    }
    root.install_program(&lab::openwrt_root::on_path("flock"));
    // Looked for, never run: procd would.
    root.write_program("sbin/ujail", "#!/bin/sh\nexit 1\n");
    root.write_program("bin/logger", "#!/bin/sh\necho \"$@\" >>/tmp/logged\n");
    root.write_program("sbin/nft", "#!/bin/sh\necho \"$@\" >>/tmp/nft\n");
    root.write("bin/rc.common-stub", include_str!("procd/rc.common-stub.sh"));
    root
}

/// Runs an init script; gives what procd was told.
fn service(root: &OpenwrtRoot, daemon: &str, action: &str) -> Vec<String> {
    root.write("tmp/procd", "");
    root.run(&format!("sh /bin/rc.common-stub /etc/init.d/{daemon} {action}"));
    root.read("tmp/procd").lines().map(str::to_owned).collect()
}

/// Owner, group and mode, such as `powquty:dialout 660`, without following a link.
fn owner(root: &OpenwrtRoot, inside: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    let metadata =
        std::fs::symlink_metadata(root.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"));
    let name = |file: &str, id: u32| {
        let text = root.read(file);
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(&id.to_string()));
        line.and_then(|line| line.split(':').next()).unwrap_or("?").to_owned()
    };
    let (user, group) = (name("etc/passwd", metadata.uid()), name("etc/group", metadata.gid()));
    format!("{user}:{group} {:o}", metadata.mode() & 0o7777)
}

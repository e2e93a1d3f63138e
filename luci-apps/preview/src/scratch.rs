// SPDX-License-Identifier: Apache-2.0
//! Directories that go away at the end, with examples of configuration that do no harm on this machine.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use openwrt::uci::Source;
use tempfile::TempDir;

/// Packages and their examples.
const EXAMPLES: [(&str, &str); 6] = [
    ("powquty", include_str!("../scratch/powquty")),
    ("dynapoint", include_str!("../scratch/dynapoint")),
    ("mptcp-proxy", include_str!("../scratch/mptcp-proxy")),
    ("wireless", include_str!("../scratch/wireless")),
    ("network", include_str!("../scratch/network")),
    ("system", include_str!("../scratch/system")),
];

/// What the simulated grid does.
const GRID: &str = include_str!("../scratch/grid.txt");

/// The directories.
pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self, String> {
        let dir = TempDir::with_prefix("luci-preview-")
            .map_err(|error| format!("no temporary directory: {error}"))?;
        for name in ["config", "run", "state"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let grid = dir.path().join("grid.txt");
        fs::write(&grid, GRID).map_err(|error| format!("{}: {error}", grid.display()))?;
        Ok(Self { dir })
    }

    pub(crate) fn source(&self) -> Source {
        Source { config_dir: self.dir.path().join("config"), state_dir: self.dir.path().join("state") }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}

/// Writes an example for every package that has no file yet. `@DIR@` in it is the directory above, `@ADDRESS@` ours,
/// `@PORT@` and `@OTHER_PORT@` were free a moment ago.
pub(crate) fn fill_in(config_dir: &Path, address: SocketAddr) -> Result<(), String> {
    let above = config_dir.parent().unwrap_or(config_dir).to_string_lossy().into_owned();
    let (port, other_port) = free_ports().map_err(|error| format!("no free port: {error}"))?;
    for (name, text) in EXAMPLES {
        let path = config_dir.join(name);
        if !path.exists() {
            let text = text.replace("@DIR@", &above).replace("@ADDRESS@", &address.to_string());
            let text =
                text.replace("@PORT@", &port.to_string()).replace("@OTHER_PORT@", &other_port.to_string());
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn free_ports() -> io::Result<(u16, u16)> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both at once, so that they differ.
    let (one, other) = (bind()?, bind()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

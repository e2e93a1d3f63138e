// SPDX-License-Identifier: Apache-2.0
//! What `tests/bench/run.py` runs: one part per call, its section of `docs/BENCHMARKS.md` on standard output.

#[allow(dead_code)] // shared with the tests of dynapoint
#[path = "../../dynapoint/netifd_double.rs"]
mod netifd_double;
#[allow(dead_code)]
#[path = "../../dynapoint/rig.rs"]
mod rig;

#[allow(dead_code)] // shared with the tests of mptcp-proxy
#[path = "../../mptcp_proxy/bed.rs"]
mod bed;

mod cost;
mod dynapoint;
mod goodput;
mod load;
mod loss;
mod measure;
mod peers;
mod proxy;
mod relay;

use std::path::PathBuf;

use lexopt::prelude::*;

const USAGE: &str =
    "usage: bench proxy MPTCP-PROXY DIRECTORY-OF-SHADOWSOCKS [--quick] [--only goodput,cost,loss]
       bench dynapoint BINARY [--quick]
       bench relay client|server";

/// What the command line asks for.
pub struct Options {
    /// One short run per cell.
    pub quick: bool,
    /// Only these stages.
    pub only: Option<String>,
}

impl Options {
    fn wants(&self, stage: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|known| known == stage))
    }
}

fn main() {
    let mut options = Options { quick: false, only: None };
    let mut words: Vec<String> = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().expect(USAGE) {
        match argument {
            Long("quick") => options.quick = true,
            Long("only") => options.only = Some(parser.value().expect(USAGE).to_string_lossy().into_owned()),
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            _ => panic!("{USAGE}"),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["proxy", ours, shadowsocks] => {
            proxy::run(&options, &peers::Programs::new(PathBuf::from(ours), PathBuf::from(shadowsocks)));
        }
        ["dynapoint", binary] => dynapoint::run(&options, &PathBuf::from(binary)),
        ["relay", "client"] => relay::client(),
        ["relay", "server"] => relay::server(),
        _ => panic!("{USAGE}"),
    }
}

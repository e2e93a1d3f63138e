// SPDX-License-Identifier: Apache-2.0
//! Checks: what is asked ([`run()`]), and what the answers mean ([`http`], [`dns`], [`icmp`], pure).

pub mod batman;
pub mod dns;
pub mod ground;
pub mod http;
pub mod icmp;
mod run;
#[cfg(feature = "tls")]
mod tls;
pub mod url;

pub use ground::random;
pub use run::{run, Context, Finding};

// SPDX-License-Identifier: Apache-2.0
//! Holds `openwrt::uci` to the genuine libuci: the same files and deltas through both, the same result expected.
//!
//! libuci is the C library that `libuci-sys` carries (built with cmake, bound with libclang, hence no
//! default member of the workspace). [`libuci`] loads a package with it and copies what it holds into a [`Tree`];
//! [`ours`] does the same with `openwrt::uci`; [`generate`] makes the cases. `tests/differential.rs` compares.
//!
//! # What is left out, and why
//!
//! Cases in which libuci itself is undefined, so that there is nothing to agree with:
//!
//! - **NUL bytes.** libuci reads lines with `fgets` and measures them with `strlen`: what becomes of the rest of
//!   such a line depends on the size its buffer has grown to. `openwrt::uci` refuses the file as binary, and in a
//!   delta skips the change.
//! - **`+package.section=''`** in a delta: libuci deletes the section and then writes to the freed memory.
//!   `openwrt::uci` deletes it.
//! - **`-package.section.list=' '`**, a list index of nothing but blanks: libuci uses an index it never set.
//!   `openwrt::uci` removes nothing. Likewise an index, or a position of `^`, beyond the range of `int`.
//!
//! libuci writes neither of these deltas itself. [`generate::is_undefined`] recognises them.
//!
//! Files above the size limit of `openwrt::uci` and package names with `/` are refused by design and not generated.

pub mod generate;
pub mod libuci;
mod rng;
mod tree;

pub use rng::Rng;
pub use tree::{ours, OptionTree, SectionTree, Tree};

/// The package all cases use: one that no machine has uncommitted changes of, since libuci always looks
/// into `/tmp/.uci` too.
pub const PACKAGE: &str = "steadynode_oracle";

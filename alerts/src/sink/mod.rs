// SPDX-License-Identifier: Apache-2.0
//! One file per way out.

#[cfg(feature = "email")]
pub(crate) mod email;
#[cfg(feature = "exec")]
pub(crate) mod exec;
#[cfg(feature = "mqtt")]
pub(crate) mod mqtt;
#[cfg(feature = "slack")]
pub(crate) mod slack;
#[cfg(any(feature = "email", feature = "mqtt"))]
mod stream;

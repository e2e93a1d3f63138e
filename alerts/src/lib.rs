// SPDX-License-Identifier: Apache-2.0
//! Delivery of alerts, whatever the network does.

mod alert;

pub use alert::{Alert, Attachment, Fact, Severity};

// SPDX-License-Identifier: Apache-2.0
//! The claims of `docs/SECURITY.md` that concern several daemons. Needs root.

#[allow(dead_code)]
#[path = "dynapoint/rig.rs"]
mod rig;
#[path = "security/secrets.rs"]
mod secrets;
#[allow(dead_code)]
#[path = "alerts/setup.rs"]
mod setup;
#[path = "security/words.rs"]
mod words;

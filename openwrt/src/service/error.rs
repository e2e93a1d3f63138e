// SPDX-License-Identifier: Apache-2.0
//! Why a call failed: the error codes of the service interface and their ubus counterparts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The closed set of reasons a call can fail for; on the wire in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// An argument is missing, unknown, of the wrong type or out of range; the message names it.
    InvalidArgument,
    /// The method, or the thing asked for, does not exist.
    NotFound,
    /// The answer does not exist yet (no configuration, no measurement so far).
    NotReady,
    /// Too much is going on; the same call may succeed later.
    Busy,
    /// The caller may not do this.
    Denied,
    /// A defect or a failure of the system below.
    Internal,
}

impl ErrorCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::InvalidArgument, Self::NotFound, Self::NotReady, Self::Busy, Self::Denied, Self::Internal];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::NotReady => "not_ready",
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Internal => "internal",
        }
    }

    /// The ubus status a caller over ubus sees (`enum ubus_msg_status` of libubus). ubus has no "busy";
    /// a timeout is what makes its callers try again.
    pub fn ubus_status(self) -> u32 {
        match self {
            Self::InvalidArgument => 2,
            Self::NotFound => 4,
            Self::NotReady => 5,
            Self::Denied => 6,
            Self::Busy => 7,
            Self::Internal => 9,
        }
    }

    /// The code for a ubus status other than 0 (OK); what has no counterpart is [`ErrorCode::Internal`].
    pub fn from_ubus_status(status: u32) -> Self {
        match status {
            2 => Self::InvalidArgument,
            3 | 4 => Self::NotFound,
            5 => Self::NotReady,
            6 => Self::Denied,
            7 => Self::Busy,
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failed call: the code for programs, the message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// Why, in one of six words.
    pub code: ErrorCode,
    /// Why, in a sentence; names the argument or the thing concerned.
    pub message: String,
}

impl CallError {
    /// An error of this code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// [`ErrorCode::InvalidArgument`] about one argument: ``argument `NAME`: REASON``.
    pub fn argument(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidArgument, format!("argument `{name}`: {reason}"))
    }

    /// [`ErrorCode::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// [`ErrorCode::NotReady`].
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotReady, message)
    }

    /// [`ErrorCode::Busy`].
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Busy, message)
    }

    /// [`ErrorCode::Denied`].
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Denied, message)
    }

    /// [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for CallError {}

impl From<serde_json::Error> for CallError {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(format!("the answer cannot be written as JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_ubus_and_json() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_ubus_status(code.ubus_status()), code);
            assert_eq!(serde_json::to_value(code).unwrap(), serde_json::json!(code.name()));
            assert_eq!(serde_json::from_value::<ErrorCode>(code.name().into()).unwrap(), code);
        }
    }

    #[test]
    fn foreign_ubus_statuses_have_a_code() {
        assert_eq!(ErrorCode::from_ubus_status(3), ErrorCode::NotFound);
        assert_eq!(ErrorCode::from_ubus_status(10), ErrorCode::Internal);
        assert_eq!(ErrorCode::from_ubus_status(u32::MAX), ErrorCode::Internal);
    }
}

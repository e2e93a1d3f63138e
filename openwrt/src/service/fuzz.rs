// SPDX-License-Identifier: Apache-2.0
//! Lines that a client of the socket could send: for the fuzzer and its kept inputs.

use super::socket::Request;
use super::*;

const ARGS: &[Arg] = &[
    Arg::optional("text", ArgKind::Text, ""),
    Arg::optional("number", ArgKind::Number, ""),
    Arg::optional("flag", ArgKind::Flag, ""),
    Arg::optional("list", ArgKind::List, ""),
    OFFSET,
    LIMIT,
];

thread_local! {
    static SERVED: (tokio::runtime::Runtime, Table) = (
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|_| unreachable!("no sockets")),
        Service::new("object", "daemon")
            .method("echo", "all kinds of arguments", ARGS, |params| async move {
                let length = params.optional_list("list")?.map_or(0, <[Value]>::len);
                let wait = params.optional_duration("number")?.map(|duration| duration.as_secs());
                Ok(json!({
                    "text": params.optional_text("text")?,
                    "page": super::page(0..length, &params)?.items,
                    "wait": wait,
                }))
            })
            .event("object.event", "")
            .table,
    );
}

/// One line, without its end.
///
/// # Panics
/// When an answer is none.
pub fn request(text: &[u8]) {
    SERVED.with(|(runtime, table)| {
        let result = match Request::parse(text, table) {
            Ok(Request::Call { method, params }) => runtime.block_on(table.call(&method, params)),
            Ok(Request::Subscribe { events }) => {
                assert!(events.iter().all(|event| event == "object.event"));
                return;
            }
            Err(error) => Err(error),
        };
        let line = socket::line(&socket::Reply::from(result)).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&line).unwrap_or_default();
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    });
}

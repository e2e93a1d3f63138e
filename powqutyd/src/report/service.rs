// SPDX-License-Identifier: Apache-2.0
//! The methods `report`, `report_html` and `report_send`: rendered beside the measurement, in a thread of the
//! runtime's pool.

use super::Format;
use crate::clock::Utc;
use crate::daemon::Shared;
use crate::summary::build::{of_file, Error};
use crate::summary::week::Week;
use crate::summary::Summary;
use crate::weekly;
use alerts::SinkKind;
use openwrt::service::{CallError, Params};
use openwrt::timezone::Zone;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::path::PathBuf;

/// Bytes of a part of the page: bus messages are bounded.
const PART: usize = 48 * 1024;

/// The page that is being fetched part by part.
#[derive(Default)]
pub struct Page(RefCell<Option<(String, String)>>);

/// `report`.
///
/// # Errors
/// The week is none, or nothing is known of it.
pub async fn report(shared: &Shared, params: &Params) -> Result<Value, CallError> {
    let week = week(params)?;
    let summary = summarise(records(shared)?, week).await?;
    Ok(serde_json::to_value(summary)?)
}

/// `report_html`: the page in parts; the first part is rendered anew, the others belong to it.
///
/// # Errors
/// As `report`; there is no such part.
pub async fn report_html(shared: &Shared, page: &Page, params: &Params) -> Result<Value, CallError> {
    let part = params.optional_integer("part")?.unwrap_or(0);
    let part = usize::try_from(part).map_err(|_| CallError::argument("part", "counts from 0"))?;
    let wanted = week(params)?;
    let of = wanted.map_or_else(String::new, |week| week.to_string());
    let known = page.0.borrow().as_ref().is_some_and(|(week, _)| *week == of);
    if part == 0 || !known {
        let path = records(shared)?;
        let rendered = blocking(move || {
            of_file(&path, wanted, &Zone::system(), Utc::now()).map(|summary| Format::Html.render(&summary))
        })
        .await?;
        *page.0.borrow_mut() = Some((of, rendered));
    }
    let kept = page.0.borrow();
    let text = kept.as_ref().map_or("", |(_, page)| page);
    let parts = text.len().div_ceil(PART).max(1);
    let slice = part_of(text, part).ok_or_else(|| CallError::argument("part", "the page has fewer parts"))?;
    let answer = json!({ "part": part, "parts": parts, "html": slice });
    if part + 1 == parts {
        drop(kept);
        page.0.take();
    }
    Ok(answer)
}

/// `report_send`: the summary goes to one sink, whose answer is waited for, or through the outbox to every sink that
/// takes summaries.
///
/// # Errors
/// As `report`; there is no such sink.
pub async fn report_send(shared: &Shared, directory: PathBuf, params: &Params) -> Result<Value, CallError> {
    let week = week(params)?;
    let sink = match params.optional_text("sink")? {
        None => None,
        Some(name) => Some(
            SinkKind::from_name(name)
                .ok_or_else(|| CallError::argument("sink", "expected slack, mqtt, email or exec"))?,
        ),
    };
    let path = records(shared)?;
    let alert = blocking(move || {
        let summary = of_file(&path, week, &Zone::system(), Utc::now())?;
        weekly::alert(&summary, &directory).map_err(Error::Read)
    })
    .await?;
    let subject = alert.subject.clone();
    if let Some(sink) = sink {
        let alerts = shared.borrow().alerts.clone();
        let alerts = alerts.ok_or_else(|| CallError::not_ready("nothing is configured yet"))?;
        let sent = alerts.send(sink, alert).await;
        return Ok(json!({ "delivered": sent.delivered, "answer": sent.answer, "subject": subject }));
    }
    let state = shared.borrow();
    let monitor = state.monitor.as_ref().ok_or_else(|| CallError::not_ready("nothing is measured"))?;
    let id = monitor.outputs.raise(alert);
    Ok(json!({ "id": id, "subject": subject }))
}

/// The `part`-th piece of at most [`PART`] bytes that ends between characters.
fn part_of(text: &str, part: usize) -> Option<&str> {
    let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    let start = part.checked_mul(PART).filter(|&start| start < text.len() || part == 0)?;
    text.get(boundary(start)?..boundary(start + PART)?)
}

fn week(params: &Params) -> Result<Option<Week>, CallError> {
    let Some(text) = params.optional_text("week")? else { return Ok(None) };
    let week = Week::parse(text)
        .ok_or_else(|| CallError::argument("week", "expected an ISO week such as 2026-W47"))?;
    Ok(Some(week))
}

fn records(shared: &Shared) -> Result<PathBuf, CallError> {
    let state = shared.borrow();
    let config = state.configuration.current();
    config
        .map(|config| config.logs.record_path.clone())
        .ok_or_else(|| CallError::not_ready("there is no configuration that can be read; see `status`"))
}

async fn summarise(path: PathBuf, week: Option<Week>) -> Result<Summary, CallError> {
    blocking(move || of_file(&path, week, &Zone::system(), Utc::now())).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, CallError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Error::Read(error))) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(CallError::not_found("nothing was recorded yet"))
        }
        Ok(Err(error @ (Error::NothingOf(_) | Error::NoRecords))) => {
            Err(CallError::not_found(error.to_string()))
        }
        Ok(Err(error)) => Err(CallError::internal(error.to_string())),
        Err(error) => Err(CallError::internal(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        for text in ["", "short", &"ä€x".repeat(30_000)] {
            let parts = text.len().div_ceil(PART).max(1);
            let whole: String = (0..parts).map(|part| part_of(text, part).unwrap()).collect();
            assert_eq!(whole, text);
            assert!(part_of(text, parts).is_none() || text.is_empty());
        }
    }
}

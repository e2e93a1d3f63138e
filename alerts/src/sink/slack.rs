// SPDX-License-Identifier: Apache-2.0
//! One POST per message; 2xx is the acknowledgement.

use crate::config::Slack;
use crate::explain::{explain, no_answer, one_line};
use crate::outbox::{Cure, Failure, Message};
use crate::render::{slack::render, Context};
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The whole exchange.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More of an answer is not read.
const ANSWER_BYTES: usize = 2048;
/// What Slack answers with status 400 when the message itself is wrong; other 400s are about the webhook.
const MALFORMED: [&str; 6] = [
    "invalid_payload",
    "invalid_blocks",
    "no_text",
    "msg_too_long",
    "too_many_attachments",
    "msg_blocks_too_long",
];

/// Sends one message and returns the server's answer.
pub(crate) async fn deliver(
    config: &Slack,
    tls_verify: bool,
    context: Context<'_>,
    message: &Message,
) -> Result<String, Failure> {
    let url: reqwest::Url =
        config.webhook.expose().parse().map_err(|_| Failure::retry("slack_webhook is not an address"))?;
    let peer =
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let body = render(config, context, message).to_string();
    let request = client(url.scheme() == "https", tls_verify)?
        .post(url)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .body(body)
        .send();
    let exchange = async {
        let response = request.await.map_err(|error| {
            let error = error.without_url();
            Failure::retry(if error.is_timeout() { no_answer(&peer) } else { explain(&peer, &error) })
        })?;
        judge(&peer, response).await
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(Failure::retry(no_answer(&peer))))
}

/// No connection is kept between messages, no redirection followed (the body is for this address only), no proxy guessed.
fn client(https: bool, tls_verify: bool) -> Result<Client, Failure> {
    let builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("steadynode/", env!("CARGO_PKG_VERSION")));
    #[cfg(feature = "tls")]
    let builder = builder.tls_backend_preconfigured(if https {
        crate::tls::client_config(tls_verify, None, None).map_err(Failure::retry)?
    } else {
        // Without any reqwest would look for the system's certificates and a default provider.
        crate::tls::trusting_nobody().map_err(Failure::retry)?
    });
    #[cfg(not(feature = "tls"))]
    if https {
        let _ = tls_verify;
        return Err(Failure::retry(crate::explain::without_tls()));
    }
    builder.build().map_err(|error| Failure::retry(error.without_url().to_string()))
}

async fn judge(peer: &str, mut response: Response) -> Result<String, Failure> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (wait, location) = (header(RETRY_AFTER), header(LOCATION));
    let wait = wait.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let answer = read_answer(&mut response).await;
    if status.is_success() {
        return Ok(format!("{status}: {answer}"));
    }
    if status.is_redirection() {
        let place = location.as_deref().and_then(host_of).unwrap_or("somewhere else");
        return Err(Failure::retry(format!(
            "{peer} sends us on to {place}, which is not followed; correct slack_webhook"
        )));
    }
    let reason = match status {
        StatusCode::TOO_MANY_REQUESTS => format!("{peer} asks us to slow down ({status})"),
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
            format!("{peer} does not accept this webhook ({status}: {answer})")
        }
        _ => format!("{peer} answered {status}: {answer}"),
    };
    let malformed = status == StatusCode::PAYLOAD_TOO_LARGE
        || (status == StatusCode::BAD_REQUEST && MALFORMED.iter().any(|word| answer.starts_with(word)));
    let cure = match wait {
        Some(wait) if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            Cure::RetryAfter(wait)
        }
        _ if malformed => Cure::Drop,
        _ => Cure::Retry,
    };
    Err(Failure { reason, cure })
}

async fn read_answer(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= ANSWER_BYTES {
            bytes.truncate(ANSWER_BYTES);
            break;
        }
    }
    one_line(&String::from_utf8_lossy(&bytes))
}

/// Only the host: the rest of an address may be a secret.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    rest.split(['/', '?', '#']).next()?.rsplit('@').next()
}

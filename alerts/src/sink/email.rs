// SPDX-License-Identifier: Apache-2.0
//! One SMTP session per message (RFC 5321, STARTTLS RFC 3207, AUTH RFC 4954); 250 after the data is the acknowledgement.

use crate::config::{Email, Security};
use crate::explain::{explain, no_answer, one_line};
use crate::outbox::{Cure, Failure, Message};
use crate::render::{email::render, Context};
use crate::sink::stream;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use lettre::transport::smtp::Error;
use lines::Lines;
use std::error::Error as _;
use std::fmt::Debug;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) mod fuzz;
mod lines;
#[cfg(feature = "tls")]
mod starttls;

/// The whole session; a server may think for minutes (RFC 5321 4.5.3.2), but alerts of other kinds wait behind.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Sends one mail and returns the server's answer.
pub(crate) async fn deliver(
    config: &Email,
    tls_verify: bool,
    context: Context<'_>,
    message: &Message,
) -> Result<String, Failure> {
    let peer = format!("{}:{}", config.host, config.port);
    let mail = render(config, context, message, OffsetDateTime::now_utc()).map_err(|error| Failure {
        reason: format!("the mail cannot be written: {error}"),
        cure: Cure::Drop,
    })?;
    let session = async {
        let mut connection = connect(config, tls_verify, &peer, context).await?;
        let result = transfer(&mut connection, &peer, mail.envelope(), &mail.formatted()).await;
        // Goodbye is a courtesy: the mail is the server's already, or it is not.
        let _ = tokio::time::timeout(Duration::from_secs(2), connection.quit()).await;
        result
    };
    tokio::time::timeout(TIMEOUT, session).await.unwrap_or_else(|_| Err(Failure::retry(no_answer(&peer))))
}

async fn connect(
    config: &Email,
    tls_verify: bool,
    peer: &str,
    context: Context<'_>,
) -> Result<AsyncSmtpConnection, Failure> {
    let hello = ClientId::Domain(hello_name(&context.identity.host));
    let tcp = async || stream::connect(peer, &config.host, config.port).await.map_err(Failure::retry);
    #[cfg(feature = "tls")]
    let tls = async |tcp| {
        let trusted = crate::tls::client_config(tls_verify, None, None).map_err(Failure::retry)?;
        stream::secure(peer, &config.host, trusted, tcp).await.map_err(Failure::retry)
    };
    let mut connection = match config.security {
        Security::None => open(Lines::new(tcp().await?), peer, &hello).await?,
        #[cfg(feature = "tls")]
        Security::Tls => open(Lines::new(tls(tcp().await?).await?), peer, &hello).await?,
        #[cfg(feature = "tls")]
        Security::StartTls => {
            let agreed = starttls::ask(tcp().await?, peer, &hello).await?;
            open(Lines::after_greeting(tls(agreed).await?), peer, &hello).await?
        }
        #[cfg(not(feature = "tls"))]
        Security::Tls | Security::StartTls => {
            let _ = tls_verify;
            return Err(Failure::retry(crate::explain::without_tls()));
        }
    };
    if let Some((user, password)) = &config.login {
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
            return Err(Failure::retry(format!("{peer} offers no password login (AUTH PLAIN or LOGIN)")));
        }
        connection.auth(&mechanisms, &credentials).await.map_err(|error| match error.is_permanent() {
            true => Failure::retry(format!(
                "{peer} does not accept the user name or password ({})",
                answer_of(&error)
            )),
            false => describe(peer, &error),
        })?;
    }
    Ok(connection)
}

/// Greets and is greeted.
async fn open<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug + 'static>(
    lines: Lines<S>,
    peer: &str,
    hello: &ClientId,
) -> Result<AsyncSmtpConnection, Failure> {
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(lines), hello).await;
    connected.map_err(|error| describe(peer, &error))
}

/// The mail's transaction. lettre's own `send` gives up at the first refused receiver; here the others get theirs.
async fn transfer(
    connection: &mut AsyncSmtpConnection,
    peer: &str,
    envelope: &lettre::address::Envelope,
    mail: &[u8],
) -> Result<String, Failure> {
    let mut parameters = Vec::new();
    if envelope.to().iter().chain(envelope.from()).any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !mail.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let command = Mail::new(envelope.from().cloned(), parameters);
    connection.command(command).await.map_err(|error| describe(peer, &error))?;
    let mut refused = Vec::new();
    for receiver in envelope.to() {
        match connection.command(Rcpt::new(receiver.clone(), Vec::new())).await {
            Ok(_) => {}
            Err(error) if error.status().is_some() => refused.push((receiver.to_string(), error)),
            Err(error) => return Err(describe(peer, &error)),
        }
    }
    if let Some((receiver, error)) = refused.first().filter(|_| refused.len() == envelope.to().len()) {
        return Err(refusal(peer, Some(receiver), error));
    }
    connection.command(Data).await.map_err(|error| refusal(peer, None, &error))?;
    let response = connection.message(mail).await.map_err(|error| refusal(peer, None, &error))?;
    for (receiver, error) in &refused {
        log::warn!(
            "email: {}; the other receivers got the mail",
            refusal(peer, Some(receiver), error).reason
        );
    }
    Ok(spoken(&response))
}

/// A refusal of a receiver or of the mail itself.
fn refusal(peer: &str, receiver: Option<&str>, error: &Error) -> Failure {
    let Some(code) = error.status() else { return describe(peer, error) };
    let said = answer_of(error);
    let mailbox = receiver.map_or_else(|| "the mail".to_owned(), |receiver| format!("mail for {receiver}"));
    let number = u16::from(code);
    let reason = match number {
        400..=499 if number != 452 => format!("{peer} defers {mailbox} for now ({said})"),
        452 | 552 => format!("{peer}: the mailbox is full, or the mail too large ({said})"),
        _ => format!("{peer} refuses {mailbox} ({said})"),
    };
    // 552 on the data is told of a full mailbox, too: worth another try. 554 and 55x there are about this very mail.
    let cure = if receiver.is_none() && (550..=559).contains(&number) && number != 552 {
        Cure::Drop
    } else {
        Cure::Retry
    };
    Failure { reason, cure }
}

fn describe(peer: &str, error: &Error) -> Failure {
    Failure::retry(match error.status() {
        Some(code) if u16::from(code) < 500 => {
            format!("{peer} is not ready to take mail now ({})", answer_of(error))
        }
        Some(_) => format!("{peer} does not take mail from here ({})", answer_of(error)),
        None if error.is_timeout() => no_answer(peer),
        None if error.is_response() => {
            format!("{peer} does not speak SMTP as it should; is this the right port?")
        }
        None => explain(peer, error),
    })
}

/// `552 5.2.2 Mailbox full`, as the server said it.
fn answer_of(error: &Error) -> String {
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    one_line(&format!("{code} {said}"))
}

fn spoken(response: &Response) -> String {
    let lines: Vec<_> = response.message().collect();
    one_line(&format!("{} {}", response.code(), lines.join(" ")))
}

/// A name without anything that is not allowed in EHLO.
fn hello_name(host: &str) -> String {
    let plain: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.' || *c == '-').collect();
    if plain.is_empty() {
        "localhost".into()
    } else {
        plain
    }
}

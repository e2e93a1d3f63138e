// SPDX-License-Identifier: Apache-2.0
//! A local receiver of HTTP requests that answers as the test wants.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::capture::{wait_for, PATIENCE};
use crate::certs::Issued;

/// The largest request that is taken, in bytes.
const MAX_BODY: u64 = 32 << 20;

/// An HTTP/1.1 server, plain or with TLS, on a port of its own; it stops on drop.
///
/// Requests are recorded when they have arrived whole, in the order of their arrival, whatever the answer.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// The body, de-chunked.
    pub body: Vec<u8>,
    /// When it had arrived.
    pub at: Instant,
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this status code and body.
    Status(u16, String),
    /// With these header lines (`Retry-After: 5`) as well.
    WithHeaders(u16, Vec<String>, String),
    /// By the second answer, after a while.
    Delayed(Duration, Box<Answer>),
    /// Not at all; the connection stays open until the receiver stops.
    Hang,
    /// By closing the connection at once.
    Cut,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    tls: Option<Arc<ServerConfig>>,
}

/// Decides on the answer to a request.
struct Judge(Box<Decide>);

type Decide = dyn FnMut(&Request) -> Option<Answer> + Send;

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    planned: VecDeque<Answer>,
    otherwise: Option<Answer>,
    judge: Option<Judge>,
    /// Counts the stops; what belongs to an earlier generation ends.
    generation: u32,
}

impl Webhook {
    /// Listens on a free port of the loopback and answers everything with 200 `ok`.
    pub fn start() -> Self {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Arc::default())
    }

    /// As [`Webhook::start`], with TLS and this certificate.
    pub fn start_tls(certificate: &Issued) -> Self {
        let shared = Shared { tls: Some(Arc::new(server_config(certificate))), ..Shared::default() };
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Arc::new(shared))
    }

    /// Where requests go: `http://127.0.0.1:PORT` and this path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next requests are answered so, one by one; further ones as before.
    pub fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().planned.extend(answers);
    }

    /// All requests without a planned answer are answered so from now on.
    pub fn answer(&self, answer: Answer) {
        self.shared.state().otherwise = Some(answer);
    }

    /// Every request without a planned answer is judged from now on; `None` is answered as before.
    pub fn judge(&self, judge: impl FnMut(&Request) -> Option<Answer> + Send + 'static) {
        self.shared.state().judge = Some(Judge(Box::new(judge)));
    }

    /// What has arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until at least `count` requests have arrived, and gives all; panics after [`PATIENCE`].
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        wait_for(&format!("{count} requests at the web hook"), PATIENCE, || {
            Some(self.requests()).filter(|requests| requests.len() >= count)
        })
    }

    /// Stops: hanging connections are closed, new ones are refused. What has arrived stays known.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.state().generation += 1;
        self.shared.changed.notify_all();
        // Wakes the acceptor, which waits in accept.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
        let _ = acceptor.join();
    }

    /// Listens again on the same port after [`Webhook::stop`].
    pub fn resume(&mut self) {
        self.stop();
        let shared = Arc::clone(&self.shared);
        *self = Self::listen(self.address, shared);
    }

    fn listen(address: SocketAddr, shared: Arc<Shared>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{address}: {error}"));
        let generation = shared.state().generation;
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, generation)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Request {
    /// A header's value by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON: {}: {error}", self.text()))
    }
}

impl Answer {
    /// 200 `ok`.
    pub fn ok() -> Self {
        Self::Status(200, "ok".into())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not beyond the end of the receiver; gives whether it has ended.
    fn stopped_within(&self, time: Duration, generation: u32) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), time, |state| state.generation == generation)
            .unwrap_or_else(PoisonError::into_inner);
        state.generation != generation
    }

    fn record(&self, request: Request) -> Answer {
        let mut state = self.state();
        let planned = state.planned.pop_front();
        let answer = planned
            .or_else(|| state.judge.as_mut().and_then(|judge| (judge.0)(&request)))
            .or_else(|| state.otherwise.clone());
        state.requests.push(request);
        answer.unwrap_or_else(Answer::ok)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, generation: u32) {
    for stream in listener.incoming() {
        if shared.state().generation != generation {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            match &shared.tls {
                None => serve(stream, &shared, generation),
                Some(config) => {
                    let Ok(session) = ServerConnection::new(Arc::clone(config)) else { return };
                    serve(StreamOwned::new(session, stream), &shared, generation);
                }
            }
        });
    }
}

fn serve(mut stream: impl Read + Write, shared: &Shared, generation: u32) {
    let Ok(request) = receive(&mut stream) else { return };
    let mut answer = shared.record(request);
    while let Answer::Delayed(time, then) = answer {
        if shared.stopped_within(time, generation) {
            return;
        }
        answer = *then;
    }
    let (status, headers, body) = match answer {
        Answer::Status(status, body) => (status, vec![], body),
        Answer::WithHeaders(status, headers, body) => (status, headers, body),
        Answer::Hang => {
            while !shared.stopped_within(Duration::from_secs(3600), generation) {}
            return;
        }
        Answer::Cut | Answer::Delayed(..) => return,
    };
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Programmed\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    let _ = stream.flush();
}

fn server_config(certificate: &Issued) -> ServerConfig {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&certificate.cert)
        .unwrap_or_else(|error| panic!("{}: {error}", certificate.cert.display()))
        .collect();
    let chain = chain.unwrap_or_else(|error| panic!("{}: {error}", certificate.cert.display()));
    let key = PrivateKeyDer::from_pem_file(&certificate.key)
        .unwrap_or_else(|error| panic!("{}: {error}", certificate.key.display()));
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .unwrap_or_else(|error| panic!("TLS: {error}"))
}

/// RFC 9112, as far as clients that send alerts use it: a body by length or in chunks.
fn receive(stream: &mut (impl Read + Write)) -> io::Result<Request> {
    let mut reader = BufReader::new(Read::take(stream, MAX_BODY));
    let start = line(&mut reader)?;
    let mut words = start.split(' ');
    let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
        return Err(bad("request line"));
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let header = line(&mut reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| bad("header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        let stream = reader.get_mut().get_mut();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = u64::from_str_radix(line(&mut reader)?.trim(), 16).map_err(|_| bad("chunk size"))?;
            read_exactly(&mut reader, size, &mut body)?;
            line(&mut reader)?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = header("content-length").map_or(Ok(0), str::parse).map_err(|_| bad("content-length"))?;
        read_exactly(&mut reader, length, &mut body)?;
    }
    Ok(Request { method, path, headers, body, at: Instant::now() })
}

fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(length).read_to_end(body)?;
    if read as u64 == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn post(body: &str) -> String {
        format!("POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn requests_are_recorded_and_answered_as_planned() {
        let webhook = Webhook::start();
        webhook.plan([
            Answer::WithHeaders(429, vec!["Retry-After: 5".into()], String::new()),
            Answer::Cut,
            Answer::Delayed(Duration::from_millis(30), Box::new(Answer::Status(500, "no".into()))),
        ]);
        let limited = exchange(webhook.port(), &post("1"));
        assert!(
            limited.starts_with("HTTP/1.1 429") && limited.contains("\r\nRetry-After: 5\r\n"),
            "{limited}"
        );
        assert_eq!(exchange(webhook.port(), &post("2")), "");
        let before = Instant::now();
        assert!(exchange(webhook.port(), &post("3")).ends_with("\r\n\r\nno"));
        assert!(before.elapsed() >= Duration::from_millis(30));
        assert!(exchange(webhook.port(), &post(r#"{"text":"4"}"#)).starts_with("HTTP/1.1 200"));
        let requests = webhook.wait_for(4);
        assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/hook"));
        assert_eq!(requests[0].header("host"), Some("x"));
        assert_eq!(requests[3].json()["text"], "4");
    }

    #[test]
    fn a_chunked_body_is_put_together() {
        let webhook = Webhook::start();
        let request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert!(exchange(webhook.port(), request).starts_with("HTTP/1.1 200"));
        assert_eq!(webhook.requests()[0].text(), "abcde");
    }

    #[test]
    fn a_hanging_request_ends_with_the_receiver_which_can_come_back() {
        let mut webhook = Webhook::start();
        let port = webhook.port();
        webhook.answer(Answer::Hang);
        let client = thread::spawn(move || exchange(port, &post("1")));
        webhook.wait_for(1);
        assert!(!client.is_finished());
        webhook.stop();
        assert_eq!(client.join().unwrap(), "");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        webhook.resume();
        webhook.answer(Answer::ok());
        assert!(exchange(port, &post("2")).starts_with("HTTP/1.1 200"));
        assert_eq!(webhook.requests().len(), 2);
    }
}

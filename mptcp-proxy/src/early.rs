// SPDX-License-Identifier: Apache-2.0
//! Client bytes that go out with the request for a connection.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::net::TcpStream;

use crate::record::{Sealer, MAX_CONTENT};

/// Client bytes held until the server has accepted.
const EARLY: usize = MAX_CONTENT;

/// What the client said before the server has accepted its connection.
pub struct Early<'a> {
    client: Option<&'a TcpStream>,
    data: RefCell<Vec<u8>>,
    closed: Cell<bool>,
}

impl<'a> Early<'a> {
    /// Takes what is there already, behind what was read before.
    pub fn new(client: &'a TcpStream, before: Vec<u8>) -> Self {
        let early = Early { client: Some(client), data: RefCell::new(before), closed: Cell::new(false) };
        early.read();
        early
    }

    /// This and no more.
    pub fn of(data: Vec<u8>) -> Self {
        Early { client: None, data: RefCell::new(data), closed: Cell::new(true) }
    }

    /// What the client said.
    pub fn into_data(self) -> Vec<u8> {
        self.data.into_inner()
    }

    /// Whether there is nothing yet and may be something soon.
    pub fn is_awaited(&self) -> bool {
        self.client.is_some() && !self.closed.get() && self.data.borrow().is_empty()
    }

    /// Appends what was said beyond `sent` bytes, in a record if there is somebody to seal it; returns how much is sent
    /// then. `exposed` is set when it is more than before.
    pub fn append(
        &self,
        out: &mut Vec<u8>,
        sealer: Option<&mut Sealer>,
        sent: usize,
        exposed: &Cell<bool>,
    ) -> usize {
        let data = self.data.borrow();
        if data.len() > sent {
            exposed.set(true);
            match sealer {
                Some(sealer) => sealer.append(&data[sent..], out),
                None => out.extend(&data[sent..]),
            }
        }
        data.len()
    }

    /// Waits until there is more than this.
    pub async fn beyond(&self, length: usize) {
        while self.data.borrow().len() <= length {
            let client = self.client.filter(|_| !self.closed.get() && self.data.borrow().len() < EARLY);
            let Some(client) = client else { return std::future::pending().await };
            if client.readable().await.is_ok() {
                self.read();
            }
        }
    }

    fn read(&self) {
        let Some(client) = self.client else { return };
        let mut data = self.data.borrow_mut();
        let mut buffer = [0; 4096];
        while data.len() < EARLY {
            let room = buffer.len().min(EARLY - data.len());
            match client.try_read(&mut buffer[..room]) {
                // The relay meets the end or the error again.
                Ok(0) => return self.closed.set(true),
                Ok(length) => data.extend(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.closed.set(true),
            }
        }
    }
}

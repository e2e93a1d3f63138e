// SPDX-License-Identifier: Apache-2.0
//! Connections to a server that await the answer to their request, and the race between several for one client.

use std::cell::RefCell;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::{sleep_until, Instant};

/// One that takes part in a race.
pub type Attempt<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Waits for the first of them that ends, which leaves the list.
pub async fn first<T>(attempts: &mut Vec<Attempt<'_, T>>) -> T {
    poll_fn(|context| {
        for index in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[index].as_mut().poll(context) {
                drop(attempts.remove(index));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until then. What is due already does not wait for the next tick of the runtime's clock, a millisecond away.
pub async fn due(at: Instant) {
    if Instant::now() < at {
        sleep_until(at).await;
    }
}

/// The list of them.
#[derive(Default)]
pub struct List(RefCell<Vec<Rc<TcpStream>>>);

/// One of them, in the list until it has its answer or is given up.
pub struct Asking<'a> {
    list: &'a List,
    /// The connection.
    pub stream: Rc<TcpStream>,
}

impl List {
    /// One more.
    pub fn enter(&self, stream: TcpStream) -> Asking<'_> {
        let stream = Rc::new(stream);
        self.0.borrow_mut().push(stream.clone());
        Asking { list: self, stream }
    }

    /// Whether one of them is so.
    pub fn any(&self, is_so: impl FnMut(&Rc<TcpStream>) -> bool) -> bool {
        self.0.borrow().iter().any(is_so)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.list.0.borrow_mut().retain(|known| !Rc::ptr_eq(known, &self.stream));
    }
}

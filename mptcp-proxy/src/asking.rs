// SPDX-License-Identifier: Apache-2.0
//! Connections to a server that await the answer to their request.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::net::TcpStream;

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

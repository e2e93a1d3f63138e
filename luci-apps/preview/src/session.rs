// SPDX-License-Identifier: Apache-2.0
//! Who is logged in: two users that everybody knows, since this serves a machine to itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::acl::Rights;

/// The session of those who have none: it may log in.
pub(crate) const NOBODY: &str = "00000000000000000000000000000000";

/// Sessions that are kept; the oldest goes for the one above.
const MAX_SESSIONS: usize = 64;

/// Names, which are the passwords as well, and what they may do.
pub(crate) const USERS: [(&str, Rights); 2] = [("admin", Rights::ReadWrite), ("guest", Rights::Read)];

/// A login.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user: &'static str,
    pub(crate) rights: Rights,
}

/// The logins there are.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: RefCell<VecDeque<Rc<Session>>>,
}

impl Sessions {
    /// A new session; `None` for wrong words.
    pub(crate) fn login(&self, user: &str, password: &str) -> Option<Rc<Session>> {
        let (user, rights) = USERS.into_iter().find(|(name, _)| *name == user && *name == password)?;
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = Rc::new(Session { id, user, rights });
        let mut open = self.open.borrow_mut();
        open.push_back(Rc::clone(&session));
        if open.len() > MAX_SESSIONS {
            open.pop_front();
        }
        Some(session)
    }

    /// The session of that id.
    pub(crate) fn find(&self, id: &str) -> Option<Rc<Session>> {
        self.open.borrow().iter().find(|session| session.id == id).cloned()
    }

    /// Ids of all sessions.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.open.borrow().iter().map(|session| session.id.clone()).collect()
    }

    /// Ends a session.
    pub(crate) fn destroy(&self, id: &str) {
        self.open.borrow_mut().retain(|session| session.id != id);
    }
}

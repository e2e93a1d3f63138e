// SPDX-License-Identifier: Apache-2.0
//! The tickets a server half has given out. Pure.
//!
//! Who records a client's question can send it again, and cannot use the ticket that answers it. So a ticket that was
//! not used yet never takes the place of one that was, and a question that is known gets no answer.

use std::rc::Rc;
use std::time::Instant;

use openwrt::small_map::SmallMap;

use crate::session::ServerSession;

/// Tickets of one user that were used, and as many that were not.
const PER_USER: usize = 32;

/// The part of a question that is random.
pub type Nonce = [u8; 32];

/// A ticket and whose it is.
pub struct Known {
    /// Name of the user.
    pub user: Rc<str>,
    /// Verifies its connections.
    pub session: ServerSession,
    question: Nonce,
    /// A connection has proven to have it.
    proven: bool,
    used: Instant,
}

/// All of them.
#[derive(Default)]
pub struct Tickets {
    known: SmallMap<[u8; 8], Known>,
}

impl Tickets {
    /// Whether this question was answered before.
    pub fn is_known(&self, question: &Nonce) -> bool {
        self.known.values().any(|known| known.question == *question)
    }

    /// Keeps a new ticket.
    pub fn add(&mut self, user: Rc<str>, question: Nonce, session: ServerSession, now: Instant) {
        self.make_room(&user, false);
        let name = session.name();
        self.known.insert(name, Known { user, session, question, proven: false, used: now });
    }

    /// The ticket of this name.
    pub fn get(&self, name: &[u8; 8]) -> Option<&Known> {
        self.known.get(name)
    }

    /// The same, to use it.
    pub fn get_mut(&mut self, name: &[u8; 8]) -> Option<&mut Known> {
        self.known.get_mut(name)
    }

    /// Notes that a connection has proven to have the ticket.
    pub fn prove(&mut self, name: &[u8; 8], now: Instant) {
        let Some(known) = self.known.get_mut(name) else { return };
        known.used = now;
        if !known.proven {
            let user = known.user.clone();
            self.make_room(&user, true);
            if let Some(known) = self.known.get_mut(name) {
                known.proven = true;
            }
        }
    }

    /// Forgets the tickets of users for whom this says no.
    pub fn retain_users(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.known.retain(|_, known| keep(&known.user));
    }

    /// Drops the ones that were not used for the longest time until there is room for one more of the kind.
    fn make_room(&mut self, user: &str, proven: bool) {
        loop {
            let same = |known: &Known| known.proven == proven && *known.user == *user;
            let mut oldest: Option<([u8; 8], Instant)> = None;
            let mut count = 0;
            for (name, known) in self.known.iter().filter(|(_, known)| same(known)) {
                count += 1;
                if oldest.is_none_or(|(_, used)| known.used < used) {
                    oldest = Some((*name, known.used));
                }
            }
            match oldest {
                Some((name, _)) if count >= PER_USER => drop(self.known.remove(&name)),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cipher;
    use crate::session::{answer, Key, Question, Session};
    use std::time::Duration;

    fn asked(tickets: &mut Tickets, user: &str, key: &Key, now: Instant) -> Session {
        let (question, bytes) = Question::new(key);
        let (_, session, ticket) = answer(&bytes, [key]).unwrap();
        tickets.add(user.into(), *bytes[1..].first_chunk().unwrap(), session, now);
        question.finish(&ticket).unwrap()
    }

    fn opens(tickets: &mut Tickets, session: &mut Session, now: Instant) -> bool {
        let hello = session.greet(Cipher::None).hello;
        let name = *hello[1..].first_chunk().unwrap();
        let opened = tickets.get_mut(&name).is_some_and(|known| known.session.welcome(&hello).is_some());
        if opened {
            tickets.prove(&name, now);
        }
        opened
    }

    #[test]
    fn tickets_nobody_uses_push_out_none_that_is_used() {
        let (key, start) = (Key::generate(), Instant::now());
        let mut tickets = Tickets::default();
        let mut real = asked(&mut tickets, "r1", &key, start);
        assert!(opens(&mut tickets, &mut real, start));
        for second in 1..200 {
            asked(&mut tickets, "r1", &key, start + Duration::from_secs(second));
        }
        assert!(opens(&mut tickets, &mut real, start), "the ticket in use was pushed out");
        assert_eq!(tickets.known.len(), PER_USER + 1);
        // Nor does another user's crowd.
        asked(&mut tickets, "r2", &Key::generate(), start);
        assert!(opens(&mut tickets, &mut real, start));
        tickets.retain_users(|user| user == "r2");
        assert_eq!(tickets.known.len(), 1);
    }

    #[test]
    fn of_those_in_use_the_one_unused_for_longest_goes() {
        let (key, start) = (Key::generate(), Instant::now());
        let mut tickets = Tickets::default();
        let mut sessions = Vec::new();
        for second in 0..PER_USER as u64 + 3 {
            let now = start + Duration::from_secs(second);
            let mut session = asked(&mut tickets, "r1", &key, now);
            assert!(opens(&mut tickets, &mut session, now));
            sessions.push(session);
        }
        let late = start + Duration::from_secs(1000);
        let open: Vec<bool> = sessions.iter_mut().map(|session| opens(&mut tickets, session, late)).collect();
        assert_eq!(open.iter().filter(|open| !**open).count(), 3);
        assert!(!open[0] && !open[2] && open[3]);
    }

    #[test]
    fn a_question_is_known_while_its_ticket_is() {
        let (key, start) = (Key::generate(), Instant::now());
        let mut tickets = Tickets::default();
        let (_, bytes) = Question::new(&key);
        let nonce = *bytes[1..].first_chunk().unwrap();
        assert!(!tickets.is_known(&nonce));
        tickets.add("r1".into(), nonce, answer(&bytes, [&key]).unwrap().1, start);
        assert!(tickets.is_known(&nonce));
    }
}

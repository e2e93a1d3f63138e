// SPDX-License-Identifier: Apache-2.0
//! The DNS message format (RFC 1035, 4), as far as one question for addresses needs it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::verdict::Family;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;
/// Answers beyond this many are not looked at.
const MAX_ANSWERS: usize = 64;

/// What a resolver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of the family asked for; empty: the name has none.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The answer did not fit (TC); ask over TCP.
    Truncated,
    /// The resolver refuses or fails (SERVFAIL, REFUSED, …), with its code.
    Failure(u8),
}

/// A question for the addresses of a name; `None` for what is no name.
#[must_use]
pub fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    // A standard query with recursion desired; one question.
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind(family).to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    (message.len() <= HEADER + 255 + 4).then_some(message)
}

/// Reads an answer to `question`; `None` for anything that does not belong to it or is malformed.
#[must_use]
pub fn answer(question: &[u8], message: &[u8]) -> Option<Answer> {
    let asked = question.get(HEADER..)?;
    let flags = u16_at(message, 2)?;
    let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    let echoed = message.get(HEADER..HEADER + asked.len())?;
    if !is_answer
        || message.get(..2)? != question.get(..2)?
        || u16_at(message, 4)? != 1
        || !same_question(asked, echoed)
    {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Answer::Truncated);
    }
    match flags & 0x000f {
        0 => {}
        3 => return Some(Answer::NoName),
        // Four bits fit.
        code => return Some(Answer::Failure(u8::try_from(code).unwrap_or(0))),
    }
    let wanted = u16_at(asked, asked.len() - 4)?;
    let count = usize::from(u16_at(message, 6)?).min(MAX_ANSWERS);
    let mut at = HEADER + asked.len();
    let mut addresses = Vec::new();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let (kind, class) = (u16_at(message, at)?, u16_at(message, at + 2)?);
        let length = usize::from(u16_at(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        // Resolvers answer with the chain of aliases; the addresses at its end are the ones.
        if class != CLASS_IN || kind == TYPE_CNAME || kind != wanted {
            continue;
        }
        match kind {
            TYPE_A => addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            TYPE_AAAA => addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
    }
    Some(Answer::Addresses(addresses))
}

fn kind(family: Family) -> u16 {
    match family {
        Family::V4 => TYPE_A,
        Family::V6 => TYPE_AAAA,
    }
}

/// The questions are equal; some resolvers change the case of names.
fn same_question(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

/// The resolvers in the text of a `resolv.conf`, at most three (resolv.conf(5)).
#[must_use]
pub fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.split(['#', ';']).next()?.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().split('%').next()?.parse().ok())
        .take(3)
        .collect()
}

/// The address of a name in the text of a `hosts` file.
#[must_use]
pub fn in_hosts(text: &str, name: &str, family: Family) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let fits = address.is_ipv4() == (family == Family::V4);
        (fits && words.any(|word| word.eq_ignore_ascii_case(name))).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(question: &[u8], flags: u16, answers: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(answers.len()).unwrap().to_be_bytes());
        for (kind, data) in answers {
            message.extend([0xc0, 0x0c]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn the_question_is_that_of_rfc_1035() {
        let message = question(0x1234, "ab.de", Family::V4).unwrap();
        assert_eq!(
            message,
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ab\x02de\x00\x00\x01\x00\x01"
        );
        assert!(question(1, "a..b", Family::V4).is_none());
        assert!(question(1, "", Family::V4).is_none());
        assert!(question(1, &"a".repeat(64), Family::V6).is_none());
        assert!(question(1, &["a"; 200].join("."), Family::V6).is_none());
    }

    #[test]
    fn addresses_come_from_behind_aliases() {
        let q = question(7, "a.test", Family::V4).unwrap();
        let message = reply(&q, 0x8180, &[(5, b"\x01b\xc0\x0e"), (1, &[192, 0, 2, 1]), (28, &[0; 16])]);
        assert_eq!(answer(&q, &message), Some(Answer::Addresses(vec!["192.0.2.1".parse().unwrap()])));
        let q = question(7, "a.test", Family::V6).unwrap();
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let message = reply(&q, 0x8180, &[(28, &address.octets())]);
        assert_eq!(answer(&q, &message), Some(Answer::Addresses(vec![address.into()])));
    }

    #[test]
    fn failures_have_their_names() {
        let q = question(7, "a.test", Family::V4).unwrap();
        assert_eq!(answer(&q, &reply(&q, 0x8183, &[])), Some(Answer::NoName));
        assert_eq!(answer(&q, &reply(&q, 0x8182, &[])), Some(Answer::Failure(2)));
        assert_eq!(answer(&q, &reply(&q, 0x8380, &[])), Some(Answer::Truncated));
        assert_eq!(answer(&q, &reply(&q, 0x8180, &[])), Some(Answer::Addresses(vec![])));
    }

    #[test]
    fn strangers_are_ignored() {
        let q = question(7, "a.test", Family::V4).unwrap();
        let good = reply(&q, 0x8180, &[(1, &[192, 0, 2, 1])]);
        let other_id = [&[9, 9], &good[2..]].concat();
        assert_eq!(answer(&q, &other_id), None);
        assert_eq!(answer(&q, &q), None, "a question is no answer");
        let other = question(7, "b.test", Family::V4).unwrap();
        assert_eq!(answer(&other, &good), None);
        assert_eq!(answer(&q, &good[..good.len() - 1]), None);
    }

    #[test]
    fn resolv_conf_and_hosts_are_read() {
        let text = "search lan\nnameserver 127.0.0.1\n# nameserver 1.1.1.1\n nameserver fe80::1%eth0\nnameserver x\n";
        assert_eq!(resolvers(text), ["127.0.0.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        let hosts = "127.0.0.1 localhost\n::1 localhost ip6 # no\n192.0.2.1 a.test A2.test\n";
        assert_eq!(in_hosts(hosts, "LOCALHOST", Family::V6), Some("::1".parse().unwrap()));
        assert_eq!(in_hosts(hosts, "a2.test", Family::V4), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(in_hosts(hosts, "no", Family::V6), None);
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..100) {
            let q = question(7, "a.test", Family::V4).unwrap();
            let _ = answer(&q, &bytes);
            let mut message = reply(&q, 0x8180, &[(1, &[192, 0, 2, 1]), (1, &[192, 0, 2, 1])]);
            message.truncate(message.len().saturating_sub(cut));
            message.extend(&bytes);
            let _ = answer(&q, &message);
            let _ = answer(&bytes, &message);
        }
    }
}

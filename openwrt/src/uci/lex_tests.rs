// SPDX-License-Identifier: Apache-2.0
//! Whatever the bytes, the reader ends, stays small and gives a line that exists.

use proptest::prelude::*;

use super::super::{delta, Package};
use super::Lexer;

/// Bytes that mean something to UCI, far more often than chance would have them.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "config ", "option ", "list ", "package ", "c t n\n", "o a b\n", "p.n.a='b'\n", "+p.n='t'\n", "-p.n", "|p.n.a=", "^p.n='1'",
            "'", "\"", "\\", "\n", "\r\n", ";", "#", "=", ".", " ", "\t", "a", "n", "t", "@t[0]",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Bytes held by names and values.
fn size(package: &Package) -> usize {
    let of_option = |option: &crate::uci::Opt| {
        option.name().len() + option.values().iter().map(|value| value.as_bytes().len()).sum::<usize>()
    };
    package
        .sections()
        .iter()
        .map(|section| section.kind().len() + section.options().iter().map(of_option).sum::<usize>())
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused_with_a_line(text in bytes()) {
        match Package::parse("p", &text) {
            Ok(package) => prop_assert!(size(&package) <= text.len()),
            Err(error) => {
                let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
                prop_assert!((1..=lines).contains(&error.line().unwrap()));
                let message = error.to_string();
                prop_assert!(message.len() < 400 && message.chars().all(|c| !c.is_control()), "{message}");
            }
        }
    }

    #[test]
    fn any_delta_is_applied_or_skipped(config in bytes(), changes in bytes()) {
        let mut package = Package::parse("p", &config)
            .unwrap_or_else(|_| Package::parse("p", b"config t n\n\tlist a b\n").unwrap());
        let before = size(&package);
        let outcome = delta::overlay(&mut package, &changes);
        prop_assert!(size(&package) <= before + changes.len());
        let lines = changes.iter().filter(|byte| **byte == b'\n').count() + 1;
        prop_assert!(outcome.applied + outcome.skipped <= lines && outcome.first_skipped <= lines);
    }

    #[test]
    fn a_value_in_libucis_own_quotes_comes_back(value in "[^\0]{1,40}") {
        let text = format!("config t n\n\toption a '{}'\n", value.replace('\'', "'\\''"));
        let package = Package::parse("p", text.as_bytes()).unwrap();
        prop_assert_eq!(package.section("n").unwrap().get("a"), Some(value.as_str()));
    }

    #[test]
    fn words_use_up_the_text(text in bytes()) {
        let mut lexer = Lexer::new(&text);
        let mut steps = 0;
        while lexer.next_line() {
            while !lexer.rest().is_empty() && lexer.word().is_ok() {
                steps += 1;
            }
        }
        prop_assert!(steps <= text.len());
    }
}

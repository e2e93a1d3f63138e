// SPDX-License-Identifier: Apache-2.0
//! Configuration files and deltas: ordinary, odd, damaged and senseless ones.

use std::fmt;

use openwrt::uci::{Opt, Package, Section};

use crate::{Rng, PACKAGE};

/// One configuration file with the uncommitted changes to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Case {
    /// `/etc/config/<package>`.
    pub config: Vec<u8>,
    /// `/tmp/.uci/<package>`, if there is one.
    pub delta: Option<Vec<u8>>,
}

/// Few, so that sections and options meet again.
const NAMES: [&str; 7] = ["a", "b", "lan", "A_1", "0", "guest_2", "x9"];
/// A section of one name mostly has one type, as UCI demands.
const TYPES: [&str; 7] = ["t", "u", "rule", "t", "x-y", "a.b", "t[0]"];
/// What parsers stumble over, and some harmless letters. No NUL, see the crate's documentation.
const ALPHABET: &[u8] = b"ab1 \t\n'\"\\#;=.-_@[]~|^+$%\r\x0b\x0c\x01\x1f\x7f\xc3\xbc\xe2\x82\xac\xff\xa0\x85";
const FRAGMENTS: [&str; 40] = [
    "config ",
    "option ",
    "list ",
    "package ",
    "c ",
    "o ",
    "l ",
    "p ",
    "config\t",
    "option\t\t",
    "config",
    "conf ",
    "a",
    "b",
    "t",
    "lan",
    "'",
    "\"",
    "''",
    "\"\"",
    "'a b'",
    "\"a b\"",
    "\\",
    "\\\n",
    "\\\r\n",
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\x0b",
    ";",
    " ; ",
    ";;",
    "#",
    " # x",
    "=",
    "\\'",
];

/// Makes a case.
pub fn case(rng: &mut Rng) -> Case {
    loop {
        let config = config(rng);
        let delta = rng.percent(60).then(|| delta(rng, &config));
        if !delta.as_deref().is_some_and(is_undefined) {
            return Case { config, delta };
        }
    }
}

/// Whether libuci's behaviour on a delta is undefined (see the crate's documentation). Errs on the side of yes.
pub fn is_undefined(delta: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || b"'\"\\\x0b".contains(byte);
    // What follows the `=` of a line with `+` or `-` before it.
    let values = delta.iter().enumerate().filter(|(_, byte)| **byte == b'=').filter(|(at, _)| {
        let line = delta[..*at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        delta[line..*at].iter().any(|byte| b"+-".contains(byte))
    });
    let is_empty = |value: &[u8]| {
        let filled = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        filled == value.len() || b"#;".contains(&value[filled]) || value[..filled].contains(&b'\n')
    };
    let huge = |value: &[u8]| value.windows(10).any(|digits| digits.iter().all(u8::is_ascii_digit));
    delta.contains(&0) || huge(delta) || values.map(|(at, _)| &delta[at + 1..]).any(is_empty)
}

fn config(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0..=11 => written(rng),
        12..=15 => {
            let mut text = written(rng);
            damage(rng, &mut text);
            text
        }
        16..=18 => (0..rng.below(24)).flat_map(|_| rng.pick(&FRAGMENTS).bytes()).collect(),
        _ => (0..rng.below(60)).map(|_| rng.byte(ALPHABET)).collect(),
    }
}

/// A file somebody could have written: nearly always valid.
fn written(rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::new();
    if rng.percent(20) {
        text.extend(format!("package {}\n", rng.pick(&["oracle", "other-1", "'q'"])).bytes());
    }
    for _ in 0..rng.below(7) {
        section(rng, &mut text);
    }
    if rng.percent(15) {
        while text.last() == Some(&b'\n') {
            text.pop();
        }
    }
    text
}

fn section(rng: &mut Rng, text: &mut Vec<u8>) {
    let index = rng.below(NAMES.len());
    let kind = if rng.percent(3) { rng.pick(&TYPES) } else { TYPES[index] };
    text.extend(rng.pick(&["config ", "config\t", "  config   ", "c "]).bytes());
    quoted(rng, kind.as_bytes(), text);
    if rng.percent(60) {
        text.push(b' ');
        let name = if rng.percent(4) { made_up(rng) } else { NAMES[index].to_owned() };
        quoted(rng, name.as_bytes(), text);
    }
    end(rng, text);
    for _ in 0..rng.below(6) {
        text.extend(
            rng.pick(&["\toption ", "\tlist ", "\toption ", "list\t", "o ", "  option  ", "l "]).bytes(),
        );
        let name = if rng.percent(1) { "no-name" } else { rng.pick(&NAMES) };
        quoted(rng, name.as_bytes(), text);
        text.push(rng.byte(b" \t"));
        let first = value(rng);
        quoted(rng, &first, text);
        end(rng, text);
        for _ in 0..rng.below(12).saturating_sub(8) {
            text.extend(format!("\tlist {name} ").bytes());
            let item = value(rng);
            quoted(rng, &item, text);
            end(rng, text);
        }
    }
}

/// The end of a command: mostly of the line, sometimes with a comment or another command behind it.
fn end(rng: &mut Rng, text: &mut Vec<u8>) {
    text.extend(match rng.below(130) {
        0 => b"\r\n" as &[u8],
        1 => b" # comment\n",
        2 => b"#comment\n",
        3 => b"; ",
        4 => b" ;",
        5 => b" ; ; ",
        6 => b"\n\n  \n",
        7 => b"\n# comment 'x\n",
        8 => b" \t\n",
        9 => b" \\\n\n",
        10 => b";\n",
        _ => b"\n",
    });
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0..=3 => rng.pick(&NAMES).into(),
        4 => Vec::new(),
        5 => rng.pick(&["it's", "grün", "a b  c", "\"", "x=y", "#;", "-1", "1"]).into(),
        _ => (0..rng.below(12)).map(|_| rng.byte(ALPHABET)).collect(),
    }
}

/// Quotes a word in one of the many ways; in a few cases badly.
fn quoted(rng: &mut Rng, word: &[u8], text: &mut Vec<u8>) {
    let plain =
        !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(byte));
    match rng.below(8) {
        0..=1 if plain => text.extend(word),
        0..=3 => single_quoted(word, text),
        4 | 5 => double_quoted(word, text),
        6 if rng.percent(10) => text.extend(word),
        _ => {
            // Piece by piece, each in its own quotes.
            if word.is_empty() {
                text.extend(rng.pick(&["''", "\"\"", "''\"\"", "\\\n"]).bytes());
            }
            for piece in word.chunks(1 + rng.below(4)) {
                match rng.below(3) {
                    0 => single_quoted(piece, text),
                    1 => double_quoted(piece, text),
                    _ => backslashed(rng, piece, text),
                }
            }
        }
    }
}

fn single_quoted(word: &[u8], text: &mut Vec<u8>) {
    text.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => text.extend(b"'\\''"),
            byte => text.push(byte),
        }
    }
    text.push(b'\'');
}

fn double_quoted(word: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    for &byte in word {
        if b"\"\\".contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.push(b'"');
}

fn backslashed(rng: &mut Rng, word: &[u8], text: &mut Vec<u8>) {
    for &byte in word {
        if rng.percent(5) {
            text.extend(b"\\\n");
        }
        if !byte.is_ascii_alphanumeric() {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

fn damage(rng: &mut Rng, text: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(text.len() + 1);
        match rng.below(4) {
            0 if at < text.len() => drop(text.remove(at)),
            1 if at < text.len() => text[at] = rng.byte(ALPHABET),
            2 => text.truncate(at),
            _ => text.insert(at, rng.byte(ALPHABET)),
        }
    }
}

/// Names that libuci makes up for the first sections, so that files and deltas can refer to them.
fn made_up(rng: &mut Rng) -> String {
    let kind = rng.pick(&["t", "u", "rule", "x-y"]);
    let count = 1 + rng.below(6);
    let text = format!("config {kind}\n").repeat(count);
    let package = Package::parse(PACKAGE, text.as_bytes());
    package.ok().and_then(|package| Some(package.sections().last()?.name().to_owned())).unwrap_or_default()
}

/// Changes, mostly to what the file has.
fn delta(rng: &mut Rng, config: &[u8]) -> Vec<u8> {
    let package = Package::parse(PACKAGE, config).ok();
    let mut text = Vec::new();
    for _ in 0..rng.below(9) {
        change(rng, package.as_ref().map_or(&[], Package::sections), &mut text);
    }
    if rng.percent(10) {
        damage(rng, &mut text);
    }
    text
}

fn change(rng: &mut Rng, sections: &[Section], text: &mut Vec<u8>) {
    let command = rng.pick(&["", "", "", "+", "-", "@", "^", "|", "|", "~"]);
    let present = sections.get(rng.below(sections.len()));
    let (section, options) = match (rng.below(20), present) {
        (0..=12, Some(present)) => (present.name().to_owned(), present.options()),
        (13, _) => (made_up(rng), &[][..]),
        (14, _) if rng.percent(30) => (rng.pick(&["@t[0]", "no-name", "", "*"]).to_owned(), &[][..]),
        _ => (rng.pick(&NAMES).to_owned(), &[][..]),
    };
    let present = options.get(rng.below(options.len())).filter(|_| rng.percent(70));
    let with_option = match command {
        "|" | "~" => 95,
        "^" => 5,
        "+" => 20,
        _ => 60,
    };
    let mut path = format!("{command}{}.{section}", if rng.percent(2) { "other" } else { PACKAGE });
    let option = rng.percent(with_option);
    if option {
        path.push('.');
        let name = if rng.percent(2) { "no-name" } else { rng.pick(&NAMES) };
        path.push_str(present.map_or(name, Opt::name));
    }
    if rng.percent(1) {
        path.push_str(".x");
    }
    text.extend(path.bytes());
    if rng.percent(if command == "-" { 30 } else { 97 }) {
        let value = match command {
            "^" => rng.pick(&["0", "1", "2", "3", "99", "-1", "+1", " 2x", "x", ""]).into(),
            "-" => rng.pick(&["0", "1", "2", "99", "-1", "+1", " 1x", "x"]).into(),
            "~" if present.is_some_and(|option| !option.values().is_empty()) && rng.percent(60) => {
                let values = present.map_or(&[][..], Opt::values);
                values[rng.below(values.len())].as_bytes().to_vec()
            }
            "@" if rng.percent(90) => rng.pick(&NAMES).into(),
            "+" if !option => rng.pick(&TYPES).into(),
            "" if !option && rng.percent(90) => rng.pick(&TYPES).into(),
            _ => value(rng),
        };
        text.push(b'=');
        if rng.percent(85) {
            single_quoted(&value, text);
        } else {
            quoted(rng, &value, text);
        }
    }
    text.extend(match rng.below(40) {
        0 => b" \n" as &[u8],
        1 => b"\r\n",
        2 => b"  \n",
        3 => b"#x\n",
        4 => b";x\n",
        5 => b"\n\n",
        6 => b"\n \n",
        7 => b"",
        _ => b"\n",
    });
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "config: b\"{}\"", self.config.escape_ascii())?;
        match &self.delta {
            Some(delta) => writeln!(f, "delta:  b\"{}\"", delta.escape_ascii()),
            None => writeln!(f, "delta:  none"),
        }
    }
}

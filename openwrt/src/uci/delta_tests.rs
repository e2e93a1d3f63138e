// SPDX-License-Identifier: Apache-2.0
use super::{overlay, Overlay};
use crate::uci::{Package, Text};

/// Sections as `type name option=value option=[item,item]` after the delta, whose lines start with the package `p`.
fn overlaid(config: &str, delta: &str) -> Vec<String> {
    let mut package = Package::parse("p", config.as_bytes()).unwrap();
    overlay(&mut package, delta.as_bytes());
    let shape = |section: &crate::uci::Section| {
        let anonymous = if section.is_anonymous() { "*" } else { "" };
        let mut line = format!("{} {anonymous}{}", section.kind(), section.name());
        for option in section.options() {
            let values: Vec<&str> = option.values().iter().map(Text::as_str).collect();
            let (open, close) = if option.is_list() { ("[", "]") } else { ("", "") };
            line += &format!(" {}={open}{}{close}", option.name(), values.join(","));
        }
        line
    };
    package.sections().iter().map(shape).collect()
}

fn counted(delta: &str) -> Overlay {
    let mut package = Package::parse("p", b"config t n\n").unwrap();
    overlay(&mut package, delta.as_bytes())
}

#[test]
fn set_creates_changes_and_empties() {
    let config = "config t n\n\toption a 1\n\toption b 2\n";
    assert_eq!(overlaid(config, "p.n.a='3'\n"), ["t n b=2 a=3"]);
    assert_eq!(overlaid(config, "p.n.c='it'\\''s'\n"), ["t n a=1 b=2 c=it's"]);
    assert_eq!(overlaid(config, "p.n.a=''\n"), ["t n b=2"]);
    assert_eq!(overlaid(config, "p.m='u'\np.m.x='y'\n"), ["t n a=1 b=2", "u m x=y"]);
    assert_eq!(overlaid(config, "p.n='u'\n"), ["u n a=1 b=2"]);
    assert_eq!(overlaid(config, "p.n=''\n"), [""; 0]);
    assert_eq!(overlaid(config, "p.missing.a='1'\n"), ["t n a=1 b=2"]);
    assert_eq!(overlaid(config, "p.n.a='two\nlines'\n"), ["t n b=2 a=two\nlines"]);
}

#[test]
fn add_makes_an_anonymous_section() {
    assert_eq!(overlaid("", "+p.cfg0112ab='rule'\np.cfg0112ab.a='1'\n"), ["rule *cfg0112ab a=1"]);
}

#[test]
fn remove_takes_sections_options_and_items() {
    let config = "config t n\n\tlist a 1\n\tlist a 2\n\toption b 3\nconfig t m\n";
    assert_eq!(overlaid(config, "-p.m\n"), ["t n a=[1,2] b=3"]);
    assert_eq!(overlaid(config, "-p.n.a\n"), ["t n b=3", "t m"]);
    assert_eq!(overlaid(config, "-p.n.a='0'\n"), ["t n a=[2] b=3", "t m"]);
    assert_eq!(overlaid(config, "-p.n.a='1'\n-p.n.a='0'\n"), ["t n a=[] b=3", "t m"]);
    assert_eq!(overlaid(config, "-p.n.a='2'\n-p.n.a='-1'\n-p.n.a='x'\n"), ["t n a=[1,2] b=3", "t m"]);
    assert_eq!(overlaid(config, "-p.n.b='x'\n"), ["t n a=[1,2]", "t m"]);
}

#[test]
fn rename_keeps_the_place_and_names_the_anonymous() {
    assert_eq!(overlaid("config t\noption a 1\n", "@p.cfg01b619='n'\n@p.n.a='b'\n"), ["t n b=1"]);
    assert_eq!(overlaid("config t n\n", "@p.n='not-a-name'\n@p.n=''\n@p.m='x'\n"), ["t n"]);
}

#[test]
fn reorder_counts_without_the_moved_section() {
    let config = "config t a\nconfig t b\nconfig t c\n";
    assert_eq!(overlaid(config, "^p.c='0'\n"), ["t c", "t a", "t b"]);
    assert_eq!(overlaid(config, "^p.a='1'\n"), ["t b", "t a", "t c"]);
    assert_eq!(overlaid(config, "^p.a='99'\n"), ["t b", "t c", "t a"]);
    assert_eq!(overlaid(config, "^p.b='-7'\n"), ["t b", "t a", "t c"]);
    assert_eq!(overlaid(config, "^p.b='x'\n"), ["t b", "t a", "t c"]);
}

#[test]
fn lists_grow_and_shrink() {
    let config = "config t n\n\toption a 1\n\toption b 2\n";
    assert_eq!(overlaid(config, "|p.n.a='3'\n|p.n.a='3'\n"), ["t n b=2 a=[1,3,3]"]);
    assert_eq!(overlaid(config, "|p.n.c='3'\n~p.n.c='3'\n"), ["t n a=1 b=2 c=[]"]);
    assert_eq!(overlaid(config, "~p.n.a='1'\n"), ["t n a=1 b=2"], "a single option is no list");
}

#[test]
fn labels_follow_the_changes() {
    let mut package = Package::parse("p", b"config t\nconfig t\n").unwrap();
    overlay(&mut package, b"-p.cfg01b619\n+p.cfg03abcd='t'\n");
    let labels: Vec<String> = package.sections().iter().map(crate::uci::Section::label).collect();
    assert_eq!(labels, ["@t[0]", "@t[1]"]);
}

#[test]
fn lines_that_are_no_change_are_skipped_and_counted() {
    let skipped =
        "p\np.n\np.n.a.b='1'\nother.n.a='1'\np.@t[0].a='1'\np.n.a-b='1'\n-p.m\n|p.n='1'\n^p.n.a='1'\n\
                   p.n.a='1' \np.n.a='1'\r\np.n.a='\x01'\np.n='a b'\n'unterminated\n";
    let outcome = counted(&format!("p.n.a='1'\n{skipped}"));
    assert_eq!(outcome, Overlay { applied: 1, skipped: 14, first_skipped: 2 });
    assert_eq!(counted("p.n.a='1'\np.n.b='1'"), Overlay { applied: 2, skipped: 0, first_skipped: 0 });
    assert_eq!(
        counted("p.n.a='1'\np.n.b='\0'\np.n.c='1'\n"),
        Overlay { applied: 2, skipped: 1, first_skipped: 2 }
    );
}

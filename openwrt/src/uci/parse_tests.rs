// SPDX-License-Identifier: Apache-2.0
use crate::uci::{Cause, Package, Section, Text};

/// `type name option=value option=[item,item]` per section.
fn shape(package: &Package) -> Vec<String> {
    package
        .sections()
        .iter()
        .map(|section| {
            let mut line = format!("{} {}", section.kind(), section.label());
            for option in section.options() {
                let values: Vec<&str> = option.values().iter().map(Text::as_str).collect();
                let (open, close) = if option.is_list() { ("[", "]") } else { ("", "") };
                line += &format!(" {}={open}{}{close}", option.name(), values.join(","));
            }
            line
        })
        .collect()
}

fn parsed(text: &str) -> Vec<String> {
    shape(&Package::parse("test", text.as_bytes()).unwrap())
}

/// The message, without the file's name.
fn refused(text: &str) -> String {
    Package::parse("test", text.as_bytes()).expect_err("accepted").reason()
}

#[test]
fn the_usual_file() {
    let text = "package network\n\n# comment\nconfig interface 'lan'\n\toption proto 'static'\n\tlist dns '1.1.1.1'\n\
                \tlist dns '8.8.8.8'\n\nconfig rule\n\toption a \"b c\"\nconfig rule\n";
    assert_eq!(
        parsed(text),
        ["interface lan proto=static dns=[1.1.1.1,8.8.8.8]", "rule @rule[0] a=b c", "rule @rule[1]"]
    );
}

#[test]
fn names_of_anonymous_sections_are_libucis() {
    // As `uci show firewall` prints the first two sections of the default file.
    let package = Package::parse("firewall", b"config defaults\nconfig zone\n").unwrap();
    assert_eq!(package.sections()[0].name(), "cfg01e63d");
    assert_eq!(package.sections()[1].name(), "cfg02dc81");
    assert!(package.sections()[0].is_anonymous());
}

#[test]
fn quotes_join_into_one_word() {
    assert_eq!(parsed("config t n\noption a 'it'\\''s'\\ \"\\\"q\\\"\"x\n"), ["t n a=it's \"q\"x"]);
    assert_eq!(
        parsed("config t n\noption a 'one\ntwo' # three\noption b \"x\\\ny\"\n"),
        ["t n a=one\ntwo b=xy"]
    );
    assert_eq!(parsed("config t n\noption a b\\\nc\n"), ["t n a=bc"]);
}

#[test]
fn comments_end_even_a_word() {
    assert_eq!(parsed("config t n#comment\noption a b#c d\n#\n  # x\n"), ["t n a=b"]);
}

#[test]
fn a_semicolon_separates_only_after_a_blank_or_a_quote() {
    assert_eq!(parsed("config t 'n'; option a 'b'; list c d\n"), ["t n a=b c=[d]"]);
    assert_eq!(parsed("config t n; option a b\n"), ["t n"], "the rest of the line is lost, as in libuci");
    assert_eq!(parsed("config t n ; option a b\n"), ["t n a=b"]);
}

#[test]
fn abbreviated_commands_and_windows_lines() {
    assert_eq!(parsed("c t n\r\n\to a b\r\n\tl c d\r\n"), ["t n a=b c=[d]"]);
}

#[test]
fn a_later_value_moves_to_the_end_and_the_same_one_stays() {
    assert_eq!(parsed("config t n\noption a 1\noption b 2\noption a 3\n"), ["t n b=2 a=3"]);
    assert_eq!(parsed("config t n\noption a 1\noption b 2\noption a 1\n"), ["t n a=1 b=2"]);
    assert_eq!(parsed("config t n\noption a 1\noption b 2\nlist a 3\n"), ["t n b=2 a=[1,3]"]);
    assert_eq!(parsed("config t n\nlist a 1\noption b 2\noption a 3\n"), ["t n b=2 a=3"]);
}

#[test]
fn an_empty_value_sets_nothing_but_is_a_list_item() {
    assert_eq!(parsed("config t n\noption a 1\noption a ''\noption b\nlist c ''\n"), ["t n a=1 c=[]"]);
    let package = Package::parse("test", b"config t n\nlist c ''\n").unwrap();
    assert_eq!(package.section("n").unwrap().list("c"), [""]);
}

#[test]
fn sections_of_one_name_merge() {
    assert_eq!(
        parsed("config t n\noption a 1\nconfig u m\nconfig t n\noption b 2\n"),
        ["t n a=1 b=2", "u m"]
    );
    assert!(refused("config t n\nconfig u n\n").starts_with("line 2: expected type 't'"));
    assert_eq!(parsed("config t n\nconfig t n\nconfig t n\nconfig t m\n"), ["t n", "t m"]);
    assert!(refused("config t n\nconfig t n\nconfig t n\noption a 1\n")
        .starts_with("line 4: expected options of"));
}

#[test]
fn extended_names() {
    let package = Package::parse("test", b"config a x\nconfig b\nconfig a y\nconfig b z\n").unwrap();
    let name = |extended: &str| package.section(extended).map(Section::label);
    assert_eq!(name("x").as_deref(), Some("x"));
    assert_eq!(name("@a[0]").as_deref(), Some("x"));
    assert_eq!(name("@a[1]").as_deref(), Some("y"));
    assert_eq!(name("@a[-1]").as_deref(), Some("y"));
    assert_eq!(name("@a[-2]").as_deref(), Some("x"));
    assert_eq!(name("@b[0]").as_deref(), Some("@b[0]"));
    assert_eq!(name("@[2]").as_deref(), Some("y"));
    assert_eq!(name("@a[]").as_deref(), Some("x"));
    for none in
        ["@a[2]", "@a[-3]", "@c[0]", "@a", "@a[0", "@a[0]]", "@a[0x1]", "@a[ ]", "@a[1 ]", "w", "", "@"]
    {
        assert_eq!(name(none), None, "{none}");
    }
}

#[test]
fn errors_name_the_line_and_what_was_expected() {
    for (text, message) in [
        (
            "\nfoo bar\n",
            "line 2: expected package, config, option or list with what belongs to it, found 'foo'",
        ),
        ("option a b\n", "line 1: expected a config line before the first option, found an option"),
        (
            "config\n",
            "line 1: expected package, config, option or list with what belongs to it, found 'config'",
        ),
        ("config \n", "line 1: expected a section type of printable ASCII characters, found nothing"),
        ("config 'a b'\n", "line 1: expected a section type of printable ASCII characters, found 'a b'"),
        ("config t a-b\n", "line 1: expected a section name of letters, digits and _, found 'a-b'"),
        (
            "config t n\n\noption a.b c\n",
            "line 3: expected an option name of letters, digits and _, found 'a.b'",
        ),
        (
            "config t n\noption a b c\n",
            "line 2: expected the end of the line (a value with blanks needs quotes), found 'c'",
        ),
        (
            "config t n\noption a 'b\n\nconfig t m\n",
            "line 2: expected a closing ', found the end of the file",
        ),
        ("config t n\noption a \"b", "line 2: expected a closing \", found the end of the file"),
        ("package a.b\n", "line 1: expected a package name of letters, digits, _ and -, found 'a.b'"),
    ] {
        assert_eq!(refused(text), message, "{text:?}");
    }
}

#[test]
fn outside_input_in_messages_is_short_and_printable() {
    let message = refused(&format!("\u{1b}[2J{}\n", "x".repeat(5000)));
    assert!(message.len() < 200 && message.chars().all(|c| !c.is_control()), "{message}");
}

#[test]
fn binary_and_odd_bytes() {
    let error = Package::parse("test", b"config t n\n\x7fELF\0\0").unwrap_err();
    assert_eq!(error.cause(), &Cause::Binary { line: 2 });
    assert_eq!(error.to_string(), "test: line 2: binary data, expected a UCI configuration file (text)");
    let package =
        Package::parse("test", b"config t n\noption a 'gr\xfc\xdf'\noption b gr\xc3\xbc\n").unwrap();
    let section = package.section("n").unwrap();
    assert_eq!(section.get("a"), Some("gr\u{fffd}\u{fffd}"));
    assert_eq!(section.option("a").unwrap().values()[0].as_bytes(), b"gr\xfc\xdf");
    assert_eq!(section.get("b"), Some("grü"));
}

#[test]
fn an_empty_file_is_an_empty_package() {
    for text in ["", "\n", "# nothing\n", "package x\n"] {
        assert!(parsed(text).is_empty());
    }
}

#[test]
fn a_package_name_cannot_leave_the_directory() {
    for name in ["", "../x", "a/b", ".x", "a b"] {
        assert_eq!(Package::parse(name, b"").unwrap_err().cause(), &Cause::BadName, "{name:?}");
    }
}

// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::default();
    writer.put_table(value.as_object().unwrap())?;
    Ok(writer.into_bytes())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The bytes on the left were recorded from libubox (`blobmsg_add_json_from_string`), not derived from this code.
#[test]
fn known_bytes() {
    let cases = [
        (json!({"a": 1}), "8500000c 00016100 00000001"),
        (json!({"a": -1}), "8500000c 00016100 ffffffff"),
        (json!({"flag": true}), "8700000d 0004666c 61670000 01000000"),
        (json!({"s": "hi"}), "8300000b 00017300 68690000"),
        (json!({"n": null}), "80000008 00016e00"),
        (json!({"big": 4294967296i64}), "84000014 00036269 67000000 00000001 00000000"),
        (json!({"d": 0.5}), "88000010 00016400 3fe00000 00000000"),
        (json!({"l": [1, "x"]}), "81000020 00016c00 8500000c 00000000 00000001 8300000a 00000000 78000000"),
        (json!({"t": {"u": {}}}), "82000010 00017400 82000008 00017500"),
    ];
    for (value, bytes) in cases {
        assert_eq!(encode(&value).unwrap(), hex(bytes), "{value}");
        assert_eq!(Value::Object(decode_table(&hex(bytes)).unwrap()), value);
    }
}

#[test]
fn what_json_cannot_say_becomes_the_nearest_value() {
    let int16 = hex("8600000a 00016100 fffe0000");
    assert_eq!(decode_table(&int16).unwrap()["a"], json!(-2));
    let nan = hex("88000010 00016400 7ff80000 00000000");
    assert_eq!(decode_table(&nan).unwrap()["d"], Value::Null);
    let latin1 = hex("8300000a 00017300 e9000000");
    assert_eq!(decode_table(&latin1).unwrap()["s"], json!("\u{fffd}"));
    let twice = hex("8500000c 00016100 00000001 8500000c 00016100 00000002");
    assert_eq!(decode_table(&twice).unwrap()["a"], json!(1));
    let huge = encode(&json!({"n": u64::MAX})).unwrap();
    assert_eq!(decode_table(&huge).unwrap()["n"], json!(u64::MAX as f64));
    let cut = encode(&json!({"s": "a\0b"})).unwrap();
    assert_eq!(decode_table(&cut).unwrap()["s"], json!("a"));
}

#[test]
fn malformed_bytes_are_refused() {
    let cases = [
        ("length below the header", "85000003"),
        ("length beyond the end", "85000010 00016100 00000001"),
        ("no room for the name length", "85000004"),
        ("name without its NUL", "8500000c 00016161 00000001"),
        ("name longer than the attribute", "8500000c 00ff6100 00000001"),
        ("int32 of two bytes", "8500000a 00016100 00000000"),
        ("string without NUL", "8300000a 00017300 68690000"),
        ("unknown type", "8900000c 00016100 00000001"),
    ];
    for (what, bytes) in cases {
        assert_eq!(decode_table(&hex(bytes)), Err(Malformed), "{what}");
    }
}

#[test]
fn nesting_is_limited_both_ways() {
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({ "t": inner }));
    let deepest = encode(&nested(MAX_DEPTH)).unwrap();
    assert!(decode_table(&deepest).is_ok());
    assert!(matches!(encode(&nested(MAX_DEPTH + 1)), Err(Error::TooDeep)));

    // A megabyte of tables in tables, as a hostile peer would send it.
    let mut writer = Writer::default();
    let marks: Vec<usize> = (0..80_000).map(|_| writer.open_named(kind::TABLE, "t")).collect();
    marks.into_iter().rev().for_each(|mark| writer.close(mark));
    assert_eq!(decode_table(&writer.into_bytes()), Err(Malformed));
}

#[test]
fn size_is_limited() {
    let long = "x".repeat(MAX_LENGTH);
    assert!(matches!(encode(&json!({ "s": long })), Err(Error::TooLarge)));
    let many: Vec<u32> = (0..100_000).collect();
    assert!(matches!(encode(&json!({ "l": many })), Err(Error::TooLarge)));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |f| f.is_finite()).prop_map(Value::from),
        "[^\\x00]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[^\\x00]{0,12}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_table_comes_back(map in prop::collection::btree_map("[^\\x00]{0,12}", any_json(), 0..8)) {
        let value = Value::Object(map.into_iter().collect());
        let bytes = encode(&value).unwrap();
        prop_assert_eq!(bytes.len() % 4, 0);
        prop_assert_eq!(Value::Object(decode_table(&bytes).unwrap()), value);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode_table(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        map in prop::collection::btree_map("[a-z]{0,6}", any_json(), 1..6),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&Value::Object(map.into_iter().collect())).unwrap();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = decode_table(&bytes);
    }
}

// SPDX-License-Identifier: Apache-2.0
use super::super::ArgType;
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn whole(bytes: &[u8]) -> Vec<Message> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

/// The bytes on the right are what libubus sends, recorded between the `ubus` command and a real ubusd.
#[test]
fn drafts_are_what_libubus_sends() {
    let data = |value: Value| encode_data(&value).unwrap();
    let methods = [
        ("alert_test", vec![("sink".to_owned(), ArgType::String), ("n".to_owned(), ArgType::Int32)]),
        ("no", vec![]),
    ];
    let signature = encode_signature(methods.iter().map(|(name, args)| (*name, args.as_slice())));
    let cases = [
        ("add an anonymous object", Draft::add_object(None, &[]), 1, "000600010000000000000004"),
        ("add an object", Draft::add_object(Some("test.o"), &signature), 1, "0006000100000000000000500200000b746573742e6f00000600004082000030000a616c6572745f746573740000000085000010000473696e6b0000000000038500000c00016e00000000058200000c00026e6f00000000"),
        ("remove an object", Draft::remove_object(0xe8dc_9790), 4, "00070004000000000000000c03000008e8dc9790"),
        ("look up", Draft::lookup("test.o"), 2, "0004000200000000000000100200000b746573742e6f0000"),
        ("invoke", Draft::invoke(0xe8dc_9790, "alert_test", &data(json!({"sink": "x"}))), 2, "00050002e8dc97900000003003000008e8dc97900400000f616c6572745f746573740000070000148300000e000473696e6b000078000000"),
        ("invoke without arguments", Draft::invoke(0xe8dc_9790, "no", &data(json!({}))), 2, "00050002e8dc97900000001803000008e8dc9790040000076e6f000007000004"),
        ("register a pattern", Draft::invoke(1, "register", &data(json!({"object": 0xd990_5286_u32 as i32, "pattern": "test.*"}))), 2, "00050002000000010000004c03000008000000010400000d726567697374657200000000070000308500001400066f626a65637400000000d99052868300001700077061747465726e000000746573742e2a0000"),
        ("answer with data", Draft::data(0xce22_e806, 0xe8dc_9790, &data(json!({"ok": true}))), 2, "00020002ce22e8060000002003000008e8dc9790070000148700000d00026f6b0000000001000000"),
        ("end an answer", Draft::status(0xce22_e806, 0xe8dc_9790, Status::Ok), 2, "00010002ce22e80600000014010000080000000003000008e8dc9790"),
        ("refuse", Draft::status(0xa88b_8d96, 0xe8dc_9790, Status::NotSupported), 2, "00010002a88b8d9600000014010000080000000803000008e8dc9790"),
        ("subscribe", Draft::subscribe(0xa1b3_5241, 0xe8dc_9790), 3, "00080003000000000000001403000008a1b3524108000008e8dc9790"),
        ("notify", Draft::notify(0xe8dc_9790, "news", &data(json!({"n": 1}))), 2, "000a0002e8dc97900000003003000008e8dc9790040000096e65777300000000070000108500000c00016e00000000010a00000501000000"),
    ];
    for (what, draft, seq, bytes) in cases {
        assert_eq!(draft.encode(seq).unwrap(), hex(bytes), "{what}");
    }
}

/// Recorded as above, in the other direction.
#[test]
fn what_ubusd_sends_is_understood() {
    let messages = whole(&hex(
        "00000000 659602d8 00000004
         00020001 00000000 00000014 03000008 e8dc9790 05000008 8ef0fabf
         00010001 00000000 0000000c 01000008 00000004
         00050002 ce22e806 00000048 03000008 e8dc9790 0400000f 616c6572 745f7465 73740000 0c000009 726f6f74 00000000
             0d000009 726f6f74 00000000 07000014 8300000e 00047369 6e6b0000 78000000
         000a0001 00000000 00000014 03000008 e8dc9790 09000005 01000000
         00090001 00000000 00000014 03000008 a1b35241 08000008 e8dc9790
         00050002 659602d8 00000048 0a000005 01000000 03000008 a1b35241 04000009 6e657773 00000000 0c000009 726f6f74
             00000000 0d000009 726f6f74 00000000 07000010 8500000c 00016e00 00000001",
    ));
    let kinds: Vec<_> = messages.iter().map(|m| (m.kind.unwrap(), m.seq, m.peer)).collect();
    let expected = [
        (Kind::Hello, 0, 0x6596_02d8),
        (Kind::Data, 1, 0),
        (Kind::Status, 1, 0),
        (Kind::Invoke, 2, 0xce22_e806),
        (Kind::Notify, 1, 0),
        (Kind::Unsubscribe, 1, 0),
        (Kind::Invoke, 2, 0x6596_02d8),
    ];
    assert_eq!(kinds, expected);
    let fields: Vec<_> = messages.iter().map(Message::fields).collect();
    assert_eq!(fields[0], Fields::default());
    assert_eq!(fields[1], Fields { object: Some(0xe8dc_9790), ..Fields::default() });
    assert_eq!(fields[2], Fields { status: Some(Status::NotFound), ..Fields::default() });
    assert_eq!((fields[3].method.as_deref(), fields[3].user.as_deref()), (Some("alert_test"), Some("root")));
    assert_eq!(decode_data(fields[3].data.unwrap()).unwrap(), json!({"sink": "x"}));
    assert_eq!((fields[4].object, fields[4].active), (Some(0xe8dc_9790), Some(true)));
    assert_eq!((fields[5].object, fields[5].target), (Some(0xa1b3_5241), Some(0xe8dc_9790)));
    assert_eq!((fields[6].method.as_deref(), fields[6].no_reply), (Some("news"), true));
}

#[test]
fn nothing_longer_than_a_mebibyte_leaves() {
    let data = vec![0; MAX_LENGTH];
    assert_eq!(Draft::data(1, 2, &data).encode(1), Err(Error::TooLarge));
    let longest = Draft::data(1, 2, &data[..MAX_LENGTH - 16]).encode(1).unwrap();
    assert_eq!(longest.len(), HEADER + MAX_LENGTH);
    assert_eq!(whole(&longest).len(), 1);
}

#[test]
fn frames_that_cannot_be_followed() {
    let fault = |bytes: &str| {
        let mut decoder = Decoder::default();
        decoder.feed(&hex(bytes));
        decoder.next()
    };
    assert_eq!(fault("01"), Ok(None));
    assert_eq!(fault("01020001 00000000"), Err(FrameFault::Version(1)));
    assert_eq!(fault("00020001 00000000 00000003"), Err(FrameFault::Length(3)));
    assert_eq!(fault("00020001 00000000 00100001"), Err(FrameFault::Length(MAX_LENGTH + 1)));
    assert_eq!(fault("00020001 00000000 00100000"), Ok(None));
}

#[test]
fn attributes_of_the_wrong_form_are_absent() {
    // Status of two bytes, path without NUL, flag of four bytes, an unknown attribute, then a right method.
    let bytes = "00050001 00000000 00000028 01000006 00010000 02000006 61620000 0a000008 00000001 63000004 04000006 6d000000";
    let messages = whole(&hex(bytes));
    assert_eq!(messages[0].fields(), Fields { method: Some("m".into()), ..Fields::default() });
}

#[test]
fn data_is_always_a_table() {
    let round = |value: Value| decode_data(&encode_data(&value).unwrap()).unwrap();
    assert_eq!(round(json!(null)), json!({}));
    assert_eq!(round(json!({"a": 1})), json!({"a": 1}));
    assert_eq!(round(json!([1, 2])), json!({"result": [1, 2]}));
    assert_eq!(round(json!("text")), json!({"result": "text"}));
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(cuts in prop::collection::vec(1usize..40, 1..200)) {
        let drafts = [
            Draft::lookup("test.*"),
            Draft::invoke(7, "method", &encode_data(&json!({"a": [1, 2, "three"]})).unwrap()),
            Draft::status(1, 2, Status::NoMemory),
            Draft::remove_object(3),
        ];
        let bytes: Vec<u8> = (1..).zip(drafts).flat_map(|(seq, draft)| draft.encode(seq).unwrap()).collect();
        let expected = whole(&bytes);
        let mut decoder = Decoder::default();
        let (mut messages, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            decoder.feed(chunk);
            while let Some(message) = decoder.next().unwrap() {
                messages.push(message);
            }
            rest = after;
        }
        prop_assert_eq!(messages, expected);
    }

    #[test]
    fn random_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
        let mut decoder = Decoder::default();
        for chunk in chunks {
            decoder.feed(&chunk);
            while let Ok(Some(message)) = decoder.next() {
                let fields = message.fields();
                let _ = decode_data(fields.data.unwrap_or_default());
            }
        }
    }
}

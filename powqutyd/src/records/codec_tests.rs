// SPDX-License-Identifier: Apache-2.0
//! Whatever is encoded comes back; whatever is damaged is passed over.

use super::super::{KEPT_ORDERS, TENS};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn means() -> impl Strategy<Value = Means> {
    (
        [0.0f32..500.0, 0.0f32..500.0, 0.0f32..500.0, 0.0f32..700.0],
        proptest::option::of(0.0f32..500.0),
        proptest::option::of(0.0f32..100.0),
        vec(proptest::option::of(0..UNKNOWN), KEPT_ORDERS),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |([voltage, voltage_min, voltage_max, duration_s], fundamental, thd, harmonics, flags)| Means {
                duration_s,
                voltage,
                voltage_min,
                voltage_max,
                fundamental,
                thd,
                harmonics: std::array::from_fn(|index| harmonics[index]),
                flagged: flags.0,
                partial: flags.1,
            },
        )
}

fn tenth() -> impl Strategy<Value = Tenth> {
    prop_oneof![Just(Tenth::Absent), Just(Tenth::Invalid), any::<i16>().prop_map(Tenth::Deviation)]
}

fn frequencies() -> impl Strategy<Value = Record> {
    (prop_oneof![Just(50), Just(60)], vec(tenth(), TENS)).prop_map(|(nominal, values)| {
        let values = std::array::from_fn(|index| values[index]);
        Record::Frequencies(Box::new(FrequencyBlock { nominal, values }))
    })
}

fn event(time_ms: i64) -> impl Strategy<Value = Record> {
    (0..4_usize, 0.0..1e6, any::<bool>(), proptest::option::of(0.0f32..500.0), (0..7_usize, 1..6_u8))
        .prop_map(move |(kind, duration_s, open, extreme, (row, column))| {
            let kind = crate::outputs::KINDS[kind];
            let detail =
                HarmonicDetail { order: 5, limit_percent: 6.0, value_percent: 8.25, share_percent: 12.5 };
            Record::Event(EventRecord {
                kind,
                start: Utc::from_millis(time_ms),
                duration_s,
                open,
                extreme_voltage: extreme.map(f64::from),
                extreme_percent: extreme.map(|volts| f64::from(volts / 4.0)),
                class: "ABCDXS".chars().nth(row).map(|row| Cell { row, column }),
                harmonic: (kind == EventKind::Harmonic).then_some(detail),
            })
        })
}

fn record(time_ms: i64) -> impl Strategy<Value = Record> {
    prop_oneof![
        means().prop_map(Record::TenMinutes),
        means().prop_map(Record::TwoHours),
        (any::<(bool, bool)>(), 0.0f32..20.0)
            .prop_map(|((long, flagged), value)| Record::Flicker(FlickerValue { long, value, flagged })),
        frequencies(),
        vec(proptest::option::of(any::<u16>()), 0..MOST_SIGNALLING + 1)
            .prop_map(|values| Record::Signalling(SignallingBlock { values })),
        event(time_ms),
        [0.0f32..100.0, 0.0f32..100.0, 0.0f32..100.0]
            .prop_map(|[duration_s, du_max, du_ss]| Record::Rvc(RvcRecord { duration_s, du_max, du_ss })),
        (0.0..1e8, any::<bool>())
            .prop_map(|(duration_s, power_loss)| Record::Outage(Outage { duration_s, power_loss })),
        Just(Record::Stop),
        Just(Record::SummarySent),
    ]
}

fn stamped() -> impl Strategy<Value = Stamped> {
    (0..4_000_000_000_000_i64)
        .prop_flat_map(|time_ms| record(time_ms).prop_map(move |record| Stamped { time_ms, record }))
}

fn encoded(records: &[Stamped]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| encode(record, &mut bytes));
    bytes
}

fn read(bytes: &[u8]) -> (Vec<Stamped>, u64, u64) {
    let mut records = Records::new(bytes);
    let read = records.by_ref().map(Result::unwrap).collect();
    (read, records.valid_end(), records.skipped())
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in vec(stamped(), 0..40)) {
        let bytes = encoded(&records);
        prop_assert_eq!(read(&bytes), (records, bytes.len() as u64, 0));
    }

    #[test]
    fn a_torn_end_costs_the_torn_record_only(records in vec(stamped(), 1..20), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&records);
        let cut = cut.index(bytes.len());
        let (back, end, _) = read(&bytes[..cut]);
        let whole = records.iter().scan(0, |size, record| {
            *size += encoded(std::slice::from_ref(record)).len();
            Some(*size)
        }).take_while(|&end| end <= cut).count();
        prop_assert_eq!(&back[..], &records[..whole]);
        prop_assert_eq!(end as usize, encoded(&records[..whole]).len());
    }

    #[test]
    fn damage_costs_the_damaged_records_only(
        records in vec(stamped(), 3..20), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let mut bytes = encoded(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let (back, ..) = read(&bytes);
        let mut end = 0;
        let hit = records.iter().position(|record| {
            end += encoded(std::slice::from_ref(record)).len();
            at < end
        }).unwrap();
        let mut others = records.clone();
        others.remove(hit);
        prop_assert_eq!(back, others);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in vec(any::<u8>(), 0..4000)) {
        let _ = read(&bytes);
    }

    /// A frame whose checksum is right may hold anything.
    #[test]
    fn any_payload_is_read_without_harm(kind in 0..14_u8, payload in vec(any::<u8>(), 0..300)) {
        let mut frame = (payload.len() as u16).to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(0_i64.to_le_bytes());
        frame.extend(payload);
        frame.extend(crc32(&frame).to_le_bytes());
        let size = frame.len();
        match decode(&frame) {
            Decoded::Frame(Some(record), used) => {
                prop_assert_eq!(used, size);
                let again = encoded(&[record]);
                prop_assert!(matches!(decode(&again), Decoded::Frame(Some(_), _)));
            }
            other => prop_assert_eq!(other, Decoded::Frame(None, size)),
        }
    }
}

#[test]
fn a_header_comes_back() {
    let header = Header {
        device: "my \"WeSense\"".to_owned(),
        host: "router".to_owned(),
        latitude: Some(52.52),
        ..Header::default()
    };
    let record = Stamped { time_ms: 1_795_170_325_717, record: Record::Header(Box::new(header)) };
    assert_eq!(read(&encoded(std::slice::from_ref(&record))).0, [record]);
}

/// An undisturbed week must stay small; what the documentation says about the size rests on it.
#[test]
fn a_slot_takes_under_two_hundred_bytes() {
    let values = std::array::from_fn(|index| Tenth::Deviation(40 - (index as i16 * 7) % 81));
    let harmonics = [Some(1234); KEPT_ORDERS];
    let means = Means {
        duration_s: 600.0,
        voltage: 231.2,
        voltage_min: 229.0,
        voltage_max: 233.0,
        fundamental: Some(231.0),
        thd: Some(2.0),
        harmonics,
        flagged: false,
        partial: false,
    };
    let slot = [
        Record::TenMinutes(means),
        Record::Frequencies(Box::new(FrequencyBlock { nominal: 50, values })),
        Record::Flicker(FlickerValue { long: false, value: 0.4, flagged: false }),
    ];
    let bytes: usize =
        slot.into_iter().map(|record| encoded(&[Stamped { time_ms: 1_795_170_000_000, record }]).len()).sum();
    assert!(bytes < 210, "{bytes}");
}

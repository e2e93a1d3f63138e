// SPDX-License-Identifier: Apache-2.0
//! The record file on disks that are full, gone, read-only or torn.

use super::super::{FlickerValue, Outage};
use super::*;

fn header() -> Header {
    Header { device: "d".to_owned(), host: "h".to_owned(), ..Header::default() }
}

fn file(path: PathBuf, limit: u64) -> RecordFile {
    RecordFile::new(path, limit, false, header())
}

fn pst(number: i64) -> Stamped {
    let value = FlickerValue { long: false, value: number as f32, flagged: false };
    Stamped { time_ms: number * 600_000, record: Record::Flicker(value) }
}

fn numbers(path: &Path) -> Vec<i64> {
    let records = read(path).unwrap().map(Result::unwrap);
    records.filter(|it| matches!(it.record, Record::Flicker(_))).map(|it| it.time_ms / 600_000).collect()
}

#[test]
fn a_torn_end_is_cut_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rec");
    let mut first = file(path.clone(), 1 << 20);
    (0..5).for_each(|number| assert_eq!(first.append(&pst(number)).1.unwrap(), 1));
    let whole = fs::read(&path).unwrap();
    for cut in 1..20 {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let mut second = file(path.clone(), 1 << 20);
        second.append(&pst(9)).1.unwrap();
        assert_eq!(numbers(&path), [0, 1, 2, 3, 9], "{cut}");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64, "nothing of the torn one is left");
        let headers =
            read(&path).unwrap().filter(|it| matches!(it.as_ref().unwrap().record, Record::Header(_)));
        assert_eq!(headers.count(), 1, "the header still holds");
    }
}

#[test]
fn a_file_without_any_record_is_set_aside_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photo.jpg");
    let photo: Vec<u8> = (0..9000u32).map(|at| (at * 31 % 251) as u8).collect();
    fs::write(&path, &photo).unwrap();
    file(path.clone(), 1 << 20).append(&pst(9)).1.unwrap();
    assert_eq!(numbers(&path), [9]);
    assert!(fs::read(dir.path().join("photo.jpg.unreadable")).unwrap() == photo);
}

#[test]
fn five_weeks_stay_and_the_size_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rec");
    let mut records = file(path.clone(), 4 << 20);
    let weeks = 23;
    for number in 0..weeks * 1008 {
        records.append(&pst(number)).1.unwrap();
        if number % 500 == 0 && number > 6 * 1008 {
            let kept = numbers(&path);
            assert!(kept.len() >= 5 * 1008 && kept.len() <= 10 * 1008 + 1, "{}", kept.len());
            assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert_eq!(kept.last(), Some(&number));
        }
    }
    let mut small = file(dir.path().join("small"), 10_000);
    for number in 0..5000 {
        small.append(&pst(number)).1.unwrap();
    }
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("small") + size("small.1") <= 10_000);
    assert_eq!(numbers(&dir.path().join("small")).last(), Some(&4999));
}

#[test]
fn records_wait_for_a_path_that_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let stick = dir.path().join("stick");
    let path = stick.join("rec");
    let mut records = file(path.clone(), 1 << 20);
    let error = records.append(&pst(0)).1.unwrap_err().to_string();
    assert!(error.contains("stick/rec: cannot write: "), "{error}");
    assert!(records.waits());
    fs::create_dir(&stick).unwrap();
    assert_eq!(records.append(&pst(1)).1.unwrap(), 2);
    assert_eq!(numbers(&path), [0, 1]);
    fs::remove_file(&path).unwrap();
    records.append(&pst(2)).1.unwrap();
    assert_eq!(numbers(&path), [2]);
}

#[test]
fn a_backlog_is_bounded_and_gives_up_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let stick = dir.path().join("stick");
    let mut records = file(stick.join("rec"), 1 << 20);
    let mut dropped = 0;
    for number in 0..6000 {
        let (lost, result) = records.append(&pst(number));
        assert!(result.is_err());
        dropped += i64::from(lost);
    }
    assert!(records.pending.len() <= BACKLOG && dropped > 0);
    fs::create_dir(&stick).unwrap();
    records.flush(0).unwrap();
    assert_eq!(numbers(&stick.join("rec")), (dropped..6000).collect::<Vec<_>>());
}

#[test]
fn a_changed_header_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rec");
    file(path.clone(), 1 << 20).append(&pst(0)).1.unwrap();
    let changed = Header { nominal_voltage: 400.0, ..header() };
    for number in 1..3 {
        let outage = Outage { duration_s: 1.0, power_loss: true };
        let record = Stamped { time_ms: number * 600_000, record: Record::Outage(outage) };
        RecordFile::new(path.clone(), 1 << 20, true, changed.clone()).append(&record).1.unwrap();
    }
    let voltages: Vec<f64> = read(&path)
        .unwrap()
        .filter_map(|record| match record.unwrap().record {
            Record::Header(header) => Some(header.nominal_voltage),
            _ => None,
        })
        .collect();
    assert_eq!(voltages, [230.0, 400.0]);
}

#[test]
fn without_either_half_there_is_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&dir.path().join("absent")).map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

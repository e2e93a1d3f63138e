// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::source::{InputKind, Speed};

fn read(options: &str) -> (Config, Vec<String>) {
    let lines: String = options.lines().map(|line| format!("\toption {}\n", line.trim())).collect();
    let text = format!("config powquty 'powquty'\n{lines}");
    let package = Package::parse(PACKAGE, text.as_bytes()).unwrap();
    let mut problems = Problems::new();
    let config = Config::read(&package, "router", &mut problems);
    (config, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn defaults_are_those_of_powquty_where_it_had_one() {
    let (config, problems) = read("");
    assert_eq!(problems, [""; 0]);
    assert_eq!(config.device.uuid, "BERTUB001");
    assert_eq!(config.logs.measurement_path, PathBuf::from("/tmp/powquty.log"));
    assert_eq!(config.logs.event_path, PathBuf::from("/tmp/powquty_event.log"));
    assert_eq!(config.input.kind, InputKind::Wesense { tty: "/dev/WeSense0".into() });
    assert_eq!((config.input.rate, config.input.speed), (10_240.0, Speed::Times(1.0)));
    let thresholds = config.grid.thresholds;
    assert_eq!((thresholds.dip, thresholds.swell, thresholds.interruption), (90.0, 110.0, 10.0));
    assert_eq!(config.telemetry.topic, None, "nothing is published without a broker");
    assert_eq!(config.telemetry.content.metadata, None);
}

#[test]
fn the_file_powquty_shipped_is_understood_without_a_remark() {
    let (config, problems) = read(
        "device_tty '/dev/WeSense0'\ndev_uuid 'my_WeSense'\ndev_lat '52.520008'\ndev_lon '13.404954'\ndev_acc '0'\n\
         dev_alt '0'\npowquty_path '/tmp/powquty.log'\npowquty_event_path '/tmp/powquty_event.log'\npowqutyd_print '1'\n\
         max_log_size_kb '409600'\nuse_metadata '0'\nmeta_comment ''\nmeta_operator ''\nmeta_reason ''\nmeta_typ ''\n\
         meta_id ''\nmeta_pahse ''\nmqtt_host 'localhost'\nmqtt_topic 'wesense/my_WeSense'\nmqtt_uname 'username'\n\
         mqtt_pw 'password'\nslack_webhook ''\nslack_channel '#general'\nslack_user 'PowQutyEvent'\nslack_notification '0'",
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(config.telemetry.topic.as_deref(), Some("wesense/my_WeSense"));
    assert!(config.telemetry.print);
    assert_eq!(config.logs.measurement_limit, 409_600 * 1024);
    assert_eq!(config.device.position.longitude, Some(13.404954));
}

#[test]
fn thresholds_that_contradict_each_other_fall_back_together() {
    let (config, problems) = read("dip_threshold '99'\nswell_threshold '101'");
    assert_eq!(config.grid.thresholds.dip, 90.0);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("powquty:powquty.hysteresis: 2: a dip would end at 101 %"),
        "{problems:?}"
    );
    let (config, problems) = read("dip_threshold '11'");
    assert_eq!(config.grid.thresholds.dip, 90.0);
    assert!(problems[0].starts_with("powquty:powquty.dip_threshold: 11: must be above"), "{problems:?}");
}

#[test]
fn inputs_need_what_they_read_from() {
    let (_, problems) = read("input 'file'");
    assert_eq!(problems, ["powquty:powquty.input_path: needed for input 'file': the recording to read"]);
    let (config, problems) =
        read("input 'file'\ninput_path '/mnt/x.csv'\ninput_speed 'max'\ninput_scale '0.5'");
    assert_eq!(problems, [""; 0]);
    let InputKind::File { format, scaling, .. } = config.input.kind else { panic!("{:?}", config.input) };
    assert_eq!((format, scaling.scale), (crate::source::decode::Format::Csv, 0.5));
    let (_, problems) = read("input_speed 'warp'");
    assert!(problems[0].contains("input_speed: warp: expected realtime, max"), "{problems:?}");
    let (_, problems) = read("simulator_script '/does/not/exist'");
    assert!(problems[0].contains("simulator_script: /does/not/exist: cannot read: "), "{problems:?}");
}

#[test]
fn the_raw_recording_is_small_in_memory() {
    let raw = |text: &str| read(text).0.raw;
    assert_eq!(raw(""), None);
    let limit = |text: &str| raw(text).map(|raw| raw.limit >> 20);
    assert_eq!((limit("raw_path '/tmp/raw'"), limit("raw_path '/mnt/usb/raw'")), (Some(4), Some(100)));
    let events = raw("raw_path '/mnt/raw'\nraw_size_kb '64'\nraw_mode 'events'\nraw_margin '500ms'").unwrap();
    let margin = std::time::Duration::from_millis(500);
    assert_eq!((events.limit, events.mode), (65_536, crate::raw::Mode::Events { margin }));
}

#[test]
fn both_logs_in_one_file_are_refused() {
    let (config, problems) = read("powquty_path '/tmp/a.log'\npowquty_event_path '/tmp/a.log'");
    assert_eq!(problems.len(), 1);
    assert_eq!(config.logs.event_path, PathBuf::from("/tmp/a_event.log"));
}

#[test]
fn unknown_options_are_remarks() {
    let (_, problems) = read("swel_threshold '115'");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("did you mean swell_threshold?")), "{problems:?}");
}

// SPDX-License-Identifier: Apache-2.0
//! Faults of the router itself, for every daemon.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::{ask, wait_for, Environment, PATIENCE};
use serde_json::{json, Value};

const DAEMONS: [(&str, &str); 3] =
    [("powqutyd", "powquty"), ("dynapoint", "dynapoint"), ("mptcp-proxy", "mptcp-proxy")];

/// Directories and a configuration that gives the daemon something to do.
fn environment(daemon: &str) -> Environment {
    let environment = Environment::new();
    let path = |name: &str| environment.data(name).display().to_string();
    fs::write(environment.data("grid"), "at 100ms dip 60 for 60ms\nrepeat 250ms").unwrap();
    let (package, text) = match daemon {
        "powqutyd" => (
            "powquty",
            format!(
                "config powquty 'powquty'\n\toption input 'simulator'\n\toption simulator_script '{}'\n\
                 \toption powquty_event_path '{}'\n\toption record_path '{}'\n\toption raw_path '{}'\n\
                 \toption outbox_path '{}'\n",
                path("grid"),
                path("events.csv"),
                path("records"),
                path("raw"),
                path("outbox"),
            ),
        ),
        "dynapoint" => (
            "dynapoint",
            format!(
                "config globals 'globals'\n\toption outbox_path '{}'\nconfig rule 'local'\n\toption interval '1'\n\
                 config check\n\toption rule 'local'\n\toption type 'carrier'\n\toption interface 'lo'\n",
                path("outbox")
            ),
        ),
        _ => ("mptcp-proxy", format!("config globals 'globals'\n\toption outbox_path '{}'\n", path("outbox"))),
    };
    environment.write_config(package, &text);
    environment
}

/// Events in the log of powqutyd.
fn events(environment: &Environment) -> usize {
    fs::read_to_string(environment.data("events.csv")).unwrap_or_default().lines().count()
}

/// A small file system; unmounted on drop.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, options: &str) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).status();
        assert!(done.is_ok_and(|status| status.success()), "mounting a tmpfs needs root");
        Self(at)
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "{options}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Every daemon starts where its socket has no room, works, and is asked for its status when there is some.
fn without_room_for_the_socket(full: &str, mended: &str) {
    for (daemon, _) in DAEMONS {
        let environment = environment(daemon);
        let disk = Disk::mount(environment.run_dir(), full);
        let process = environment.spawn(daemon);
        process.wait_for_log("there is no service socket until this has passed");
        if daemon == "powqutyd" {
            process.wait_for("events", || (events(&environment) > 2).then_some(()));
        }
        disk.remount(mended);
        process.wait_for_status("any answer", |status| status["version"].is_string());
        assert!(process.stop().success(), "{daemon}");
        assert!(!environment.socket(daemon).exists());
    }
}

#[test]
fn a_full_run_directory_stops_no_daemon() {
    without_room_for_the_socket("size=64k,nr_inodes=1", "nr_inodes=1000");
}

#[test]
fn a_read_only_run_directory_stops_no_daemon() {
    without_room_for_the_socket("size=64k,ro", "rw");
}

#[test]
fn foreign_and_torn_state_files_stop_no_daemon_and_are_kept() {
    let rubbish: Vec<u8> = (0..70_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for (daemon, _) in DAEMONS {
        let environment = environment(daemon);
        let state = ["outbox", "records", "raw", "events.csv"].map(|name| environment.data(name));
        let own = ["mptcp-proxy.endpoints", "dynapoint"].map(|name| environment.run_dir().join(name));
        for path in state.iter().chain(&own) {
            fs::write(path, &rubbish).unwrap();
        }
        fs::create_dir(environment.data("records.waveforms")).unwrap();
        fs::write(environment.data("records.waveforms/1-2.wave"), &rubbish).unwrap();
        let process = environment.spawn(daemon);
        process.wait_for_status("any answer", |status| status["version"].is_string());
        if daemon == "powqutyd" {
            let read = || powqutyd::records::file::read(&environment.data("records")).ok();
            process.wait_for("events among new records", || {
                let is_event = |it: &powqutyd::records::Stamped| {
                    matches!(it.record, powqutyd::records::Record::Event(_))
                };
                read()?.flatten().find(is_event)
            });
            let kept = fs::read(environment.data("records.unreadable")).unwrap();
            assert!(kept == rubbish, "a file of somebody else was changed");
            assert!(
                fs::read(environment.data("raw")).unwrap() == rubbish,
                "a file of somebody else was changed"
            );
        }
        process.kill();
    }
}

#[test]
fn without_descriptors_the_work_goes_on_and_the_status_comes_back() {
    for (daemon, _) in DAEMONS {
        let environment = environment(daemon);
        let process = environment.spawn(daemon);
        process.wait_for_status("a start", |status| status["version"].is_string());
        if daemon == "powqutyd" {
            process.wait_for("events", || (events(&environment) > 0).then_some(()));
        }
        let taken = process.descriptors();
        let most = (0..).filter(|number| !taken.contains(number)).nth(4).unwrap();
        let pid = process.pid().to_string();
        let limit = |limit: u32| {
            let set = format!("--nofile={limit}:{limit}");
            assert!(Command::new("prlimit").args(["--pid", &pid, &set]).status().unwrap().success());
        };
        limit(most);
        let held: Vec<_> =
            (0..16).map(|_| UnixStream::connect(environment.socket(daemon)).unwrap()).collect();
        process.wait_for_log("cannot accept on the service socket");
        if daemon == "powqutyd" {
            let before = events(&environment);
            process.wait_for("further events", || (events(&environment) > before + 2).then_some(()));
        }
        drop(held);
        process.wait_for_status("an answer again", |status| status["version"].is_string());
        if daemon == "powqutyd" {
            let status = process.call("status", &json!({})).unwrap();
            assert_eq!(status["source"]["faults"]["missing_samples"], 0);
        }
        let said = process.log().matches("cannot accept on the service socket").count();
        assert!(said < 20, "{daemon} said it {said} times");
        assert!(process.stop().success(), "{daemon}");
    }
}

/// A control group with little memory; removed on drop.
struct Group(PathBuf);

impl Group {
    /// `None` where this machine does not let us make one.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("lab-{}-{bytes}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup").join(&name);
        let first = Path::new("/sys/fs/cgroup/memory").join(&name);
        let has = |controllers: &str| {
            fs::read_to_string(controllers)
                .is_ok_and(|text| text.split_whitespace().any(|word| word == "memory"))
        };
        let (group, file) = if has("/sys/fs/cgroup/cgroup.subtree_control") {
            (unified, "memory.max")
        } else if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
            (first, "memory.limit_in_bytes")
        } else {
            return None;
        };
        fs::create_dir(&group).ok()?;
        let group = Self(group);
        fs::write(group.0.join(file), bytes.to_string()).ok()?;
        Some(group)
    }

    fn put(&self, pid: u32) -> bool {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes are gone, which the kernel notices a moment later.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn where_another_process_eats_the_memory_the_daemons_stay() {
    for (daemon, _) in DAEMONS {
        let environment = environment(daemon);
        let Some(group) = Group::new(48 << 20) else {
            eprintln!("not tested here: no control group can be made");
            return;
        };
        let process = environment.spawn(daemon);
        process.wait_for_status("a start", |status| status["version"].is_string());
        assert!(group.put(process.pid()));
        // Grows without end from within the group, first in the kernel's list of whom to end.
        let script = "echo 1000 >/proc/self/oom_score_adj; read go; exec tail /dev/zero";
        let mut eater = Eater(
            Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        assert!(group.put(eater.0.id()));
        drop(eater.0.stdin.take());
        let ended = wait_for("the eater's end", PATIENCE, || eater.0.try_wait().unwrap());
        assert!(!ended.success(), "it was not stopped by the limit: {ended}");
        let before = events(&environment);
        process.wait_for_status("an answer", |status| status["version"].is_string());
        if daemon == "powqutyd" {
            process.wait_for("further events", || (events(&environment) > before + 2).then_some(()));
        }
        assert!(process.stop().success(), "{daemon}");
    }
}

/// A child that is killed on drop.
struct Eater(Child);

impl Drop for Eater {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts a process on one core.
fn pin(pid: u32, core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    // All of its threads.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let thread = task.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::thread::sched_setaffinity(thread, &set);
    }
}

#[test]
fn beside_busy_processes_on_their_only_core_the_daemons_work_and_answer() {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let core = (0..1024).find(|&core| allowed.is_set(core)).unwrap();
    for (daemon, _) in DAEMONS {
        let environment = environment(daemon);
        let process = environment.spawn(daemon);
        process.wait_for_status("a start", |status| status["version"].is_string());
        pin(process.pid(), core);
        let busy: Vec<Eater> = (0..2)
            .map(|_| {
                let busy = Eater(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
                pin(busy.0.id(), core);
                busy
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(3);
        let mut answers = 0;
        while Instant::now() < until {
            let asked = Instant::now();
            let status: Value = ask(&environment.socket(daemon), "status", &Value::Null).unwrap();
            assert!(asked.elapsed() < Duration::from_secs(20), "{daemon}");
            answers += u32::from(status["version"].is_string());
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(answers > 0);
        let status = process.call("status", &json!({})).unwrap();
        match daemon {
            "powqutyd" => {
                // What could not be analysed in time is counted, never silently gone.
                let source = &status["source"];
                let lost = source["faults"]["lost_frames"].as_u64().unwrap();
                assert_eq!(
                    source["samples"].as_u64().unwrap(),
                    source["frames"].as_u64().unwrap() * 64,
                    "{lost}"
                );
                process.wait_for("events", || (events(&environment) > 0).then_some(()));
            }
            "dynapoint" => assert_eq!(status["rules"][0]["state"], "online", "{status:#}"),
            _ => {}
        }
        drop(busy);
        assert!(process.stop().success(), "{daemon}");
    }
}

/// A step of the clock cannot move what does not look at it: whatever these modules decide, they decide by `Instant`.
#[test]
fn no_decision_of_dynapoint_or_mptcp_proxy_looks_at_the_calendar() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let deciding = [
        "dynapoint/src/rule.rs",
        "dynapoint/src/round.rs",
        "dynapoint/src/verdict.rs",
        "dynapoint/src/wireless/plan.rs",
        "dynapoint/src/probe/run.rs",
        "mptcp-proxy/src/path/health.rs",
        "mptcp-proxy/src/path/mod.rs",
        "mptcp-proxy/src/session.rs",
        "mptcp-proxy/src/server.rs",
        "mptcp-proxy/src/upstream.rs",
        "mptcp-proxy/src/relay.rs",
        "mptcp-proxy/src/udp/exit.rs",
    ];
    for file in deciding {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for word in ["SystemTime", "OffsetDateTime", "UNIX_EPOCH", "CLOCK_REALTIME"] {
            assert!(!text.contains(word), "{file} has {word}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A double of hostapd's control interface: one radio, its BSSes as veth devices whose carrier is on while they would
//! send beacons. It proves what is asked of hostapd and in which order; what hostapd makes of it is proven on a real
//! one, in `tests/wifi.rs`.
//!
//! Its oddities are those of hostapd 2.10: `STOP_AP` silences the first BSS whatever socket it comes by, and `REMOVE`
//! of the first BSS takes the radio down.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Netns;

/// A double of hostapd with one radio, `phy0`; ends and takes its devices away on drop.
#[derive(Debug)]
pub struct HostapdDouble {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    namespace: String,
    directory: PathBuf,
    radio: Mutex<Radio>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Radio {
    bsses: Vec<Bss>,
    clients: HashMap<String, u32>,
    log: Vec<String>,
}

#[derive(Debug, Clone)]
struct Bss {
    ifname: String,
    ssid: Vec<u8>,
    /// What `SET` said and `UPDATE_BEACON` has not put on the air yet.
    next_ssid: Vec<u8>,
    beaconing: bool,
}

impl HostapdDouble {
    /// Starts in a namespace with these BSSes (device, SSID) on the air, its sockets in `<run_dir>/hostapd`; writes
    /// `<run_dir>/hostapd-phy0.conf` as netifd does.
    pub fn start(namespace: &Netns, run_dir: &Path, bsses: &[(&str, &str)]) -> Self {
        let directory = run_dir.join("hostapd");
        fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut config = "driver=nl80211\nhw_mode=g\nchannel=6\n".to_owned();
        for (index, (ifname, ssid)) in bsses.iter().enumerate() {
            let word = if index == 0 { "interface" } else { "bss" };
            config
                .push_str(&format!("{word}={ifname}\nctrl_interface={}\nssid={ssid}\n", directory.display()));
        }
        let file = run_dir.join("hostapd-phy0.conf");
        fs::write(&file, config).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shared = Arc::new(Shared {
            namespace: namespace.name().to_owned(),
            directory,
            radio: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        for (ifname, ssid) in bsses {
            shared.ip(&format!("link add {ifname} type veth peer name {ifname}-air"));
            shared.ip(&format!("link set {ifname} up"));
            shared.ip(&format!("link set {ifname}-air up"));
            let ssid = ssid.as_bytes().to_vec();
            shared.radio().bsses.push(Bss {
                ifname: (*ifname).to_owned(),
                next_ssid: ssid.clone(),
                ssid,
                beaconing: true,
            });
        }
        let names = bsses.iter().map(|(ifname, _)| (*ifname).to_owned()).chain(["global".to_owned()]);
        // Abstract addresses, to which it answers, belong to a network namespace as well.
        let threads = names
            .map(|name| {
                let socket = namespace.enter(|| shared.bind(&name));
                shared.serve(name, socket)
            })
            .collect();
        Self { shared, threads }
    }

    /// Names on the air, sorted.
    pub fn on_air(&self) -> Vec<String> {
        let radio = self.shared.radio();
        let beaconing = radio.bsses.iter().filter(|bss| bss.beaconing);
        let mut names: Vec<String> =
            beaconing.map(|bss| String::from_utf8_lossy(&bss.ssid).into_owned()).collect();
        names.sort();
        names
    }

    /// Commands it was given so far, each behind the name of its socket.
    pub fn commands(&self) -> Vec<String> {
        self.shared.radio().log.clone()
    }

    /// Lets a BSS have so many clients.
    pub fn set_clients(&self, ifname: &str, count: u32) {
        self.shared.radio().clients.insert(ifname.to_owned(), count);
    }

    /// What `wifi reload` does: every BSS is there again, as configured.
    pub fn reset(&self, bsses: &[(&str, &str)]) {
        for (ifname, ssid) in bsses {
            let _ = self.shared.add(ifname, ssid.as_bytes());
        }
    }
}

impl Drop for HostapdDouble {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let names: Vec<String> = self.shared.radio().bsses.iter().map(|bss| bss.ifname.clone()).collect();
        for name in names {
            self.shared.try_ip(&format!("link del {name}"));
        }
    }
}

impl Shared {
    fn radio(&self) -> MutexGuard<'_, Radio> {
        self.radio.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn bind(&self, name: &str) -> UnixDatagram {
        let path = self.directory.join(name);
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout above zero");
        socket
    }

    fn serve(self: &Arc<Self>, name: String, socket: UnixDatagram) -> JoinHandle<()> {
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let mut command = [0; 4096];
            while !shared.stopping.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut command) else { continue };
                let command = String::from_utf8_lossy(&command[..length]).into_owned();
                let reply = shared.answer(&name, &command);
                let _ = socket.send_to_addr(reply.as_bytes(), &from);
            }
        })
    }

    fn answer(&self, socket: &str, command: &str) -> String {
        if command != "STATUS" {
            self.radio().log.push(format!("{socket}: {command}"));
        }
        if socket == "global" {
            return verdict(self.global(command));
        }
        if !self.radio().bsses.iter().any(|bss| bss.ifname == socket) {
            // A BSS that was removed has no socket; ours stays bound, and silent would only slow the test down.
            return "FAIL\n".to_owned();
        }
        match command.split_once(' ').unwrap_or((command, "")) {
            ("STATUS", _) => self.status(),
            ("SET", argument) => verdict(self.set(socket, argument)),
            ("UPDATE_BEACON", _) => verdict(self.update_beacon(socket)),
            ("STOP_AP", _) => verdict(self.stop_first()),
            ("DEAUTHENTICATE", "ff:ff:ff:ff:ff:ff") => {
                self.radio().clients.remove(socket);
                "OK\n".to_owned()
            }
            ("RELOAD_WPA_PSK" | "REKEY_GTK", _) => "OK\n".to_owned(),
            ("RELOAD" | "DISABLE" | "ENABLE", _) => panic!("{command} disturbs every BSS of the radio"),
            _ => "UNKNOWN COMMAND\n".to_owned(),
        }
    }

    fn status(&self) -> String {
        let radio = self.radio();
        let mut text = "state=ENABLED\nphy=phy0\nfreq=2437\ncac_time_left_seconds=N/A\n".to_owned();
        for (index, bss) in radio.bsses.iter().enumerate() {
            let ssid: String = bss
                .ssid
                .iter()
                .map(|byte| match byte {
                    32..=126 if *byte != b'\\' && *byte != b'"' => char::from(*byte).to_string(),
                    other => format!("\\x{other:02x}"),
                })
                .collect();
            let clients = radio.clients.get(&bss.ifname).copied().unwrap_or(0);
            text.push_str(&format!(
                "bss[{index}]={}\nbssid[{index}]=02:00:00:00:00:0{index}\nssid[{index}]={ssid}\nnum_sta[{index}]={clients}\n",
                bss.ifname
            ));
        }
        text
    }

    fn set(&self, ifname: &str, argument: &str) -> Option<()> {
        let ssid = match argument.split_once(' ')? {
            ("ssid2", hex) => from_hex(hex)?,
            ("ssid", name) => name.as_bytes().to_vec(),
            ("wpa_passphrase", key) => return (8..=63).contains(&key.len()).then_some(()),
            _ => return None,
        };
        if ssid.len() > 32 {
            return None;
        }
        let mut radio = self.radio();
        radio.bsses.iter_mut().find(|bss| bss.ifname == ifname)?.next_ssid = ssid;
        Some(())
    }

    fn update_beacon(&self, ifname: &str) -> Option<()> {
        let mut radio = self.radio();
        let bss = radio.bsses.iter_mut().find(|bss| bss.ifname == ifname)?;
        bss.ssid = bss.next_ssid.clone();
        bss.beaconing = true;
        drop(radio);
        self.ip(&format!("link set {ifname}-air up"));
        Some(())
    }

    fn stop_first(&self) -> Option<()> {
        let mut radio = self.radio();
        let first = radio.bsses.first_mut()?;
        first.beaconing = false;
        let ifname = first.ifname.clone();
        drop(radio);
        self.ip(&format!("link set {ifname}-air down"));
        Some(())
    }

    fn global(&self, command: &str) -> Option<()> {
        if let Some(ifname) = command.strip_prefix("REMOVE ") {
            let mut radio = self.radio();
            let index = radio.bsses.iter().position(|bss| bss.ifname == ifname)?;
            assert!(index > 0, "removing the first BSS takes the radio down");
            radio.bsses.remove(index);
            drop(radio);
            self.ip(&format!("link del {ifname}"));
            return Some(());
        }
        let file = command.strip_prefix("ADD bss_config=phy0:")?;
        // `data:` is OpenWrt's addition.
        let config = match file.strip_prefix("data:") {
            Some(config) => config.to_owned(),
            None => fs::read_to_string(file).ok()?,
        };
        let value = |key: &str| config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let ssid = from_hex(value("ssid2")?)?;
        if value("ctrl_interface").map(Path::new) != Some(&self.directory) {
            return None;
        }
        self.add(value("interface")?, &ssid)
    }

    fn add(&self, ifname: &str, ssid: &[u8]) -> Option<()> {
        let mut radio = self.radio();
        if let Some(bss) = radio.bsses.iter_mut().find(|bss| bss.ifname == ifname) {
            ssid.clone_into(&mut bss.ssid);
            ssid.clone_into(&mut bss.next_ssid);
            bss.beaconing = true;
        } else {
            self.ip(&format!("link add {ifname} type veth peer name {ifname}-air"));
            self.ip(&format!("link set {ifname} up"));
            let (ifname, ssid) = (ifname.to_owned(), ssid.to_vec());
            radio.bsses.push(Bss { ifname, next_ssid: ssid.clone(), ssid, beaconing: true });
        }
        drop(radio);
        self.ip(&format!("link set {ifname}-air up"));
        Some(())
    }

    fn ip(&self, arguments: &str) {
        assert!(self.try_ip(arguments), "ip {arguments}");
    }

    fn try_ip(&self, arguments: &str) -> bool {
        let status = Command::new("ip")
            .args(["-n", &self.namespace])
            .args(arguments.split_whitespace())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }
}

fn verdict(outcome: Option<()>) -> String {
    if outcome.is_some() { "OK\n" } else { "FAIL\n" }.to_owned()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

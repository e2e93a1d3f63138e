// SPDX-License-Identifier: Apache-2.0
//! Reads what is on the air and carries out the planner's steps.
//!
//! Three sources say what there is: netifd (which section has which device), hostapd (which BSSes it has, under which
//! name, with how many clients) and the carrier of the device, which is on exactly while the BSS sends beacons.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use openwrt::small_map::SmallMap;
use openwrt::ubus;
use serde_json::{json, Value};

use super::bss_config::{cut_out, devices};
use super::hostapd::{hex, Command, Control, Error, Status, GLOBAL};
use super::plan::{Air, Presence, Secret, Slot, Step};
use crate::config::ManagedAp;
use crate::ssid::Ssid;

const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

/// The way to the air.
#[derive(Debug)]
pub struct Radio {
    run_dir: PathBuf,
    hostapd_dir: PathBuf,
    /// Section → device, as netifd has it.
    devices: SmallMap<String, String>,
    /// Whether `devices` has to be read again.
    stale: bool,
    /// Radio that netifd is still setting up → reason.
    pending: SmallMap<String, String>,
    /// BSSID that a device had when it was last seen.
    addresses: SmallMap<String, String>,
    /// phy of a `wifi-device`.
    phys: SmallMap<String, String>,
    /// Why hostapd could not be asked, though it is there.
    trouble: RefCell<Option<String>>,
}

/// What was seen: for the planner, and for status.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// For the planner.
    pub air: Air,
    /// Sections without a slot.
    pub missing: Vec<Missing>,
    /// Why not everything could be seen that may be there.
    pub trouble: Option<String>,
}

/// A section that hostapd has nothing for.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Name of the section.
    pub section: String,
    /// The device it is to have, where that is known.
    pub ifname: Option<String>,
    /// Why, in words.
    pub reason: &'static str,
}

impl Radio {
    /// hostapd's sockets are below `<run_dir>/hostapd`.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            hostapd_dir: run_dir.join("hostapd"),
            devices: SmallMap::new(),
            stale: true,
            pending: SmallMap::new(),
            addresses: SmallMap::new(),
            phys: SmallMap::new(),
            trouble: RefCell::new(None),
        }
    }

    /// netifd's devices may have moved.
    pub fn invalidate(&mut self) {
        self.stale = true;
    }

    /// Looks at what is there for these access points.
    pub async fn look(&mut self, aps: &[ManagedAp], netifd: &ubus::Client) -> Sight {
        if self.stale {
            self.ask_netifd(netifd).await;
        }
        let mut sight = Sight::default();
        let mut seen: Vec<Status> = Vec::new();
        for managed in aps {
            let radio = managed.ap.radio.as_str();
            if let Some(reason) = self.pending.get(radio) {
                sight.busy(radio, reason.clone());
            }
            let device = self.devices.get(&managed.ap.section).or(managed.ifname.as_ref()).cloned();
            let Some(ifname) = device else {
                sight.miss(managed, None, "netifd has no device for it");
                continue;
            };
            let status = match seen.iter().find(|status| status.bsses.iter().any(|bss| bss.ifname == ifname))
            {
                Some(status) => Some(status.clone()),
                None => self.status(&ifname).await,
            };
            // A BSS that hostapd does not have was taken out if its radio has others; else the radio is off.
            let radio_status = match &status {
                Some(status) => Some(status.clone()),
                None => self.sibling_status(&ifname).await,
            };
            let Some(radio_status) = radio_status else {
                sight.miss(
                    managed,
                    Some(ifname),
                    "hostapd has neither this BSS nor another one of its radio",
                );
                continue;
            };
            if let Some(reason) = radio_status.busy() {
                sight.busy(radio, reason);
            }
            self.remember(radio, &radio_status);
            sight.air.slots.push(slot(&managed.ap.section, &ifname, status.as_ref()));
            seen.extend(status);
        }
        sight.trouble = self.trouble.take();
        sight
    }

    /// What a BSS needs to be put back later.
    fn remember(&mut self, radio: &str, status: &Status) {
        if !status.phy.is_empty() {
            self.phys.insert(radio.to_owned(), status.phy.clone());
        }
        for bss in status.bsses.iter().filter(|bss| !bss.bssid.is_empty()) {
            self.addresses.insert(bss.ifname.clone(), bss.bssid.clone());
        }
    }

    async fn sibling_status(&self, ifname: &str) -> Option<Status> {
        let (_, config) = self.radio_configs().find(|(_, text)| devices(text).any(|name| name == ifname))?;
        for sibling in devices(&config).filter(|name| *name != ifname) {
            if let Some(status) = self.status(sibling).await {
                return Some(status);
            }
        }
        None
    }

    async fn status(&self, ifname: &str) -> Option<Status> {
        let control = match Control::connect(&self.hostapd_dir, ifname) {
            Ok(control) => control,
            Err(error) => {
                if !error.is_absence() {
                    *self.trouble.borrow_mut() = Some(format!("{ifname}: {error}"));
                }
                return None;
            }
        };
        let status = Status::parse(&control.ask("STATUS").await.ok()?);
        status.bsses.iter().any(|bss| bss.ifname == ifname).then_some(status)
    }

    async fn ask_netifd(&mut self, netifd: &ubus::Client) {
        if !netifd.is_connected() {
            // Asked again as soon as something happens; without ubus the configuration's `ifname` counts.
            return;
        }
        match netifd.call("network.wireless", "status", &json!({})).await {
            Ok(status) => {
                (self.devices, self.pending) = read_netifd(&status);
                self.stale = false;
            }
            Err(error) => {
                openwrt::log_repeated!(log::Level::Info, "netifd does not tell its access points: {error}");
            }
        }
    }

    /// Carries out one step and gives when hostapd had confirmed it; clients are told afterwards.
    ///
    /// # Errors
    /// Why not; the next look shows what became of it.
    pub async fn carry_out(&self, step: &Step) -> Result<Instant, String> {
        let done = |()| Instant::now();
        match step {
            Step::Rename { ifname, ssid, passphrase } => {
                // Without this the clients of the BSS, and of no other, would stay until they try to send.
                let last = ("DEAUTHENTICATE", format!("DEAUTHENTICATE {BROADCAST}"));
                self.name(ifname, ssid, passphrase.as_ref(), last).await
            }
            Step::Resume { ifname, ssid, passphrase } => {
                // Stopping took the group key from the driver; a BSS without one refuses, which is right.
                self.name(ifname, ssid, passphrase.as_ref(), ("REKEY_GTK", "REKEY_GTK".to_owned())).await
            }
            Step::Silence { ifname } => {
                let control = self.control(ifname)?;
                deauthenticate(&control).await;
                control.order("STOP_AP", "STOP_AP").await.map(done).map_err(say)
            }
            Step::Remove { ifname } => {
                let global = self.control(GLOBAL)?;
                if let Ok(control) = self.control(ifname) {
                    deauthenticate(&control).await;
                }
                global.order("REMOVE", &format!("REMOVE {ifname}")).await.map(done).map_err(say)
            }
            Step::Add { ifname, ssid, radio } => self.add(ifname, ssid, radio).await.map(done),
        }
    }

    /// The name, its key and the beacon that tells them, in one go: who is to see the new name does not wait for four
    /// answers. Gives when the beacon was confirmed; `last` follows it and may fail.
    async fn name(
        &self,
        ifname: &str,
        ssid: &Ssid,
        passphrase: Option<&Secret>,
        last: Command,
    ) -> Result<Instant, String> {
        let control = self.control(ifname)?;
        let mut commands = naming(ssid, passphrase);
        commands.push(last);
        control.send_all(&commands).await.map_err(say)?;
        let mut confirmed = Instant::now();
        let mut refused = None;
        for (index, (name, _)) in commands.iter().enumerate() {
            match control.confirmed(name).await {
                Ok(()) if index + 1 < commands.len() => confirmed = Instant::now(),
                Ok(()) => {}
                Err(_) if *name == "REKEY_GTK" => {}
                Err(error) if index + 1 == commands.len() => log::info!("{ifname}: {error}"),
                // Each has an answer, and what comes after a refusal must not be taken for the next one's.
                Err(error @ Error::Refused(..)) => refused = refused.or(Some(error)),
                Err(error) => return Err(say(error)),
            }
        }
        refused.map_or(Ok(confirmed), |error| Err(say(error)))
    }

    fn control(&self, name: &str) -> Result<Control, String> {
        Control::connect(&self.hostapd_dir, name).map_err(|error| format!("{name}: {error}"))
    }

    async fn add(&self, ifname: &str, ssid: &Ssid, radio: &str) -> Result<(), String> {
        let bssid = self.addresses.get(ifname).map(String::as_str);
        let config = self
            .radio_configs()
            .find_map(|(file, text)| Some((file, cut_out(&text, ifname, ssid, bssid)?)))
            .ok_or_else(|| format!("no {}/hostapd-*.conf describes {ifname}", self.run_dir.display()))?;
        let (file, config) = config;
        // hostapd-phy0.conf is that of phy0.
        let phy = self.phys.get(radio).cloned().or_else(|| {
            let name = file.file_stem()?.to_str()?.strip_prefix("hostapd-")?;
            Some(name.to_owned())
        });
        let phy = phy.ok_or_else(|| format!("the phy of {radio} is not known"))?;
        let global = self.control(GLOBAL)?;
        let written = self.write_config(ifname, &config);
        let answer = match &written {
            Ok(path) => global.order("ADD", &format!("ADD bss_config={phy}:{}", path.display())).await,
            Err(_) => Err(Error::Refused("ADD", String::new())),
        };
        let answer = match answer {
            // OpenWrt's hostapd sees nothing of our files in its jail, but takes a configuration as it is.
            Err(Error::Refused(..)) => {
                global.order("ADD", &format!("ADD bss_config={phy}:data:{config}")).await
            }
            answer => answer,
        };
        match (written, answer) {
            (Ok(path), answer) => {
                let _ = fs::remove_file(&path);
                answer.map_err(say)
            }
            (Err(_), Ok(())) => Ok(()),
            (Err(error), Err(refused)) => {
                let directory = self.run_dir.join("dynapoint");
                Err(format!("{}: {error}; and without a file: {refused}", directory.display()))
            }
        }
    }

    /// The radios' configurations as netifd wrote them.
    fn radio_configs(&self) -> impl Iterator<Item = (PathBuf, String)> {
        const MAX_CONFIG: u64 = 256 * 1024;
        let entries = fs::read_dir(&self.run_dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with("hostapd-") && name.ends_with(".conf")
            })
            .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_CONFIG))
            .collect();
        files.sort_unstable();
        files.into_iter().filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
    }

    /// The file holds a key: only root may read it, and it goes as soon as hostapd has it.
    fn write_config(&self, ifname: &str, text: &str) -> io::Result<PathBuf> {
        use std::io::Write;
        let directory = self.run_dir.join("dynapoint");
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = directory.join(format!("{ifname}.conf"));
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all(text.as_bytes()) {
            // Half a file is of no use, and it may hold half a key.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }
}

impl Sight {
    fn miss(&mut self, managed: &ManagedAp, ifname: Option<String>, reason: &'static str) {
        self.missing.push(Missing { section: managed.ap.section.clone(), ifname, reason });
    }

    fn busy(&mut self, radio: &str, reason: String) {
        if !self.air.busy.iter().any(|(known, _)| known == radio) {
            self.air.busy.push((radio.to_owned(), reason));
        }
    }
}

fn slot(section: &str, ifname: &str, status: Option<&Status>) -> Slot {
    let found = status.and_then(|status| status.bsses.iter().position(|bss| bss.ifname == ifname));
    let bss = found.and_then(|index| status.and_then(|status| status.bsses.get(index)));
    Slot {
        section: section.to_owned(),
        ifname: ifname.to_owned(),
        presence: match bss {
            None => Presence::Removed,
            Some(_) if has_carrier(ifname) => Presence::Beaconing,
            Some(_) => Presence::Silent,
        },
        ssid: bss.and_then(|bss| Ssid::from_bytes(&bss.ssid)),
        clients: bss.map_or(0, |bss| bss.clients),
        first: found == Some(0),
    }
}

/// The kernel sets an access point's carrier when beacons start and clears it when they stop (cfg80211).
fn has_carrier(ifname: &str) -> bool {
    fs::read(format!("/sys/class/net/{ifname}/carrier")).is_ok_and(|text| text.first() == Some(&b'1'))
}

/// The MAC address of a device.
#[must_use]
pub fn mac_address(ifname: &str) -> Option<[u8; 6]> {
    let text = fs::read_to_string(format!("/sys/class/net/{ifname}/address")).ok()?;
    let mut bytes = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// `network.wireless status`: per radio its state and its interfaces, each with section and device.
pub fn read_netifd(status: &Value) -> (SmallMap<String, String>, SmallMap<String, String>) {
    let (mut devices, mut pending) = (SmallMap::new(), SmallMap::new());
    for (radio, state) in status.as_object().into_iter().flatten() {
        let flag = |key: &str| state.get(key).and_then(Value::as_bool).unwrap_or(false);
        if flag("pending") {
            pending.insert(radio.clone(), "netifd is setting the radio up".to_owned());
        }
        let interfaces = state.get("interfaces").and_then(Value::as_array);
        for interface in interfaces.into_iter().flatten() {
            let text = |key: &str| interface.get(key).and_then(Value::as_str);
            if let (Some(section), Some(ifname)) = (text("section"), text("ifname")) {
                devices.insert(section.to_owned(), ifname.to_owned());
            }
        }
    }
    (devices, pending)
}

/// What gives a running BSS another name.
fn naming(ssid: &Ssid, passphrase: Option<&Secret>) -> Vec<Command> {
    let mut commands = vec![("SET ssid2", format!("SET ssid2 {}", hex(ssid.as_bytes())))];
    if let Some(Secret(passphrase)) = passphrase {
        commands.push(("SET wpa_passphrase", format!("SET wpa_passphrase {passphrase}")));
        commands.push(("RELOAD_WPA_PSK", "RELOAD_WPA_PSK".to_owned()));
    }
    commands.push(("UPDATE_BEACON", "UPDATE_BEACON".to_owned()));
    commands
}

/// Tells the clients of this BSS, and of no other, that it is over; without it they would stay until they try to send.
async fn deauthenticate(control: &Control) {
    if let Err(error) = control.order("DEAUTHENTICATE", &format!("DEAUTHENTICATE {BROADCAST}")).await {
        log::info!("clients could not be deauthenticated: {error}");
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn say(error: Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netifds_answer_gives_sections_their_devices() {
        let status = json!({
            "radio0": { "up": true, "pending": false, "interfaces": [
                { "section": "default_radio0", "ifname": "phy0-ap0", "config": { "ssid": "x" } },
                { "section": "cfg0433fd", "ifname": "phy0-ap1" },
                { "section": "down" } ] },
            "radio1": { "up": false, "pending": true, "interfaces": [] }
        });
        let (devices, pending) = read_netifd(&status);
        assert_eq!(devices["cfg0433fd"], "phy0-ap1");
        assert_eq!(devices.len(), 2);
        assert_eq!(pending["radio1"], "netifd is setting the radio up");
        assert_eq!(read_netifd(&json!(null)).0.len(), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Where the oscilloscope is: at the configured path, else wherever the kernel has put a tty of its USB id.

use std::fs;
use std::path::{Path, PathBuf};

/// USB vendor and product of the WeSense.
const USB_ID: (&str, &str) = ("1afe", "0009");

/// Looks for the device.
#[derive(Debug, Clone)]
pub struct Finder {
    /// `device_tty`.
    pub configured: PathBuf,
    /// `/sys` on a router.
    pub sysfs: PathBuf,
    /// `/dev` on a router.
    pub dev: PathBuf,
}

impl Finder {
    /// In the places of a running system.
    #[must_use]
    pub fn new(configured: PathBuf) -> Self {
        Self { configured, sysfs: "/sys".into(), dev: "/dev".into() }
    }

    /// Paths to try, the configured one first; it is tried even when it is absent, so that the reason for
    /// having no device names what the operator has written.
    #[must_use]
    pub fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates = vec![self.configured.clone()];
        candidates.extend(self.by_usb_id());
        candidates
    }

    /// Ttys that hang on a WeSense, in the order of their names.
    fn by_usb_id(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.sysfs.join("class/tty")) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .flatten()
            .filter(|entry| is_wesense(&entry.path()))
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names.into_iter().map(|name| self.dev.join(name)).collect()
    }
}

/// `tty/device` is the USB interface, its parent the USB device with the id.
fn is_wesense(tty: &Path) -> bool {
    let Ok(interface) = fs::canonicalize(tty.join("device")) else { return false };
    let Some(device) = interface.parent() else { return false };
    let reads = |attribute: &str, expected: &str| {
        fs::read_to_string(device.join(attribute))
            .is_ok_and(|text| text.trim().eq_ignore_ascii_case(expected))
    };
    reads("idVendor", USB_ID.0) && reads("idProduct", USB_ID.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn plug(sysfs: &Path, tty: &str, port: &str, id: (&str, &str)) {
        let device = sysfs.join("devices/usb1").join(port);
        let interface = device.join(format!("{port}:1.0"));
        fs::create_dir_all(interface.join("tty").join(tty)).unwrap();
        fs::write(device.join("idVendor"), format!("{}\n", id.0)).unwrap();
        fs::write(device.join("idProduct"), format!("{}\n", id.1)).unwrap();
        symlink(&interface, interface.join("tty").join(tty).join("device")).unwrap();
        fs::create_dir_all(sysfs.join("class/tty")).unwrap();
        symlink(interface.join("tty").join(tty), sysfs.join("class/tty").join(tty)).unwrap();
    }

    #[test]
    fn the_configured_path_comes_first_then_what_has_the_id() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = root.path().join("sys");
        plug(&sysfs, "ttyACM0", "1-1", ("0403", "6001"));
        plug(&sysfs, "ttyACM2", "1-3", USB_ID);
        plug(&sysfs, "ttyACM1", "1-2", ("1AFE", "0009"));
        fs::create_dir_all(sysfs.join("class/tty/ttyS0")).unwrap();
        let finder = Finder { configured: "/dev/WeSense0".into(), sysfs, dev: "/dev".into() };
        let expected = ["/dev/WeSense0", "/dev/ttyACM1", "/dev/ttyACM2"].map(PathBuf::from);
        assert_eq!(finder.candidates(), expected);
    }

    #[test]
    fn without_sysfs_there_is_the_configured_path() {
        let finder =
            Finder { configured: "/dev/WeSense0".into(), sysfs: "/nonexistent".into(), dev: "/dev".into() };
        assert_eq!(finder.candidates(), [PathBuf::from("/dev/WeSense0")]);
    }
}

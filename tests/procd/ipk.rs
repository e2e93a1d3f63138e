// SPDX-License-Identifier: Apache-2.0
//! Packages as `make package` packs them, taken apart by the router's own tar. The binaries are this machine's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Environment, OpenwrtRoot};

use super::{package, DAEMONS};

/// Packs `packages` (all for none) with the binaries that `binary` names; gives the directory of the packages.
pub(super) fn pack(scratch: &Path, packages: &[&str], binary: impl Fn(&str) -> PathBuf) -> PathBuf {
    let (binaries, out) = (scratch.join("binaries/bin"), scratch.join("out"));
    std::fs::create_dir_all(&binaries).unwrap();
    for (daemon, ..) in DAEMONS {
        let done =
            Command::new("strip").arg("-o").arg(binaries.join(daemon)).arg(binary(daemon)).status().unwrap();
        assert!(done.success(), "strip {daemon}");
    }
    let mut command = Command::new("python3");
    command.arg(package("package").join("package.py")).arg("--binaries").arg(scratch.join("binaries"));
    let done = command
        .arg("--out")
        .arg(&out)
        .args(packages.iter().flat_map(|name| ["--only", name]))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}

/// Installs the package `name` into the router, without its scripts; gives the control file's fields.
pub(super) fn install(root: &OpenwrtRoot, packages: &Path, name: &str, architecture: &str) -> String {
    let file = packages.join(format!("{name}_{}-r1_{architecture}.ipk", env!("CARGO_PKG_VERSION")));
    std::fs::copy(&file, root.path("tmp/package.ipk"))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    root.run(
        "rm -rf /tmp/parts; mkdir -p /tmp/parts/control && cd /tmp/parts && tar -xzf /tmp/package.ipk && \
         tar -xzf control.tar.gz -C control && tar -xzf data.tar.gz -C /",
    );
    assert_eq!(root.read("tmp/parts/debian-binary"), "2.0\n");
    root.read("tmp/parts/control/control")
}

fn mode(root: &OpenwrtRoot, inside: &str) -> u32 {
    std::fs::metadata(root.path(inside))
        .unwrap_or_else(|error| panic!("{inside}: {error}"))
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn an_ipk_installs_a_daemon_that_accepts_the_configuration_it_brings() {
    let scratch = tempfile::tempdir().unwrap();
    let pages = ["powquty", "dynapoint", "mptcp-proxy"].map(|topic| format!("luci-app-{topic}"));
    let wanted: Vec<&str> =
        DAEMONS.iter().map(|(daemon, ..)| *daemon).chain(pages.iter().map(String::as_str)).collect();
    let packages = pack(scratch.path(), &wanted, lab::binary);
    let root = OpenwrtRoot::new();
    for (daemon, account, reads) in DAEMONS {
        let control = install(&root, &packages, daemon, "x86_64");
        for line in [
            format!("Package: {daemon}\n"),
            format!("Version: {}-r1\n", env!("CARGO_PKG_VERSION")),
            "Architecture: x86_64\n".to_owned(),
            format!("Require-User: {account}:{account}"),
        ] {
            assert!(control.contains(&line), "{daemon}: no {line:?} in\n{control}");
        }
        let config = format!("etc/config/{}", reads[0]);
        assert!(root.read("tmp/parts/control/conffiles").lines().any(|line| line == format!("/{config}")));
        assert!(root.read("tmp/parts/control/postinst").contains("default_postinst"));
        assert_eq!(mode(&root, &config), 0o600);
        assert_eq!(mode(&root, &format!("etc/init.d/{daemon}")), 0o755);
        assert_eq!(mode(&root, &format!("usr/sbin/{daemon}")), 0o755);
        let environment = Environment::new();
        let checked = environment.command_of(
            &root.path(&format!("usr/sbin/{daemon}")),
            ["-c", root.path("etc/config").to_str().unwrap(), "check"],
        );
        let checked = lab::process::finish(checked, b"");
        assert_eq!(checked.code, Some(0), "{daemon}: {}{}", checked.stdout, checked.stderr);
    }
    for topic in ["powquty", "dynapoint", "mptcp-proxy"] {
        let control = install(&root, &packages, &format!("luci-app-{topic}"), "all");
        assert!(control.contains("Depends: luci-base, luci-lib-steadynode"), "{control}");
        install(&root, &packages, &format!("luci-i18n-{topic}-de"), "all");
        let archive = std::fs::read(root.path(&format!("usr/lib/lua/luci/i18n/{topic}.de.lmo"))).unwrap();
        // The last word of an archive says where its index begins: whole entries of 16 bytes.
        let (body, last) = archive.split_at(archive.len() - 4);
        let index = u32::from_be_bytes(last.try_into().unwrap()) as usize;
        assert!(index < body.len() && (body.len() - index).is_multiple_of(16), "{topic}");
    }
}

#[test]
fn the_same_tree_gives_the_same_packages() {
    let scratch = tempfile::tempdir().unwrap();
    let small = |_: &str| lab::openwrt_root::on_path("true");
    let [first, second] = ["a", "b"].map(|name| pack(&scratch.path().join(name), &[], small));
    let listed = |root: &Path| {
        let done = Command::new("find").args([".", "-type", "f"]).current_dir(root).output().unwrap();
        let mut names: Vec<String> =
            String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let names = listed(&first);
    assert_eq!(names, listed(&second));
    for kind in [".ipk", ".apk"] {
        let count = names.iter().filter(|name| name.ends_with(kind)).count();
        assert!(count >= 10, "{count} {kind}");
    }
    for name in names {
        assert!(
            std::fs::read(first.join(&name)).unwrap() == std::fs::read(second.join(&name)).unwrap(),
            "{name}"
        );
    }
}

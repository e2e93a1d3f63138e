// SPDX-License-Identifier: Apache-2.0
//! Packages for apk as `make package` packs them, read by a reader that shares nothing with the writer, and, where
//! `APK` names apk-tools 3, by the real one.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::OpenwrtRoot;

use super::ipk::{self, pack};
use super::DAEMONS;

/// What is in a package.
struct Apk {
    database: Vec<u8>,
    /// Path to mode, content or target, and the digest that the database gives of it.
    files: BTreeMap<String, File>,
    directories: BTreeMap<String, u32>,
}

#[derive(Default)]
struct File {
    mode: u32,
    size: usize,
    digest: String,
    content: Vec<u8>,
}

/// Slots of the objects of a database that are looked at here.
mod slot {
    pub(super) const NAME: usize = 1;
    pub(super) const PACKAGE: [usize; 3] = [1, 2, 3];
    pub(super) const RIGHTS: usize = 2;
    pub(super) const HASHES: usize = 3;
    pub(super) const ARCHITECTURE: usize = 5;
    pub(super) const INSTALLED_SIZE: usize = 12;
    pub(super) const FILE_SIZE: usize = 13;
    pub(super) const DEPENDS: usize = 15;
    pub(super) const PROVIDES: usize = 16;
}

impl Apk {
    fn read(path: &Path) -> Self {
        let packed = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(packed[..4], *b"ADBd", "{}: deflated", path.display());
        let plain = inflate(&packed[4..]);
        assert_eq!(plain[..8], *b"ADB.pckg");
        let mut apk =
            Self { database: Vec::new(), files: BTreeMap::default(), directories: BTreeMap::default() };
        let mut rest = &plain[8..];
        let mut paths = Vec::new();
        while !rest.is_empty() {
            let head = word(rest, 0);
            let (kind, size) = (head >> 30, (head & 0x3fff_ffff) as usize);
            let content = &rest[4..size];
            if kind == 0 {
                assert!(apk.database.is_empty() && content[0] == 0, "one database, version 0");
                content.clone_into(&mut apk.database);
                paths = apk.tree();
            } else {
                assert_eq!(kind, 2, "unsigned: a database and contents, nothing else");
                let (directory, file) = (word(content, 0) as usize, word(content, 4) as usize);
                let path = &paths[directory - 1][file - 1];
                let file = apk.files.get_mut(path).expect("of the database");
                assert!(file.content.is_empty(), "{path} comes once");
                file.content = content[8..].to_vec();
            }
            assert!(rest[size..size.next_multiple_of(8)].iter().all(|&byte| byte == 0), "padding");
            rest = &rest[size.next_multiple_of(8)..];
        }
        for (path, file) in &apk.files {
            assert_eq!(file.content.len(), file.size, "{path}");
        }
        apk
    }

    /// Fills the list of files; gives their paths in the order of the database.
    fn tree(&mut self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for directory in self.slots(self.package(slot::PACKAGE[1])).into_iter().skip(1) {
            let directory = self.slots(directory);
            let name = self.text(directory[slot::NAME]);
            self.directories.insert(name.clone(), self.mode(directory[slot::RIGHTS]));
            let mut here = Vec::new();
            for file in self.slots(directory.get(3).copied().unwrap_or(0)).into_iter().skip(1) {
                let slots = self.slots(file);
                let path = format!("{name}/{}", self.text(slots[slot::NAME]));
                let file = File {
                    mode: self.mode(slots[slot::RIGHTS]),
                    size: integer(slots[3]),
                    digest: hex(self.blob(slots[5])),
                    content: Vec::new(),
                };
                self.files.insert(path.clone(), file);
                here.push(path);
            }
            assert!(here.is_sorted(), "{name}: apk looks for files by halving");
            paths.push(here);
        }
        paths
    }

    /// A slot of the root object; 0 when there is none.
    fn package(&self, index: usize) -> u32 {
        self.slots(word(&self.database, 4)).get(index).copied().unwrap_or(0)
    }

    fn info(&self, index: usize) -> u32 {
        self.slots(self.package(slot::PACKAGE[0])).get(index).copied().unwrap_or(0)
    }

    /// Names and versions, as `name=version`.
    fn dependencies(&self, list: u32) -> Vec<String> {
        let names = self.slots(list).into_iter().skip(1).map(|item| {
            let item = self.slots(item);
            let version = item.get(2).map(|&version| format!("={}", self.text(version)));
            self.text(item[slot::NAME]) + &version.unwrap_or_default()
        });
        names.collect()
    }

    fn script(&self, index: usize) -> String {
        self.slots(self.package(slot::PACKAGE[2])).get(index).map_or(String::new(), |&it| self.text(it))
    }

    /// The slots of an object or array, the first being their number.
    fn slots(&self, value: u32) -> Vec<u32> {
        if value == 0 {
            return Vec::new();
        }
        assert!(matches!(value >> 28, 13 | 14), "{value:#x} is an object or array");
        let offset = (value & 0x0fff_ffff) as usize;
        assert_eq!(offset % 4, 0);
        (0..word(&self.database, offset) as usize).map(|n| word(&self.database, offset + 4 * n)).collect()
    }

    fn blob(&self, value: u32) -> &[u8] {
        let offset = (value & 0x0fff_ffff) as usize;
        let of = |width: usize| {
            assert_eq!(offset % width, 0);
            let mut length = [0; 4];
            length[..width].copy_from_slice(&self.database[offset..offset + width]);
            &self.database[offset + width..][..u32::from_le_bytes(length) as usize]
        };
        match value >> 28 {
            0 => &[],
            8 => of(1),
            9 => of(2),
            10 => of(4),
            _ => panic!("{value:#x} is no blob"),
        }
    }

    fn text(&self, value: u32) -> String {
        String::from_utf8(self.blob(value).to_vec()).expect("text")
    }

    /// The mode of an object of rights, which have to be root's.
    fn mode(&self, rights: u32) -> u32 {
        let rights = self.slots(rights);
        assert_eq!((self.text(rights[2]), self.text(rights[3])), ("root".to_owned(), "root".to_owned()));
        u32::try_from(integer(rights[1])).expect("a mode")
    }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

/// An integer that is its own value; nothing here reaches 256 MB.
fn integer(value: u32) -> usize {
    assert_eq!(value >> 28, 1, "{value:#x} is a small integer");
    (value & 0x0fff_ffff) as usize
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a program answers to bytes on its standard input.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("it reads all"));
        let done = child.wait_with_output().expect("it ends");
        assert!(done.status.success(), "{program}");
        done.stdout
    })
}

fn inflate(packed: &[u8]) -> Vec<u8> {
    let code = "import sys,zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read(), -15))";
    piped("python3", &["-c", code], packed)
}

fn sha256(bytes: &[u8]) -> String {
    String::from_utf8(piped("sha256sum", &[], bytes)).expect("text")[..64].to_owned()
}

fn file_name(package: &str) -> String {
    format!("{package}-{}-r1.apk", env!("CARGO_PKG_VERSION"))
}

/// Stands in for the daemons, whose contents say nothing here.
fn small(_: &str) -> PathBuf {
    lab::openwrt_root::on_path("true")
}

#[test]
fn an_apk_holds_what_the_ipk_holds() {
    let scratch = tempfile::tempdir().unwrap();
    let packages = pack(scratch.path(), &["powqutyd-notls", "mptcp-proxy", "luci-app-dynapoint"], small);
    for (name, architecture) in
        [("powqutyd-notls", "x86_64"), ("mptcp-proxy", "x86_64"), ("luci-app-dynapoint", "all")]
    {
        let apk = Apk::read(&packages.join("apk").join(architecture).join(file_name(name)));
        let root = OpenwrtRoot::new();
        ipk::install(&root, &packages, name, architecture);
        let listed = root.run("cd /tmp/parts && tar -tzf data.tar.gz");
        let listed: Vec<&str> = listed
            .lines()
            .filter(|line| !line.ends_with('/'))
            .filter_map(|line| line.strip_prefix("./"))
            .collect();
        let own = format!("lib/apk/packages/{name}.");
        let brought: Vec<&str> =
            apk.files.keys().map(String::as_str).filter(|path| !path.starts_with(&own)).collect();
        assert_eq!(
            brought,
            listed.iter().copied().filter(|path| root.path(path).is_file()).collect::<Vec<_>>()
        );
        for (path, file) in &apk.files {
            assert_eq!(sha256(&file.content), file.digest, "{path}");
            if !path.starts_with(&own) {
                assert!(file.content == std::fs::read(root.path(path)).unwrap(), "{name}: {path}");
                let mode = std::fs::metadata(root.path(path)).unwrap().permissions().mode();
                assert_eq!(file.mode, mode & 0o7777, "{path}");
            }
            let directory = path.rsplit_once('/').unwrap().0;
            assert_eq!(apk.directories.get(directory), Some(&0o755), "{path}");
        }
        // The identity is a digest of the database with zeros in its place.
        let identity = apk.blob(apk.info(slot::HASHES)).to_vec();
        let at = (apk.info(slot::HASHES) & 0x0fff_ffff) as usize + 1;
        let mut blank = apk.database.clone();
        blank[at..at + 20].fill(0);
        assert_eq!(hex(&identity), sha256(&blank)[..40]);
        assert_eq!(
            integer(apk.info(slot::INSTALLED_SIZE)),
            apk.files.values().map(|file| file.size).sum::<usize>()
        );
    }
}

#[test]
fn an_apk_says_what_openwrts_scripts_ask_for() {
    let scratch = tempfile::tempdir().unwrap();
    let packages = pack(scratch.path(), &["powqutyd-notls", "luci-app-powquty"], small);
    let apk = Apk::read(&packages.join("apk/x86_64").join(file_name("powqutyd-notls")));
    let version = format!("{}-r1", env!("CARGO_PKG_VERSION"));
    assert_eq!(apk.text(apk.info(slot::NAME)), "powqutyd-notls");
    assert_eq!(apk.text(apk.info(2)), version);
    assert_eq!(apk.text(apk.info(slot::ARCHITECTURE)), "x86_64");
    assert_eq!(apk.dependencies(apk.info(slot::DEPENDS)), ["kmod-usb-acm"]);
    // With a version: so no two packages that provide it can be there at once.
    assert_eq!(apk.dependencies(apk.info(slot::PROVIDES)), [format!("powqutyd={version}")]);
    let own = |kind: &str| {
        let file = &apk.files[&format!("lib/apk/packages/powqutyd-notls.{kind}")];
        String::from_utf8(file.content.clone()).unwrap()
    };
    assert_eq!(own("rusers"), "powquty:powquty:dialout\n");
    assert_eq!(own("conffiles"), "/etc/config/powquty\n");
    let config = &apk.files["etc/config/powquty"];
    assert_eq!(own("conffiles_static"), format!("/etc/config/powquty {}\n", config.digest));
    let listed: Vec<String> =
        own("list").lines().map(|line| line.trim_start_matches('/').to_owned()).collect();
    let brought: Vec<&String> = apk.files.keys().filter(|path| !path.contains("lib/apk/packages/")).collect();
    assert_eq!(listed.iter().collect::<Vec<_>>(), brought);
    // Slots: 3 after an installation, 4 before a removal, 7 after an upgrade.
    for (script, what) in [(3, "default_postinst"), (4, "default_prerm"), (7, "export PKG_UPGRADE=1")] {
        let text = apk.script(script);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains(what), "{text}");
        assert!(text.contains("export pkgname=powqutyd-notls\n"), "{text}");
    }
    let pages = Apk::read(&packages.join("apk/all").join(file_name("luci-app-powquty")));
    assert_eq!(pages.text(pages.info(slot::ARCHITECTURE)), "noarch");
    assert_eq!(
        pages.dependencies(pages.info(slot::DEPENDS)),
        ["luci-base", "luci-lib-steadynode", "powqutyd"]
    );
    assert!(pages.script(3).contains("luci-indexcache"));
}

#[test]
fn an_index_lists_the_packages_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let packages =
        pack(scratch.path(), &["dynapoint", "dynapoint-tls", "powqutyd"], small).join("apk/x86_64");
    let plain = inflate(&std::fs::read(packages.join("packages.adb")).unwrap()[4..]);
    assert_eq!(plain[..8], *b"ADB.indx");
    let size = word(&plain, 8) as usize;
    assert_eq!(plain.len(), 8 + size.next_multiple_of(8), "a database and nothing else");
    let index = Apk {
        database: plain[12..8 + size].to_vec(),
        files: BTreeMap::default(),
        directories: BTreeMap::default(),
    };
    let entries: Vec<Vec<u32>> =
        index.slots(index.package(2)).into_iter().skip(1).map(|entry| index.slots(entry)).collect();
    let names: Vec<String> = entries.iter().map(|entry| index.text(entry[slot::NAME])).collect();
    assert_eq!(names, ["dynapoint", "dynapoint-tls", "powqutyd"], "sorted");
    for (entry, name) in entries.iter().zip(names) {
        let path = packages.join(file_name(&name));
        let apk = Apk::read(&path);
        assert_eq!(index.blob(entry[slot::HASHES]), apk.blob(apk.info(slot::HASHES)), "{name}");
        assert_eq!(integer(entry[slot::FILE_SIZE]), path.metadata().unwrap().len() as usize);
        assert_eq!(
            index.dependencies(entry.get(slot::DEPENDS).copied().unwrap_or(0)),
            apk.dependencies(apk.info(slot::DEPENDS)),
            "{name}"
        );
    }
}

/// `APK=PATH` names a program of apk-tools 3; without it there is nothing to compare with.
#[test]
#[ignore = "needs apk-tools 3: APK=PATH"]
fn the_real_apk_installs_and_removes_them() {
    let Ok(program) = std::env::var("APK") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let packages = pack(scratch.path(), &[], small);
    let root = OpenwrtRoot::new();
    root.write("etc/apk/arch", "x86_64\n");
    root.write(
        "lib/functions.sh",
        "add_group_and_user() { cat $root/lib/apk/packages/$pkgname.rusers >>/tmp/users 2>/dev/null; }\n\
         default_postinst() { echo \"installed $pkgname\" >>/tmp/done; }\n\
         default_prerm() { echo \"removed $pkgname\" >>/tmp/done; }\n",
    );
    let apk = |arguments: &[&str]| {
        let done = Command::new(&program).args(arguments).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let at = root.path("bin").parent().unwrap().to_str().unwrap().to_owned();
    let mut wanted = Vec::new();
    for name in
        ["luci-base", "kmod-usb-acm", "kmod-nft-tproxy", "kmod-nft-socket", "kmod-nft-fib", "nftables"]
    {
        let file = scratch.path().join(format!("{name}.apk")).to_str().unwrap().to_owned();
        let (made, said) = apk(&[
            "mkpkg",
            "--info",
            &format!("name:{name}"),
            "--info",
            "version:1-r1",
            "--info",
            "arch:noarch",
            "--output",
            &file,
        ]);
        assert!(made, "{said}");
        wanted.push(file);
    }
    let directories = ["apk/x86_64", "apk/all"].map(|directory| packages.join(directory));
    for entry in directories.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap()) {
        let file = entry.unwrap().path().to_str().unwrap().to_owned();
        let (verified, said) = apk(&["verify", "--allow-untrusted", &file]);
        assert!(verified, "{said}");
    }
    // By name, from the indices; powqutyd by what it provides.
    wanted.extend(["dynapoint", "mptcp-proxy", "powqutyd-notls"].map(str::to_owned));
    wanted.extend(DAEMONS.map(|(_, _, reads)| format!("luci-i18n-{}-de", reads[0])));
    let tls = packages.join("apk/x86_64").join(file_name("powqutyd")).to_str().unwrap().to_owned();
    let indices = directories.map(|directory| directory.join("packages.adb").to_str().unwrap().to_owned());
    let common =
        ["--root", &at, "--allow-untrusted", "--repository", &indices[0], "--repository", &indices[1]];
    let add = ["add", "--initdb"].iter().chain(&common).copied();
    let (added, said) = apk(&add.chain(wanted.iter().map(String::as_str)).collect::<Vec<_>>());
    assert!(added, "{said}");
    for (daemon, account, reads) in DAEMONS {
        assert!(root.path(&format!("usr/sbin/{daemon}")).is_file(), "{said}");
        let config = std::fs::metadata(root.path(&format!("etc/config/{}", reads[0]))).unwrap();
        assert_eq!(config.permissions().mode() & 0o7777, 0o600);
        assert!(root.read("tmp/users").contains(&format!("{account}:{account}")));
    }
    let both = ["add"].iter().chain(&common).copied().chain([tls.as_str()]);
    let (added, said) = apk(&both.collect::<Vec<_>>());
    assert!(!added && said.contains("conflicts"), "{said}");
    let remove = ["del", "--root", &at, "dynapoint", "luci-app-dynapoint", "luci-i18n-dynapoint-de"];
    let (removed, said) = apk(&remove);
    assert!(removed, "{said}");
    assert!(root.read("tmp/done").contains("removed dynapoint\n"), "{}", root.read("tmp/done"));
    assert!(!root.path("usr/sbin/dynapoint").exists());
}

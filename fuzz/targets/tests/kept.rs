// SPDX-License-Identifier: Apache-2.0
//! Every kept input of the fuzzer through its target, on any toolchain: what was found once is not found again.

use fuzz_targets::{Bounded, TARGETS};
use std::path::{Path, PathBuf};

#[global_allocator]
static MEMORY: Bounded = Bounded;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds")
}

/// One test: the limit of memory is the process's.
#[test]
fn every_kept_input_passes_its_target_in_bounded_memory() {
    let mut inputs = 0;
    for (name, run) in TARGETS {
        let folder = seeds().join(name);
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut seen = 0;
        for file in files {
            let file = file.expect("a folder").path();
            let bytes = std::fs::read(&file).expect("a readable file");
            // Whole, and torn as a power cut or a lost packet leaves it.
            for length in [bytes.len(), bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let name = file.display();
                let passed = std::panic::catch_unwind(|| Bounded::during(|| run(&bytes[..length])));
                assert!(passed.is_ok(), "{name}, the first {length} bytes");
            }
            seen += 1;
        }
        assert!(seen > 0, "{name} has no kept input");
        run(&[]);
        inputs += seen;
    }
    eprintln!("{inputs} inputs, {} targets", TARGETS.len());
}

#[test]
fn every_folder_of_kept_inputs_belongs_to_a_target_and_they_are_small() {
    let mut bytes = 0;
    for folder in std::fs::read_dir(seeds()).expect("a folder") {
        let folder = folder.expect("a folder");
        let name = folder.file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{name:?} is no target");
        for file in std::fs::read_dir(folder.path()).expect("a folder") {
            bytes += file.and_then(|file| file.metadata()).expect("a file").len();
        }
    }
    assert!(bytes < 800_000, "{bytes} bytes of kept inputs");
}

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds a daemon as small as a router wants it, into target/router/release: the release profile, and what cargo has no
# setting for. Usage: router-build.sh PACKAGE [CARGO ARGUMENT...]. Prints the binary's path.
#
# With `panic = "abort"` nothing is ever unwound: the tables for it go (a fifth of the file), and with them the frames of
# a backtrace, which a stripped binary could not name anyway. Relocations are packed (glibc 2.36, musl 1.2.4), equal
# functions and equal runs of instructions are shared, and no directory of this machine is left in the file. What only the
# handshake of a tunnel computes comes in one portable form, without vector units (records are ring's, which keeps all).
#
# Where the sources of Rust's library are (Debian: rustc-web with rust-web-src, as `make package` has them), the library is
# built for size, too, and without the printer of backtraces: a quarter of a megabyte less.
set -eu
cd "$(dirname "$0")/.."
package=${1:?usage: router-build.sh PACKAGE [CARGO ARGUMENT...]}
shift

flags="-Cforce-unwind-tables=no -Cllvm-args=-enable-machine-outliner=always"
flags+=" -Clink-arg=-Wl,-z,pack-relative-relocs -Clink-arg=-Wl,--no-eh-frame-hdr"
flags+=" -Clink-arg=-Wl,-T,$PWD/tests/no-unwind-tables.ld"
flags+=" --cfg=curve25519_dalek_backend=\"serial\" --cfg=poly1305_force_soft --cfg=chacha20_force_soft"
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
	flags+=" --remap-path-prefix=$sources="
done
# rustc's own linker on x86-64 folds equal functions, GNU ld does not know how.
if [ "$(rustc -vV | sed -n 's/^host: //p')" = x86_64-unknown-linux-gnu ]; then flags+=" -Clink-arg=-Wl,--icf=all"; fi

target=${CARGO_TARGET_DIR:-target}/router
host=$(rustc -vV | sed -n 's/^host: //p')
directory=$target/release
if [ -x /usr/bin/rustc ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
	linkers=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
	if [ -d "$linkers" ]; then flags+=" -Clink-arg=-B$linkers -Clink-arg=-fuse-ld=lld"; fi
	export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
	set -- -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size --target "$host" "$@"
	directory=$target/$host/release
fi
RUSTFLAGS="${RUSTFLAGS:-} $flags" CARGO_TARGET_DIR=$target \
	cargo build --quiet --release --package "$package" --bin "$package" "$@"
echo "$directory/$package"

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

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}/router
directory=$target/release
own_flags=
anew=
if [ -x /usr/bin/rustc ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
	anew=1
	linkers=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
	if [ -d "$linkers" ]; then own_flags+=" -Clink-arg=-B$linkers -Clink-arg=-fuse-ld=lld"; fi
	export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
	set -- -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size --target "$host" "$@"
	directory=$target/$host/release
fi

while IFS= read -r line; do
	case $line in
	'' | '#'*) continue ;;
	-Z*) if [ -z "$anew" ]; then continue; fi ;;
	*': '*)
		names=" ${line%%: *} "
		if [ "${names#* "${host%%-*}" }" = "$names" ]; then continue; fi
		;;
	esac
	line=${line#*: }
	own_flags+=" ${line//@ROOT@/$PWD}"
done <tests/router.flags
# Only glibc from 2.36 and musl from 1.2.4 read packed relocations; the packages' binaries have none.
own_flags+=" -Clink-arg=-Wl,-z,pack-relative-relocs"
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
	own_flags+=" --remap-path-prefix=$sources="
done
# rustc's own linker on x86-64 folds equal functions, GNU ld does not know how.
if [ "$host" = x86_64-unknown-linux-gnu ]; then own_flags+=" -Clink-arg=-Wl,--icf=all"; fi

RUSTFLAGS="$own_flags ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$target \
	cargo build --quiet --release --package "$package" --bin "$package" "$@"
echo "$directory/$package"

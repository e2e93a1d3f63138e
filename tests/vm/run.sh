#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make test-vm` runs: builds the machine and the programs, runs every scenario, says how long that took.
set -u
cd "$(dirname "$0")/../.." || exit 2
tests/setup.sh vm || exit 1
cargo build --package powqutyd --package mptcp-proxy --package e2e --bins || exit 1
# What is timed is what a router gets: emulated, the build for tests takes several times as long for everything.
DYNAPOINT=$(tests/router-build.sh dynapoint --no-default-features) && DYNAPOINT=$(realpath "$DYNAPOINT") || exit 1
export DYNAPOINT
cargo test --package e2e --features vm --test wifi --test gadget --no-run || exit 1
begin=$(date +%s) status=0
# What is timed has both cores to itself.
timed=a_rename_is_quick_and_nobody_else_notices
cargo test --package e2e --features vm --test wifi -- --nocapture --exact $timed || status=1
cargo test --package e2e --features vm --test wifi --test gadget --no-fail-fast -- --show-output --test-threads 2 --skip $timed || status=1
echo "test-vm: $(($(date +%s) - begin)) s without building"
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the soak that `make soak` has built. Usage: run.sh [MINUTES (30)]
set -eu
cd "$(dirname "$0")/../.."
# In a plain chroot the root directory is no mount point, and `ip netns` refuses: go on in one that is.
if [ "$(id -u)" = 0 ] && [ -z "${IN_OWN_ROOT:-}" ] &&
	! awk '$5 == "/" { found = 1 } END { exit !found }' /proc/self/mountinfo; then
	root=$(mktemp -d)
	trap 'umount -R -l "$root" && rmdir "$root"' EXIT
	mount --rbind / "$root" && mount --make-rprivate "$root"
	# shellcheck disable=SC2016 # for the inner shell
	IN_OWN_ROOT=1 chroot "$root" /bin/sh -c 'cd "$1" && shift && exec tests/soak/run.sh "$@"' sh "$PWD" "$@"
	exit
fi
export PATH="$PATH:/usr/sbin:/sbin"
# As musl does on a router: large blocks go back to the kernel when they are freed. Left alone, glibc keeps the most there
# ever was, and a record broken late looks like growth.
export MALLOC_MMAP_THRESHOLD_=131072
exec "${CARGO_TARGET_DIR:-target}/debug/soak" "$@"

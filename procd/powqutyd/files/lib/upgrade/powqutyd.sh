# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# sysupgrade writes a new flash: logs and alerts not yet delivered that the operator keeps there are taken along,
# each up to POWQUTY_KEEP_KB, since the archive is built in memory. Those on USB are not touched by an upgrade, those in
# /tmp end with the reboot.

POWQUTY_KEEP_KB=2048

powquty_add_kept_files() {
	local option path file size
	for option in powquty_path powquty_event_path record_path outbox_path; do
		path=$(uci -q get "powquty.@powquty[0].$option") || continue
		case $path in
		/tmp/* | /var/* | /mnt/* | [!/]*) continue ;;
		esac
		for file in "$path" "$path".*; do
			[ -f "$file" ] || continue
			size=$(wc -c <"$file")
			if [ "$size" -le $((POWQUTY_KEEP_KB * 1024)) ]; then
				echo "$file" >>"$1"
			else
				echo "powqutyd: $file has more than $POWQUTY_KEEP_KB KiB and is left behind" >&2
			fi
		done
	done
	return 0
}

sysupgrade_init_conffiles="${sysupgrade_init_conffiles:-} powquty_add_kept_files"

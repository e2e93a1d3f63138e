#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formatting, clippy, licences and the rules of the tree. Prints each violation; exits 1 if there is any.
set -u
cd "$(dirname "$0")/.." || exit 2
failed=0
fail() { echo "lint: $*" >&2; failed=1; }

cargo fmt --all --check || fail "cargo fmt: run 'cargo fmt --all'"
cargo clippy --quiet --all-targets -- -D warnings || fail "clippy (default members)"
if [ "${LINT_ORACLE:-1}" = 1 ]; then
	cargo clippy --quiet -p uci-oracle --all-targets -- -D warnings || fail "clippy (uci-oracle)"
fi
if cargo deny --version >/dev/null 2>&1; then
	cargo deny --log-level error check licenses bans sources || fail "cargo deny"
else
	echo "lint: cargo-deny is not installed; licences not checked (cargo install cargo-deny --locked)"
fi

while IFS= read -r file; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fail "$file: no SPDX header in the first three lines"
done < <(git ls-files '*.rs' '*.sh' '*.toml' '*.js' '*.mjs' '*.py' Makefile | grep -v '^fuzz/corpus')

# A file that outgrows this holds two jobs.
while IFS= read -r file; do
	lines=$(wc -l <"$file")
	[ "$lines" -le 640 ] || fail "$file: $lines lines; split it by role (limit 640)"
done < <(git ls-files '*.rs' '*.js' '*.mjs' '*.sh' '*.py')

# Scripts for the router's ash, most of them without an ending.
ash=$(git ls-files 'procd/*/files/etc/init.d/*' 'procd/*/files/etc/hotplug.d/*' 'procd/*/files/etc/uci-defaults/*' \
	'procd/*/files/*.sh')
for file in $ash; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fail "$file: no SPDX header in the first three lines"
	if command -v busybox >/dev/null 2>&1; then busybox ash -n "$file" || fail "$file: busybox ash cannot read it"; fi
done
# The LuCI pages: eslint, and what menus, ACLs and pages must agree on.
if [ -d tests/browser/node_modules/eslint ]; then
	tests/browser/node_modules/.bin/eslint --config tests/browser/eslint.config.js luci-apps tests/browser || fail "eslint"
	node tests/browser/luci/static.js || fail "LuCI: ACLs, menus and pages do not agree"
	luci-apps/po.py --check || fail "LuCI: templates and translations: run luci-apps/po.py"
else
	fail "eslint is missing: run 'tests/setup.sh test'"
fi
if command -v shellcheck >/dev/null 2>&1; then
	git ls-files '*.sh' | grep -v '^procd/' | xargs -r shellcheck || fail "shellcheck"
	# shellcheck disable=SC2086 # a list of files
	shellcheck --shell=dash --external-sources $ash || fail "shellcheck (ash)"
fi
[ "$failed" = 0 ] && echo "lint: clean"
exit "$failed"

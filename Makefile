# SPDX-License-Identifier: Apache-2.0
# Two commands set everything up on a fresh machine: `make demo` and `make test`.

.DEFAULT_GOAL := help
.PHONY: help demo preview test test-long test-vm fuzz soak lint size bench package

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## powqutyd on a simulated grid, live in this terminal; all pages in a browser
	@tests/setup.sh build
	@cargo build --package powqutyd --package dynapoint --package mptcp-proxy --package preview --package demo
	@$${CARGO_TARGET_DIR:-target}/debug/demo

preview: ## the LuCI pages in a browser, with the real daemons behind them, on this machine
	@tests/setup.sh build
	@cargo build --package powqutyd --package dynapoint --package mptcp-proxy --package preview
	@$${CARGO_TARGET_DIR:-target}/debug/preview

test: ## everything that proves something, with one summary
	@tests/run.sh quick

test-long: ## the long rows and the full repeat counts
	@tests/run.sh long

test-vm: ## radios, a mesh, USB devices, a clock that is set and a full table of connections, in QEMU machines
	@tests/vm/run.sh

fuzz: ## every parser of outside input with random bytes: SECONDS=60 for each
	@fuzz/run.sh all $(or $(SECONDS),60)

soak: ## all three daemons on one router while everything around them fails, for MINUTES=30
	@tests/setup.sh test
	@cargo build --package powqutyd --package dynapoint --package mptcp-proxy --package soak
	@tests/soak/run.sh $(MINUTES)

lint: ## formatting, clippy, licences, tree rules
	@tests/lint.sh

size: ## binary sizes against their budgets
	-@tests/setup.sh package
	@tests/size.sh

package: ## .ipk and .apk files for five kinds of routers, without a buildroot, and their sizes
	@tests/setup.sh package
	@procd/package/package.py

bench: ## what the daemons do and cost beside others, into docs/BENCHMARKS.md (PARTS="engine live proxy dynapoint size")
	@tests/bench/run.py $(PARTS)

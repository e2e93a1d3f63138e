# SPDX-License-Identifier: Apache-2.0
# What the feed's Makefiles take from a buildroot's rules.mk, for packing without a buildroot.
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_CONF:=install -m0600
INSTALL_DATA:=install -m0644

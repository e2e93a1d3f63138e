# SPDX-License-Identifier: Apache-2.0
# Stands in for LuCI's luci.mk: one package per page set, named like its directory. Translations are packed by package.py.
LUCI_NAME?=$(notdir $(CURDIR))
PKG_VERSION?=0.1.0
PKG_RELEASE?=1
PKG_LICENSE?=Apache-2.0

define Package/$(LUCI_NAME)
  SECTION:=luci
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  PKGARCH:=$(LUCI_PKGARCH)
endef

define Package/$(LUCI_NAME)/description
  $(or $(LUCI_DESCRIPTION),$(LUCI_TITLE))
endef

define Package/$(LUCI_NAME)/install
	$(INSTALL_DIR) $(1)/www
	if [ -d htdocs ]; then cp -R htdocs/. $(1)/www/; fi
	if [ -d root ]; then cp -R root/. $(1)/; fi
endef

include $(INCLUDE_DIR)/package.mk
$(eval $(call BuildPackage,$(LUCI_NAME)))

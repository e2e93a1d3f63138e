# SPDX-License-Identifier: Apache-2.0
# Stands in for a buildroot's package.mk, so that the feed's own Makefiles say what a package is and lay out its files:
#   make TOPDIR=HERE INCLUDE_DIR=HERE                                                 names every package and its variant
#   make TOPDIR=HERE INCLUDE_DIR=HERE PACKAGE=NAME BUILD_VARIANT=V describe           describes one
#   make … PACKAGE=NAME BUILD_VARIANT=V PKG_INSTALL_DIR=BINARIES DESTDIR=ROOT install installs one below ROOT
.DEFAULT_GOAL:=names
.PHONY: names describe install
names describe: ; @:

define BuildPackage
$(if $(PACKAGE),,$(eval VARIANT:=)$(eval $(Package/$(1)))$(info $(1) $(VARIANT)))
$(if $(filter $(PACKAGE),$(1)),$(eval $(Package/$(1)))$(if $(filter describe,$(MAKECMDGOALS)),$(call Describe,$(1))))
$(if $(filter $(PACKAGE),$(1)),$(call Install,$(1)))
endef

define Install
install:
$(call Package/$(1)/install,$(DESTDIR))
endef

define Describe
$(info version=$(PKG_VERSION))$(info release=$(PKG_RELEASE))$(info license=$(PKG_LICENSE))
$(info section=$(strip $(SECTION)))$(info title=$(strip $(TITLE)))$(info architecture=$(strip $(PKGARCH)))
$(info depends=$(strip $(DEPENDS)))$(info provides=$(strip $(PROVIDES)))$(info conflicts=$(strip $(CONFLICTS)))
$(info user=$(strip $(USERID)))
$(info cargo=$(strip $(CARGO_PKG_ARGS) $(if $(RUST_PKG_FEATURES),--features $(RUST_PKG_FEATURES))))
$(info [description])$(info $(Package/$(1)/description))$(info [conffiles])$(info $(Package/$(1)/conffiles))
endef

# SPDX-License-Identifier: BSD-3-Clause
# Belfry's one Makefile.  `make help` lists the targets; B=DIR picks the tree,
# V=1 shows the commands.

B ?= build
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

ifeq ($(abspath $(B)),$(CURDIR))
$(error B must not be the source directory)
endif
# A missing or outdated config.mk is made again by the command in its first line.
ifneq ($(filter-out clean help fmt lint,$(or $(MAKECMDGOALS),all)),)
include $(B)/config.mk
endif
$(B)/config.mk: configure VERSION
	@if [ -f $@ ]; then sh -c "$$(sed -n '1s/^# //p' $@)"; \
	else ./configure --build=$(B); fi

# -- modules -----------------------------------------------------------------
# Lower ones last, as the linker wants them.
MODULES := target host rpc nvme vfio_user bdev pci irq ioas reactor util

# What each module may call.  Its unit test links all its objects (not its
# archive, which would hide some) and these: an upward call does not link.
DEPS_util      :=
DEPS_reactor   := util
DEPS_ioas      := reactor util
DEPS_irq       := reactor util
DEPS_pci       := util
DEPS_bdev      := reactor util
DEPS_nvme      := bdev pci ioas irq reactor util
DEPS_vfio_user := ioas irq reactor util
DEPS_rpc       := reactor util
DEPS_host      := vfio_user ioas irq reactor util
DEPS_target    := vfio_user nvme rpc bdev pci ioas irq reactor util

# System libraries, by the module that calls them.
LIBS_util      := -lpthread
LIBS_reactor   := -lnuma
LIBS_bdev      := -laio -luuid $(if $(CONFIG_URING),-luring)
LIBS_rpc       := -ljansson -luuid
LIBS_host      := -ljansson
LIBS_vfio_user := -ljansson
LIBS_target    := -ljansson -luuid -lcrypto

# The programs, and the modules they stand on.
APPS := belfryd belfryctl belfry-perf
DEPS_belfryd     := target
DEPS_belfryctl   := util
DEPS_belfry-perf := host
LIBS_belfryctl   := -ljansson -lcrypto

# closure X: what X stands on, itself included; archives and libs of that.
closure = $(sort $(1) $(foreach d,$(DEPS_$(1)),$(call closure,$(d))))
below = $(filter $(filter-out $(1),$(call closure,$(1))),$(MODULES))
archives = $(foreach m,$(1),$(B)/lib/lib$(m).a)
syslibs = $(sort $(foreach m,$(call closure,$(1)),$(LIBS_$(m))))

srcs = $(sort $(wildcard $(1)))
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
$(foreach m,$(MODULES),$(eval OBJ_$(m) := $(call obj,$(call srcs,lib/$(m)/*.c))))
# One of the two.
OBJ_bdev := $(filter-out %/uring$(if $(CONFIG_URING),_none).o,$(OBJ_bdev))
LIB_OBJ := $(foreach m,$(MODULES),$(OBJ_$(m)))
FAKE_OBJ := $(call obj,$(call srcs,test/fake/*.c))
FAKE := $(B)/test/libfake.a

# -- flags -------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes \
	-Wno-unused-parameter -Wno-missing-field-initializers $(WERROR)
HARDEN := -fno-strict-aliasing -fstack-protector-strong
OPT := $(if $(DEBUG),-Og,-O2) -g
SAN := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer)
COMMON := -std=gnu11 -D_GNU_SOURCE -DBELFRY_VERSION='"$(VERSION)"' -Iinclude \
	$(WARN) $(HARDEN)
LINK = $(CC) $(SAN) $(CFLAGS) -Wl,--as-needed -Wl,-z,relro,-z,now $(LDFLAGS)
# "internal.h" is the module's own; tests may say "fake/guest.h".
own = $(if $(filter lib/%,$(1)),-iquote $(patsubst %/,%,$(dir $(1)))) \
	$(if $(filter test/unit/%,$(1)),-iquote lib/$(word 3,$(subst /, ,$(1)))) \
	$(if $(filter test/fuzz/%,$(1)),-iquote lib) \
	$(if $(filter test/%,$(1)),-iquote test)
compile = $(CC) $(COMMON) $(OPT) $(SAN) $(call own,$(1)) $(CPPFLAGS) $(CFLAGS) \
	-c -o $(call obj,$(1)) $(1)
# Sanitizers of older compilers trip over a highly random address space.
RUN := $(if $(SANITIZE),setarch -R)
# ThreadSanitizer leaves 1.5 TiB of addresses, or less, to all arenas of a daemon.
TEST_ENV := B='$(B)' BELFRYD='$(B)/bin/belfryd' BELFRYCTL='$(B)/bin/belfryctl' \
	SANITIZE='$(SANITIZE)' ARENA_SIZE='$(if $(findstring thread,$(SANITIZE)),32G)'

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

# -- rules -------------------------------------------------------------------
$(B)/obj/%.o: %.c $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(call compile,$<) -MMD -MP

define ar
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)
endef
define link
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1)
endef

define module_rules
$(B)/lib/lib$(1).a: $(OBJ_$(1))
	$$(ar)
TEST_OBJ_$(1) := $(call obj,$(call srcs,test/unit/$(1)/*.c))
$(B)/test/unit/$(1): $$(TEST_OBJ_$(1)) $(ONLY) $(OBJ_$(1)) $(FAKE) $(call archives,$(call below,$(1)))
	$$(call link,$(call syslibs,$(1)) -lcmocka)
UNIT += $$(if $$(TEST_OBJ_$(1)),$(B)/test/unit/$(1))
endef
UNIT :=
ONLY := $(call obj,test/only.c)
$(foreach m,$(MODULES),$(eval $(call module_rules,$(m))))
$(FAKE): $(FAKE_OBJ)
	$(ar)

define app_rules
OBJ_$(1) := $(call obj,$(call srcs,app/$(1)/*.c))
$(B)/bin/$(1): $$(OBJ_$(1)) $(call archives,$(call below,$(1)))
	$$(call link,$(call syslibs,$(1)))
BIN += $$(if $$(OBJ_$(1)),$(B)/bin/$(1))
endef
BIN :=
$(foreach a,$(APPS),$(eval $(call app_rules,$(a))))

# Wire tests and benchmarks are clients: they stand on what lib/host does.
WIRE_COMMON := $(call obj,$(call srcs,test/wire/common*.c))
WIRE := $(patsubst %.c,$(B)/%,$(call srcs,test/wire/*_test.c))
BENCH := $(patsubst %.c,$(B)/%,$(call srcs,test/bench/*.c))
HOST_A := $(call archives,host $(call below,host))
$(WIRE): $(B)/%: $(B)/obj/%.o $(WIRE_COMMON) $(ONLY) $(HOST_A)
	$(call link,$(call syslibs,host) -lcmocka)
# Some of the latter carry the target, and the fakes, in their own process.
BENCH_A := $(FAKE) $(call archives,$(filter $(call closure,host) $(call closure,nvme),$(MODULES)))
$(BENCH): $(B)/%: $(B)/obj/%.o $(BENCH_A)
	$(call link,$(sort $(call syslibs,host) $(call syslibs,nvme)))
TEST_OBJ := $(foreach m,$(MODULES),$(TEST_OBJ_$(m))) $(FAKE_OBJ) $(WIRE_COMMON) $(ONLY) \
	$(WIRE:$(B)/%=$(B)/obj/%.o) $(BENCH:$(B)/%=$(B)/obj/%.o)
APP_OBJ := $(foreach a,$(APPS),$(OBJ_$(a)))

# The host driver as a library: what lib/host needs, position-independent, and no name but belfry_*.
HOST_SO := $(B)/lib/libbelfry-host.so
HOST_SONAME := libbelfry-host.so.0
HOST_SRC := $(call srcs,lib/host/*.c lib/vfio_user/client*.c) lib/vfio_user/version.c lib/util/util.c
HOST_PIC := $(patsubst %.c,$(B)/pic/%.o,$(HOST_SRC))
HOST_MAP := lib/host/belfry-host.map
$(B)/pic/%.o: %.c $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,PIC,$<)
	$(Q)$(CC) $(COMMON) $(OPT) $(SAN) -fPIC $(call own,$<) \
		$(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(HOST_SO): $(HOST_PIC) $(HOST_MAP)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(LINK) -shared -Wl,-Bsymbolic-functions -Wl,-soname,$(HOST_SONAME) -Wl,--version-script=$(HOST_MAP) \
		$(if $(SAN),,-Wl,--no-undefined) -o $@ $(HOST_PIC) -lpthread -ljansson
	$(Q)ln -sf $(notdir $@) $(B)/lib/$(HOST_SONAME)
# As a user would build it: against the installed header and the library alone.
$(B)/test/host-example: doc/host-example.c include/belfry/host.h $(HOST_SO)
	@mkdir -p $(@D) $(B)/test/include/belfry
	$(call say,CC,$<)
	$(Q)cp include/belfry/host.h $(B)/test/include/belfry
	$(Q)$(LINK) -std=c11 -Wall -Wextra -Wpedantic $(WERROR) -I$(B)/test/include \
		-o $@ $< -L$(B)/lib -lbelfry-host -Wl,-rpath,$(abspath $(B)/lib)

# Fuzzers want all sources instrumented, hence objects of their own.
FUZZ_CC ?= clang
FUZZ_TIME ?= 20
FUZZ_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ := $(patsubst test/fuzz/%.c,$(B)/fuzz/%,$(call srcs,test/fuzz/*_fuzz.c))
FUZZ_LIB := $(patsubst $(B)/obj/%,$(B)/fuzz/obj/%,$(LIB_OBJ) $(FAKE_OBJ))
FUZZ_LIBS := $(sort $(foreach m,$(MODULES),$(LIBS_$(m))))
$(B)/fuzz/obj/%.o: %.c $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)
	$(Q)$(FUZZ_CC) $(COMMON) -O1 -g $(FUZZ_SAN) -fsanitize=fuzzer-no-link \
		-DBELFRY_FUZZ $(call own,$<) $(CPPFLAGS) -MMD -MP -c -o $@ $<
$(B)/fuzz/libfuzz.a: $(FUZZ_LIB)
	$(ar)
$(FUZZ): $(B)/fuzz/%: $(B)/fuzz/obj/test/fuzz/%.o $(B)/fuzz/libfuzz.a
	$(call say,LD,$@)
	$(Q)$(FUZZ_CC) $(FUZZ_SAN) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(APP_OBJ) $(TEST_OBJ) $(HOST_PIC))
ifneq ($(wildcard $(B)/fuzz/obj),)
-include $(patsubst %.o,%.d,$(FUZZ_LIB) $(FUZZ:$(B)/fuzz/%=$(B)/fuzz/obj/test/fuzz/%.o))
endif

# -- targets -----------------------------------------------------------------
.PHONY: all check wire guest fuzz bench lint fmt compdb install uninstall dist clean help
all: $(call archives,$(MODULES)) $(BIN) $(HOST_SO) ## build the programs (the default)

check: $(UNIT) $(B)/test/host-example ## run the unit tests (UNIT=... for some)
	@$(if $(CONFIG_CMOCKA),,echo "cmocka is missing: apt-get install libcmocka-dev, ./configure" >&2; exit 1)
	@RUN='$(RUN)' scripts/run-tests.sh check 120 $(B)/test/log $(UNIT)

wire: all $(WIRE) $(B)/test/host-example ## test the daemon over its sockets
	@$(TEST_ENV) RUN='$(RUN)' scripts/run-tests.sh wire 300 $(B)/test/log \
		$(WIRE) $(wildcard test/wire/run test/wire/*_test.py)

guest: all ## test with a Linux guest in QEMU
	@$(TEST_ENV) test/guest/run.sh

fuzz: $(FUZZ) ## fuzz every parser for FUZZ_TIME (20) seconds each; wants clang
	@scripts/run-fuzz.sh $(FUZZ_TIME) $(FUZZ)

bench: all $(BENCH) ## measure
	@$(TEST_ENV) test/bench/run.sh

C_FILES = $(shell find include lib app test -name '*.[ch]' 2>/dev/null | sort)
SH_FILES = configure $(wildcard scripts/*.sh test/*/*.sh .ci/run) \
	$(shell grep -lE '^.!/bin/(ba)?sh' test/wire/run 2>/dev/null)
CLANG_FORMAT ?= $(shell command -v clang-format-14 || echo clang-format)
lint: ## check style: scripts/check.sh, shellcheck (clang-format is in the former)
	@CLANG_FORMAT='$(CLANG_FORMAT)' scripts/check.sh
	@shellcheck $(SH_FILES) && echo "lint: shell scripts are clean"

fmt: ## format the C sources (FMT=FILES for some)
	$(Q)$(CLANG_FORMAT) -i $(or $(FMT),$(C_FILES))

json = {"directory": "$(CURDIR)", "file": "$(1)", "command": "$(subst ",\",$(call compile,$(1)))"},
compdb: $(B)/config.mk ## write B/compile_commands.json, for clangd and clang-tidy
	@: $(file >$(B)/compile_commands.json,[)
	@: $(foreach s,$(patsubst $(B)/obj/%.o,%.c,$(LIB_OBJ) $(APP_OBJ) $(TEST_OBJ)),\
		$(file >>$(B)/compile_commands.json,$(call json,$(s))))
	@sed -i -e '$$s/,$$//' -e '$$a]' $(B)/compile_commands.json
	@echo $(B)/compile_commands.json

# -- installing --------------------------------------------------------------
BINDIR := $(DESTDIR)$(PREFIX)/bin
MANDIR := $(DESTDIR)$(PREFIX)/share/man/man8
DOCDIR := $(DESTDIR)$(PREFIX)/share/doc/belfry
# of the library and its pkg-config file: "make install libdir=/usr/lib/x86_64-linux-gnu"
libdir ?= $(PREFIX)/lib
LIBDIR := $(DESTDIR)$(libdir)
INCDIR := $(DESTDIR)$(PREFIX)/include/belfry
PCDIR := $(LIBDIR)/pkgconfig
COMPDIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
UNITDIR := $(DESTDIR)$(PREFIX)/lib/systemd/system
MAN := $(wildcard doc/*.8)
DOC := $(wildcard LICENSE README* CHANGELOG* doc/*.md doc/*.svg doc/*.c)
COMP := $(wildcard scripts/belfryctl.bash-completion)

install: all ## install below PREFIX (configure's --prefix), within DESTDIR
	install -d $(BINDIR) $(MANDIR) $(DOCDIR) $(COMPDIR) $(PCDIR) $(INCDIR) $(UNITDIR)
	install -m 755 $(HOST_SO) $(LIBDIR)/libbelfry-host.so.$(VERSION)
	ln -sf libbelfry-host.so.$(VERSION) $(LIBDIR)/$(HOST_SONAME)
	ln -sf $(HOST_SONAME) $(LIBDIR)/libbelfry-host.so
	install -m 644 include/belfry/host.h $(INCDIR)
	sed -e 's,@PREFIX@,$(PREFIX),' -e 's,@LIBDIR@,$(libdir),' -e 's,@VERSION@,$(VERSION),' \
		lib/host/belfry-host.pc.in >$(PCDIR)/belfry-host.pc
	sed -e 's,@PREFIX@,$(PREFIX),' app/belfryd/belfryd.service.in >$(UNITDIR)/belfryd.service
	$(if $(BIN),install -m 755 $(BIN) $(BINDIR))
	$(if $(MAN),install -m 644 $(MAN) $(MANDIR))
	install -m 644 $(DOC) $(DOCDIR)
	$(if $(COMP),install -m 644 $(COMP) $(COMPDIR)/belfryctl)

uninstall: ## remove what install put there
	rm -f $(APPS:%=$(BINDIR)/%) $(COMPDIR)/belfryctl $(UNITDIR)/belfryd.service
	rm -f $(LIBDIR)/libbelfry-host.so* $(PCDIR)/belfry-host.pc $(INCDIR)/host.h
	rm -f $(foreach f,$(MAN),$(MANDIR)/$(notdir $(f)))
	rm -f $(foreach f,$(DOC),$(DOCDIR)/$(notdir $(f)))
	-rmdir $(DOCDIR) $(INCDIR)

DIST := belfry-$(VERSION)
dist: ## pack the commit that is checked out: B/belfry-VERSION.tar.gz
	git archive --prefix=$(DIST)/ -o $(B)/$(DIST).tar.gz HEAD
	@echo $(B)/$(DIST).tar.gz

clean: ## remove what was built, keep the configuration
	rm -rf $(B)/obj $(B)/pic $(B)/lib $(B)/bin $(B)/test $(B)/fuzz $(B)/compile_commands.json

help: ## show this
	@echo "make [B=DIR] [V=1] TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

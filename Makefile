# pyoco-host: build, test, run. `make` or `make help` lists the targets.
# Flavours (plain, asan, tsan) live in directories of their own: build/, build/asan/, build/tsan/.

FLAVOUR ?=
BUILD   := build$(if $(FLAVOUR),/$(FLAVOUR))
PREFIX  ?= /usr/local
VERSION := 0.1.0

PACKAGES := lua5.4 libcjson yaml-0.1 libcrypto libuv libnats
CC       ?= cc
CSTD     := -std=c11 -D_GNU_SOURCE
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
OPT      := -O2 -g
ifeq ($(FLAVOUR),asan)
OPT      := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
else ifeq ($(FLAVOUR),tsan)
OPT      := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
endif
LUV_LIB  := $(shell pkg-config --variable=libdir lua5.4 2>/dev/null)/liblua5.4-luv.a
CFLAGS   += $(CSTD) $(WARN) $(OPT) -fPIC -pthread -iquote src $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)) \
            -DPH_VERSION='"$(VERSION)"'
LDLIBS   := $(LUV_LIB) $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -ldl -lm -pthread
LDFLAGS  += $(filter -fsanitize=%,$(OPT)) -rdynamic

# Loadable modules: src/bind/<name>.c that link a heavy library. Each becomes build/lib/host/<name>.so and
# is mapped on the first require "host.<name>" only.
LOADABLE      := http httpd readmodel archive
# Stays mapped when the VM that required it ends: libcurl's set-up and its resolver threads outlive a run.
LIBS_http     := $(shell pkg-config --libs libcurl 2>/dev/null) -Wl,-z,nodelete
OBJ_http      := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/http/*.c))
LIBS_httpd    := -lcivetweb
OBJ_httpd     := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/httpd/*.c))
# Stays mapped: its thread and the model belong to the process, not to the VM that required it.
LIBS_readmodel := -lsqlite3 -Wl,-z,nodelete
# Stays mapped: the libraries behind libarchive were not made to be unloaded.
LIBS_archive  := $(shell pkg-config --libs libarchive 2>/dev/null) -Wl,-z,nodelete
OBJ_readmodel := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/readmodel/*.c))

SRC      := $(wildcard src/*.c) $(filter-out $(LOADABLE:%=src/bind/%.c),$(wildcard src/bind/*.c))
OBJ      := $(SRC:%.c=$(BUILD)/obj/%.o)
MODULES  := $(foreach m,$(LOADABLE),$(if $(wildcard src/bind/$(m).c),$(BUILD)/lib/host/$(m).so))
HOST     := $(BUILD)/pyoco-host

.SECONDARY:
# V=1 shows the whole commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $(1) $(2)')

.DEFAULT_GOAL := help
.PHONY: FORCE help deps build docs up test one peer browser lint format asan tsan bench fuzz faults night install uninstall clean

docs: build ## write what is generated: docs/reference/, docs/protocol/, the pictures and records of docs/guide/flows.md
	@mkdir -p docs/reference
	@$(HOST) -e 'io.write(require("pyoco.config_doc").markdown())' > docs/reference/config.md
	@$(HOST) -e 'io.write(require("pyoco.flow.schema").text())' > docs/reference/flow.schema.json
	@$(HOST) -e 'io.write(require("pyoco.flow.options_doc").markdown())' > docs/reference/flow-options.md
	@mkdir -p docs/protocol
	@$(HOST) spec/support/write_protocol.lua
	@$(HOST) spec/support/write_guides.lua

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n",$$1,$$2}' $(firstword $(MAKEFILE_LIST))

deps: ## install what is missing (Debian's packages; says what and why)
	@sh .ci/deps.sh

build: deps ## compile build/pyoco-host
	@$(MAKE) --no-print-directory $(HOST) $(MODULES)

$(HOST): $(OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(OBJ) $(LDLIBS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/lib/host/%.so: $(BUILD)/obj/src/bind/%.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(filter -fsanitize=%,$(OPT)) -shared -o $@ $^ $(LIBS_$*)

$(BUILD)/lib/host/http.so: $(OBJ_http)
$(BUILD)/lib/host/httpd.so: $(OBJ_httpd)
$(BUILD)/lib/host/readmodel.so: $(OBJ_readmodel)

# A change of flags rebuilds everything: the file changes only when its text does.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(LDFLAGS) $(LDLIBS)' > $@
FORCE:

up: build ## NATS, gateway and worker on this machine, with a first run to see; Ctrl-C stops all
	@$(HOST) up.lua --demo || test $$? -eq 130

test: build ## everything, ending with "N passed, N failed"
	@$(HOST) spec/run.lua

one: build ## one spec: make one S=spec/flow/graph_spec.lua
	@$(HOST) spec/run.lua $(S)

# What specs need from npm, all in one installation: another NATS client, and what drives a browser. Development only.
# Two specs may ask for it at once, so it is done under a lock.
NODE     := build/node/installed
NPM_LIST := nats@2.29.3 playwright-core@1.64.1 axe-core@4.11.0

peer: $(NODE) # another NATS client, for spec/nats/objects_peer_spec.lua
browser: $(NODE) # Chromium too, for spec/e2e
	@sh .ci/deps.sh browser
$(NODE):
	@command -v npm >/dev/null || sh .ci/deps.sh browser
	@mkdir -p build/node
	@flock build/node/lock sh -c 'test -e $(NODE) || { npm install --silent --no-audit --no-fund --no-save \
	  --prefix build/node $(NPM_LIST) && touch $(NODE); }'

lint: ## luacheck on all Lua
	@LUA_PATH="/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;;" \
	  lua5.4 /usr/bin/luacheck -q --no-color $(wildcard lua flows spec)

format: ## clang-format on all C
	@clang-format -i $(wildcard src/*.[ch] src/bind/*.[ch] src/httpd/*.[ch] src/http/*.[ch] src/readmodel/*.[ch] spec/bench/*.[ch])

asan: ## specs under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory FLAVOUR=asan test

tsan: ## specs under ThreadSanitizer
	@$(MAKE) --no-print-directory FLAVOUR=tsan test

BENCH := $(BUILD)/bench/floor $(BUILD)/bench/load $(BUILD)/bench/spawn $(BUILD)/bench/chunks $(BUILD)/bench/watchers

night: ## what is too long for CI: all specs plain and under both sanitizers, the fuzz, the faults, the bench
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory asan
	@$(MAKE) --no-print-directory tsan
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory FLAVOUR=asan fuzz
	@$(MAKE) --no-print-directory faults A="--seconds 600"
	@$(MAKE) --no-print-directory bench

fuzz: build ## random documents, runs and wheels, prints its seed (options: make fuzz A="--seconds 600 --seed 7")
	@$(HOST) spec/fuzz/run.lua $(or $(A),--seconds 120)
	@$(HOST) spec/fuzz/wheels.lua $(or $(A),--seconds 30)

faults: build ## a fleet under random load while its parts are killed and frozen, prints its seed (options as fuzz's)
	@$(HOST) spec/faults/run.lua $(or $(A),--seconds 240)

bench: build $(BENCH) ## speed, memory and start times beside the floor (minutes; options: make bench A="--help")
	@$(HOST) spec/bench/bench.lua $(A)

$(BUILD)/bench/%: $(BUILD)/obj/spec/bench/%.o $(BUILD)/obj/spec/bench/common.o
	@mkdir -p $(@D)
	$(CC) $(filter -fsanitize=%,$(OPT)) -o $@ $(filter %.o,$^) $(LDLIBS)

$(BUILD)/bench/load: $(BUILD)/obj/spec/bench/http.o
.SECONDARY: # objects are kept, so that nothing is compiled twice

SHORT := pyoco-client pyoco-server pyoco-worker pyoco-server-admin
TO    = $(DESTDIR)$(PREFIX)

install: build ## into PREFIX (/usr/local): the program, its Lua, pages, docs, short names, completion, systemd units
	install -D -m 755 $(HOST) $(TO)/bin/pyoco-host
	for name in $(SHORT); do ln -sf pyoco-host $(TO)/bin/$$name; done
	for f in $(MODULES); do install -D -m 644 $$f $(TO)/lib/pyoco-host/host/$$(basename $$f); done
	rm -rf $(TO)/share/pyoco-host $(TO)/share/doc/pyoco-host
	mkdir -p $(TO)/share/pyoco-host $(TO)/share/doc/pyoco-host/docs $(TO)/share/bash-completion/completions $(TO)/share/zsh/site-functions \
	  $(TO)/share/fish/vendor_completions.d $(TO)/lib/systemd/system
	cp -r lua flows www $(TO)/share/pyoco-host/
	cp README.md README.ja.md $(TO)/share/doc/pyoco-host/
	cp -r docs/guide docs/images docs/ja docs/protocol docs/reference $(TO)/share/doc/pyoco-host/docs/
	install -D -m 644 docs/reference/flow.schema.json $(TO)/share/pyoco-host/schemas/flow.json
	$(HOST) lua/completion.lua bash pyoco-host > $(TO)/share/bash-completion/completions/pyoco-host
	for name in $(SHORT); do \
	  $(HOST) lua/completion.lua bash $$name > $(TO)/share/bash-completion/completions/$$name; \
	  $(HOST) lua/completion.lua zsh $$name > $(TO)/share/zsh/site-functions/_$$name; \
	  $(HOST) lua/completion.lua fish $$name > $(TO)/share/fish/vendor_completions.d/$$name.fish; done
	for f in docs/systemd/*; do sed 's|@PREFIX@|$(PREFIX)|' $$f > $(TO)/lib/systemd/system/$$(basename $$f); done

uninstall: # take away what `make install` with the same PREFIX has put there
	for name in pyoco-host $(SHORT); do rm -f $(TO)/bin/$$name $(TO)/share/bash-completion/completions/$$name \
	  $(TO)/share/zsh/site-functions/_$$name $(TO)/share/fish/vendor_completions.d/$$name.fish; done
	for f in docs/systemd/*; do rm -f $(TO)/lib/systemd/system/$$(basename $$f); done
	rm -rf $(TO)/lib/pyoco-host $(TO)/share/pyoco-host $(TO)/share/doc/pyoco-host

clean: ## remove build/
	rm -rf build

-include $(OBJ:.o=.d) $(LOADABLE:%=$(BUILD)/obj/src/bind/%.d) $(OBJ_http:.o=.d) $(OBJ_httpd:.o=.d) $(OBJ_readmodel:.o=.d) $(wildcard $(BUILD)/obj/spec/bench/*.d)

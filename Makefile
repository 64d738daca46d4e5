# Holdfast, built with GNU make.  `make help` lists what can be made.
#
#   DEPS=no            never look for packages, never install any
#   CC=clang           another compiler
#   SANITIZE=a,b       build with -fsanitize=a,b, into build/san-a-b
#   COVERAGE=1         build with gcov's counters, into build/coverage
#   SQLITE_DIR=DIR     build with the sqlite3.c and sqlite3.h in DIR, without npm
#   WERROR=1           warnings are errors
#   V=1                print the commands in full
#   PREFIX= DESTDIR=   where `make install` puts things
#   PORT=8080          where `make run` listens
#   DEMO_DATA=DIR      where `make run` keeps its data
#   FUZZ_TIME=60       seconds for each fuzz target in `make fuzz`
#   FUZZ=NAME          only this fuzz target

VERSION := 0.1.0

ifeq ($(origin CC),default)
CC := gcc
endif
DEPS ?= yes
SQLITE_DIR ?=
PREFIX ?= /usr/local
DESTDIR ?=
SANITIZE :=
COVERAGE :=
WERROR :=
PORT := 8080
DEMO_DATA := demo-data
FUZZ_TIME := 60
PYTHON := /usr/bin/python3

# As many jobs as processors, unless -j was given.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

say = $(if $(V),,@echo '  $(1)  $@';)

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

# ---------------------------------------------------------------- layout
# B/holdfast is what users run.  B/test/holdfast is the same program with the
# doors that tests need (-DHOLDFAST_TEST); only tests run it.  Both link the
# one B/sqlite3.o.

empty :=
space := $(empty) $(empty)
comma := ,
B := build$(if $(SANITIZE),/san-$(subst $(comma),-,$(SANITIZE)))$(if $(COVERAGE),/coverage)
# It is not measured: the one without counters serves.
SQLITE_OBJ := $(if $(COVERAGE),build,$(B))/sqlite3.o
GEN := build/gen
SQLITE := $(or $(SQLITE_DIR),build/sqlite)

SRC := $(sort $(wildcard src/*.c src/*/*.c src/*/*/*.c))
HDR := $(sort $(wildcard src/*.h src/*/*.h src/*/*/*.h))
OBJ := $(SRC:src/%.c=$(B)/obj/%.o)
TEST_OBJ := $(SRC:src/%.c=$(B)/test/obj/%.o)

# tests/unit/test_X.c is a program; the other files there are linked into each.
# In test_failing_X calls fail that failing.wrap names (tests/unit/failing.h).
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))
UNIT_OBJ := $(UNIT_SRC:tests/unit/%.c=$(B)/test/unit/%.o)
UNIT_HELP := $(filter-out $(B)/test/unit/test_%,$(UNIT_OBJ))
UNIT_BIN := $(patsubst %.o,%,$(filter $(B)/test/unit/test_%,$(UNIT_OBJ)))
# A limited child ends without writing gcov's counters; done in the process of
# the test its work is counted.
WRAPPED := $(addprefix $(B)/test/unit/test_,failing_% \
	$(if $(COVERAGE),check convert copy live restore service%))

# tests/fuzz/fuzz_X.c is a fuzz target; the other files there go with each.
FUZZ_SRC := $(sort $(wildcard tests/fuzz/*.c))
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(filter tests/fuzz/fuzz_%,$(FUZZ_SRC)))
REPLAY_OBJ := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/test/fuzz/%.o)
REPLAY_HELP := $(filter-out $(B)/test/fuzz/fuzz_%,$(REPLAY_OBJ))
REPLAY_BIN := $(FUZZ:%=$(B)/test/fuzz/%)
FUZZ_OBJ := $(SRC:src/%.c=build/fuzz/obj/%.o)
FUZZ_BIN := $(FUZZ:%=build/fuzz/%)

# ----------------------------------------------------------------- flags

WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wformat=2
HARDEN := -fstack-protector-strong -fPIE
ifneq ($(COVERAGE),)
# What gcov says of optimized code is not what stands there.
override CFLAGS := -O0 -g
HARDEN += --coverage -fprofile-update=atomic
else ifneq ($(SANITIZE),)
HARDEN += -fno-omit-frame-pointer -fsanitize=$(SANITIZE) \
	-fno-sanitize-recover=all
else
HARDEN += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif

CFLAGS ?= -O2 -g
LANG_FLAGS := -std=c11 -D_GNU_SOURCE -pthread
INCLUDES := -Isrc -I$(GEN) -I$(SQLITE)
DEFINES := -DHOLDFAST_VERSION='"$(VERSION)"'
COMPILE = $(CC) $(LANG_FLAGS) $(INCLUDES) $(DEFINES) $(WARN) \
	$(if $(WERROR),-Werror) $(CFLAGS) $(CPPFLAGS) $(HARDEN) -MMD -MP
LINK = $(CC) -pie -pthread $(CFLAGS) $(HARDEN) $(LDFLAGS) \
	-Wl,-z,relro,-z,now -Wl,--as-needed
LIBS := -lmicrohttpd -ljansson -linih -lcurl -lcrypto -lsodium -lxxhash -lm

# What SQLite is built with.
#   One connection is used by one thread at a time; connections may be many.
SQLITE_FLAGS := -DSQLITE_THREADSAFE=2
#   Pages and their use as tables, and the identity of a WAL snapshot: what
#   copying and restoring stand on.
SQLITE_FLAGS += -DSQLITE_ENABLE_DBPAGE_VTAB -DSQLITE_ENABLE_DBSTAT_VTAB \
	-DSQLITE_ENABLE_SNAPSHOT
#   What schemas of applications may contain, so that they can be checked.
SQLITE_FLAGS += -DSQLITE_ENABLE_FTS3 -DSQLITE_ENABLE_FTS4 \
	-DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_RTREE -DSQLITE_ENABLE_GEOPOLY \
	-DSQLITE_ENABLE_MATH_FUNCTIONS
#   Databases come from elsewhere and may be hostile: no extensions, no file
#   names as URIs, misuse is an error and not a crash, memory can be limited.
SQLITE_FLAGS += -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_TRUSTED_SCHEMA=0 \
	-DSQLITE_DQS=0 -DSQLITE_USE_URI=0 -DSQLITE_ENABLE_API_ARMOR \
	-DSQLITE_DEFAULT_MEMSTATUS=1 -DSQLITE_MAX_ATTACHED=2
#   No temporary files of SQLite's own, no mapping of live files.
SQLITE_FLAGS += -DSQLITE_TEMP_STORE=2 -DSQLITE_MAX_MMAP_SIZE=0
#   What nobody uses.
SQLITE_FLAGS += -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_SHARED_CACHE

# ---------------------------------------------------------------- building

.PHONY: all deps
all: $(B)/holdfast ## build build/holdfast (the default)

# Every package that the goals of this run need, in one go.
DEPS_FOR := $(sort build \
	$(if $(SQLITE_DIR)$(wildcard node_modules/.package-lock.json),,sqlite) \
	$(if $(filter run try-run test,$(MAKECMDGOALS)),run) \
	$(if $(filter test soak unit faults corpora coverage e2e try-run lint,$(MAKECMDGOALS)),test) \
	$(if $(filter fuzz,$(MAKECMDGOALS)),fuzz) \
	$(if $(filter bench,$(MAKECMDGOALS)),run test bench))
deps: ## install the Debian packages that are missing (as root)
ifneq ($(DEPS),no)
	@tools/deps $(DEPS_FOR)
endif

# Objects are made again when the flags change, not only when a file does.
FLAGS := $(CC) $(LANG_FLAGS) $(INCLUDES) $(DEFINES) $(WARN) $(CFLAGS) \
	$(CPPFLAGS) $(HARDEN) $(SQLITE_FLAGS)
OLD_FLAGS := $(if $(wildcard $(B)/flags),$(file <$(B)/flags))
ifneq ($(strip $(OLD_FLAGS)),$(strip $(FLAGS)))
.PHONY: $(B)/flags
endif
$(B)/flags: export FLAGS := $(FLAGS)
$(B)/flags:
	@mkdir -p $(@D)
	@echo "$$FLAGS" >$@

$(B)/holdfast: $(SQLITE_OBJ) $(OBJ)
	$(call say,LINK)$(LINK) -o $@ $^ $(LIBS)

$(B)/test/holdfast: $(SQLITE_OBJ) $(TEST_OBJ)
	$(call say,LINK)$(LINK) -o $@ $^ $(LIBS)

$(B)/obj/%.o: src/%.c $(B)/flags | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(COMPILE) -c -o $@ $<

$(B)/test/obj/%.o: src/%.c $(B)/flags | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(COMPILE) -DHOLDFAST_TEST -c -o $@ $<

$(B)/test/unit/%.o: tests/unit/%.c $(B)/flags | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(COMPILE) -DHOLDFAST_TEST -Itests/unit -c -o $@ $<

$(UNIT_BIN): %: %.o $(UNIT_HELP) $(SQLITE_OBJ) \
		$(filter-out %/main.o,$(TEST_OBJ))
	$(call say,LINK)$(LINK) $(if $(filter $(WRAPPED),$@),@tests/unit/failing.wrap) \
		-o $@ $^ $(LIBS) -lcmocka

# A fuzz target with a main that runs it on files.
$(B)/test/fuzz/%.o: tests/fuzz/%.c $(B)/flags | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(COMPILE) -DHOLDFAST_TEST -Itests/fuzz -c -o $@ $<

$(REPLAY_BIN): $(B)/test/fuzz/%: $(B)/test/fuzz/fuzz_%.o $(REPLAY_HELP) \
		$(SQLITE_OBJ) $(filter-out %/main.o,$(TEST_OBJ))
	$(call say,LINK)$(LINK) -o $@ $^ $(LIBS)

# Without debug information, which would take a quarter of the whole build.
ifndef COVERAGE
$(SQLITE_OBJ): $(SQLITE)/sqlite3.c $(B)/flags | deps
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) -w -pthread $(CFLAGS) -g0 $(HARDEN) $(SQLITE_FLAGS) -c -o $@ $<
endif

-include $(OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(UNIT_OBJ:.o=.d) $(REPLAY_OBJ:.o=.d)

# The amalgamation stands in a package of the npm registry, pinned by version
# and digest in package-lock.json; nothing else of it is used and none of its
# scripts run.
ifndef SQLITE_DIR
NPM_SQLITE := node_modules/better-sqlite3/deps/sqlite3
build/sqlite/sqlite3.c: node_modules/.package-lock.json
	@mkdir -p $(@D)
	cp $(NPM_SQLITE)/sqlite3.h $(NPM_SQLITE)/sqlite3.c $(@D)/
	@touch $(@D)/sqlite3.h $@
build/sqlite/sqlite3.h: build/sqlite/sqlite3.c ;
node_modules/.package-lock.json: package-lock.json | deps
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
endif

# The API description as a C array.
$(GEN)/openapi.h: src/api/openapi.json
	@mkdir -p $(@D)
	@{ echo '/* Generated from $<. */'; \
	   echo '#include <stddef.h>'; \
	   echo 'static const unsigned char openapi_json[] = {'; \
	   od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g'; \
	   echo '};'; \
	   echo 'static const size_t openapi_json_len = sizeof openapi_json;'; \
	 } >$@

# ----------------------------------------------------------------- testing

.PHONY: test faults unit unit-others corpora coverage e2e soak try-run fuzz

# Everything, stage by stage, as CI runs it; the first that fails ends it.
STAGES := $(if $(SANITIZE),all unit corpora e2e,all lint coverage unit-others \
	faults corpora e2e try-run)
test: deps ## build, lint and run every test but the long ones
	@for stage in $(STAGES); do \
	    echo "== $$stage"; \
	    $(MAKE) --no-print-directory DEPS=no WERROR=1 $$stage || \
	        { echo "make test: $$stage failed"; exit 1; }; \
	done
	@echo "make test: all stages passed ($(STAGES))"

# Faults under every call on files.  In a copy of the release's own objects
# each call that tests/fault/fault_calls.c has a twin for is turned into a call
# of that twin.  Left as they are: what reads the clock, and what looks through
# /proc for other processes.
FAULT_SRC := $(sort $(wildcard tests/fault/*.c))
FAULT_OBJ := $(FAULT_SRC:tests/fault/%.c=$(B)/fault/%.o)
FAULT_APART := $(B)/obj/base/clock.o $(B)/obj/base/procs.o
FAULT_UNDER := $(filter-out $(FAULT_APART),$(foreach part,base crypto guard \
	sqlite store catalog backup,$(filter $(B)/obj/$(part)/%,$(OBJ))))

$(B)/fault/%.o: tests/fault/%.c $(B)/flags | deps $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(COMPILE) -Itests/fault -c -o $@ $<

$(B)/fault/under.o: $(FAULT_UNDER) $(B)/sqlite3.o $(B)/fault/fault_calls.o \
		tests/fault/check-calls
	$(call say,LINK){ nm --defined-only $(B)/fault/fault_calls.o | \
	    sed -n 's/.* T fault_\(.*\)/\1 fault_\1/p'; \
	    echo clock_now_s fault_clock_now_s; \
	    echo clock_wait_until fault_clock_wait_until; } >$(@D)/twins
	@ld -r -o $(@D)/plain.o $(FAULT_UNDER) $(B)/sqlite3.o
	@objcopy --redefine-syms=$(@D)/twins $(@D)/plain.o $@
	@tests/fault/check-calls $@

$(B)/fault/sweep: $(FAULT_OBJ) $(B)/fault/under.o $(FAULT_APART)
	$(call say,LINK)$(LINK) -o $@ $^ -ljansson -linih -lcrypto -lxxhash -lm

-include $(FAULT_OBJ:.o=.d)

# Where not every attempt is made the seed says which; another one makes others.
FAULT_ARGS ?= -s 21
faults: $(B)/fault/sweep ## fail, kill and cut at every call on files
	$(B)/fault/sweep $(FAULT_ARGS)
	@$(B)/fault/sweep -c 1 create-delete
	@$(B)/fault/sweep -c 2 create-wal
	@$(B)/fault/sweep -c 3 delete
	@$(B)/fault/sweep -c 4 database-add
	@$(B)/fault/sweep -c 5 create-delete
	@tests/fault/compare-strace $(B)/fault/sweep create-wal create-delete \
	    restore-wal restore-delete delete start database-remove

unit: $(UNIT_BIN) ## run the unit tests
	@tools/run-unit $(abspath $(UNIT_BIN))

# What the commands and servers of a target say is kept for a failure.
corpora: $(REPLAY_BIN) ## run every fuzz target on its corpus
	@for t in $(FUZZ); do \
	    log=$(B)/test/fuzz/$$t.log; \
	    $(B)/test/fuzz/$$t tests/fuzz/corpus/$$t 2>$$log || \
	        { tail -n 20 $$log; echo "failed: $$t"; exit 1; }; \
	done

# What the tests of the parts that hold the promises ran of these parts.
COVERAGE_BIN := $(filter-out $(addprefix $(B)/test/unit/test_, \
	api_% cli_% http_% guard json check_damage),$(UNIT_BIN))
ifndef COVERAGE
coverage: build/sqlite3.o ## measure what the unit tests run of the code
	@$(MAKE) --no-print-directory COVERAGE=1 $@
else
coverage: $(COVERAGE_BIN)
	@find $(B) -name '*.gcda' -delete
	@RUN_UNIT_DIR=$(wildcard /dev/shm) \
	    GCOV_ERROR_FILE=/dev/null tools/run-unit $(abspath $(COVERAGE_BIN))
	@tools/coverage $(B)
endif

# The unit tests that it does not run.
unit-others: $(filter-out $(COVERAGE_BIN),$(UNIT_BIN))
	@tools/run-unit $(abspath $^)

# Hours: in a copy of its own, one after the other.
mutants: unit $(B)/holdfast $(B)/test/holdfast ## break the code on purpose: does a test fail?
	@tools/mutate
.PHONY: mutants

export PYTHONDONTWRITEBYTECODE := 1
PYTEST = HOLDFAST_BIN=$(abspath $(B)/test/holdfast) \
	HOLDFAST_RELEASE_BIN=$(abspath $(B)/holdfast) \
	$(PYTHON) -m pytest -q tests/e2e
e2e: $(B)/holdfast $(B)/test/holdfast ## run the end-to-end tests
	$(PYTEST) -m 'not soak'

soak: $(B)/holdfast $(B)/test/holdfast $(B)/fault/sweep ## run the long tests
	$(B)/fault/sweep -a
	$(PYTEST) -m soak

# libFuzzer with the address and undefined-behaviour sanitizers; SQLite itself
# is not what is fuzzed.  What a target finds is left in build/fuzz/found, and
# new inputs in build/fuzz/corpus.
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
FUZZ_COMPILE = clang $(LANG_FLAGS) $(INCLUDES) $(DEFINES) $(FUZZ_FLAGS) -MMD -MP
build/fuzz/obj/%.o: src/%.c Makefile | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	$(call say,CC  )$(FUZZ_COMPILE) -fsanitize=fuzzer-no-link,address,undefined \
	    -DHOLDFAST_TEST -c -o $@ $<

$(FUZZ_BIN): build/fuzz/%: tests/fuzz/fuzz_%.c tests/fuzz/input.c \
		tests/fuzz/fuzz.h $(filter-out %/main.o,$(FUZZ_OBJ)) build/sqlite3.o
	$(call say,LINK)$(FUZZ_COMPILE) -Itests/fuzz -pthread \
	    -fsanitize=fuzzer,address,undefined -o $@ \
	    $(filter-out %.h,$^) $(LIBS)

-include $(FUZZ_OBJ:.o=.d)

fuzz: $(FUZZ_BIN) ## fuzz each target for FUZZ_TIME seconds
	@for t in $(FUZZ); do \
	    mkdir -p build/fuzz/corpus/$$t build/fuzz/found; \
	    echo "== $$t"; \
	    build/fuzz/$$t -max_total_time=$(FUZZ_TIME) -timeout=60 \
	        -rss_limit_mb=1024 -print_final_stats=1 -close_fd_mask=2 \
	        -verbosity=0 -artifact_prefix=build/fuzz/found/$$t- \
	        build/fuzz/corpus/$$t tests/fuzz/corpus/$$t || exit 1; \
	done

try-run: $(B)/holdfast ## run the demo and the very lines it prints
	@MAKEFLAGS= tools/try-run $(MAKE) $(MAKEOVERRIDES) DEPS=no

# ----------------------------------------------------------------- linting
# What looks at one file leaves a stamp in build/lint and is not repeated
# until that file, a header or a rule changes.

.PHONY: lint lint-format lint-cppcheck lint-scripts lint-rules
LINT := build/lint
LINT_SRC := $(SRC) $(UNIT_SRC) $(FUZZ_SRC) $(FAULT_SRC)
LINT_HDR := $(HDR) $(sort $(wildcard tests/unit/*.h tests/fuzz/*.h tests/fault/*.h))
LINT_FLAGS = $(LANG_FLAGS) $(INCLUDES) -Itests/unit -Itests/fuzz -Itests/fault $(DEFINES) \
	$(WARN) -Werror
SCRIPTS_SH = $(sort $(shell \
	grep -lrE '^\#!/bin/(ba)?sh' .ci tools tests/fault))
SCRIPTS_PY = $(sort $(shell \
	grep -lrE --exclude='*.py' '^\#!/usr/bin/python3' tools tests; \
	find tools tests -name '*.py'))

lint: lint-format lint-rules lint-cppcheck lint-scripts \
	$(LINT_SRC:%.c=$(LINT)/%.c.ok) $(LINT_HDR:%.h=$(LINT)/%.h.ok) ## check the rules, and look for faults

lint-format: | deps
	@echo '  LINT  format'
	@clang-format --dry-run -Werror $(LINT_SRC) $(LINT_HDR)

lint-rules:
	@tools/check-layers
	@tools/check-size
	@tools/check-docs

lint-cppcheck: | deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(LINT)/cppcheck
	@echo '  LINT  cppcheck'
	@cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
	    --enable=warning,performance,portability --library=posix,gnu \
	    --suppressions-list=tools/cppcheck.suppress \
	    --cppcheck-build-dir=$(LINT)/cppcheck -Isrc -D_GNU_SOURCE $(DEFINES) \
	    src

lint-scripts: | deps
	@echo '  LINT  scripts'
	@shellcheck $(SCRIPTS_SH)
	@$(PYTHON) -m pyflakes $(SCRIPTS_PY)

# Both compilers without a warning, and clang-tidy.
$(LINT)/%.c.ok: %.c $(LINT_HDR) .clang-tidy Makefile \
		| deps $(GEN)/openapi.h $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	@echo '  LINT  $<'
	@gcc $(LINT_FLAGS) -O2 -c -o /dev/null $<
	@gcc $(LINT_FLAGS) -DHOLDFAST_TEST -fsyntax-only $<
	@clang $(LINT_FLAGS) -fsyntax-only $<
	@clang-tidy -quiet $< -- $(LINT_FLAGS) 2>/dev/null
	@touch $@

# Every header compiles alone.
$(LINT)/%.h.ok: %.h $(LINT_HDR) Makefile | deps $(SQLITE)/sqlite3.h
	@mkdir -p $(@D)
	@gcc $(LINT_FLAGS) -fsyntax-only -x c $<
	@touch $@

# ------------------------------------------------- running and installing

.PHONY: run bench install uninstall clean help

run: $(B)/holdfast ## start a server on a demo database that is in use
	@$(PYTHON) tools/demo/run --port $(PORT) --data $(DEMO_DATA) --server $<

bench: $(B)/holdfast ## measure; writes docs/performance.md
	tools/bench/run

BIN_DIR = $(DESTDIR)$(PREFIX)/bin
MAN_DIR = $(DESTDIR)$(PREFIX)/share/man/man1
DOC_DIR = $(DESTDIR)$(PREFIX)/share/doc/holdfast
install: $(B)/holdfast ## install below PREFIX
	install -d $(BIN_DIR) $(MAN_DIR) $(DOC_DIR)
	install -m 755 $(B)/holdfast $(BIN_DIR)/holdfast
	install -m 644 docs/holdfast.1 $(MAN_DIR)/holdfast.1
	install -m 644 README.md LICENSE $(DOC_DIR)/

uninstall: ## remove what install put there
	rm -f $(BIN_DIR)/holdfast $(MAN_DIR)/holdfast.1
	rm -f $(DOC_DIR)/README.md $(DOC_DIR)/LICENSE
	rmdir $(DOC_DIR) 2>/dev/null || true

clean: ## remove what was built (not node_modules, not demo-data)
	rm -rf build

help: ## print this
	@echo 'make [TARGET] [VARIABLE=VALUE…]'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1 \2/p' Makefile | \
	    while read -r target what; do printf '  %-10s %s\n' $$target "$$what"; done
	@sed -n 's/^#   \([A-Z_]*=.*\)/  \1/p' Makefile

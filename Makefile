# make            build priv/llm_router
# make demo       install what is missing, build, run the main job
# make test       install what is missing, build, run all tests
# make help       everything else

VERSION := $(shell sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' src/llm_router.app.src)
PREFIX ?= /usr/local
comma := ,

# Mix says where the application it builds is to be: nothing is written among
# the sources then.
ifdef MIX_APP_PATH
BUILD ?= $(MIX_APP_PATH)/make/obj
PRIV := $(MIX_APP_PATH)/make/priv
else
BUILD ?= build/$(or $(subst $(comma),-,$(SAN)),release)
PRIV := priv
endif
DATA := $(filter-out priv/llm_router,$(wildcard priv/*))

PKG_CONFIG ?= pkg-config
LIBRARIES := libuv libcurl jansson openssl libpq lua5.4 libmicrohttpd
# rebar3 says where it is in ERLANG_LIB_DIR_erl_interface.
ERL_INTERFACE := $(firstword $(wildcard $(ERLANG_LIB_DIR_erl_interface:=/lib) \
	/usr/lib/erlang/usr/lib /usr/lib/*/erlang/usr/lib \
	/usr/local/lib/erlang/usr/lib))
ERL_EI_LIBDIR ?= $(ERL_INTERFACE)
ERL_EI_INCLUDE_DIR ?= $(patsubst %/lib,%/include,$(ERL_EI_LIBDIR))

# Empty for those who only want to use it, with whatever compiler they have.
WERROR ?= -Werror
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wstrict-prototypes \
	-Wmissing-prototypes -Wwrite-strings -Wformat=2 -Wswitch-enum \
	-Wimplicit-fallthrough $(WERROR)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -D_REENTRANT -g $(WARNINGS) $(MODE_CFLAGS) \
	-DLLM_ROUTER_VERSION='"$(VERSION)"' -Iinclude -Ic_src \
	-isystem $(ERL_EI_INCLUDE_DIR) \
	$(shell $(PKG_CONFIG) --cflags $(LIBRARIES)) $(CFLAGS)
ALL_LDFLAGS = $(MODE_LDFLAGS) $(LDFLAGS)
LDLIBS = -L$(ERL_EI_LIBDIR) -lei $(shell $(PKG_CONFIG) --libs $(LIBRARIES)) \
	-lpthread -lm

ifdef SAN
MODE_CFLAGS := -O1 -fno-omit-frame-pointer -fsanitize=$(SAN) \
	-fno-sanitize-recover=all
MODE_LDFLAGS := -fsanitize=$(SAN)
else
MODE_CFLAGS := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
MODE_LDFLAGS := -pie -Wl,-z,relro,-z,now
endif

LAYERS := base term json config core metrics provider api loop dist http pg \
	script web console service
SOURCES := $(sort $(foreach layer,$(LAYERS),$(wildcard c_src/$(layer)/*.c)))
OBJECTS := $(SOURCES:c_src/%.c=$(BUILD)/%.o)
TESTS := $(sort $(wildcard c_src/tests/test_*.c))
TEST_PROGRAMS := $(TESTS:c_src/tests/%.c=$(BUILD)/tests/%)
FUZZERS := $(sort $(wildcard c_src/fuzz/fuzz_*.c))
REPLAYS := $(FUZZERS:c_src/fuzz/fuzz_%.c=$(BUILD)/fuzz/replay_%)
PROGRAM := $(if $(SAN),$(BUILD)/llm_router,$(PRIV)/llm_router)

# V=1 shows the commands.
say = @$(if $(V),,echo '$(1) $(@:$(MIX_APP_PATH:=/)%=%)';)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all
all: layers $(PROGRAM)

$(PROGRAM): $(BUILD)/main.o $(OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: c_src/%.c | libraries
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(OBJECTS)
	$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(BUILD)/fuzz/replay_%: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/replay.o $(OBJECTS)
	$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/fuzzer_%: $(BUILD)/fuzz/fuzz_%.o $(OBJECTS)
	$(call say,LD)$(CC) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $^ $(LDLIBS)

# They contain VERSION.
$(BUILD)/main.o $(BUILD)/service/info.o: src/llm_router.app.src

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# What Mix (mix.exs) and rebar3 (rebar.config) call: the program, and beside it
# the files that it reads.
.PHONY: dependency
dependency: $(PROGRAM)
	@[ $(PRIV) -ef priv ] || cp -Ru $(DATA) $(PRIV)/

# One line that says what is missing, before the compiler says it in hundreds.
.PHONY: libraries
libraries:
	@PKG_CONFIG='$(PKG_CONFIG)' CC='$(CC)' \
		scripts/check-libraries '$(ERL_EI_INCLUDE_DIR)' $(LIBRARIES)

# The layers of docs/architecture.md are a DAG; this fails the build when an
# include or a third-party call breaks it.
.PHONY: layers
layers:
	@scripts/check-layers

.PHONY: deps
deps:
	@scripts/install-deps

.PHONY: demo
demo: deps
	@$(MAKE) --no-print-directory all
	@scripts/demo

.PHONY: demo-queue
demo-queue: deps
	@$(MAKE) --no-print-directory all
	@scripts/demo-queue

# Everything: both compilers, unit tests and fuzz corpora plain and under the
# sanitizers, Common Test with real nodes, one suite again under sanitizers.
.PHONY: test
test: deps
	@scripts/test

.PHONY: unit
unit: $(TEST_PROGRAMS)
	@scripts/run-units $(TEST_PROGRAMS)

.PHONY: replay
replay: $(REPLAYS)
	@for replay in $(REPLAYS); do \
		$$replay c_src/fuzz/corpus/$${replay##*/replay_} || exit 1; \
	done

.PHONY: valgrind
valgrind: $(TEST_PROGRAMS)
	@UNIT_WRAPPER='valgrind -q --leak-check=full --error-exitcode=99' \
		scripts/run-units $(TEST_PROGRAMS)

.PHONY: ct
ct: all
	@scripts/run-ct $(SUITES)

# The Erlang code without running it.
.PHONY: dialyzer
dialyzer: deps
	@scripts/dialyzer

# The call forms once more from newer releases, in a Debian chroot.
.PHONY: test-otp27 test-otp29
test-otp27: deps all
	@scripts/run-ct --otp27
test-otp29: deps all
	@scripts/run-ct --otp29

.PHONY: bench
bench: deps all
	@$(MAKE) --no-print-directory -C bench run

# Half an hour of everything at once: scripts/soak says what.
.PHONY: soak
soak: deps
	@$(MAKE) --no-print-directory all
	@scripts/soak

# make fuzz TARGET=term_check SECONDS=600
.PHONY: fuzz
fuzz:
	@scripts/fuzz '$(TARGET)' '$(or $(SECONDS),600)'

.PHONY: format
format:
	clang-format -i $$(git ls-files '*.c' '*.h')

# Every allocation fails once, and system calls: scripts/inject says what.
.PHONY: inject
inject: deps
	@$(MAKE) --no-print-directory all
	@scripts/inject

# make install PREFIX=/usr DESTDIR=/tmp/image; see packaging/install for more.
PLACES = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' PROGRAM='$(PROGRAM)'

.PHONY: install
install: all
	@$(PLACES) packaging/install install

.PHONY: uninstall
uninstall:
	@$(PLACES) packaging/install uninstall

# build/deb/llm-router_VERSION_ARCHITECTURE.deb
.PHONY: deb
deb:
	@packaging/make-deb '$(VERSION)'

.PHONY: clean
clean:
	rm -rf $(or $(MIX_APP_PATH:=/make),build priv/llm_router)

.PHONY: help
help:
	@sed -n '1,/^$$/p' Makefile | sed 's/^# \{0,1\}//'
	@echo 'make demo-queue ten requests through a PostgreSQL queue'
	@echo 'make unit       unit tests; SAN=address,undefined for sanitizers'
	@echo 'make replay     fuzz corpora through every decoder'
	@echo 'make valgrind   unit tests under valgrind'
	@echo 'make ct         Common Test; SUITES="calls_SUITE" for some'
	@echo 'make dialyzer   types of the Erlang code'
	@echo 'make test-otp27 call forms from OTP 27 (Debian trixie chroot)'
	@echo 'make test-otp29 call forms from OTP 29 (Debian forky chroot)'
	@echo 'make bench      measurements, as ratios against a peer'
	@echo 'make install    PREFIX=/usr/local DESTDIR= ; also make uninstall'
	@echo 'make deb        a Debian package in build/deb'
	@echo 'make soak       half an hour of calls, faults and kills'
	@echo 'make inject     failing allocations and system calls, 20 min'
	@echo 'make fuzz       TARGET=name SECONDS=600'

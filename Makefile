# A thin front for CMake: `make` builds into build/bin, installing missing Debian packages first.
JOBS ?= $(shell nproc)

PREFIX ?= /usr/local

.PHONY: all deps install static test-nsm demo test bench asan tsan fuzz format clean
all: deps
	@cmake --preset release > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build build -j $(JOBS) --target spire-server spire-agent node-attestor

deps:
	@mkdir -p build
	@tools/install-packages build

# Programs, and the library, header and pkg-config file for plugins in C; below DESTDIR when it is set.
install: all
	@cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build build -j $(JOBS) --target plugin-kit
	@cmake --install build > build/install.log || { cat build/install.log; exit 1; }

# A spire-agent that needs nothing else in its image: build/static/bin/spire-agent. (The linker warns of what
# cmd/agent/main.c takes care of.)
static: deps
	@cmake --preset static > build/configure-static.log 2>&1 || { cat build/configure-static.log; exit 1; }
	@cmake --build build/static -j $(JOBS) --target spire-agent > build/static.log 2>&1 || { cat build/static.log; exit 1; }
	@strip build/static/bin/spire-agent
	@ls -l build/static/bin/spire-agent

# A Nitro Security Module for machines without one (docs/enclaves.md): build/tests/test-nsm.
test-nsm: all
	@cmake --build build -j $(JOBS) --target test-nsm

demo: all
	@tools/demo

test: deps
	@tools/install-packages test
	@tools/test

bench: all
	@bench/run build/bin

asan tsan: deps
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)

fuzz: deps
	@tools/install-packages fuzz
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)

format:
	clang-format-14 -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build

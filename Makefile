# A thin front for CMake: `make` builds into build/bin, installing missing Debian packages first.
JOBS ?= $(shell nproc)

.PHONY: all deps demo test bench asan tsan fuzz format clean
all: deps
	@cmake --preset release > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build build -j $(JOBS) --target spire-server spire-agent

deps:
	@mkdir -p build
	@tools/install-packages build

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

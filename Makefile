# make run    on a fresh Debian 12: install, build, fetch the model, ask it a question
# make test   install, build release, run every test
# make soak   long counts: kills, seeds, fuzzing; the result is a line in tests/ledger.csv
# make gpu-check   what one NVIDIA GPU can say about this tree (docs/cuda.md); ends with 3 without
.PHONY: gpu-check run test soak build coverage format tidy clean

MODEL ?=
export MODEL

build:
	@tools/setup.sh build
	@cmake --preset release -DSLUICE_TESTS=OFF >/dev/null
	@cmake --build --preset release

run: build
	@tools/first_run.sh

test:
	@tools/setup.sh
	cmake --preset release -DSLUICE_TESTS=ON
	cmake --build --preset release
	ctest --preset release

soak:
	@tools/setup.sh
	cmake --preset release -DSLUICE_TESTS=ON
	cmake --build --preset release
	tests/soak.sh

gpu-check:
	@tests/gpu/check.sh

coverage:
	cmake --workflow --preset coverage
	tests/coverage.sh build/coverage

format:
	git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

tidy:
	cmake --preset fuzz >/dev/null
	tests/lint/clang_tidy.sh build/fuzz

clean:
	rm -rf build/dev build/release build/asan build/tsan build/fuzz build/coverage build/cuda

# Every target installs what it needs by itself: a Debian with Node.js >= 20, npm, make and python3 is enough.
SHELL := /bin/sh
NODE := node_modules/.bin/node
.PHONY: build processbin envoy dist test-dist run test test-container test-cgroup2 test-unit check format bench bench-traffic chaos soak explore fuzz man clean setup

setup: node_modules/.setup

# The pinned runtime comes with the packages; the stamp follows the lock file.
node_modules/.setup: package.json package-lock.json scripts/setup.sh scripts/spawnShim.sh native/spawn/spawn.c
	sh scripts/setup.sh
	@touch $@

build: setup
	node scripts/build.mjs monoceros

processbin: setup
	node scripts/build.mjs processbin

# The proxy of pools with `server:`; a user may have one on PATH instead.
envoy:
	sh scripts/envoy.sh

# The main job on real workers behind a real Envoy: four copies of a server, until Ctrl-C.
run: build processbin envoy
	./dist/monoceros -c ./examples/run.yaml -d

# The gate: format, lint, types, unit, simulation, architecture, docs.
check: setup
	$(NODE) node_modules/.bin/biome ci .
	$(NODE) node_modules/.bin/tsc --noEmit
	$(NODE) node_modules/.bin/tsc --noEmit -p dashboard
	$(NODE) scripts/test.ts unit

# In-memory workers only; no executable is built.
test-unit: setup
	$(NODE) scripts/test.ts unit

# Everything: the gate, then integration, fault and end-to-end tests with the real executable.
test: build processbin envoy check
	sh scripts/testTools.sh
	sh scripts/exampleServers.sh
	$(NODE) scripts/test.ts process
	$(NODE) scripts/test.ts system
	$(CHAOS) --minutes 3 --seed 1

# Random faults under load on the real executable (docs/reliability.md): `make chaos MINUTES=60 SEED=7`.
CHAOS := $(NODE) --no-warnings test/chaos/run.ts
chaos: build processbin envoy
	$(CHAOS) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

# Two hours of it in runs of 30 minutes. It can be interrupted: finished runs are kept in dist/soak.jsonl.
soak: build processbin envoy
	$(NODE) --no-warnings test/chaos/soak.ts dist/soak.jsonl

# Every state of small pools, and of a larger one as many as 90 s allow (docs/architecture.md): about ten minutes.
explore: setup
	$(NODE) --no-warnings test/simulation/exploreAll.ts

# A million random inputs for everything that takes input from outside: `make fuzz TARGET=logLines CASES=1000 SEED=7`.
fuzz: setup
	sh scripts/exampleServers.sh
	$(NODE) --no-warnings test/fuzz/run.ts $(if $(TARGET),--target $(TARGET)) $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

# The executable as PID 1 of real containers, with limits; podman and runc are installed where root has apt.
test-container: build processbin envoy
	sh scripts/containerTools.sh
	$(NODE) scripts/test.ts container

# The same with version 2 of control groups, in an emulated machine.
test-cgroup2: build envoy
	sh scripts/cgroup2Tools.sh
	$(NODE) scripts/test.ts cgroup2

# Manual pages, into dist/man.
man: setup
	$(NODE) --no-warnings scripts/man.ts

# Every package of this version, for x86_64 and arm64, in dist/release: docs/howto/install.md.
# Packages for arm64 can be made on x86_64, but not the other way round.
dist: build envoy man
	sh scripts/distTools.sh
ifeq ($(shell uname -m),x86_64)
	node scripts/build.mjs monoceros arm64
	sh scripts/envoy.sh arm64
	$(NODE) --no-warnings scripts/dist/build.ts x64 arm64
else
	$(NODE) --no-warnings scripts/dist/build.ts
endif

# Each package installed into an environment of its kind, where the same smoke test runs.
test-dist: dist processbin
	$(NODE) scripts/test.ts dist

format: setup
	$(NODE) node_modules/.bin/biome check --write .

bench: build processbin
	$(NODE) bench/run.ts

# The three traffic modes compared: docs/benchmarks-traffic.md and pictures for docs/traffic.md.
bench-traffic: build processbin envoy
	sh scripts/exampleServers.sh
	$(NODE) bench/traffic.ts

clean:
	rm -rf dist node_modules bench/peers

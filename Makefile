# One word for each habit. Every target installs what is missing first (scripts/bootstrap.sh), says so,
# and does nothing where all is there already. Needed beforehand: a Rust toolchain, git and make.

.PHONY: help dev test check check-model sim fuzz chaos bench release swarm swarm-down

help:
	@echo "make dev      start dStore on this machine: one process, data kept in ./dstore-data"
	@echo "make test     everything that has to pass before a commit; the last line sums it up"
	@echo "make check    the quick half of make test: format, lints, layout"
	@echo "make sim      SEEDS=number: simulate a cluster with faults, one run a seed; SEED=number repeats one"
	@echo "make check-model   search the models of our protocols within larger bounds, for up to an hour"
	@echo "make fuzz     TARGET=name: fuzz one parser until it breaks or you press Ctrl-C (no TARGET lists them)"
	@echo "make chaos    clusters under every fault there is, for half an hour; prints its seed (as root)"
	@echo "make bench    measure dStore against PostgreSQL, Redis, etcd and servers like DynamoDB; writes docs/benchmarks.md"
	@echo "make release  the stripped binary, a .deb and their checksums, in dist/"
	@echo "make swarm    a whole cluster in Docker swarm on this host; make swarm-down removes it, data included"

# DEV_FLAGS adds flags, as in: make dev DEV_FLAGS='--nodes 3'
dev:
	@scripts/bootstrap.sh build
	cargo run --quiet --profile quick --bin dstore -- dev --data dstore-data $(DEV_FLAGS)

test:
	@scripts/bootstrap.sh build test
	@scripts/test.sh all

check:
	@scripts/bootstrap.sh build
	@scripts/test.sh check

# TRACE=1 shows each event of the run.
sim:
	@scripts/bootstrap.sh build
	$(if $(SEED),DSTORE_SEED=$(SEED)) $(if $(SEEDS),DSTORE_SEEDS=$(SEEDS)) $(if $(TRACE),DSTORE_TRACE=1) \
		cargo test --quiet --locked --test simulation -- every_seed_holds --exact --nocapture

# Each world for ten minutes, or until all of it is tried. Another time: make check-model SEARCH_SECONDS=60
check-model:
	@scripts/bootstrap.sh build
	$(if $(SEARCH_SECONDS),DSTORE_SEARCH_SECONDS=$(SEARCH_SECONDS)) \
		cargo test --locked --profile quick -p dstore-model --test check -- --ignored --nocapture --test-threads 1

fuzz:
	@scripts/bootstrap.sh build
	@scripts/fuzz.sh $(TARGET)

# Shorter or the same again: DSTORE_CHAOS_SECONDS=300 DSTORE_CHAOS_SEED=7 make chaos
chaos:
	@scripts/bootstrap.sh build test
	cargo test --locked --test chaos -- --ignored --nocapture a_long_storm

# BENCH_FLAGS goes to the measuring program, as in: make bench BENCH_FLAGS='--seconds 5'
bench:
	@scripts/bootstrap.sh build test bench
	@scripts/bench.sh $(BENCH_FLAGS)

release:
	@scripts/bootstrap.sh build
	@scripts/release.sh

# What can be chosen, and what else can be done with it: scripts/swarm.sh
swarm:
	@scripts/swarm.sh up

swarm-down:
	@scripts/swarm.sh down

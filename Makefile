# make             format, vet, architecture, unit tests: no root needed
# make help        everything else

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BIN     := build/bin
DEMO    := build/tools/demo
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v gcc >/dev/null 2>&1 && echo -race)
UNIT    := $$($(GO) list ./... | grep -v -e /integration$$ -e /integration/cluster$$)
FUZZTIME ?= 10s
# Kubernetes' programs, once `make cluster-deps` has built them.
K8S_BIN  = $(shell bash -c '. integration/cluster/lib.sh; [ ! -x $$BIN/kube-apiserver ] || echo $$BIN')

.PHONY: all
all: fmt vet arch unit ## format check, vet, architecture, unit tests (default; no root)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the three programs, static, into build/bin
	@mkdir -p $(BIN) build/tools
	$(BUILD) -o $(BIN)/vrouter ./plugin
	$(BUILD) -o $(BIN)/vragent ./agent
	$(BUILD) -o $(BIN)/vrcontroller ./controller

.PHONY: generate
generate: ## BPF objects, protocol code, CustomResourceDefinitions again (needs clang, protoc and their Go plugins)
	$(GO) generate ./...

.PHONY: fmt
fmt: ## is everything formatted?
	@out="$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go'))"; \
	[ -z "$$out" ] || { echo "not formatted (gofmt -w):"; echo "$$out"; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: arch
arch: ## layers, library homes, budgets, package docs
	$(GO) test ./integration/arch

.PHONY: unit
unit: ## unit tests, with the race detector; those that want a real API server run once cluster-deps has built one
	VRAGENT_K8S_BIN=$(K8S_BIN) $(GO) test $(RACE) $(UNIT)

.PHONY: deps
deps: ## install the Debian packages that tests need, if they are missing (root)
	integration/deps.sh test

.PHONY: test
test: deps cluster-deps ## everything: packages, build, unit and fuzz tests, integration tests with one and two workers, a Kubernetes smoke test (root)
	$(MAKE) build all fuzz-smoke FUZZTIME=2s
	$(MAKE) integration WORKERS=1
	$(MAKE) integration WORKERS=2 MTU=9000 CYCLES=50 OUTAGE=5 OFFLOAD=off
	$(MAKE) integration WORKERS=2 OFFLOAD=force ATTACH=clsact TESTFLAGS="-run 'Service|Paths|Offload|Kill|Check|Flows'"
	$(MAKE) integration WORKERS=2 MTU=9000 FABRIC_IO=afxdp POD_IO=tap TESTFLAGS="-run 'Fabric|Service|Paths|Frag|Wire|KillFastPath'"
	$(MAKE) cluster-smoke

# WORKERS of each fast path, MTU of the underlay, FABRIC_IO (tcx or afxdp), POD_IO (veth or tap), OFFLOAD (off, auto or force)
# and ATTACH (auto, tcx or clsact) where the default is not meant, CYCLES of ADD and DEL, OUTAGE of the controller in seconds.
WORKERS ?= 1
MTU     ?= 1500
FABRIC_IO ?= tcx
POD_IO ?= veth
CYCLES  ?= 1000
OUTAGE  ?= 60

.PHONY: integration
integration: build ## integration tests (root): WORKERS=1 TESTFLAGS="-run TestService"
	WORKERS=$(WORKERS) MTU=$(MTU) FABRIC_IO=$(FABRIC_IO) POD_IO=$(POD_IO) OFFLOAD=$(OFFLOAD) ATTACH=$(ATTACH) CYCLES=$(CYCLES) OUTAGE=$(OUTAGE) $(GO) test -count=1 -timeout 15m $(TESTFLAGS) ./integration

$(DEMO): FORCE | build
	@$(BUILD) -o $@ ./integration/demo
.PHONY: FORCE
FORCE:

.PHONY: demo
demo: deps-demo build $(DEMO) ## two nodes, six pods, one service: show it, explain it, remove it (root)
	@$(DEMO) run

.PHONY: demo-up
demo-up: deps-demo build $(DEMO) ## the same, left running for you to explore through build/demo/*
	@$(DEMO) up

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	@[ -x $(DEMO) ] || $(MAKE) $(DEMO)
	@$(DEMO) down

.PHONY: deps-demo
deps-demo:
	@integration/deps.sh demo

# ROUNDS of the benchmark, SUBJECTS and WORKLOADS by name (empty: all), TIME: factor
# for the length of every sample, RESULTS: folder.
ROUNDS  ?= 5
TIME    ?= 1
RESULTS ?= integration/bench/results
BENCH   = build/tools/bench -rounds $(ROUNDS) -time $(TIME) -out $(RESULTS) -subjects '$(SUBJECTS)' -workloads '$(WORKLOADS)' \
	-k8s "$$(bash -c '. integration/cluster/lib.sh; echo $$BIN')"

.PHONY: bench-build
bench-build: build
	integration/deps.sh bench
	integration/cluster/deps.sh kube-proxy
	$(BUILD) -o build/tools/bench ./integration/bench
	$(BUILD) -o build/tools/benchload ./integration/bench/load

.PHONY: bench
bench: bench-build ## this router beside kube-proxy, VXLAN, Open vSwitch, DPDK, interleaved; half an hour (root): ROUNDS=2 SUBJECTS=ours-auto,bridge WORKLOADS=tcp-rr
	$(BENCH)

.PHONY: bench-smoke
bench-smoke: ROUNDS = 1
bench-smoke: TIME = 0.1
bench-smoke: RESULTS = build/bench-smoke
bench-smoke: SUBJECTS = ours-off,bridge,nftables,iptables,veth,loopback
bench-smoke: bench-build ## one short round of it: does everything run? (root)
	$(BENCH) -smoke

.PHONY: bench-line
bench-line: RESULTS = integration/bench/results/line
bench-line: bench-build ## where the line of offload: auto is: the same flows by the workers and by the kernel, at several rates; 13 minutes (root)
	$(BENCH) -line

.PHONY: bench-micro
bench-micro: ## the user plane alone on in-memory links: ns and instructions of each stage, into integration/bench/results/micro.txt (four minutes)
	@mkdir -p build/tools integration/bench/results
	$(GO) test -c -o build/tools/micro.test ./fastpath/forward
	build/tools/micro.test -test.run '^TestMicro$$' -micro integration/bench/results/micro.txt

.PHONY: model
model: ## every order of two workers' steps, with the real code; Spin on the rings, and on sleep and wake (a minute)
	ORDERS=all $(GO) test -count=1 -run 'TestEveryOrder|TestTurnIsOrders' ./fastpath/forward
	@command -v spin >/dev/null 2>&1 || $(MAKE) deps
	fastpath/ring/model/check.sh

.PHONY: scale
scale: deps build ## what a node is designed for: large tables beside a stream, 2 million flows, a full flow table, an idle node; six minutes (root): EXPERIMENTS="flood idle"
	@mkdir -p build/tools integration/scale/results
	$(BUILD) -o build/tools/scale ./integration/scale
	$(BUILD) -o build/tools/benchload ./integration/bench/load
	build/tools/scale -vragent $(BIN)/vragent -load build/tools/benchload $(if $(EXPERIMENTS),$(EXPERIMENTS),-o integration/scale/results/$$(date +%Y-%m-%d).txt)

.PHONY: fuzz-smoke
fuzz-smoke: ## every fuzz test for FUZZTIME (10s)
	GO="$(GO)" integration/fuzz.sh $(FUZZTIME)

IMAGE := localhost/vragent:$(VERSION)
.PHONY: image
image: build ## OCI archive of all programs: build/image/vragent.tar (no Docker daemon)
	packaging/image.sh $(BIN) build/image/vragent.tar $(IMAGE)

.PHONY: cluster-deps
cluster-deps: ## build what a test cluster is made of, once (ten minutes; kept in /var/cache/vragent-cluster)
	integration/cluster/deps.sh $(CLUSTER_DEPS)

.PHONY: images
images: image
	@mkdir -p build/tools/traffic
	@$(BUILD) -o build/tools/traffic/traffic ./integration/cluster/traffic
	@$(GO) run ./packaging/pack -root build/tools/traffic -o build/image/traffic.tar -tag test.invalid/e2e/traffic:1 -entrypoint /traffic

# NODES of the cluster; KUBE_PROXY=iptables or nftables runs kube-proxy beside us.
NODES ?= 2
.PHONY: cluster
cluster: cluster-deps images ## a Kubernetes cluster of NODES nodes on this machine, with our network (root)
	integration/cluster/up.sh $(NODES)
	integration/cluster/install.sh $(IMAGE)

.PHONY: cluster-test
cluster-test: ## all tests on a cluster, which is brought up if there is none, an hour (root); OUTAGE=5m: longer; TESTFLAGS="-run TestDNS": only that
	@[ -s build/cluster/settings ] || $(MAKE) cluster
	@rm -rf build/cluster-results
	$(GO) test -count=1 -v -timeout 90m $(TESTFLAGS) ./integration/cluster
	@cat build/cluster-results/*.txt 2>/dev/null || true
	$(if $(TESTFLAGS),,$(MAKE) cluster-e2e)

.PHONY: cluster-smoke
cluster-smoke: cluster-deps images ## the shorter of those tests, on a cluster of their own (root)
	integration/cluster/smoke.sh $(IMAGE)

.PHONY: cluster-e2e
cluster-e2e: ## Kubernetes' own network conformance tests on the cluster (root): FOCUS=regex
	@[ -s build/cluster/settings ] || $(MAKE) cluster
	$(MAKE) cluster-deps CLUSTER_DEPS=e2e
	integration/cluster/e2e.sh $(if $(FOCUS),'$(FOCUS)')

.PHONY: cluster-down
cluster-down: ## remove every trace of the cluster
	integration/cluster/down.sh --keep-logs

.PHONY: clean
clean: ## remove build/ (after cluster-down)
	rm -rf build

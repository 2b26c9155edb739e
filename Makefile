# SPDX-License-Identifier: GPL-2.0-or-later
SECONDS = 600
EXECUTIONS = 50000
N = 50
help:
	@echo "make build        fetch QEMU's source, add the overlay, build build/qemu-system-x86_64"
	@echo "make bios         SeaBIOS that boots from Xen PV disks: build/bios-256k.bin"
	@echo "make demo         a guest on a real Xen without and with the device, in one table"
	@echo "make test         all tests: those of test-quick, and guests on a real Xen"
	@echo "make test-xen     the whole matrix of guests on a real Xen, with a table of its cells"
	@echo "make test-kvm     guests on QEMU's own Xen, under KVM"
	@echo "make test-soak    N=50 guests one after the other in one dom0: does anything add up?"
	@echo "make test-quick   unit tests, qtests and some rounds of fuzz, no Xen"
	@echo "make test-asan    test-quick on a QEMU built with ASan and UBSan: any report fails"
	@echo "make fuzz         fuzz for SECONDS=600, from SEED=N if given"
	@echo "make fuzz-deep    libFuzzer in QEMU's own process and the BIOS's driver, EXECUTIONS=50000 of each; KEEP=1: keep what it finds"
	@echo "make bench        how long a handoff takes: tables, plots, build/bench/report.json"
	@echo "make coverage     which lines of the device the tests without Xen do not reach"
	@echo "make check        style and documents: before a commit"
	@echo "make deb          a Debian package of QEMU for a Xen host, in build/"
	@echo "make test-deb     install it in a lab's dom0, use it for guests, remove it"
	@echo "                  OLD=FILE: that older package first, as an upgrade"
	@echo "make edit         patches/ and meson.build.patch as commits, in build/edit"
	@echo "                  make edit OF=seabios: those of SeaBIOS, in build/edit-seabios"
	@echo "make refresh      what those commits say by now, back to patches/ and meson.build.patch"
	@echo "make series       patches for QEMU's and SeaBIOS's maintainers, in build/series/"
	@echo "make check-series builds each of them, with checkpatch.pl, tests and Sphinx"
	@echo "make clean        remove build/; the cache stays, make says where"
	@echo "HOSTS=bookworm    or trixie, behind test and test-xen: guests on that release's Xen only"
	@echo "DIST=trixie       or bookworm, behind any of them: in a root of Debian 13 or 12, in build/trixie/"
# DIST=SUITE: the same in the root of that release of Debian, if it is not the machine's
SUITE := $(shell . /etc/os-release && echo $$VERSION_CODENAME)
DIST ?= $(SUITE)
# whose Xen guests run on, the newest first; the labs of others than the machine are built in a root
HOSTS ?= trixie bookworm
ifneq ($(DIST),$(SUITE))
$(filter-out help,$(MAKECMDGOALS)):
	@scripts/in-root.sh $(DIST) make $@
else
build:
	@scripts/build.sh
bios:
	@scripts/bios.sh
bios-test:
	@scripts/bios.sh test
lab: build
	@tests/xen/setup.sh
labs: lab
	@set -e; for s in $(filter-out $(SUITE),$(HOSTS)); do scripts/in-root.sh $$s make lab DIST=$$s; done
demo: lab bios
	@python3 scripts/demo.py
test: labs bios-test
	@python3 scripts/test.py $(HOSTS:%=--host %)
test-xen: labs bios
	@tests/xen/setup.sh others
	@python3 scripts/test.py --matrix $(HOSTS:%=--host %)
test-kvm: lab bios
	@python3 scripts/test.py --kvm
test-soak: lab
	@python3 scripts/test.py --soak $(N)
test-quick: build bios-test
	@python3 scripts/test.py --quick
test-asan: bios-test
	@scripts/build.sh asan
	@python3 scripts/test.py --variant asan
fuzz: build
	@cd build/qemu/build && QTEST_QEMU_BINARY=./qemu-system-x86_64 \
		tests/qtest/xen-handoff-fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
fuzz-deep:
	@scripts/build.sh fuzz
	@scripts/bios.sh fuzz
	@python3 scripts/fuzz.py $(EXECUTIONS) $(if $(KEEP),--keep)
bench: lab
	@scripts/bios.sh dma
	@scripts/install.sh gnuplot-nox
	@python3 scripts/bench.py
coverage: bios-test
	@scripts/build.sh coverage
	@python3 scripts/coverage.py
check:
	@scripts/check.sh
deb:
	@scripts/deb.sh
edit:
	@scripts/edit.sh $(OF)
refresh:
	@scripts/edit.sh $(OF) refresh
series:
	@scripts/series.sh
check-series:
	@scripts/series.sh check
test-deb:
	@scripts/deb.sh lab
	@$(MAKE) --no-print-directory lab
	@python3 scripts/test.py --package
clean:
	@scripts/clean.sh
endif
.PHONY: help build bios bios-test lab labs demo test test-xen test-kvm test-soak test-quick test-asan fuzz fuzz-deep bench coverage check \
	deb test-deb edit refresh series check-series clean

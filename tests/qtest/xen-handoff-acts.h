/*
 * Fuzzing the Xen firmware handoff: what is done, and what has to be so then
 *
 * Two programs share it.  xen-handoff-fuzz draws acts from a seed for a QEMU of
 * its own; tests/qtest/fuzz/xen_handoff_fuzz.c is QEMU, and libFuzzer's bytes
 * are what it draws.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef XEN_HANDOFF_ACTS_H
#define XEN_HANDOFF_ACTS_H

#include "libqtest.h"

/* Where numbers come from: @rand, or @left bytes, which end */
typedef struct Draw {
    GRand *rand;
    const uint8_t *data;
    size_t left;
} Draw;

/* What QEMU is told at its start, and libFuzzer calls its target */
typedef struct FuzzSetup {
    const char *name, *description;
    bool callback_notifier, keep_grants;
} FuzzSetup;

#define FUZZ_SETUPS 2

extern const FuzzSetup fuzz_setups[FUZZ_SETUPS];

typedef struct Fuzz Fuzz;

extern bool fuzz_verbose;

/* What is being done, for whoever has to say what failed */
extern char fuzz_doing[256];

/**
 * fuzz_new:
 * @setup: how
 * @inside: QEMU is this process
 *
 * Returns: what a QEMU needs for fuzz_args()
 */
Fuzz *fuzz_new(const FuzzSetup *setup, bool inside);

/**
 * fuzz_args:
 * @f: from fuzz_new()
 *
 * Returns: QEMU's arguments; g_free() them
 */
char *fuzz_args(Fuzz *f);

/**
 * fuzz_start:
 * @f: from fuzz_new()
 * @qts: the QEMU with those arguments; NULL: start one
 */
void fuzz_start(Fuzz *f, QTestState *qts);

/**
 * fuzz_round:
 * @f: with a QEMU
 * @r: what to draw from
 * @acts: how many; there are fewer if the bytes end
 *
 * Do something and look what has come of it, then close all, so that the next
 * round finds the QEMU as this one did.
 *
 * Returns: how many acts there were
 */
unsigned int fuzz_round(Fuzz *f, Draw *r, unsigned int acts);

/**
 * fuzz_log:
 * @f: with a QEMU of its own
 *
 * Returns: the path of its log
 */
const char *fuzz_log(Fuzz *f);

/**
 * fuzz_free:
 * @f: with a QEMU of its own, which ends
 */
void fuzz_free(Fuzz *f);

#endif

/*
 * Fuzzer for the Xen firmware handoff, with a QEMU of its own
 *
 * What it does in a round depends on the seed alone, or is what an input of
 * libFuzzer says that tests/qtest/fuzz/xen_handoff_fuzz.c has kept.
 *
 *   QTEST_QEMU_BINARY=... xen-handoff-fuzz --seconds 600
 *   QTEST_QEMU_BINARY=... xen-handoff-fuzz --seed N --rounds 1 --verbose
 *   QTEST_QEMU_BINARY=... xen-handoff-fuzz --replay FILE|DIRECTORY --verbose
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-handoff-acts.h"

static uint32_t seed;
static char *input;             /* the file, if it is none of a seed */
static uint64_t acts;
static bool tap;

/* --- what to say when it fails -------------------------------------------- */

static void on_abort(void *opaque)
{
    Fuzz *f = opaque;
    static bool said;

    /* killing QEMU aborts again if it is dead already */
    if (said) {
        return;
    }
    said = true;
    if (input) {
        fprintf(stderr, "fuzz: FAILED in input %s", input);
    } else {
        fprintf(stderr, "fuzz: FAILED in seed %u", seed);
    }
    fprintf(stderr, ", act %s\nfuzz: QEMU's log is %s\n", fuzz_doing,
            fuzz_log(f));
}

static void on_alarm(int sig)
{
    static const char text[] = "fuzz: hangs\n";

    if (write(STDERR_FILENO, text, sizeof(text) - 1)) {
        /* whether or not it could be said */
    }
    abort();
}

/* g_error() outside of g_test ends in a trap, which libqtest does not see */
static void on_trap(int sig)
{
    abort();
}

static void no_print(const char *text)
{
}

/* --- rounds --------------------------------------------------------------- */

static Fuzz *start(const FuzzSetup *setup)
{
    Fuzz *f = fuzz_new(setup, false);

    qtest_add_abrt_handler(on_abort, f);
    fuzz_start(f, NULL);
    return f;
}

static void stop(Fuzz *f)
{
    qtest_remove_abrt_handler(f);
    fuzz_free(f);
}

static void run_round(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    unsigned int n = g_rand_int_range(rand, 100, 400);
    Draw draw = { .rand = rand };
    Fuzz *f;

    printf("%sseed %u\n", tap ? "# " : "", seed);
    fflush(stdout);
    f = start(&fuzz_setups[g_rand_int_range(rand, 0, FUZZ_SETUPS)]);
    acts += fuzz_round(f, &draw, n);
    stop(f);
}

static void run_rounds(uint32_t first, unsigned int rounds,
                       unsigned int seconds)
{
    int64_t begin = g_get_monotonic_time();
    unsigned int n = 0;
    double s;

    do {
        seed = first + n++;
        run_round();
        s = (g_get_monotonic_time() - begin) / 1e6;
    } while (rounds ? n < rounds : s < seconds);
    printf("%sfuzz: %u rounds, %" PRIu64 " acts, %.1f s, no failure\n",
           tap ? "# " : "", n, acts, s);
}

static void replay_file(Fuzz *f, const char *path)
{
    g_autofree char *bytes = NULL;
    g_autoptr(GError) err = NULL;
    size_t size;
    Draw draw;

    if (!g_file_get_contents(path, &bytes, &size, &err)) {
        g_error("%s", err->message);
    }
    input = g_strdup(path);
    if (fuzz_verbose) {
        printf("# %s\n", path);
    }
    draw = (Draw) { .data = (uint8_t *)bytes, .left = size };
    acts += fuzz_round(f, &draw, UINT_MAX);
    g_clear_pointer(&input, g_free);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All inputs in @path, or that file, one after the other in one QEMU */
static unsigned int replay_in(Fuzz *f, const char *path)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        replay_file(f, path);
        return 1;
    }
    while ((name = g_dir_read_name(dir))) {
        g_ptr_array_add(names, g_build_filename(path, name, NULL));
    }
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++) {
        replay_file(f, g_ptr_array_index(names, i));
    }
    return names->len;
}

/* What is in a directory named as a setup is for that, all else is for each */
static void replay(const char *path)
{
    int64_t begin = g_get_monotonic_time();
    unsigned int n = 0;

    for (size_t i = 0; i < FUZZ_SETUPS; i++) {
        const FuzzSetup *setup = &fuzz_setups[i];
        g_autofree char *dir = g_build_filename(path, setup->name, NULL);
        Fuzz *f = start(setup);

        n += replay_in(f, g_file_test(dir, G_FILE_TEST_IS_DIR) ? dir : path);
        stop(f);
    }
    printf("fuzz: %u inputs, %" PRIu64 " acts, %.1f s, no failure\n", n, acts,
           (g_get_monotonic_time() - begin) / 1e6);
}

static void test_fuzz(void)
{
    run_rounds(1, 5, 0);
}

int main(int argc, char **argv)
{
    gint64 first = -1;
    int seconds = 0, rounds = 0;
    g_autofree char *inputs = NULL;
    const GOptionEntry options[] = {
        { "seed", 0, 0, G_OPTION_ARG_INT64, &first, "of the first round", "N" },
        { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "begin rounds so long",
          "S" },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "so many rounds", "R" },
        { "replay", 0, 0, G_OPTION_ARG_FILENAME, &inputs,
          "an input of libFuzzer's, or a directory of them", "PATH" },
        { "verbose", 0, 0, G_OPTION_ARG_NONE, &fuzz_verbose, "tell every act" },
        { }
    };
    GOptionContext *context = g_option_context_new(NULL);
    g_autoptr(GError) err = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    /* the others are g_test_init()'s */
    g_option_context_set_ignore_unknown_options(context, true);
    if (!g_option_context_parse(context, &argc, &argv, &err)) {
        fprintf(stderr, "%s: %s\n", argv[0], err->message);
        return 2;
    }
    g_option_context_free(context);
    sigaction(SIGALRM, &(struct sigaction) { .sa_handler = on_alarm }, NULL);
    sigaction(SIGTRAP, &(struct sigaction) { .sa_handler = on_trap }, NULL);
    g_test_init(&argc, &argv, NULL);
    if (inputs || first >= 0 || seconds || rounds) {
        /* libqtest tells each QEMU's arguments */
        g_set_print_handler(no_print);
    }
    if (inputs) {
        replay(inputs);
        return 0;
    }
    if (first >= 0 || seconds || rounds) {
        run_rounds(first >= 0 ? first : g_get_real_time() / 1000000,
                   rounds ?: !seconds, seconds);
        return 0;
    }
    tap = true;
    qtest_add_func("/xen-handoff/fuzz", test_fuzz);
    return g_test_run();
}

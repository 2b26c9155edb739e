/*
 * Firmware with PV drivers and, in the same option ROM, a simple operating
 * system: the two parties of a hand-off, small enough to be told what to do.
 *
 * The firmware connects the devices it is told to, uses them and leaves them
 * Connected, as a BIOS with a PV disk driver or a SAN-booted iPXE does.  The
 * OS announces its PV drivers and attaches devices as if nobody had used them
 * before: it writes state 1, waits for the backend's InitWait and connects,
 * with the same grant references but with pages of its own.  It proves every
 * device with data.
 *
 * Options, read from xenstore (lab/..., or, where QEMU is Xen, the same from a
 * file of fw_cfg; "none" or nothing for no device):
 *   firmware    devices that the firmware connects: "vbd/51712 vif/0 vkbd/0"
 *   os          "1": be an OS; else return to the BIOS, which boots one
 *   boot        Linux's command line: do no more than load Linux for the boot
 *               sector that called us
 *   order       what the OS does, step by step (see step() below); without it
 *               as Linux does
 *   early       devices that the OS attaches before it announces itself
 *   late        devices that it attaches after that
 *   picky       "1": the OS ignores a device that is not at state 1
 *   gref        first grant reference (8, the first Linux uses, too); those
 *               from 512 on are in further pages of the grant table
 *   os-gref     the OS's first one; without it the same
 *   no-ram      "1": the frames that are granted are of no RAM
 *   early-gref  first grant reference for the early devices; without it they
 *               use the OS's first and the late ones go on where they end
 *   persistent  "1": negotiate blkif's persistent grants
 *   ring-order  the firmware's disks have rings of 2^ring-order pages
 *   queues      the firmware's NICs have so many queues (1)
 *   close       "1": the firmware closes its devices when it has used them
 *   half        how the firmware ends before it has closed its devices, each
 *               its own way: "vbd/51712=5c vif/0=6d1i" (see tear_down() below)
 *   chain       devices that another firmware resets and connects after it
 *   chain-ring-order  the ring-order of that
 *   litter      what the firmware leaves in its connection to xenstore when it
 *               returns to the BIOS for the last time: "watch",
 *               "watch-backends", "reply", "long-reply", "half-request",
 *               "transactions"
 *   quiet       "1": the firmware waits at "quiet", with nothing under way in
 *               xenstore
 *   request     "1": the firmware asks for its teardown, if it may
 *   gates       points where to wait until lab/go, or a line on COM1, names
 *               them: "firmware", "halved", "chained", "closed", "asked",
 *               "early", "announced", "done"; data/lab-at says where we are.
 *               "littered" and "quiet" wait for COM1's scratch register to be
 *               something else than 0
 *   rounds      for the benchmark: so many times the firmware connects and is
 *               torn down by dom0, or by the device under test if it then has
 *               a "request"; it waits at "firmware" and "asked"
 *   restored    "1": the OS finds itself in a restored guest when it has
 *               announced itself, and maps its grant table anew
 *   shutdown    how the OS ends: 1 reboots, 5 is a soft reset, after which we
 *               begin anew
 *   complete    "1" once all of these are there: nobody tells dom0 that a
 *               domain restarts, so that we have to wait for dom0
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "drivers.h"
#include "linux.h"

/* --- the two parties ------------------------------------------------------ */

static struct device devices[160];
static u32 ndevices;

/* fill in a device from its name; NULL if the toolstack gave us none such */
static struct device *new_device(const char *name)
{
    struct device *dev = &devices[ndevices];

    memset(dev, 0, sizeof(*dev));
    format(dev->name, sizeof(dev->name), "%s", name);
    format(dev->fe, sizeof(dev->fe), "device/%s", name);
    store_read(dev->fe, "backend", dev->be, sizeof(dev->be));
    if (!dev->be[0]) {
        say("%s broken: there is no such device", name);
        return NULL;
    }
    dev->be_domid = store_number(dev->fe, "backend-id");
    dev->id = number(name + 4);
    dev->queues = 1;
    ndevices++;
    return dev;
}

static u32 first_gref, rounds;

static void firmware_device(const char *name, const char *ring_order)
{
    struct device *dev = new_device(name);
    const char *trouble = NULL;

    if (!dev) {
        return;
    }
    dev->ring_order = store_number("lab", ring_order);
    if (store_number("lab", "queues") == MAX_QUEUES) {
        dev->queues = MAX_QUEUES;
    }
    if (!wait_backend(dev, 2)) {
        trouble = "backend is not in InitWait";
    }
    trouble = trouble ? trouble : connect(dev);
    trouble = trouble ? trouble : prove(dev, 0);
    dev->works = !trouble;
    if (dev->works && is_disk(dev) && !rounds) {
        load_begin(dev);
    }
    say(trouble ? "%s broken: %s" : "%s works", name, trouble);
}

static void connect_device(const char *name)
{
    firmware_device(name, "ring-order");
}

/* --- a firmware that closes its devices, or begins to --------------------- */

static void remove_keys(struct device *dev)
{
    static const char *const keys[] = {
        "ring-ref", "tx-ring-ref", "rx-ring-ref", "event-channel", "protocol",
        "feature-persistent", "request-rx-copy", "feature-no-csum-offload",
        "page-ref", "page-gref", "request-abs-pointer", "request-raw-pointer",
        "ring-ref0", "ring-ref1", "ring-ref2", "ring-ref3", "ring-page-order",
    };
    u32 i;

    for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        store_remove(dev->fe, keys[i]);
    }
}

/*
 * A digit: write that state.  'c', 'd', 'i': wait until the backend is Closing,
 * Closed, in InitWait.  'k': remove the keys.  'p': close the event channel.
 */
static const char *tear_down(struct device *dev, const char *how)
{
    char state[2] = "";

    for (; *how; how++) {
        if (*how == 'c' && !wait_backend(dev, 5)) {
            return "backend is not Closing";
        } else if (*how == 'd' && !wait_backend(dev, 6)) {
            return "backend is not Closed";
        } else if (*how == 'i' && !wait_backend(dev, 2)) {
            return "backend is not in InitWait";
        } else if (*how == 'k') {
            remove_keys(dev);
        } else if (*how == 'p') {
            close_event_channel(event_channel(dev));
        } else if (*how >= '0' && *how <= '9') {
            state[0] = *how;
            store_write(dev->fe, "state", state);
        }
    }
    return NULL;
}

/* "vbd/51712=5c" */
static void half_close(const char *word)
{
    const char *trouble = "there is no such device", *name = word;
    u32 i, n;

    for (i = 0; i < ndevices && trouble; i++) {
        n = length(devices[i].name);
        if (starts_with(word, devices[i].name) && word[n] == '=') {
            trouble = tear_down(&devices[i], word + n + 1);
        }
    }
    if (trouble) {
        say("%s broken: %s", name, trouble);
    }
}

static void close_all(void)
{
    const char *trouble;
    u32 i;

    for (i = 0; i < ndevices; i++) {
        trouble = tear_down(&devices[i], "5c6dkp1i");
        say(trouble ? "%s broken: %s" : "%s closed", devices[i].name, trouble);
    }
    say("%u grants are still in use", revoke(first_gref));
    point("closed");
}

/* --- another firmware after it, which knows nothing of it ----------------- */

static void chain_device(const char *name)
{
    struct device *dev = new_device(name);
    const char *trouble = dev ? tear_down(dev, "6d1i") : NULL;

    if (trouble) {
        say("%s broken: %s", name, trouble);
    } else if (dev) {
        ndevices--;
        firmware_device(name, "chain-ring-order");
    }
}

/* --- a firmware's connection to xenstore ---------------------------------- */

static void litter(const char *word)
{
    u32 i, n = 0;

    if (listed("watch", word)) {
        n = store_watch("device");
    } else if (listed("watch-backends", word)) {
        for (i = 0; i < ndevices; i++) {
            char path[sizeof(devices[i].be) + 8];

            format(path, sizeof(path), "%s/state", devices[i].be);
            n += store_watch(path);
        }
    } else if (listed("reply", word)) {
        n = store_request(XS_READ, "lab/complete", 0, ~0u);
    } else if (listed("long-reply", word)) {
        n = store_request(XS_READ, "lab/long", 0, ~0u);
    } else if (listed("half-request", word)) {
        n = store_request(XS_READ, "lab/complete", 0, 20);
    } else if (listed("transactions", word)) {
        while (store_transaction()) {   /* as many as it may */
            n++;
        }
    }
    say("litters xenstore: %s, %u", word, n);
}

/* a gate for who has to leave xenstore alone */
static void quiet_point(const char *name)
{
    say("at %s", name);
    while (!scratch()) {
        relax();
    }
}

/* --- a boot loader that reads through the firmware's rings ---------------- */

static u32 first_of_os;                 /* among the devices */

static struct {
    u32 right, wrong, in_flight;
} loads;

static void each_load(void (*fn)(struct device *dev))
{
    u32 i;

    for (i = 0; i < first_of_os; i++) {
        if (devices[i].works && is_disk(&devices[i])) {
            fn(&devices[i]);
        }
    }
}

static void load_count(struct device *dev)
{
    loads.right += dev->load.right;
    loads.wrong += dev->load.wrong;
    loads.in_flight += load_in_flight(dev);
}

/* Whoever has read @reads sectors is an OS, with more under way. */
static void load(u32 reads)
{
    u64 start = tsc();

    do {
        yield();
        memset(&loads, 0, sizeof(loads));
        each_load(load_more);
        each_load(load_count);
    } while (loads.right + loads.wrong < reads &&
             tsc() - start < 6 * PATIENCE);
}

/* of all that backends of the firmware's, but for NICs', may write to */
static u32 loads_sum(void)
{
    u32 sum = 0, i;

    for (i = 0; i < first_of_os; i++) {
        if (devices[i].works && !is_nic(&devices[i])) {
            sum = sum * 31 + load_sum(&devices[i]);
        }
    }
    return sum;
}

/* --- an OS ---------------------------------------------------------------- */

/* prove the device with data; @sector is one not read before */
static const char *os_use(struct device *dev, u32 sector)
{
    const char *trouble;

    trouble = prove(dev, sector);
    return trouble || !is_disk(dev) ? trouble : disk_write(dev, 7);
}

/* attach a device that nobody is supposed to have used before */
static void os_device(const char *name)
{
    struct device *dev = new_device(name);
    const char *trouble;
    char text[48];
    u32 state;

    if (!dev) {
        return;
    }
    state = store_number(dev->fe, "state");
    say("%s found in state %u, backend in state %u", name, state,
        store_number(dev->be, "state"));
    if (state != 1 && option("picky")) {
        format(text, sizeof(text), "ignored, it is in state %u", state);
        trouble = text;
    } else {
        store_write(dev->fe, "state", "1");
        if (wait_backend(dev, 2)) {
            trouble = connect(dev);
            trouble = trouble ? trouble : os_use(dev, 5);
        } else {
            format(text, sizeof(text), "backend stuck in state %u",
                   store_number(dev->be, "state"));
            trouble = text;
        }
    }
    dev->works = !trouble;
    say(trouble ? "%s broken: %s" : "%s works", name, trouble);
}

/* call @fn for every word */
static void each_word(const char *words, void (*fn)(const char *word))
{
    char word[64];
    u32 n;

    while (*words) {
        for (n = 0; words[n] && words[n] != ' '; n++) {
            continue;
        }
        format(word, n < sizeof(word) ? n + 1 : sizeof(word), "%s", words);
        words += words[n] ? n + 1 : n;
        if (*word && !listed("none", word)) {
            fn(word);
        }
    }
}

/* call @attach for every device that lab/@list names */
static void each(const char *list, void (*attach)(const char *name))
{
    static char names[1024];

    store_read("lab", list, names, sizeof(names));
    each_word(names, attach);
}

static bool given(const char *option)
{
    char value[8];

    store_read("lab", option, value, sizeof(value));
    return *value && !listed(value, "none");
}

/* as firmware may that knows when it is done */
static void ask(void)
{
    if (store_number("control", "platform-feature-fw-handoff") == 1) {
        outw(0x12, 0x4657);
        point("asked");
    } else {
        say("nobody to ask");
    }
}

/* every OS sets the callback before its xenbus; no interrupt is ever taken */
static void claim_callback(void)
{
    hvm_param(true, HVM_PARAM_CALLBACK_IRQ, 1);
}

static u32 early_gref, os_gref;

/* attach some before the announcement, as OpenBSD does with all */
static void attach_early(void)
{
    char early[256];

    store_read("lab", "early", early, sizeof(early));
    if (*early && !listed(early, "none")) {
        claim_callback();
        each_word(early, os_device);
    }
    point("early");
}

/* after the announcement: do the early ones still work?  Attach the rest. */
static void attach_late(void)
{
    u32 sum = loads_sum(), i;

    point("announced");
    for (i = first_of_os; i < ndevices; i++) {
        struct device *dev = &devices[i];
        const char *trouble;

        if (dev->works) {
            trouble = os_use(dev, 6);
            say(trouble ? "%s lost: %s" : "%s still works", dev->name, trouble);
        }
    }
    claim_callback();
    if (option("restored")) {
        begin_grants();
    }
    if (early_gref) {
        next_gref = os_gref;
    }
    each("late", os_device);
    if (loads.right + loads.wrong + loads.in_flight) {
        say("loader: %u reads right, %u wrong, %u in flight; then %s",
            loads.right, loads.wrong, loads.in_flight,
            loads_sum() == sum ? "nothing came" : "memory changed");
    }
}

static u32 requested;

/* the OS's connection to xenstore is as it has left it */
static void store_lives(void)
{
    const char *reply;
    bool answered;
    u32 events;

    store_request(XS_READ, "data/lab-at", requested, ~0u);
    reply = store_reply();
    answered = reply && starts_with(reply, "early");
    events = store_events;
    store_write("data", "lab-watch", "1");
    store_number("data", "lab-watch");      /* its event has come before */
    say("its request was %s, its watch %s",
        answered ? "answered" : "lost",
        store_events > events ? "fires" : "is lost");
}

static void log_line(void)
{
    const char *p;

    for (p = "PVOS says hello\n"; *p; p++) {
        outb(0x12, *p);
    }
}

/*
 * It uses QEMU's port, when dom0 says 1 there, and announces itself, too; or it
 * resets the machine, when dom0 says 2.
 */
static void second(void)
{
    while (scratch() != 1) {
        if (scratch() == 2) {
            outb(0x64, 0xfe);           /* by the keyboard controller */
        }
    }
    set_scratch(2);
    outw(0x12, 3);
    set_scratch(3);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/*
 * One step of an OS: "load" is its boot loader's, "second" starts its second
 * vCPU, "callback" sets that, "early" and "late" attach devices, "watch",
 * "request" (the first half of one) and "reply" (the rest, and what comes) are
 * about its connection to xenstore, the others write to the platform device.
 * Nothing is said in between: an OS takes no time for these, and characters on
 * the serial port do.
 */
static void step(const char *word)
{
    const char *p = word;
    u32 value;

    while (*p && *p++ != '=') {
        continue;
    }
    value = number(p);
    if (starts_with(word, "load=")) {
        load(value);
    } else if (starts_with(word, "second")) {
        if (!start_second(second)) {
            say("there is no second vCPU");
        }
    } else if (starts_with(word, "callback")) {
        claim_callback();
    } else if (starts_with(word, "watch")) {
        store_watch("data/lab-watch");
        store_transaction();            /* stays open */
    } else if (starts_with(word, "request")) {
        requested = store_request(XS_READ, "data/lab-at", 0, 20);
    } else if (starts_with(word, "reply")) {
        store_lives();
    } else if (starts_with(word, "early")) {
        attach_early();
    } else if (starts_with(word, "late")) {
        attach_late();
    } else if (starts_with(word, "log")) {
        log_line();
    } else if (starts_with(word, "product=")) {
        outw(0x12, value);
    } else if (starts_with(word, "build=")) {
        outl(0x10, value);
    } else if (starts_with(word, "unplug=")) {
        outw(0x10, value);
    } else if (starts_with(word, "bar4=")) {
        outl(platform_bar(0) + 4, value);
    } else if (starts_with(word, "bar8=")) {
        outl(platform_bar(0) + 8, value);
    } else {
        say("no such step: %s", word);
    }
}

static void os(void)
{
    char order[128];
    u32 reason;

    who = "PVOS";
    early_gref = store_number("lab", "early-gref");
    os_gref = store_number("lab", "os-gref");
    os_gref = os_gref ? os_gref : first_gref;
    next_gref = early_gref ? early_gref : os_gref;
    first_of_os = ndevices;
    store_read("lab", "order", order, sizeof(order));
    /* a read that announces nothing, as everybody does first */
    say("magic %u", inw(0x10));
    each_word(*order ? order : "early product=3 build=1 unplug=7 log late",
              step);
    point("done");
    reason = store_number("lab", "shutdown");
    say("shuts down, reason %u", reason);
    if (reason) {
        shut_down(reason);
        return;                         /* only a soft reset does */
    }
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* Whatever has torn the connections down, everything can be used again. */
static void one_round(void)
{
    u32 pages = pages_used(), i;

    each("firmware", connect_device);
    point("firmware");
    if (option("request")) {
        outw(0x12, 0x4657);
    }
    point("asked");
    for (i = 0; i < ndevices; i++) {
        close_event_channel(event_channel(&devices[i]));
    }
    ndevices = 0;
    next_gref = first_gref;
    free_pages(pages);
}

/* returns whether there is another life, after a soft reset */
static bool live(void)
{
    char command_line[256];

    who = "PVFW";
    ndevices = 0;
    if (!begin()) {
        return false;
    }
    point("begin");
    while (!option("complete")) {
        relax();
    }
    store_read("lab", "boot", command_line, sizeof(command_line));
    if (command_line[0]) {
        /* the grant table stays where iPXE has it: Linux will call that */
        point("firmware");
        load_linux(command_line);
        return false;
    }
    if (!begin_grants()) {
        return false;
    }
    first_gref = store_number("lab", "gref");
    first_gref = first_gref ? first_gref : 8;
    next_gref = first_gref;
    grants_no_ram = option("no-ram");
    for (rounds = store_number("lab", "rounds"); rounds; rounds--) {
        one_round();
    }
    each("firmware", connect_device);
    point("firmware");
    if (option("quiet")) {
        quiet_point("quiet");
    }
    if (given("half")) {
        each("half", half_close);
        point("halved");
    }
    if (given("chain")) {
        ndevices = 0;
        begin_grants();
        each("chain", chain_device);
        point("chained");
    }
    if (option("close")) {
        close_all();
    }
    if (option("request")) {
        ask();
    }
    if (given("litter")) {
        each("litter", litter);
        quiet_point("littered");        /* and back to the BIOS */
        return false;
    }
    if (option("os")) {
        os();
        return true;
    }
    say("back to the BIOS");
    return false;
}

void labfw(void)
{
    check_linux();
    while (live()) {
        continue;
    }
}

/*
 * Operations on the guest of a real Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen-hvm-common.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "hw/xen/xen-guest-ring.h"
#include "hw/xen/xen_backend_ops.h"

/*
 * With -xen-domid-restrict QEMU can make no hypercall of these.  What stands in
 * xenstored's place in its chroot, xenstore-filter, makes them for us.  This is
 * a connection to it, which is kept since it grants few.
 */
static struct qemu_xs_handle *native_filter;

/* Returns 0 or a negative errno, and in @value what Xen has answered */
static int native_ask(const char *what, char **value)
{
    native_filter = native_filter ?: qemu_xen_xs_open();
    *value = native_filter
        ? qemu_xen_xs_read(native_filter, XBT_NULL, what, NULL) : NULL;
    return *value ? 0 : -errno;
}

static int native_hvm_param_get(uint32_t index, uint64_t *value)
{
    if (xen_domid_restrict) {
        char *text;
        int rc = native_ask(index == HVM_PARAM_CALLBACK_IRQ ? "@callback-irq"
                                                            : "@store-pfn",
                            &text);

        if (!rc) {
            rc = qemu_strtou64(text, NULL, 10, value);
        }
        free(text);
        return rc;
    }
    return xc_hvm_param_get(xen_xc, xen_domid, index, value) < 0 ? -errno : 0;
}

#if CONFIG_XEN_CTRL_INTERFACE_VERSION >= 41100

/* Of the mapping, while there is one: the table is mapped once at a time */
static xenforeignmemory_resource_handle *native_grant_table;

static int native_grant_table_size(unsigned int *version, unsigned int *frames)
{
    struct gnttab_query_size query = {
        .dom = xen_domid,
        .status = GNTST_general_error,
    };
    int rc;

    if (xen_domid_restrict) {
        char *text;

        rc = native_ask("@grant-table", &text);
        if (!rc && sscanf(text, "%u %u", version, frames) != 2) {
            rc = -EINVAL;
        }
        free(text);
        return rc;
    }
    rc = xc_gnttab_get_version(xen_xc, xen_domid);
    if (rc < 0 || xc_gnttab_query_size(xen_xc, &query) < 0) {
        return -errno;
    }
    if (query.status != GNTST_okay) {
        return -EPERM; /* the domain is there, it has a version */
    }
    *version = rc;
    *frames = query.nr_frames;
    return 0;
}

static void *native_grant_table_map(unsigned int frames)
{
    unsigned int version, have;
    void *table = NULL;
    int rc;

    if (native_grant_table) {
        errno = EBUSY;
        return NULL;
    }
    rc = native_grant_table_size(&version, &have);
    if (rc < 0) {
        errno = -rc;
        return NULL;
    }
    /* Xen would neither refuse nor forget: it adds what is missing */
    if (!frames || frames > have) {
        errno = EINVAL;
        return NULL;
    }
    native_grant_table =
        xenforeignmemory_map_resource(xen_fmem, xen_domid,
                                      XENMEM_resource_grant_table,
                                      XENMEM_resource_grant_table_id_shared,
                                      0, frames, &table,
                                      PROT_READ | PROT_WRITE, 0);
    return native_grant_table ? table : NULL;
}

static void native_grant_table_unmap(void *table, unsigned int frames)
{
    assert(native_grant_table);
    xenforeignmemory_unmap_resource(xen_fmem, native_grant_table);
    native_grant_table = NULL;
}

#else /* CONFIG_XEN_CTRL_INTERFACE_VERSION < 41100 */

static int native_grant_table_size(unsigned int *version, unsigned int *frames)
{
    return -ENOSYS;
}

static void *native_grant_table_map(unsigned int frames)
{
    errno = ENOSYS;
    return NULL;
}

static void native_grant_table_unmap(void *table, unsigned int frames)
{
    g_assert_not_reached();
}

#endif /* CONFIG_XEN_CTRL_INTERFACE_VERSION < 41100 */

/* --- the guest's connection to xenstore ----------------------------------- */

/* @opaque: our connection to xenstored */
static void native_turn(void *opaque)
{
    free(qemu_xen_xs_get_domain_path(opaque, xen_domid));
}

/* From native_xenstore_reset() to native_xenstore_reset_end() */
static XenGuestRing native_ring = { .turn = native_turn };

static int native_xenstore_reset(int64_t until)
{
    uint64_t value;
    xen_pfn_t pfn;
    int rc;

    rc = native_hvm_param_get(HVM_PARAM_STORE_PFN, &value);
    if (rc < 0) {
        return rc;
    }
    native_ring.opaque = native_filter ?: qemu_xen_xs_open();
    if (!native_ring.opaque) {
        return -errno;
    }
    pfn = value;
    native_ring.page = xenforeignmemory_map(xen_fmem, xen_domid,
                                            PROT_READ | PROT_WRITE, 1, &pfn,
                                            NULL);
    return native_ring.page ? xen_guest_ring_reset(&native_ring, until)
                            : -errno;
}

static void native_xenstore_reset_end(void)
{
    if (native_ring.page) {
        xen_guest_ring_reset_end(&native_ring);
        xenforeignmemory_unmap(xen_fmem, native_ring.page, 1);
        native_ring.page = NULL;
    }
    if (native_ring.opaque && native_ring.opaque != native_filter) {
        qemu_xen_xs_close(native_ring.opaque);
    }
    native_ring.opaque = NULL;
}

static const struct guest_backend_ops native_guest_ops = {
    .hvm_param_get = native_hvm_param_get,
    .vcpu_hold = xen_hold_vcpu,
    .vcpu_release = xen_release_vcpus,
    .grant_table_size = native_grant_table_size,
    .grant_table_map = native_grant_table_map,
    .grant_table_unmap = native_grant_table_unmap,
    .xenstore_reset = native_xenstore_reset,
    .xenstore_reset_end = native_xenstore_reset_end,
};

/* Runs when the Xen bus comes up, which may be one that QEMU emulates */
static void native_init(void)
{
    if (xen_mode == XEN_ATTACH) {
        xen_guest_ops = &native_guest_ops;
    }
}

xen_backend_init(native_init)

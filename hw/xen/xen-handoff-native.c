/*
 * Xen firmware handoff: what it asks of a real Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen_native.h"
#include "qemu/module.h"
#include "hw/xen/xen_fw_handoff.h"

static int native_get_hvm_param(uint32_t index, uint64_t *value)
{
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
    int rc = xc_gnttab_get_version(xen_xc, xen_domid);

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

static void *native_map_grant_table(unsigned int frames)
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

static void native_unmap_grant_table(void *table, unsigned int frames)
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

static void *native_map_grant_table(unsigned int frames)
{
    errno = ENOSYS;
    return NULL;
}

static void native_unmap_grant_table(void *table, unsigned int frames)
{
    g_assert_not_reached();
}

#endif /* CONFIG_XEN_CTRL_INTERFACE_VERSION < 41100 */

static const XenFwHandoffOps native_ops = {
    .get_hvm_param = native_get_hvm_param,
    .grant_table_size = native_grant_table_size,
    .map_grant_table = native_map_grant_table,
    .unmap_grant_table = native_unmap_grant_table,
};

/* Runs when the Xen bus comes up, which may be one that QEMU emulates */
static void native_init(void)
{
    if (xen_mode == XEN_ATTACH) {
        xen_fw_handoff_ops = &native_ops;
    }
}

xen_backend_init(native_init)

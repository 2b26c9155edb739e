/*
 * Xen firmware handoff: what others see of it
 *
 * The guest-visible side is docs/specs/xen-fw-handoff.txt.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_H
#define HW_XEN_FW_HANDOFF_H

#define TYPE_XEN_FW_HANDOFF "xen-fw-handoff"

/* Every line that the administrator reads begins with this */
#define XEN_FW_HANDOFF_LOG TYPE_XEN_FW_HANDOFF ": "

/**
 * XenFwHandoffOps: what the handoff asks of Xen beyond xen_backend_ops.h
 *
 * @get_hvm_param: read HVM_PARAM @index of the guest (xen_domid) into @value.
 *                 Returns 0 or a negative errno.
 * @map_grant_table: map the first @frames pages of the guest's grant table, as
 *                   XENMEM_resource_grant_table gives them; NULL where that is
 *                   not to be had.  Returns NULL with errno on failure.
 * @unmap_grant_table: end that
 */
typedef struct XenFwHandoffOps {
    int (*get_hvm_param)(uint32_t index, uint64_t *value);
    void *(*map_grant_table)(unsigned int frames);
    void (*unmap_grant_table)(void *table, unsigned int frames);
} XenFwHandoffOps;

/* NULL where nobody provides them, i.e. not on Xen */
extern const XenFwHandoffOps *xen_fw_handoff_ops;

#endif

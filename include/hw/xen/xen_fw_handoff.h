/*
 * Xen firmware handoff: what others see of it
 *
 * The guest-visible side is docs/specs/xen-fw-handoff.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_H
#define HW_XEN_FW_HANDOFF_H

#include "qemu/notify.h"

#define TYPE_XEN_FW_HANDOFF "xen-fw-handoff"

/* Every line that the administrator reads begins with this */
#define XEN_FW_HANDOFF_LOG TYPE_XEN_FW_HANDOFF ": "

/*
 * Guest-visible: below the guest's own directory in xenstore, "1" where the
 * device works.  Named as libxl's other platform features.
 */
#define XEN_FW_HANDOFF_FEATURE "control/platform-feature-fw-handoff"

/* Guest-visible: the product number by which firmware asks for its teardown */
#define XEN_FW_HANDOFF_PRODUCT 0x4657   /* "FW" */

/**
 * XenFwHandoffOps: what the handoff asks of Xen beyond xen_backend_ops.h
 *
 * @get_hvm_param: read HVM_PARAM @index of the guest (xen_domid) into @value.
 *                 Returns 0 or a negative errno.
 * @add_callback_notifier: have @notifier called, with the BQL held and a
 *                 uint64_t * of the new value, each time before the guest's
 *                 HVM_PARAM_CALLBACK_IRQ becomes something else than 0.  NULL
 *                 where nobody tells; then the parameter is polled.
 * @grant_table_size: the @version of the guest's grant table (0: not used yet)
 *                 and how many @frames it has.  Returns 0 or a negative errno.
 * @map_grant_table: map the first @frames frames of it, and no more than there
 *                 are: Xen would add what is missing.  Returns NULL with errno
 *                 on failure.
 * @unmap_grant_table: end that
 * @reset_xenstore: make the guest's connection to xenstore as good as new: its
 *                 watches, transactions and unread replies are gone.  Only
 *                 while no OS uses it, only with what the guest could do
 *                 itself, and not beyond @until (on get_clock()).  Returns 0
 *                 or a negative errno.  May be NULL.
 * @reset_xenstore_end: where xenstored may have to be told for a while, the end
 *                 of it, always after @reset_xenstore.  May be NULL.
 */
typedef struct XenFwHandoffOps {
    int (*get_hvm_param)(uint32_t index, uint64_t *value);
    void (*add_callback_notifier)(Notifier *notifier);
    int (*grant_table_size)(unsigned int *version, unsigned int *frames);
    void *(*map_grant_table)(unsigned int frames);
    void (*unmap_grant_table)(void *table, unsigned int frames);
    int (*reset_xenstore)(int64_t until);
    void (*reset_xenstore_end)(void);
} XenFwHandoffOps;

/* NULL where nobody provides them, i.e. neither on Xen nor in its emulation */
extern const XenFwHandoffOps *xen_fw_handoff_ops;

#endif

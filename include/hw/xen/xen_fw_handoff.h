/*
 * Xen firmware handoff: what others see of it
 *
 * The guest-visible side is docs/specs/xen-fw-handoff.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_H
#define HW_XEN_FW_HANDOFF_H

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

#endif

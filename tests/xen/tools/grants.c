/*
 * grants DOMID: print the grant table of a guest as it is in its memory, one
 * line "reference flags domid frame" per entry that permits anything.  Xen's
 * own dump (debug-keys g) has only those that are in use.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xen/memory.h>

int main(int argc, char **argv)
{
    xc_interface *xc = xc_interface_open(NULL, NULL, 0);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    struct gnttab_query_size size = { .dom = argc > 1 ? atoi(argv[1]) : 0 };
    void *map = NULL;
    const grant_entry_v1_t *table;
    unsigned int ref;

    if (argc != 2 || !xc || !fmem || xc_gnttab_query_size(xc, &size) ||
        size.status != GNTST_okay) {
        fprintf(stderr, "usage: grants DOMID (in dom0)\n");
        return 1;
    }
    if (!xenforeignmemory_map_resource(
            fmem, size.dom, XENMEM_resource_grant_table,
            XENMEM_resource_grant_table_id_shared, 0, size.nr_frames, &map,
            PROT_READ, 0)) {
        perror("grants");
        return 1;
    }
    table = map;
    for (ref = 0; ref < size.nr_frames * XC_PAGE_SIZE / sizeof(*table); ref++) {
        if (table[ref].flags) {
            printf("%u 0x%x %u 0x%x\n", ref, table[ref].flags, table[ref].domid,
                   table[ref].frame);
        }
    }
    return 0;
}

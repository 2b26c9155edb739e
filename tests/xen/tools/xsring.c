/*
 * xsring DOMID: print how far both sides of a guest's xenstore ring have come,
 * one line "index value" each.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xen/hvm/params.h>
#include <xen/io/xs_wire.h>

int main(int argc, char **argv)
{
    xc_interface *xc = xc_interface_open(NULL, NULL, 0);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    int domid = argc > 1 ? atoi(argv[1]) : 0;
    struct xenstore_domain_interface *ring;
    uint64_t param;
    xen_pfn_t pfn;

    if (argc != 2 || !xc || !fmem ||
        xc_hvm_param_get(xc, domid, HVM_PARAM_STORE_PFN, &param)) {
        fprintf(stderr, "usage: xsring DOMID (in dom0)\n");
        return 1;
    }
    pfn = param;
    ring = xenforeignmemory_map(fmem, domid, PROT_READ, 1, &pfn, NULL);
    if (!ring) {
        perror("xsring");
        return 1;
    }
    printf("req_cons %" PRIu32 "\nreq_prod %" PRIu32 "\nrsp_cons %" PRIu32
           "\nrsp_prod %" PRIu32 "\n", ring->req_cons, ring->req_prod,
           ring->rsp_cons, ring->rsp_prod);
    return 0;
}

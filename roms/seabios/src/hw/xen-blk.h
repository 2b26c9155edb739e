#ifndef __XEN_BLK_H
#define __XEN_BLK_H

struct disk_op_s;
int xen_blk_process_op(struct disk_op_s *op);
void xen_blk_setup(void);

#endif // xen-blk.h

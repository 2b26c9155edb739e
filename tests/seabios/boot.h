/*
 * SeaBIOS's list of what there is to boot from, where Makefile has named it so
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
void real_boot_add_hd(struct drive_s *d, const char *desc, int prio);
void real_boot_add_cd(struct drive_s *d, const char *desc, int prio);
void real_boot_add_floppy(struct drive_s *d, const char *desc, int prio);
void real_boot_add_bcv(u16 seg, u16 ip, u16 desc, int prio);
void real_boot_add_bev(u16 seg, u16 bev, u16 desc, int prio);
int real_boot_without_hd(void);
void real_bcv_prepboot(void);

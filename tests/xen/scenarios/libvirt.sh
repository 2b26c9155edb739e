# Debian's libvirt and virsh, with the lines of docs/toolstacks.md in the guest's XML: it starts,
# reboots and is destroyed.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

as_installed
echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group

# virsh COMMAND...: it, in a time limit
virsh() {
    say "waiting for virsh $1 ($((60 * PATIENCE)) s at most)"
    timeout $((60 * PATIENCE)) /usr/bin/virsh -q -c xen:///system "$@" >>"$OUT/virsh.log" 2>&1 || {
        cat "$OUT/virsh.log" "$OUT/libvirtd.log" "/var/log/libvirt/libxl/$SCENARIO.log"
        fail "virsh $1"
    }
}

# the lab's QEMU looks for its data elsewhere, and its time is slower than a host's
create() {
    cat >"$OUT/guest.xml" <<X
<domain type='xen' xmlns:xen='http://libvirt.org/schemas/domain/xen/1.0'>
  <name>$SCENARIO</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64' machine='xenfv'>hvm</type>
    <kernel>/guest/vmlinuz</kernel>
  </os>
  <features><acpi/><apic/><pae/></features>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>/usr/libexec/xen-fw-handoff/qemu-system-i386</emulator>
    <disk type='block' device='disk'>
      <driver name='phy'/>
      <source dev='${LOOPS# }'/>
      <target dev='xvda' bus='xen'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/tmp/$SCENARIO-disk1.img'/>
      <target dev='xvdb' bus='xen'/>
    </disk>
    <interface type='bridge'>
      <mac address='00:16:3e:11:11:11'/>
      <source bridge='xenbr0'/>
      <model type='netfront'/>
    </interface>
    <serial type='file'><source path='$OUT/firmware.log'/></serial>
  </devices>
  <xen:commandline>
    <xen:arg value='-device'/>
    <xen:arg value='xen-fw-handoff'/>
    <xen:arg value='-global'/>
    <xen:arg value='xen-fw-handoff.timeout-ms=30000'/>
    <xen:arg value='-global'/>
    <xen:arg value='xen-platform.guest-log=on'/>
    <xen:arg value='-L'/>
    <xen:arg value='/usr/share/qemu'/>
    <xen:arg value='-L'/>
    <xen:arg value='/usr/share/seabios'/>
    <xen:arg value='-fw_cfg'/>
    <xen:arg value='name=genroms/labfw.rom,file=/guest/labfw.rom'/>
  </xen:commandline>
</domain>
X
    virsh define "$OUT/guest.xml"
    virsh start --paused "$SCENARIO"
    # in libvirt's words, not in ours
    /usr/bin/virsh -q -c xen:///system dumpxml --inactive "$SCENARIO" >"$OUT/libvirt.xml"
}

# Debian's libvirtd asks polkit, which is not here; it takes no CPU that it has no model of, and
# that of the lab is like none
cat >"$OUT/libvirtd.conf" <<C
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:$OUT/libvirtd.log"
C
cat >/usr/share/libvirt/cpu_map/index.xml <<X
<cpus>
  <arch name='x86'>
    <include filename='x86_features.xml'/>
    <include filename='lab.xml'/>
  </arch>
</cpus>
X
cat >/usr/share/libvirt/cpu_map/lab.xml <<X
<cpus>
  <model name='lab'>
    <decode host='on' guest='on'/>
    <feature name='fpu'/>
  </model>
</cpus>
X
/usr/sbin/libvirtd --daemon --config "$OUT/libvirtd.conf"
pid=$(cat /run/libvirtd.pid)
# shellcheck disable=SC2034  # finish() has it
AFTER="kill $pid"
answers() {
    kill -0 "$pid" || fail "libvirtd: $(cat "$OUT/libvirtd.log")"
    /usr/bin/virsh -q -c xen:///system list >"$OUT/virsh.log" 2>&1
}
await 60 libvirtd answers

guest
reboot_into 1
naive options
# libvirt's driver for Xen has no way to QEMU's monitor: docs/toolstacks.md has xl's line, too
as_administrator
traces before
virsh destroy "$SCENARIO"
virsh undefine "$SCENARIO"
await 30 "the domain's end" gone
traces after

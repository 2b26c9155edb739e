"""Sphinx's configuration: the manual page of the package.

SPDX-License-Identifier: GPL-2.0-or-later
"""

project = 'xen-fw-handoff'
root_doc = 'xen-fw-handoff'
man_pages = [(root_doc, 'xen-fw-handoff',
              "close what a Xen guest's firmware has left connected", [], 7)]

/* SPDX-License-Identifier: BSD-3-Clause */
/* What config.c and caps.c share: little-endian access to config space. */
#ifndef BELFRY_PCI_INTERNAL_H
#define BELFRY_PCI_INTERNAL_H

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "belfry/pci.h"

static inline uint16_t
get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void
put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void
put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

/* caps.c: build the capability list; values, masks. */
void caps_init(struct pci_dev *d);
/* Reset values of what a function level reset clears in the capabilities. */
void caps_reset(struct pci_dev *d);
/* [off, off + len) of @before became d->config: mend it, give the events. */
int caps_written(struct pci_dev *d, const uint8_t *before, uint64_t off,
		 const uint8_t *data, size_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this unit test share. */
#ifndef UNIT_H
#define UNIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <linux/pci_regs.h>

#include "belfry/pci.h"

#define BAR0_LEN 16384

/* A fresh device with the default ids. */
static inline void
make(struct pci_dev *d, unsigned vectors)
{
	const struct pci_ids ids = { 0 };

	pci_init(d, &ids, vectors, BAR0_LEN);
}

static inline uint32_t
rd(const struct pci_dev *d, unsigned off, unsigned len)
{
	uint32_t v = 0;

	assert_int_equal(pci_config_read(d, off, &v, len), 0);
	return v;
}

static inline int
wr(struct pci_dev *d, unsigned off, uint32_t v, unsigned len)
{
	return pci_config_write(d, off, &v, len);
}

int caps_tests(void);
int config_tests(void);

#endif

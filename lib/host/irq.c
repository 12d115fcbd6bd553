/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts: eventfds on MSI-X vectors. Not for waiting on them.
 */
#include <errno.h>

#include <linux/pci_regs.h>

#include "internal.h"

#define MAX_CAPS 48 /* capabilities fit into 192 bytes of 4 */

/* Where the MSI-X capability is. */
static int
find_msix(struct belfry_host *h, uint8_t *out)
{
	uint8_t at;
	int err = belfry_config_read(h, PCI_CAPABILITY_LIST, &at, sizeof(at));

	for (unsigned i = 0; !err && at >= 0x40 && i < MAX_CAPS; i++) {
		uint8_t head[2];

		at &= 0xfc;
		err = belfry_config_read(h, at, head, sizeof(head));
		if (!err && head[0] == PCI_CAP_ID_MSIX) {
			*out = at;
			return 0;
		}
		at = head[1];
	}
	return err ? err : -ENOTSUP;
}

int
belfry_irq_count(struct belfry_host *h)
{
	return vuc_irq_count(h->vuc, VFIO_PCI_MSIX_IRQ_INDEX);
}

int
belfry_irq_enable(struct belfry_host *h, const int *eventfds, unsigned n)
{
	uint16_t flags;
	uint8_t at;
	int err, count = belfry_irq_count(h);

	if (count < 0)
		return count;
	if (n > (unsigned)count)
		return -ERANGE;
	err = find_msix(h, &at);
	if (!err)
		err = belfry_config_read(h, at + PCI_MSIX_FLAGS, &flags,
					 sizeof(flags));
	if (!err)
		err = vuc_set_irqs(h->vuc, VFIO_PCI_MSIX_IRQ_INDEX, eventfds,
				   n);
	if (err)
		return err;
	flags &= (uint16_t) ~(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	if (n)
		flags |= PCI_MSIX_FLAGS_ENABLE;
	return belfry_config_write(h, at + PCI_MSIX_FLAGS, &flags,
				   sizeof(flags));
}

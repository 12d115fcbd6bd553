/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Config space: the type 0 header, and reads and writes by masks. Not for the
 * capabilities and the MSI-X table: caps.c.
 *
 * PCI Local Bus 3.0 §6.1, §6.2; PCIe Base 4.0 §7.5.1 says which of the old
 * fields mean nothing on PCI Express.
 */
#include "internal.h"

/* As SPDK's vfio-user target: Linux has no quirks for it. */
#define DEFAULT_VENDOR 0x4e58
#define DEFAULT_DEVICE 0x0001

/* Mass storage, non-volatile memory, NVM Express I/O controller. */
#define CLASS_NVME 0x010802

#define BAR_MIN_LEN 4096

#define COMMAND_MASK                                                    \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | \
	 PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
#define STATUS_W1C                                                   \
	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |           \
	 PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT | \
	 PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY)

static uint64_t
bar_len_for(uint64_t bytes)
{
	uint64_t len = BAR_MIN_LEN;

	while (len < bytes)
		len *= 2;
	return len;
}

/*
 * A BAR's size is told by the address bits that cannot be written: all ones
 * come back with the low ones clear. @wide: 64-bit, takes the next BAR too.
 */
static void
bar_init(struct pci_dev *d, unsigned bar, uint64_t len, bool wide)
{
	uint8_t *value = d->config + PCI_BASE_ADDRESS_0 + 4 * bar;
	uint8_t *mask = d->mask + PCI_BASE_ADDRESS_0 + 4 * bar;

	assert(is_pow2(len) && len >= BAR_MIN_LEN);
	assert(wide || len <= 1u << 31);
	d->bar_len[bar] = len;
	put32(mask, (uint32_t) ~(len - 1));
	if (!wide)
		return;
	put32(value, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put32(mask + 4, (uint32_t)(~(len - 1) >> 32));
}

static void
header_init(struct pci_dev *d, const struct pci_ids *ids)
{
	uint8_t *c = d->config;
	uint16_t vendor = ids->vendor ? ids->vendor : DEFAULT_VENDOR;

	put16(c + PCI_VENDOR_ID, vendor);
	put16(c + PCI_DEVICE_ID, ids->device ? ids->device : DEFAULT_DEVICE);
	put16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
	c[PCI_REVISION_ID] = ids->revision;
	c[PCI_CLASS_PROG] = (uint8_t)CLASS_NVME;
	put16(c + PCI_CLASS_DEVICE, CLASS_NVME >> 8);
	put16(c + PCI_SUBSYSTEM_VENDOR_ID,
	      ids->sub_vendor ? ids->sub_vendor : vendor);
	put16(c + PCI_SUBSYSTEM_ID, ids->sub_device);
	c[PCI_INTERRUPT_PIN] = 1; /* INTA */

	/* No I/O BAR: the I/O Space bit stays 0. */
	put16(d->mask + PCI_COMMAND, COMMAND_MASK);
	put16(d->w1c + PCI_STATUS, STATUS_W1C);
	/* Without function, but writable; the latency timer is not. */
	d->mask[PCI_CACHE_LINE_SIZE] = 0xff;
	d->mask[PCI_INTERRUPT_LINE] = 0xff;
}

void
pci_init(struct pci_dev *d, const struct pci_ids *ids, unsigned vectors,
	 uint64_t bar0_len)
{
	assert(vectors >= 1 && vectors <= ARRAY_SIZE(d->msix));
	memset(d, 0, sizeof(*d));
	d->vectors = (uint16_t)vectors;
	header_init(d, ids);
	bar_init(d, 0, bar0_len, true);
	bar_init(d, PCI_BAR_MSIX,
		 bar_len_for((uint64_t)vectors * PCI_MSIX_ENTRY_SIZE), false);
	bar_init(d, PCI_BAR_PBA, bar_len_for(DIV_ROUND_UP(vectors, 64u) * 8),
		 false);
	caps_init(d);
	pci_reset(d);
}

void
pci_reset(struct pci_dev *d)
{
	/* Up to the capabilities, what can be written resets to 0. */
	for (unsigned i = 0; i < PCI_STD_HEADER_SIZEOF; i++)
		d->config[i] &= (uint8_t) ~(d->mask[i] | d->w1c[i]);
	pci_set_intx_status(d, false);
	caps_reset(d);
}

int
pci_config_read(const struct pci_dev *d, uint64_t off, void *buf, size_t len)
{
	if (!range_inside(off, len, PCI_CONFIG_LEN))
		return -EINVAL;
	memcpy(buf, d->config + off, len);
	return 0;
}

int
pci_config_write(struct pci_dev *d, uint64_t off, const void *buf, size_t len)
{
	const uint8_t *data = buf;
	uint8_t before[PCI_CONFIG_LEN];
	bool disabled = pci_intx_disabled(d);
	int events;

	if (!range_inside(off, len, PCI_CONFIG_LEN))
		return -EINVAL;
	memcpy(before + off, d->config + off, len);
	for (size_t i = 0; i < len; i++) {
		uint8_t *c = &d->config[off + i];
		uint8_t mask = d->mask[off + i];

		*c = (uint8_t)((*c & ~mask) | (data[i] & mask));
		*c &= (uint8_t) ~(data[i] & d->w1c[off + i]);
	}
	events = caps_written(d, before, off, data, len);
	if (pci_intx_disabled(d) != disabled)
		events |= PCI_EVENT_INTX;
	return events;
}

bool
pci_intx_disabled(const struct pci_dev *d)
{
	return get16(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

void
pci_set_intx_status(struct pci_dev *d, bool level)
{
	uint16_t status = get16(d->config + PCI_STATUS);

	if (level)
		status |= PCI_STATUS_INTERRUPT;
	else
		status &= (uint16_t)~PCI_STATUS_INTERRUPT;
	put16(d->config + PCI_STATUS, status);
}

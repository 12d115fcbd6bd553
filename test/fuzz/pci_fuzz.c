/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz the PCI face: writes of any place and length to config space and MSI-X
 * table, resets, and after each what a driver relies on.
 *
 * Input: one byte of vectors, then operations: u8 kind, u16 offset, u8 length,
 * then as many bytes of data as there are.
 */
#include <stdlib.h>
#include <string.h>

#include "pci/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pci_dev dev, fresh;

#define must(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static void
check(void)
{
	uint8_t config[PCI_CONFIG_LEN];
	unsigned msix = dev.msix_cap + PCI_MSIX_FLAGS;
	unsigned at, n = 0;

	must(!pci_config_read(&dev, 0, config, sizeof(config)));
	/* What no mask names never changes, but for the INTx status. */
	for (unsigned i = 0; i < PCI_CONFIG_LEN; i++) {
		uint8_t fixed = (uint8_t) ~(dev.mask[i] | dev.w1c[i]);

		if (i == PCI_STATUS)
			fixed &= (uint8_t)~PCI_STATUS_INTERRUPT;
		must((config[i] & fixed) == (fresh.config[i] & fixed));
	}
	for (at = config[PCI_CAPABILITY_LIST]; at; at = config[at + 1])
		must(++n <= 3);
	must(!(config[PCI_BASE_ADDRESS_0] & ~4u & 0xff));
	must(!(get16(config + PCI_BASE_ADDRESS_4) & 0xfff));
	must(!(config[dev.pcie_cap + PCI_EXP_DEVCTL + 1] & 0x80));
	must((get16(config + msix) & PCI_MSIX_FLAGS_QSIZE) == dev.vectors - 1);
	must((config[dev.pm_cap + PCI_PM_CTRL] & 3) % 3 == 0);
	must(!memcmp(dev.mask, fresh.mask, sizeof(dev.mask)));
	for (unsigned i = 0; i < ARRAY_SIZE(dev.msix); i++)
		must(!(dev.msix[i].addr_lo & 3) && dev.msix[i].ctrl <= 1 &&
		     (i < dev.vectors || !dev.msix[i].data));
}

/* The written bytes by the naive rule; D-states apart. */
static void
write_config(uint64_t off, const uint8_t *data, size_t len)
{
	uint8_t want[PCI_CONFIG_LEN];
	unsigned pm = dev.pm_cap + PCI_PM_CTRL;
	int events;

	memcpy(want, dev.config, sizeof(want));
	events = pci_config_write(&dev, off, data, len);
	must((events < 0) == (off + len > PCI_CONFIG_LEN));
	for (size_t i = 0; events >= 0 && i < len; i++) {
		uint8_t *w = &want[off + i], m = dev.mask[off + i];

		*w = (uint8_t)((*w & ~m) | (data[i] & m));
		*w &= (uint8_t) ~(data[i] & dev.w1c[off + i]);
	}
	want[pm] = dev.config[pm];
	must(!memcmp(want, dev.config, sizeof(want)));
	if (events > 0 && events & PCI_EVENT_FLR)
		pci_reset(&dev);
}

static void
operate(uint8_t kind, uint64_t off, const uint8_t *data, size_t len)
{
	uint8_t buf[256];

	switch (kind % 5) {
	case 0:
		write_config(off, data, len);
		break;
	case 1:
		must((pci_msix_write(&dev, off, data, len) < 0) ==
		     (off + len > dev.bar_len[PCI_BAR_MSIX]));
		break;
	case 2:
		must((pci_msix_read(&dev, off, buf, len) < 0) ==
		     (off + len > dev.bar_len[PCI_BAR_MSIX]));
		break;
	case 3:
		must((pci_pba_read(&dev, off, buf, len) < 0) ==
		     (off + len > dev.bar_len[PCI_BAR_PBA]));
		break;
	case 4:
		pci_set_intx_status(&dev, off & 1);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pci_ids ids = { 0 };
	unsigned vectors;

	if (size < 1)
		return 0;
	vectors = 1 + data[0] * 2047u / 255;
	pci_init(&fresh, &ids, vectors, 16384);
	dev = fresh;
	data++, size--;
	for (unsigned n = 0; size >= 4 && n < 64; n++) {
		uint8_t kind = data[0];
		uint64_t off = get16(data + 1);
		size_t len = data[3];

		data += 4, size -= 4;
		len = MIN(len, size);
		operate(kind, off, data, len);
		data += len, size -= len;
	}
	check();
	return 0;
}

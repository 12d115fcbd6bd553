/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The capabilities: power management, PCI Express endpoint, MSI-X with its
 * table and pending bits. Not for the header: config.c. Not for delivering an
 * interrupt: a client of VFIO reads the table itself and says with SET_IRQS
 * which vectors are to be signalled how (lib/irq).
 *
 * The extended config space has no capability: its first header is 0
 * (PCIe Base 4.0 §7.6.1).
 *
 * D3hot: No_Soft_Reset is set, so the way back to D0 keeps registers and
 * queues; PCI_EVENT_POWER tells the owner (PCI PM 1.2 §3.2.4).
 */
#include "internal.h"

/* SPDK's layout; the list goes PM, PCIe, MSI-X. */
#define PM_CAP 0x40
#define PCIE_CAP (PM_CAP + PCI_PM_SIZEOF)
#define PCIE_CAP_LEN 0x3c
#define MSIX_CAP (PCIE_CAP + PCIE_CAP_LEN)

#define PM_VERSION 3 /* PCI PM 1.2; no D1, no D2, no PME */

/*
 * 5 GT/s, four lanes: the fastest link that needs no extended capability.
 * Nothing is limited by it.
 */
#define LINK_SPEED PCI_EXP_LNKCAP_SLS_5_0GB
#define LINK_WIDTH (4 << PCI_EXP_LNKSTA_NLW_SHIFT)
#define LNKCAP_ASPM_OPTIONALITY 0x00400000
#define DEVCAP_MPS_256 1

#define DEVCTL_MASK                                                         \
	(PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE | \
	 PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN |                    \
	 PCI_EXP_DEVCTL_PAYLOAD_256B | PCI_EXP_DEVCTL_NOSNOOP_EN |          \
	 PCI_EXP_DEVCTL_READRQ)
#define DEVCTL_RESET                                           \
	(PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | \
	 PCI_EXP_DEVCTL_READRQ_512B)
#define DEVSTA_W1C                                                       \
	(PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | \
	 PCI_EXP_DEVSTA_URD)
#define LNKCTL_MASK                                                       \
	(PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | \
	 PCI_EXP_LNKCTL_ES)
#define LNKCTL2_MASK (PCI_EXP_LNKCTL2_TLS | PCI_EXP_LNKCTL2_HASD)

static void
cap_header(struct pci_dev *d, uint16_t at, uint8_t id, uint16_t next)
{
	d->config[at + PCI_CAP_LIST_ID] = id;
	d->config[at + PCI_CAP_LIST_NEXT] = (uint8_t)next;
}

static void
pm_init(struct pci_dev *d)
{
	put16(d->config + PM_CAP + PCI_PM_PMC, PM_VERSION);
	put16(d->config + PM_CAP + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
	put16(d->mask + PM_CAP + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
}

static void
pcie_init(struct pci_dev *d)
{
	uint8_t *c = d->config + PCIE_CAP, *m = d->mask + PCIE_CAP;

	put16(c + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put32(c + PCI_EXP_DEVCAP,
	      DEVCAP_MPS_256 | PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put16(m + PCI_EXP_DEVCTL, DEVCTL_MASK);
	put16(d->w1c + PCIE_CAP + PCI_EXP_DEVSTA, DEVSTA_W1C);

	put32(c + PCI_EXP_LNKCAP,
	      LINK_SPEED | LINK_WIDTH | LNKCAP_ASPM_OPTIONALITY);
	put16(m + PCI_EXP_LNKCTL, LNKCTL_MASK);
	put16(c + PCI_EXP_LNKSTA, LINK_SPEED | LINK_WIDTH);

	put32(c + PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_COMP_TMOUT_DIS);
	put16(m + PCI_EXP_DEVCTL2, PCI_EXP_DEVCTL2_COMP_TMOUT_DIS);
	put32(c + PCI_EXP_LNKCAP2,
	      PCI_EXP_LNKCAP2_SLS_2_5GB | PCI_EXP_LNKCAP2_SLS_5_0GB);
	put16(c + PCI_EXP_LNKCTL2, LINK_SPEED);
	put16(m + PCI_EXP_LNKCTL2, LNKCTL2_MASK);
}

static void
msix_init(struct pci_dev *d)
{
	uint8_t *c = d->config + MSIX_CAP;

	put16(c + PCI_MSIX_FLAGS, (uint16_t)(d->vectors - 1));
	put16(d->mask + MSIX_CAP + PCI_MSIX_FLAGS,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put32(c + PCI_MSIX_TABLE, PCI_BAR_MSIX);
	put32(c + PCI_MSIX_PBA, PCI_BAR_PBA);
}

void
caps_init(struct pci_dev *d)
{
	d->pm_cap = PM_CAP;
	d->pcie_cap = PCIE_CAP;
	d->msix_cap = MSIX_CAP;
	d->config[PCI_CAPABILITY_LIST] = PM_CAP;
	cap_header(d, PM_CAP, PCI_CAP_ID_PM, PCIE_CAP);
	cap_header(d, PCIE_CAP, PCI_CAP_ID_EXP, MSIX_CAP);
	cap_header(d, MSIX_CAP, PCI_CAP_ID_MSIX, 0);
	pm_init(d);
	pcie_init(d);
	msix_init(d);
}

/*
 * What steers the link survives: Max_Payload_Size, Link Control, and Link
 * Control 2, which is sticky (PCIe Base 4.0 §6.6.2).
 */
void
caps_reset(struct pci_dev *d)
{
	uint8_t *pcie = d->config + PCIE_CAP;
	uint8_t *msix = d->config + MSIX_CAP + PCI_MSIX_FLAGS;
	uint16_t mps = get16(pcie + PCI_EXP_DEVCTL) & PCI_EXP_DEVCTL_PAYLOAD;

	put16(d->config + PM_CAP + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
	put16(pcie + PCI_EXP_DEVCTL, DEVCTL_RESET | mps);
	put16(pcie + PCI_EXP_DEVSTA, 0);
	put16(pcie + PCI_EXP_DEVCTL2, 0);
	put16(msix, get16(msix) & PCI_MSIX_FLAGS_QSIZE);
	memset(d->msix, 0, sizeof(d->msix));
	for (unsigned i = 0; i < d->vectors; i++)
		d->msix[i].ctrl = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

/* A state that is not there: the write is discarded (PCI PM 1.2 §3.2.4). */
static void
pm_mend(uint8_t *ctrl, uint8_t before)
{
	uint8_t state = *ctrl & PCI_PM_CTRL_STATE_MASK;

	if (state == 1 || state == 2)
		*ctrl = before;
}

int
caps_written(struct pci_dev *d, const uint8_t *before, uint64_t off,
	     const uint8_t *data, size_t len)
{
	const unsigned pm = PM_CAP + PCI_PM_CTRL;
	const unsigned flr = PCIE_CAP + PCI_EXP_DEVCTL + 1;
	const unsigned msix = MSIX_CAP + PCI_MSIX_FLAGS + 1;
	int events = 0;

	/* off + len <= 4096: the subtraction below cannot wrap in. */
	if (pm - off < len) {
		pm_mend(&d->config[pm], before[pm]);
		if (d->config[pm] != before[pm])
			events |= PCI_EVENT_POWER;
	}
	if (flr - off < len && data[flr - off] & PCI_EXP_DEVCTL_BCR_FLR >> 8)
		events |= PCI_EVENT_FLR;
	if (msix - off < len && d->config[msix] != before[msix])
		events |= PCI_EVENT_MSIX;
	return events;
}

bool
pci_d3hot(const struct pci_dev *d)
{
	return d->config[PM_CAP + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK;
}

/* Room behind the last entry reads 0, and writes to it are lost. */
int
pci_msix_read(const struct pci_dev *d, uint64_t off, void *buf, size_t len)
{
	if (!range_inside(off, len, d->bar_len[PCI_BAR_MSIX]))
		return -EINVAL;
	memcpy(buf, (const uint8_t *)d->msix + off, len);
	return 0;
}

int
pci_msix_write(struct pci_dev *d, uint64_t off, const void *buf, size_t len)
{
	/* Of an entry: a dword-aligned address, data, the mask bit. */
	static const uint8_t mask[PCI_MSIX_ENTRY_SIZE] = {
		0xfc,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		PCI_MSIX_ENTRY_CTRL_MASKBIT,
	};
	uint64_t end = (uint64_t)d->vectors * PCI_MSIX_ENTRY_SIZE;
	uint8_t *table = (uint8_t *)d->msix;
	const uint8_t *data = buf;

	if (!range_inside(off, len, d->bar_len[PCI_BAR_MSIX]))
		return -EINVAL;
	for (size_t i = 0; i < len && off + i < end; i++)
		table[off + i] = data[i] &
				 mask[(off + i) % PCI_MSIX_ENTRY_SIZE];
	return 0;
}

/*
 * Nothing is ever pending here: a signal goes to the client's eventfd at once,
 * and who masks in the table (the client) keeps the pending bits with it.
 */
int
pci_pba_read(const struct pci_dev *d, uint64_t off, void *buf, size_t len)
{
	if (!range_inside(off, len, d->bar_len[PCI_BAR_PBA]))
		return -EINVAL;
	memset(buf, 0, len);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pci: the face of an NVMe controller on PCI: 4096 bytes of config space with write masks, capabilities, MSI-X table and PBA.
 *
 * target/endpoint.c serves REGION_READ/WRITE of the config region, BAR4 and BAR5 from it and acts on the events.
 * Capabilities: PM, PCI Express endpoint with FLR, MSI-X; PCI Local Bus 3.0, PCIe Base 4.0, NVMe over PCIe Transport 1.0.
 *
 * Thread: home reactor. Plain data in one struct: can be saved and restored as it is.
 */
#ifndef BELFRY_PCI_H
#define BELFRY_PCI_H

#include "belfry/util.h"

#define PCI_CONFIG_LEN 4096
#define PCI_BAR_MSIX 4 /* MSI-X table */
#define PCI_BAR_PBA 5  /* pending bits */

struct pci_ids {
	uint16_t vendor, device; /* 0: the default, 4e58:0001 */
	uint16_t sub_vendor, sub_device;
	uint8_t revision;
};

struct pci_dev {
	uint8_t config[PCI_CONFIG_LEN];
	uint8_t mask[PCI_CONFIG_LEN]; /* bits that a client may write */
	uint8_t w1c[PCI_CONFIG_LEN];  /* bits that a written 1 clears */
	uint16_t msix_cap, pm_cap, pcie_cap;
	uint16_t vectors;
	uint64_t bar_len[6]; /* bytes, power of two; 0: none */
	struct {
		uint32_t addr_lo, addr_hi, data, ctrl;
	} msix[2048];
};

/* What a config write asks of the owner; bits. */
enum pci_event {
	PCI_EVENT_FLR = 1,   /* function level reset was initiated */
	PCI_EVENT_INTX = 2,  /* Interrupt Disable: pci_intx_disabled() */
	PCI_EVENT_POWER = 4, /* D-state, see pci_d3hot(); nothing is lost */
	PCI_EVENT_MSIX = 8,  /* MSI-X enable or function mask */
};

/* @vectors 1..2048; @bar0_len a power of two >= 16 KiB (64-bit BAR0/1). */
void pci_init(struct pci_dev *d, const struct pci_ids *ids, unsigned vectors,
	      uint64_t bar0_len);
/*
 * Power-on values of all that a reset clears (FLR keeps what PCIe says it keeps). The owner calls it
 * after PCI_EVENT_FLR, when the controller behind has been reset; BARs and the command register become 0.
 */
void pci_reset(struct pci_dev *d);

/* -EINVAL: [off, off + len) is not inside the space or the BAR. Any length, any alignment, 0 too. */
int pci_config_read(const struct pci_dev *d, uint64_t off, void *buf,
		    size_t len);
/* Gives the events (>= 0) or -EINVAL. */
int pci_config_write(struct pci_dev *d, uint64_t off, const void *buf,
		     size_t len);

/* BAR4, BAR5: inside bar_len[]; behind the last vector reads 0. The PBA is read-only and always 0 (caps.c says why). */
int pci_msix_read(const struct pci_dev *d, uint64_t off, void *buf, size_t len);
int pci_msix_write(struct pci_dev *d, uint64_t off, const void *buf,
		   size_t len);
int pci_pba_read(const struct pci_dev *d, uint64_t off, void *buf, size_t len);

bool pci_intx_disabled(const struct pci_dev *d);
/* Power state D3hot (else D0). */
bool pci_d3hot(const struct pci_dev *d);
/* Interrupt Status bit of the Status register follows the INTx level. */
void pci_set_intx_status(struct pci_dev *d, bool level);

#endif

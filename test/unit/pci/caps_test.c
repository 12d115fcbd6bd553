/* SPDX-License-Identifier: BSD-3-Clause */
/* Capabilities: the list, their masks and events, the MSI-X table. */
#include "unit.h"

/* Length of each capability, to see that none overlap. */
static unsigned
cap_len(uint8_t id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
		return 8;
	case PCI_CAP_ID_EXP:
		return 60;
	case PCI_CAP_ID_MSIX:
		return 12;
	default:
		fail_msg("capability %u", id);
		return 0;
	}
}

static void
walks_the_list(void **state)
{
	bool used[256] = { false };
	unsigned at, n = 0, found = 0;
	struct pci_dev d;

	make(&d, 1);
	for (at = rd(&d, PCI_CAPABILITY_LIST, 1); at && n < 48; n++) {
		uint8_t id = (uint8_t)rd(&d, at, 1);

		assert_int_equal(at & 3, 0);
		assert_true(at >= 64 && at + cap_len(id) <= 256);
		for (unsigned i = 0; i < cap_len(id); i++) {
			assert_false(used[at + i]);
			used[at + i] = true;
		}
		found += id;
		at = rd(&d, at + PCI_CAP_LIST_NEXT, 1);
	}
	assert_int_equal(n, 3);
	assert_int_equal(found,
			 PCI_CAP_ID_PM + PCI_CAP_ID_EXP + PCI_CAP_ID_MSIX);
	assert_int_equal(rd(&d, d.pm_cap, 1), PCI_CAP_ID_PM);
	assert_int_equal(rd(&d, d.pcie_cap, 1), PCI_CAP_ID_EXP);
	assert_int_equal(rd(&d, d.msix_cap, 1), PCI_CAP_ID_MSIX);
}

/* Offsets are relative to a capability. */
enum cap { PM, PCIE, MSIX };
static const struct mask_case {
	const char *name;
	enum cap cap;
	unsigned off;
	uint32_t fresh, ones, zeros;
} masks[] = {
	{ "PM: v3, no PME", PM, 2, 3, 3, 3 },
	{ "PM state: D3hot and back", PM, 4, 8, 0xb, 8 },
	{ "PM bridge, data", PM, 6, 0, 0, 0 },
	{ "endpoint, v2", PCIE, 2, 2, 2, 2 },
	{ "DevCap low: 256 B, RBER", PCIE, 4, 0x8001, 0x8001, 0x8001 },
	{ "DevCap high: FLR", PCIE, 6, 0x1000, 0x1000, 0x1000 },
	{ "DevCtl: FLR reads 0", PCIE, 8, 0x2810, 0x783f, 0 },
	{ "DevSta", PCIE, 10, 0, 0, 0 },
	{ "LnkCap", PCIE, 12, 0x0042, 0x0042, 0x0042 },
	{ "LnkCtl: no retrain, no disable", PCIE, 16, 0, 0xcb, 0 },
	{ "LnkSta: x4", PCIE, 18, 0x42, 0x42, 0x42 },
	{ "no slot", PCIE, 20, 0, 0, 0 },
	{ "no slot control", PCIE, 24, 0, 0, 0 },
	{ "no root control", PCIE, 28, 0, 0, 0 },
	{ "DevCap2", PCIE, 36, 0x10, 0x10, 0x10 },
	{ "DevCtl2: timeout disable", PCIE, 40, 0, 0x10, 0 },
	{ "LnkCap2", PCIE, 44, 6, 6, 6 },
	{ "LnkCtl2", PCIE, 48, 2, 0x2f, 0 },
	{ "LnkSta2", PCIE, 50, 0, 0, 0 },
	{ "MSI-X: enable and mask only", MSIX, 2, 0x80, 0xc080, 0x80 },
	{ "MSI-X table in BAR4", MSIX, 4, 4, 4, 4 },
	{ "MSI-X table high", MSIX, 6, 0, 0, 0 },
	{ "PBA in BAR5", MSIX, 8, 5, 5, 5 },
	{ "PBA high", MSIX, 10, 0, 0, 0 },
};

static void
masks_writes(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		const struct mask_case *c = &masks[i];
		uint32_t fresh, ones, zeros;
		struct pci_dev d;
		unsigned off;

		make(&d, 129);
		off = c->off + (c->cap == PM	 ? d.pm_cap
				: c->cap == PCIE ? d.pcie_cap
						 : d.msix_cap);
		fresh = rd(&d, off, 2);
		wr(&d, off, 0xffff, 2);
		ones = rd(&d, off, 2);
		wr(&d, off, 0, 2);
		zeros = rd(&d, off, 2);
		if (fresh != c->fresh || ones != c->ones || zeros != c->zeros)
			fail_msg("%s: %x %x %x", c->name, fresh, ones, zeros);
	}
}

static void
keeps_list_headers(void **state)
{
	static struct pci_dev d;
	uint8_t ones[192];
	unsigned at;

	make(&d, 1);
	memset(ones, 0xff, sizeof(ones));
	at = rd(&d, d.msix_cap, 2);
	pci_config_write(&d, 64, ones, sizeof(ones));
	assert_int_equal(rd(&d, d.msix_cap, 2), at);
	assert_int_equal(rd(&d, d.pm_cap, 2), d.pcie_cap << 8 | 1);
	/* Nothing behind the last capability can be written. */
	for (unsigned i = d.msix_cap + 12u; i < 256; i++)
		assert_int_equal(d.config[i], 0);
}

/* A write of one byte of a capability, and what it must cause. */
static const struct event_case {
	const char *name;
	enum cap cap;
	unsigned off, len;
	uint32_t value;
	int events;
} events[] = {
	{ "D3hot", PM, 4, 2, 3, PCI_EVENT_POWER },
	{ "D0 again is no change", PM, 4, 2, 0, 0 },
	{ "D1 is not there", PM, 4, 2, 1, 0 },
	{ "D2 is not there", PM, 4, 1, 2, 0 },
	{ "PME status", PM, 5, 1, 0x80, 0 },
	{ "FLR", PCIE, 8, 2, 0xa810, PCI_EVENT_FLR },
	{ "FLR by its byte", PCIE, 9, 1, 0x80, PCI_EVENT_FLR },
	{ "FLR in a dword", PCIE, 8, 4, 0x8000, PCI_EVENT_FLR },
	{ "FLR in a dword before", PCIE, 6, 4, 0x80000000, PCI_EVENT_FLR },
	{ "all ones below it", PCIE, 8, 1, 0xff, 0 },
	{ "all ones in DevSta", PCIE, 10, 2, 0xffff, 0 },
	{ "DevCtl without FLR", PCIE, 8, 2, 0x7fff, 0 },
	{ "DevCap's bit 15", PCIE, 4, 2, 0x8000, 0 },
	{ "MSI-X on", MSIX, 2, 2, 0x8000, PCI_EVENT_MSIX },
	{ "function mask", MSIX, 3, 1, 0x40, PCI_EVENT_MSIX },
	{ "MSI-X still off", MSIX, 2, 2, 0x3fff, 0 },
	{ "MSI-X in a dword", MSIX, 0, 4, 0xc0000000, PCI_EVENT_MSIX },
	{ "table offset", MSIX, 4, 4, 0xffffffff, 0 },
	{ "empty write", PCIE, 9, 0, 0x80, 0 },
};

static void
tells_events(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		const struct event_case *c = &events[i];
		struct pci_dev d;
		unsigned off;
		int got;

		make(&d, 129);
		off = c->off + (c->cap == PM	 ? d.pm_cap
				: c->cap == PCIE ? d.pcie_cap
						 : d.msix_cap);
		got = wr(&d, off, c->value, c->len);
		if (got != c->events)
			fail_msg("%s: %d", c->name, got);
		assert_int_equal(rd(&d, d.pcie_cap + 9u, 1) & 0x80, 0);
	}
}

static void
tells_several_events_at_once(void **state)
{
	static struct pci_dev d;
	uint8_t ones[4096];

	make(&d, 1);
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(pci_config_write(&d, 0, ones, sizeof(ones)),
			 PCI_EVENT_FLR | PCI_EVENT_INTX | PCI_EVENT_POWER |
				 PCI_EVENT_MSIX);
}

static void
keeps_d3hot_on_nonsense(void **state)
{
	struct pci_dev d;

	make(&d, 1);
	assert_false(pci_d3hot(&d));
	wr(&d, d.pm_cap + 4u, 3, 1);
	assert_true(pci_d3hot(&d));
	assert_int_equal(wr(&d, d.pm_cap + 4u, 2, 1), 0);
	assert_int_equal(wr(&d, d.pm_cap + 4u, 1, 2), 0);
	assert_true(pci_d3hot(&d));
	assert_int_equal(wr(&d, d.pm_cap + 4u, 0, 2), PCI_EVENT_POWER);
	assert_false(pci_d3hot(&d));
}

static void
clears_device_status(void **state)
{
	struct pci_dev d;
	unsigned sta;

	make(&d, 1);
	sta = d.pcie_cap + PCI_EXP_DEVSTA;
	d.config[sta] = 0x0f;
	wr(&d, sta, 0, 2);
	assert_int_equal(rd(&d, sta, 2), 0x0f);
	wr(&d, sta, 9, 2);
	assert_int_equal(rd(&d, sta, 2), 0x06);
}

/* PCIe Base 4.0 §6.6.2: what steers the link survives. */
static void
resets_what_flr_resets(void **state)
{
	static struct pci_dev fresh, d;
	uint8_t ones[192];
	unsigned e;

	make(&fresh, 7);
	make(&d, 7);
	memset(ones, 0xff, sizeof(ones));
	pci_config_write(&d, 64, ones, sizeof(ones));
	pci_msix_write(&d, 0, ones, 112);
	pci_reset(&d);
	e = d.pcie_cap;
	assert_int_equal(rd(&d, e + PCI_EXP_DEVCTL, 2), 0x2830);
	assert_int_equal(rd(&d, e + PCI_EXP_LNKCTL, 2), 0xcb);
	assert_int_equal(rd(&d, e + PCI_EXP_LNKCTL2, 2), 0x2f);
	wr(&d, e + PCI_EXP_DEVCTL, 0x2810, 2);
	wr(&d, e + PCI_EXP_LNKCTL, 0, 2);
	wr(&d, e + PCI_EXP_LNKCTL2, 2, 2);
	assert_memory_equal(d.config, fresh.config, PCI_CONFIG_LEN);
	assert_memory_equal(d.msix, fresh.msix, sizeof(d.msix));
}

static void
serves_the_table(void **state)
{
	const uint32_t entry[4] = { 0xfee01007, 0x12345678, 0x4041, ~0u };
	struct pci_dev d;
	uint32_t got[4];

	make(&d, 3);
	assert_int_equal(pci_msix_read(&d, 16, got, 16), 0);
	assert_int_equal(got[3], 1); /* masked */
	assert_int_equal(pci_msix_write(&d, 16, entry, 16), 0);
	assert_int_equal(pci_msix_read(&d, 16, got, 16), 0);
	assert_int_equal(got[0], 0xfee01004);
	assert_int_equal(got[1], 0x12345678);
	assert_int_equal(got[2], 0x4041);
	assert_int_equal(got[3], 1);
	/* Byte by byte too: unmask. */
	assert_int_equal(pci_msix_write(&d, 28, "\0", 1), 0);
	assert_int_equal(d.msix[1].ctrl, 0);
	assert_int_equal(d.msix[0].ctrl, 1);
	assert_int_equal(d.msix[2].ctrl, 1);
}

static const struct table_case {
	const char *name;
	uint64_t off;
	size_t len;
	int table, pba;
} table[] = {
	{ "all of the PBA's BAR", 0, 4096, 0, 0 },
	{ "all of the table's BAR", 0, 8192, 0, -EINVAL },
	{ "one more", 0, 8193, -EINVAL, -EINVAL },
	{ "last byte of the PBA's", 4095, 1, 0, 0 },
	{ "last byte of the table's", 8191, 1, 0, -EINVAL },
	{ "behind", 8192, 1, -EINVAL, -EINVAL },
	{ "nothing", 0, 0, 0, 0 },
	{ "wraps", UINT64_MAX - 7, 16, -EINVAL, -EINVAL },
	{ "length wraps", 8, SIZE_MAX, -EINVAL, -EINVAL },
};

static void
checks_table_ranges(void **state)
{
	static uint8_t buf[8193];
	static struct pci_dev d;

	make(&d, 300);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct table_case *c = &table[i];
		int r, w, p;

		r = pci_msix_read(&d, c->off, buf, c->len);
		memset(buf, 0xff, sizeof(buf));
		w = pci_msix_write(&d, c->off, buf, c->len);
		p = pci_pba_read(&d, c->off, buf, c->len);
		if (r != c->table || w != c->table || p != c->pba)
			fail_msg("%s: %d %d %d", c->name, r, w, p);
		if (!p && c->len)
			assert_int_equal(buf[0] | buf[c->len - 1], 0);
	}
	/* Behind the last vector nothing sticks. */
	for (unsigned i = 300; i < ARRAY_SIZE(d.msix); i++)
		assert_int_equal(d.msix[i].addr_lo | d.msix[i].addr_hi |
					 d.msix[i].data | d.msix[i].ctrl,
				 0);
	assert_int_equal(d.msix[299].data, 0xffffffff);
}

int
caps_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks_the_list),
		cmocka_unit_test(masks_writes),
		cmocka_unit_test(keeps_list_headers),
		cmocka_unit_test(tells_events),
		cmocka_unit_test(tells_several_events_at_once),
		cmocka_unit_test(keeps_d3hot_on_nonsense),
		cmocka_unit_test(clears_device_status),
		cmocka_unit_test(resets_what_flr_resets),
		cmocka_unit_test(serves_the_table),
		cmocka_unit_test(checks_table_ranges),
	};

	return cmocka_run_group_tests_name("pci caps", tests, NULL, NULL);
}

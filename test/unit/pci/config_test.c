/* SPDX-License-Identifier: BSD-3-Clause */
/* The type 0 header: what it says, what a client may change. */
#include "unit.h"

static const struct value_case {
	const char *name;
	unsigned off, len;
	uint32_t want;
} values[] = {
	{ "vendor", PCI_VENDOR_ID, 2, 0x4e58 },
	{ "device", PCI_DEVICE_ID, 2, 0x0001 },
	{ "command", PCI_COMMAND, 2, 0 },
	{ "status: capabilities", PCI_STATUS, 2, PCI_STATUS_CAP_LIST },
	{ "class and revision", PCI_CLASS_REVISION, 4, 0x01080200 },
	{ "header type 0", PCI_HEADER_TYPE, 1, 0 },
	{ "no BIST", PCI_BIST, 1, 0 },
	{ "BAR0: 64-bit memory", PCI_BASE_ADDRESS_0, 4, 4 },
	{ "BAR1", PCI_BASE_ADDRESS_1, 4, 0 },
	{ "BAR4: 32-bit memory", PCI_BASE_ADDRESS_4, 4, 0 },
	{ "BAR5: 32-bit memory", PCI_BASE_ADDRESS_5, 4, 0 },
	{ "subsystem vendor", PCI_SUBSYSTEM_VENDOR_ID, 2, 0x4e58 },
	{ "subsystem", PCI_SUBSYSTEM_ID, 2, 0 },
	{ "no ROM", PCI_ROM_ADDRESS, 4, 0 },
	{ "pin A", PCI_INTERRUPT_PIN, 1, 1 },
	{ "min_gnt, max_lat", PCI_MIN_GNT, 2, 0 },
	{ "no extended capability", 0x100, 4, 0 },
};

static void
says_what_it_is(void **state)
{
	struct pci_dev d;

	make(&d, 129);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const struct value_case *c = &values[i];
		uint32_t got = rd(&d, c->off, c->len);

		if (got != c->want)
			fail_msg("%s: %x", c->name, got);
	}
}

static void
takes_other_ids(void **state)
{
	const struct pci_ids ids = { .vendor = 0x1b36,
				     .device = 0x10,
				     .sub_vendor = 0x1af4,
				     .sub_device = 0x1100,
				     .revision = 2 };
	const struct pci_ids half = { .vendor = 0x1b36 };
	struct pci_dev d;

	pci_init(&d, &ids, 1, BAR0_LEN);
	assert_int_equal(rd(&d, 0, 4), 0x00101b36);
	assert_int_equal(rd(&d, PCI_CLASS_REVISION, 4), 0x01080202);
	assert_int_equal(rd(&d, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	pci_init(&d, &half, 1, BAR0_LEN);
	assert_int_equal(rd(&d, PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1b36);
}

/* What is left of a dword of ones, then of zeros, on a fresh device. */
static const struct mask_case {
	const char *name;
	unsigned off;
	uint32_t ones, zeros;
} masks[] = {
	{ "ids are read-only", 0x00, 0x00014e58, 0x00014e58 },
	{ "command: no I/O space, no fast b2b", 0x04, 0x00100546, 0x00100000 },
	{ "class is read-only", 0x08, 0x01080200, 0x01080200 },
	{ "cache line only", 0x0c, 0x000000ff, 0 },
	{ "BAR0 of 16 KiB", 0x10, 0xffffc004, 4 },
	{ "BAR1 is its upper half", 0x14, 0xffffffff, 0 },
	{ "no BAR2", 0x18, 0, 0 },
	{ "no BAR3", 0x1c, 0, 0 },
	{ "BAR4 of 4 KiB", 0x20, 0xfffff000, 0 },
	{ "BAR5 of 4 KiB", 0x24, 0xfffff000, 0 },
	{ "no CIS", 0x28, 0, 0 },
	{ "subsystem is read-only", 0x2c, 0x00004e58, 0x00004e58 },
	{ "no ROM", 0x30, 0, 0 },
	{ "capability pointer is read-only", 0x34, 0x40, 0x40 },
	{ "reserved", 0x38, 0, 0 },
	{ "interrupt line only", 0x3c, 0x000001ff, 0x00000100 },
	{ "extended space is read-only", 0x100, 0, 0 },
	{ "last dword", 0xffc, 0, 0 },
};

static void
masks_writes(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		const struct mask_case *c = &masks[i];
		struct pci_dev d;
		uint32_t ones, zeros;

		make(&d, 4);
		wr(&d, c->off, UINT32_MAX, 4);
		ones = rd(&d, c->off, 4);
		wr(&d, c->off, 0, 4);
		zeros = rd(&d, c->off, 4);
		if (ones != c->ones || zeros != c->zeros)
			fail_msg("%s: %x, %x", c->name, ones, zeros);
	}
}

static const struct size_case {
	unsigned vectors;
	uint32_t bar4, bar5;
} sizes[] = {
	{ 1, 0xfffff000, 0xfffff000 },	  { 256, 0xfffff000, 0xfffff000 },
	{ 257, 0xffffe000, 0xfffff000 },  { 512, 0xffffe000, 0xfffff000 },
	{ 2048, 0xffff8000, 0xfffff000 },
};

static void
sizes_bars_by_vectors(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct size_case *c = &sizes[i];
		struct pci_dev d;

		make(&d, c->vectors);
		wr(&d, PCI_BASE_ADDRESS_4, UINT32_MAX, 4);
		wr(&d, PCI_BASE_ADDRESS_5, UINT32_MAX, 4);
		assert_int_equal(rd(&d, PCI_BASE_ADDRESS_4, 4), c->bar4);
		assert_int_equal(rd(&d, PCI_BASE_ADDRESS_5, 4), c->bar5);
		assert_int_equal(d.bar_len[PCI_BAR_MSIX], -c->bar4);
		assert_int_equal(d.bar_len[PCI_BAR_PBA], -c->bar5);
		assert_int_equal(d.bar_len[0], BAR0_LEN);
		assert_int_equal(d.bar_len[1] | d.bar_len[2] | d.bar_len[3], 0);
	}
}

/* A BAR of 8 GiB has its size in the upper dword. */
static void
sizes_a_huge_bar0(void **state)
{
	const struct pci_ids ids = { 0 };
	struct pci_dev d;

	pci_init(&d, &ids, 1, 1ull << 33);
	wr(&d, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
	wr(&d, PCI_BASE_ADDRESS_1, UINT32_MAX, 4);
	assert_int_equal(rd(&d, PCI_BASE_ADDRESS_0, 4), 4);
	assert_int_equal(rd(&d, PCI_BASE_ADDRESS_1, 4), 0xfffffffe);
}

static const struct range_case {
	const char *name;
	uint64_t off;
	size_t len;
	int want;
} ranges[] = {
	{ "all", 0, 4096, 0 },
	{ "nothing", 0, 0, 0 },
	{ "nothing at the end", 4096, 0, 0 },
	{ "last byte", 4095, 1, 0 },
	{ "one too long", 0, 4097, -EINVAL },
	{ "over the end", 4095, 2, -EINVAL },
	{ "behind", 4096, 1, -EINVAL },
	{ "nothing behind", 4097, 0, -EINVAL },
	{ "wraps", UINT64_MAX, 2, -EINVAL },
	{ "wraps to 0", UINT64_MAX - 3, 4, -EINVAL },
	{ "length wraps", 16, SIZE_MAX - 8, -EINVAL },
	{ "far away", 1ull << 32, 4, -EINVAL },
};

static void
checks_ranges(void **state)
{
	static uint8_t buf[4097];
	static struct pci_dev d;

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct range_case *c = &ranges[i];
		int got_r, got_w;

		make(&d, 1);
		memset(buf, 0, sizeof(buf));
		got_r = pci_config_read(&d, c->off, buf, c->len);
		got_w = pci_config_write(&d, c->off, buf, c->len);
		if (got_r != c->want || got_w != c->want)
			fail_msg("%s: %d, %d", c->name, got_r, got_w);
	}
}

/* Odd lengths and places do what the same bytes in dwords would. */
static void
writes_byte_by_byte(void **state)
{
	uint8_t bytes[PCI_CONFIG_LEN];
	static struct pci_dev a, b, c;

	make(&a, 33);
	make(&b, 33);
	make(&c, 33);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 11);
	pci_config_write(&a, 0, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		pci_config_write(&b, i, bytes + i, 1);
	for (size_t i = 0; i < sizeof(bytes);) {
		size_t n = MIN(sizeof(bytes) - i, (size_t)7);

		pci_config_write(&c, i, bytes + i, n);
		i += n;
	}
	assert_memory_equal(a.config, b.config, sizeof(a.config));
	assert_memory_equal(a.config, c.config, sizeof(a.config));
}

static void
clears_status_bits_by_one(void **state)
{
	struct pci_dev d;

	make(&d, 1);
	d.config[PCI_STATUS + 1] = 0xf9; /* all that a device may find */
	assert_int_equal(wr(&d, PCI_STATUS, 0, 2), 0);
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0xf910);
	assert_int_equal(wr(&d, PCI_STATUS, PCI_STATUS_PARITY, 2), 0);
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0xf810);
	wr(&d, PCI_STATUS, 0xffff, 2);
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0x0010);
}

static void
tells_of_intx(void **state)
{
	struct pci_dev d;

	make(&d, 1);
	assert_false(pci_intx_disabled(&d));
	assert_int_equal(wr(&d, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, 2),
			 PCI_EVENT_INTX);
	assert_true(pci_intx_disabled(&d));
	assert_int_equal(wr(&d, PCI_COMMAND, 0x0406, 2), 0);
	assert_int_equal(wr(&d, PCI_COMMAND, 0, 1), 0); /* low byte only */
	assert_true(pci_intx_disabled(&d));
	assert_int_equal(wr(&d, PCI_COMMAND + 1, 0, 1), PCI_EVENT_INTX);
	assert_false(pci_intx_disabled(&d));

	pci_set_intx_status(&d, true);
	pci_set_intx_status(&d, true);
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0x18);
	wr(&d, PCI_STATUS, 0xffff, 2); /* not the client's to clear */
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0x18);
	pci_set_intx_status(&d, false);
	assert_int_equal(rd(&d, PCI_STATUS, 2), 0x10);
}

static void
resets_the_header(void **state)
{
	static struct pci_dev fresh, d;

	make(&fresh, 5);
	make(&d, 5);
	for (unsigned off = 0; off < PCI_STD_HEADER_SIZEOF; off += 4)
		wr(&d, off, UINT32_MAX, 4);
	d.config[PCI_STATUS + 1] |= 0x80;
	pci_set_intx_status(&d, true);
	assert_memory_not_equal(d.config, fresh.config, 64);
	pci_reset(&d);
	assert_memory_equal(d.config, fresh.config, 64);
	assert_false(pci_intx_disabled(&d));
}

int
config_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_it_is),
		cmocka_unit_test(takes_other_ids),
		cmocka_unit_test(masks_writes),
		cmocka_unit_test(sizes_bars_by_vectors),
		cmocka_unit_test(sizes_a_huge_bar0),
		cmocka_unit_test(checks_ranges),
		cmocka_unit_test(writes_byte_by_byte),
		cmocka_unit_test(clears_status_bits_by_one),
		cmocka_unit_test(tells_of_intx),
		cmocka_unit_test(resets_the_header),
	};

	return cmocka_run_group_tests_name("pci config", tests, NULL, NULL);
}

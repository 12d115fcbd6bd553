/* SPDX-License-Identifier: BSD-3-Clause */
/* What a client finds: regions, interrupts, config space, controller registers. */
#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common.h"

#define CONFIG 7

static void
test_infos(void **state)
{
	struct vu_device_info info = { .argsz = 16 };
	int c = vu_open("vm0", QEMU_JSON);
	struct vfio_irq_info irq = { .argsz = 16, .index = 2 };
	struct reply r;

	vu_call(c, VU_DEVICE_GET_INFO, &info, sizeof(info), NULL, 0, &r);
	memcpy(&info, r.data, sizeof(info));
	assert_int_equal(info.flags, 3);
	assert_int_equal(info.num_regions, 9);
	assert_int_equal(info.num_irqs, 5);
	vu_call(c, VU_DEVICE_GET_IRQ_INFO, &irq, sizeof(irq), NULL, 0, &r);
	memcpy(&irq, r.data, sizeof(irq));
	assert_true(irq.count > 1 && irq.flags & VFIO_IRQ_INFO_EVENTFD);
	/* MSI-X of config space says the same number */
	for (unsigned at = (unsigned)region_get(c, CONFIG, 0x34, 1); at;
	     at = (unsigned)region_get(c, CONFIG, at + 1, 1))
		if (region_get(c, CONFIG, at, 1) == PCI_CAP_ID_MSIX)
			assert_int_equal((region_get(c, CONFIG, at + 2, 2) &
					  PCI_MSIX_FLAGS_QSIZE) +
						 1,
					 irq.count);
	close(c);
}

/* The doorbell page: one area, one descriptor, sealed against a client's tricks. */
static void
test_bar0(void **state)
{
	struct vfio_region_info req = { .argsz = 64 };
	struct vu_region_info full;
	int c = vu_open("vm0", QEMU_JSON);
	struct reply r;
	void *page;

	vu_call(c, VU_DEVICE_GET_REGION_INFO, &req, sizeof(req), NULL, 0, &r);
	assert_int_equal(r.len, sizeof(full));
	memcpy(&full, r.data, sizeof(full));
	assert_true(full.info.size >= 16384);
	assert_int_equal(full.info.flags, 15);
	assert_int_equal(full.nr_areas, 1);
	assert_int_equal(full.area.offset, 0x1000);
	assert_true(full.area.size >= 4096);
	assert_true(r.fd >= 0);
	assert_int_equal(ftruncate(r.fd, 0), -1);
	assert_int_equal(ftruncate(r.fd, 1 << 30), -1);
	page = mmap(NULL, full.area.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    r.fd, (off_t)(full.info.offset + full.area.offset));
	assert_ptr_not_equal(page, MAP_FAILED);
	munmap(page, full.area.size);
	close(r.fd);
	close(c);
}

/* What may be written, may; what may not, stays. */
static void
test_config(void **state)
{
	int c = vu_open("vm0", QEMU_JSON);
	struct vu_region_access all = { 0, CONFIG, 4096 };
	struct reply r;
	uint64_t bar;

	assert_int_equal(
		vu_call(c, VU_REGION_READ, &all, sizeof(all), NULL, 0, &r), 0);
	assert_int_equal(region_get(c, CONFIG, PCI_VENDOR_ID, 4), 0x00014e58);
	assert_int_equal(region_get(c, CONFIG, PCI_CLASS_PROG, 3), 0x010802);
	region_put(c, CONFIG, PCI_VENDOR_ID, 0xffffffff, 4);
	region_put(c, CONFIG, PCI_CLASS_PROG, 0, 2);
	assert_int_equal(region_get(c, CONFIG, PCI_VENDOR_ID, 4), 0x00014e58);
	assert_int_equal(region_get(c, CONFIG, PCI_CLASS_PROG, 3), 0x010802);
	region_put(c, CONFIG, PCI_BASE_ADDRESS_0, UINT64_MAX, 8);
	bar = region_get(c, CONFIG, PCI_BASE_ADDRESS_0, 8);
	assert_int_equal(bar & 15, 4); /* 64 bits, memory */
	assert_true(-(bar & ~15ull) >= 16384);
	region_put(c, CONFIG, PCI_COMMAND, 6, 2);
	assert_int_equal(region_get(c, CONFIG, PCI_COMMAND, 2), 6);
	close(c);
	/* the next client finds a fresh device */
	c = vu_open("vm0", QEMU_JSON);
	assert_int_equal(region_get(c, CONFIG, PCI_COMMAND, 2), 0);
	close(c);
}

static void
test_registers(void **state)
{
	int c = vu_open("vm0", QEMU_JSON);
	uint64_t cap = region_get(c, 0, 0, 8);

	assert_true((cap & 0xffff) >= 1);		   /* CAP.MQES */
	assert_true(cap >> 37 & 1);			   /* CAP.CSS: NVM */
	assert_int_equal(cap >> 32 & 15, 0);		   /* CAP.DSTRD */
	assert_int_equal(region_get(c, 0, 8, 4), 0x20000); /* VS */
	assert_int_equal(region_get(c, 0, 0, 4), cap & 0xffffffff);
	assert_int_equal(region_get(c, 0, 4, 4), cap >> 32);
	assert_int_equal(region_get(c, 0, 0x1c, 4), 0); /* CSTS */
	region_put(c, 0, 0x24, 0x001f001f, 4);		/* AQA */
	assert_int_equal(region_get(c, 0, 0x24, 4), 0x001f001f);
	region_put(c, 0, 0x28, 0x123456789000, 8); /* ASQ */
	assert_int_equal(region_get(c, 0, 0x28, 8), 0x123456789000);
	region_put(c, 0, 0, UINT64_MAX, 8);
	assert_int_equal(region_get(c, 0, 0, 8), cap);
	assert_int_equal(vu_call(c, VU_DEVICE_RESET, NULL, 0, NULL, 0, NULL),
			 0);
	assert_int_equal(region_get(c, 0, 0x24, 4), 0);
	close(c);
}

/* Queues in memory that is not there: the controller fails, the client stays. */
static void
test_enable_nowhere(void **state)
{
	int c = vu_open("vm0", QEMU_JSON);
	uint64_t end = now_ms() + 10000, csts;

	region_put(c, 0, 0x24, 0x001f001f, 4);
	region_put(c, 0, 0x28, 0x10000, 8);
	region_put(c, 0, 0x30, 0x20000, 8);
	region_put(c, 0, 0x14, 0x00460001, 4);
	do {
		csts = region_get(c, 0, 0x1c, 4);
		usleep(1000);
	} while (!(csts & 3) && now_ms() < end);
	assert_true(csts & 3); /* ready, or failed: never stuck */
	assert_int_equal(vu_call(c, VU_DEVICE_RESET, NULL, 0, NULL, 0, NULL),
			 0);
	assert_int_equal(region_get(c, 0, 0x1c, 4), 0);
	close(c);
}

/* SET_IRQS as QEMU sends it; a trigger comes out at the eventfd. */
static void
test_irqs(void **state)
{
	struct vfio_irq_set none = { 20, 4 | 32, 2, 0, 1 };
	struct vfio_irq_set two = { 20, 4 | 32, 2, 0, 2 };
	struct vfio_irq_set fire = { 20, 1 | 32, 2, 1, 1 };
	struct vfio_irq_set off = { 20, 1 | 32, 2, 0, 0 };
	int c = vu_open("vm0", QEMU_JSON), fds[2];
	uint64_t v = 0;

	fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(vu_call(c, 8, &none, 20, NULL, 0, NULL), 0);
	assert_int_equal(vu_call(c, 8, &two, 20, fds, 2, NULL), 0);
	assert_int_equal(vu_call(c, 8, &fire, 20, NULL, 0, NULL), 0);
	assert_int_equal(read(fds[0], &v, sizeof(v)), -1);
	assert_int_equal(read(fds[1], &v, sizeof(v)), sizeof(v));
	assert_int_equal(v, 1);
	assert_int_equal(vu_call(c, 8, &off, 20, NULL, 0, NULL), 0);
	assert_int_equal(vu_call(c, 8, &fire, 20, NULL, 0, NULL), 0);
	assert_int_equal(read(fds[1], &v, sizeof(v)), -1);
	close(fds[0]);
	close(fds[1]);
	close(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_infos),
		cmocka_unit_test(test_bar0),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_enable_nowhere),
		cmocka_unit_test(test_irqs),
	};

	return cmocka_run_group_tests_name("wire device", tests, daemon_setup,
					   daemon_teardown);
}

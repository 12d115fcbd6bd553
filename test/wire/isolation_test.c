/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two clients on two controllers at once, and addresses that are not theirs: refused with the right status, nothing
 * read and nothing written. Both name the same blocks, so a slip would show on the disk, too.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>

#include "common_vm.h"

#define DATA(v) ((v)->a[A_DATA].iova)
#define MINE 0x11
#define HIS 0x22
#define DISK 0x33

static struct vm a, b;
static unsigned seed = 7;

static uint64_t
rnd(void)
{
	return (uint64_t)rand_r(&seed) << 42 ^ (uint64_t)rand_r(&seed) << 21 ^
	       (uint64_t)rand_r(&seed);
}

static void
check_fill(const uint8_t *p, uint8_t byte, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != byte)
			fail_msg("byte %zu: %#x, not %#x", i, p[i], byte);
}

/* The first 64 KiB of the disk are DISK, the memory of both is filled. */
static void
fill(void)
{
	unsigned i;

	memset(a.a[A_DATA].va, DISK, 1 << 20);
	for (i = 0; i < 16; i++)
		assert_int_equal(vm_io(&a, OPC_WRITE, 8 * i, 8, DATA(&a), 0),
				 0);
	memset(a.a[A_DATA].va, MINE, 1 << 20);
	memset(b.a[A_DATA].va, HIS, 1 << 20);
}

/* Nothing of it has changed. */
static void
check(void)
{
	unsigned i;

	check_fill(a.a[A_DATA].va, MINE, 1 << 20);
	check_fill(b.a[A_DATA].va, HIS, 1 << 20);
	for (i = 0; i < 16; i++) {
		assert_int_equal(vm_io(&a, OPC_READ, 8 * i, 8, DATA(&a), 0), 0);
		check_fill(a.a[A_DATA].va, DISK, PAGE);
	}
	memset(a.a[A_DATA].va, MINE, PAGE);
	assert_int_equal(vm_csts(&a), CSTS_RDY);
	assert_int_equal(vm_csts(&b), CSTS_RDY);
}

static int
start(bool iommufd)
{
	vm_start(&a, "vm0", iommufd);
	vm_start(&b, "vm1", iommufd);
	fill();
	return 0;
}

static int
setup_legacy(void **state)
{
	return start(false);
}

static int
setup_iommufd(void **state)
{
	return start(true);
}

static int
teardown(void **state)
{
	vm_kill(&a);
	vm_kill(&b);
	return 0;
}

/* The same IOVAs in both; at the same time each moves its own bytes. */
static void
test_same_addresses(void **state)
{
	unsigned i, page;
	uint64_t at;

	assert_int_equal(DATA(&a), DATA(&b));
	for (i = 0; i < 500; i++) {
		page = i % 256;
		at = DATA(&a) + page * PAGE;
		memset(a.a[A_DATA].va + page * PAGE, (int)(i | 1), PAGE);
		memset(b.a[A_DATA].va + page * PAGE, (int)(~i | 1), PAGE);
		vm_io_push(&a, OPC_WRITE, 1024 + 8 * page, 8, at, 0);
		vm_io_push(&b, OPC_WRITE, 4096 + 8 * page, 8, at, 0);
		assert_int_equal(vm_wait(&a, 1, 5000, NULL), 0);
		assert_int_equal(vm_wait(&b, 1, 5000, NULL), 0);
		/* Each reads what the other wrote, into the other's address. */
		vm_io_push(&b, OPC_READ, 1024 + 8 * page, 8, at, 0);
		vm_io_push(&a, OPC_READ, 4096 + 8 * page, 8, at, 0);
		assert_int_equal(vm_wait(&a, 1, 5000, NULL), 0);
		assert_int_equal(vm_wait(&b, 1, 5000, NULL), 0);
		check_fill(b.a[A_DATA].va + page * PAGE, (uint8_t)(i | 1),
			   PAGE);
		check_fill(a.a[A_DATA].va + page * PAGE, (uint8_t)(~i | 1),
			   PAGE);
	}
}

/* One takes its memory away: the other's stands, at the same address. */
static void
test_unmap_is_ones_own(void **state)
{
	assert_int_equal(vm_unmap(&a, A_DATA), 0);
	assert_int_equal(vm_io(&b, OPC_READ, 0, 8, DATA(&b), 0), 0);
	check_fill(b.a[A_DATA].va, DISK, PAGE);
	assert_int_equal(vm_io(&a, OPC_READ, 0, 8, DATA(&a), 0), ST_DATA_XFER);
	assert_int_equal(vm_map(&a, A_DATA), 0);
	memset(b.a[A_DATA].va, HIS, PAGE);
	check();
}

/* ---- addresses that are not one's own ---- */

static bool
is_own(uint64_t at)
{
	unsigned i;

	for (i = 0; i < AREAS; i++)
		if (at - a.a[i].iova < a.a[i].len)
			return true;
	return false;
}

/* As the data of a read and a write, as a page list, and as an entry of one. */
static void
refused(const char *what, uint64_t at)
{
	uint64_t *list = (uint64_t *)a.a[A_LIST].va;
	unsigned opc, prp2_at_once;
	int st;

	at &= ~(PAGE - 1);
	if (is_own(at))
		return;
	for (opc = OPC_WRITE; opc <= OPC_READ; opc++) {
		st = vm_io(&a, opc, 0, 8, at, 0);
		if (st != ST_DATA_XFER)
			fail_msg("%s: %#llx: %#x", what, (unsigned long long)at,
				 st);
		for (prp2_at_once = 0; prp2_at_once < 2; prp2_at_once++) {
			list[0] = DATA(&a) + PAGE;
			list[1] = at;
			/* The list is there; its second entry is not. Or: the list is not. */
			st = vm_io(&a, opc, 0, 24, DATA(&a),
				   prp2_at_once ? at : a.a[A_LIST].iova);
			if (st != ST_DATA_XFER)
				fail_msg("%s: list %u: %#llx: %#x", what,
					 prp2_at_once, (unsigned long long)at,
					 st);
		}
	}
}

/* What the daemon itself has: heap, stacks, libraries, its arenas of all clients. */
static void
refuse_maps(void)
{
	unsigned long long from, to;
	char path[32], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", d.pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx", &from, &to) != 2)
			continue;
		refused(line, from);
		refused(line, to - PAGE);
		refused(line, from + (rnd() % (to - from)));
		refused(line, to);
		n++;
	}
	fclose(f);
	assert_true(n > 20);
}

static void
test_foreign(void **state)
{
	uint64_t unattached = 0x600000000, data = DATA(&a);
	unsigned i;

	if (a.iommufd) {
		struct vu_ioas_id id = { sizeof(id), 0, 0, 0 };
		struct reply r;

		assert_int_equal(vu_call(a.c, VU_IOMMUFD_ALLOC_IOAS, &id,
					 sizeof(id), NULL, 0, &r),
				 0);
		assert_int_equal(vm_map_fd(&a, 2, a.a[A_DATA].fd, 0, 16 * PAGE,
					   true, true, &unattached),
				 0);
		for (i = 0; i < AREAS; i++)
			refused("the other's", b.a[i].iova);
	}
	refused("unattached, or never mapped", unattached);
	refused("unattached", unattached + 15 * PAGE);
	for (i = 0; i < AREAS; i++) {
		refused("before", a.a[i].iova - PAGE);
		refused("behind", a.a[i].iova + a.a[i].len);
		refused("in our own process", (uintptr_t)a.a[i].va);
	}
	refused("null", 0);
	refused("the stack", (uintptr_t)&i);
	refused("the top", UINT64_MAX);
	refused("half", 1ull << 63);
	for (i = 0; i < 300; i++)
		refused("random", rnd() >> (i % 40));
	refuse_maps();
	/* Straddling an end: the first pages are good, one is not. */
	for (i = OPC_WRITE; i <= OPC_READ; i++) {
		assert_int_equal(vm_io(&a, i, 0, 9,
				       data + a.a[A_DATA].len - PAGE,
				       data + a.a[A_DATA].len),
				 ST_DATA_XFER);
		assert_int_equal(vm_io(&a, i, 0, 8,
				       data + a.a[A_DATA].len - 2048,
				       data + a.a[A_DATA].len),
				 ST_DATA_XFER);
		assert_int_equal(vm_io(&a, i, 0, 8, UINT64_MAX - 2047 + 0, 0),
				 ST_DATA_XFER);
		assert_int_equal(vm_io(&a, i, 0, 1, UINT64_MAX - 3, data),
				 ST_DATA_XFER);
		assert_int_equal(vm_io(&a, i, 0, 9, data, data + 8),
				 ST_PRP_OFFSET);
	}
	check();
}

/* Read-only memory takes no data, not even the first part of a command whose rest may be written. */
static void
test_read_only(void **state)
{
	uint64_t ro = 0x700000000;
	unsigned i;

	assert_int_equal(vm_map_fd(&a, a.ioas, a.a[A_DATA].fd, 0, 16 * PAGE,
				   true, false, &ro),
			 0);
	for (i = 0; i < 16; i++)
		assert_int_equal(vm_io(&a, OPC_READ, 0, 8, ro + i * PAGE, 0),
				 ST_DATA_XFER);
	assert_int_equal(vm_io(&a, OPC_READ, 0, 16, ro, DATA(&a) + PAGE),
			 ST_DATA_XFER);
	check();
	assert_int_equal(vm_io(&a, OPC_WRITE, 2048, 8, ro, 0), 0);
}

/* Addresses of queues, of doorbell pages, of data of admin commands. */
static void
test_admin(void **state)
{
	const uint64_t bad[] = { a.iommufd ? b.a[A_DATA].iova : 0x123456000,
				 (uintptr_t)a.a[A_DATA].va, 1ull << 62,
				 a.a[A_DATA].iova + a.a[A_DATA].len };
	struct sqe c, list[] = {
		{ .opc = 5, .dw10 = 15 << 16 | 2, .dw11 = 1 }, /* CQ */
		{ .opc = 1, .dw10 = 15 << 16 | 2, .dw11 = 1 << 16 | 1 }, /* SQ */
		{ .opc = 6, .dw10 = 1 },	     /* Identify */
		{ .opc = 2, .dw10 = 127 << 16 | 2 }, /* Get Log Page */
		{ .opc = 0x7c },		     /* Doorbell Buffer */
	};
	unsigned i, k;

	for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
			c = list[i];
			c.prp1 = bad[k];
			c.prp2 = c.opc == 0x7c ? bad[k] + PAGE : 0;
			c.nsid = c.opc == 2 ? ~0u : 0;
			if (vm_admin(&a, &c, 5000) <= 0)
				fail_msg("opcode %#x at %#llx", c.opc,
					 (unsigned long long)bad[k]);
		}
	}
	check();
}

/* ---- what has no address: interrupts, doorbells, registers, BARs ---- */

static int
bind_event(struct vm *v, unsigned iv)
{
	struct vfio_irq_set s = { .argsz = sizeof(s),
				  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
					   VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX,
				  .start = iv,
				  .count = 1 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(vu_call(v->c, VU_DEVICE_SET_IRQS, &s, sizeof(s), &fd,
				 1, NULL),
			 0);
	return fd;
}

/* @ms: for a machine that is busy, where one is awaited; short, where none is. */
static uint64_t
events(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n = 0;

	poll(&p, 1, ms);
	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void
test_interrupts(void **state)
{
	/*
	 * Coalescing Disable: we look for completions ourselves, and who has taken
	 * all of them may else get no interrupt.
	 */
	struct sqe cd = { .opc = 9, .dw10 = 9, .dw11 = 1 << 16 };
	int ea, eb;
	unsigned i;

	assert_int_equal(vm_admin(&a, &cd, 5000), 0);
	assert_int_equal(vm_admin(&b, &cd, 5000), 0);
	/* Enabled by the config space's MSI-X capability as far as the daemon cares: bound is enough. */
	ea = bind_event(&a, 0);
	eb = bind_event(&b, 0);
	events(ea, 2);
	events(eb, 2);
	for (i = 0; i < 20; i++) {
		assert_int_equal(vm_io(&a, OPC_READ, 0, 8, DATA(&a), 0), 0);
		assert_true(events(ea, 2000) > 0);
		assert_int_equal(events(eb, 2), 0);
		assert_int_equal(vm_io(&b, OPC_READ, 0, 8, DATA(&b), 0), 0);
		assert_int_equal(events(ea, 2), 0);
		assert_true(events(eb, 2000) > 0);
	}
	close(ea);
	close(eb);
}

static void
test_bars(void **state)
{
	volatile uint32_t *other = b.db;
	uint32_t before[1024];
	unsigned i;

	for (i = 0; i < 1024; i++)
		before[i] = other[i];
	/* All of a's page but for the queues that exist. */
	for (i = 4; i < 1024; i++)
		((volatile uint32_t *)a.db)[i] = 0xdead0000 + i;
	for (i = 0; i < 1024; i++)
		assert_int_equal(other[i], before[i]);
	region_put(a.c, 0, 0x28, 0x5550000, 8); /* ASQ */
	assert_int_equal(region_get(b.c, 0, 0x28, 8), b.a[A_ADMIN].iova);
	region_put(a.c, 7, 0x10, 0xf0000000, 4); /* BAR0, the same in both */
	region_put(b.c, 7, 0x10, 0xf0000000, 4);
	region_put(b.c, 7, 0x10, 0xe0000000, 4);
	assert_int_equal(region_get(a.c, 7, 0x10, 4) & ~0xfull, 0xf0000000);
	assert_int_equal(vm_io(&a, OPC_READ, 0, 8, DATA(&a), 0), 0);
	assert_int_equal(vm_io(&b, OPC_READ, 0, 8, DATA(&b), 0), 0);
	/* One resets, the other does not notice. */
	assert_int_equal(vu_call(a.c, VU_DEVICE_RESET, NULL, 0, NULL, 0, NULL),
			 0);
	assert_int_equal(vm_csts(&a), 0);
	assert_int_equal(vm_io(&b, OPC_READ, 0, 8, DATA(&b), 0), 0);
}

int
main(void)
{
#define LEGACY(f)                                               \
	{                                                       \
#f " (legacy)", f, setup_legacy, teardown, NULL \
	}
#define IOMMUFD(f)                                                \
	{                                                         \
#f " (iommufd)", f, setup_iommufd, teardown, NULL \
	}
	const struct CMUnitTest tests[] = {
		LEGACY(test_same_addresses), LEGACY(test_unmap_is_ones_own),
		LEGACY(test_foreign),	     IOMMUFD(test_foreign),
		LEGACY(test_read_only),	     IOMMUFD(test_read_only),
		LEGACY(test_admin),	     IOMMUFD(test_admin),
		LEGACY(test_interrupts),     IOMMUFD(test_interrupts),
		LEGACY(test_bars),
	};

	return cmocka_run_group_tests_name("wire isolation", tests,
					   daemon_setup, daemon_teardown);
}

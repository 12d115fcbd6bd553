/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that take the daemon long, as many as a client may have at once: its neighbour on the same reactor waits for a part of
 * one, not for all of them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common_vm.h"

#define FAST 1u /* namespaces: a malloc disk */
#define SLOW 2u /* one that takes its time */
#define SLOW_MS 60
#define FULL (DEPTH - 1)
#define MANY \
	33u /* queues, whose entries are all that a controller may have under way */

static struct vm v;
static struct neighbour n;

/* All entries of queues @from to @to. */
static void
ring_full(unsigned from, unsigned to)
{
	unsigned q;

	for (q = from; q <= to; q++)
		__atomic_store_n(v.db + 2 * q, FULL, __ATOMIC_RELEASE);
}

static void
check_gap(const char *what, unsigned most_us)
{
	const char *sanitize = getenv("SANITIZE");
	uint64_t gap = neighbour_gap_us(&n);

	print_message("%s: neighbour's largest gap %llu us\n", what,
		      (unsigned long long)gap);
	if (!sanitize || !*sanitize)
		assert_true(gap < most_us);
	assert_int_equal(vm_csts(&v), CSTS_RDY);
}

static int
setup_vm(void **state)
{
	neighbour_start(&n, "vm1");
	vm_start(&v, "long", false);
	vm_more_queues(&v, MANY, false);
	usleep(20000);
	neighbour_gap_us(&n);
	return 0;
}

static int
teardown_vm(void **state)
{
	vm_kill(&v);
	neighbour_stop(&n);
	return 0;
}

/* 256 ranges each, of the longest that a malloc disk clears by itself. */
static void
test_deallocate(void **state)
{
	struct sqe e = { .opc = 9,
			 .nsid = FAST,
			 .prp1 = v.a[A_LIST].iova,
			 .dw10 = 255,
			 .dw11 = 4 };
	struct {
		uint32_t attributes, nlb;
		uint64_t slba;
	} *range = (void *)v.a[A_LIST].va;
	unsigned i;

	for (i = 0; i < 256; i++) {
		range[i].nlb = i % 2 ? 256 : 255;
		range[i].slba = i % 16 * 512 + 1;
	}
	vm_fill_queues(&v, &e);
	ring_full(1, 1);
	usleep(300000);
	/* The first time does not count: a virtual machine may get some of its memory only when it is touched. */
	neighbour_gap_us(&n);
	ring_full(2, 4);
	usleep(300000);
	check_gap("ranges", 2500);
}

/* ---- SGLs ---- */

struct sgl {
	uint64_t addr;
	uint32_t len;
	uint8_t rsvd[3], type;
};

/* A read of 4 KiB whose list is as long as it may be; the last piece at @end. */
static struct sqe
long_list(uint64_t end)
{
	struct sgl *list = (struct sgl *)v.a[A_LIST].va;
	unsigned i, count = 1024;
	struct sgl seg = { v.a[A_LIST].iova, count * sizeof(seg), { 0 }, 0x30 };
	struct sqe e = {
		.opc = OPC_READ, .flags = 1 << 6, .nsid = FAST, .dw12 = 7
	};

	for (i = 0; i < count; i++)
		list[i] = (struct sgl){ v.a[A_DATA].iova + 4 * i, 4, { 0 }, 0 };
	list[count - 1].addr = end;
	memcpy(&e.prp1, &seg, sizeof(seg));
	return e;
}

static void
test_long_lists(void **state)
{
	struct sqe e = long_list(v.a[A_DATA].iova);

	vm_fill_queues(&v, &e);
	ring_full(1, MANY);
	usleep(300000);
	check_gap("lists", 2500);
}

/* Their memory has just been taken away: they wait for it to come back, and are looked at when something has come. */
static void
test_parked(void **state)
{
	uint64_t at = 0x9000000000, there = 0xa000000000, end;
	struct sqe e = long_list(at);
	int fd = v.a[A_DATA].fd;

	vm_fill_queues(&v, &e);
	assert_int_equal(vm_map_fd(&v, 0, fd, 0, PAGE, true, true, &at), 0);
	assert_int_equal(vm_unmap_range(&v, 0, at, PAGE), 0);
	ring_full(1, MANY);
	for (end = now_ms() + 300; now_ms() < end;) {
		assert_int_equal(
			vm_map_fd(&v, 0, fd, 0, PAGE, true, true, &there), 0);
		assert_int_equal(vm_unmap_range(&v, 0, there, PAGE), 0);
	}
	check_gap("parked", 2500);
}

/* ---- scratch ---- */

/* Those of a slow disk have all of it, those of a fast one wait for it, and then they all may. */
static void
test_compares(void **state)
{
	struct sqe e = { .opc = 5,
			 .flags = 1 << 6,
			 .nsid = SLOW,
			 .prp1 = v.a[A_DATA].iova,
			 .prp2 = 128 << 10,
			 .dw12 = 255 };

	vm_fill_queues(&v, &e);
	ring_full(1, 2);
	usleep(SLOW_MS * 1000 / 3);
	e.nsid = FAST;
	vm_fill_queues(&v, &e);
	ring_full(3, MANY - 2);
	usleep(SLOW_MS * 10 * 1000);
	check_gap("compares", 6000);
}

static int
setup(void **state)
{
	int err = daemon_setup(state);

	if (err)
		return err;
	wire_malloc("lm", 8192);
	wire_malloc("lb", 8192);
	wire_delay("ld", "lb", SLOW_MS);
	wire_export("long", "lm");
	json_decref(rpc("nvmf_subsystem_add_ns",
			json_pack("{s:s,s:{s:s}}", "nqn",
				  "nqn.2024-01.io.example:long", "namespace",
				  "bdev_name", "ld")));
	return 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_vm, teardown_vm)
	const struct CMUnitTest tests[] = {
		TEST(test_deallocate),
		TEST(test_long_lists),
		TEST(test_parked),
		TEST(test_compares),
	};

	return cmocka_run_group_tests_name("wire burden", tests, setup,
					   daemon_teardown);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that take the daemon long, as many as a client may have at once: its neighbour on the same reactor waits for a part of
 * one, not for all of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

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

static bool
is_calm(const char *what, unsigned most_us)
{
	assert_int_equal(vm_csts(&v), CSTS_RDY);
	return neighbour_is_calm(&n, what, most_us);
}

struct row {
	bool (*burden)(void); /* was the neighbour calm? */
	const char *where;
};

static void
test_row(void **state)
{
	const struct row *row = *state;
	bool calm = false;
	unsigned i;

	for (i = 0; i < NEIGHBOUR_TRIES && !calm; i++) {
		neighbour_start(&n, "vm1");
		vm_start(&v, row->where, false);
		vm_more_queues(&v, MANY, false);
		usleep(20000);
		neighbour_gap_us(&n);
		calm = row->burden();
		vm_kill(&v);
		if (!calm && i == NEIGHBOUR_TRIES - 1)
			neighbour_suffers(&n);
		neighbour_stop(&n);
	}
}

/* What a test left that failed. */
static int
row_end(void **state)
{
	vm_kill(&v);
	neighbour_stop(&n);
	return 0;
}

/* 256 ranges each, of the longest that a malloc disk clears by itself. */
static bool
deallocate(void)
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
	return is_calm("ranges", 2500);
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

static bool
long_lists(void)
{
	struct sqe e = long_list(v.a[A_DATA].iova);

	vm_fill_queues(&v, &e);
	ring_full(1, MANY);
	usleep(300000);
	return is_calm("lists", 2500);
}

/* Their memory has just been taken away: they wait for it to come back, and are looked at when something has come. */
static bool
parked(void)
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
	return is_calm("parked", 2500);
}

/* ---- scratch ---- */

/* Those of a slow disk have all of it, those of a fast one wait for it, and then they all may. */
static bool
compares(void)
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
	return is_calm("compares", 6000);
}

/* ---- memory that goes ---- */

#define PIECES 256u /* of a command of 1 MiB, none of which is beside another */
#define RANGES 60000u

/* Commands of as many pieces as there may be, and an unmap of as many ranges: each piece is looked up. */
static bool
unmap(void)
{
	uint64_t *list = (uint64_t *)v.a[A_LIST].va, base = 0x1000000000, at;
	struct sqe e = { .opc = OPC_READ,
			 .nsid = SLOW,
			 .prp1 = v.a[A_DATA].iova + (PIECES - 1) * PAGE,
			 .prp2 = v.a[A_LIST].iova,
			 .dw12 = PIECES * 8 - 1 };
	int fd = memfd_create("ranges", MFD_CLOEXEC);
	uint64_t start;
	bool calm;
	unsigned i;

	assert_int_equal(ftruncate(fd, (off_t)(2 * RANGES * PAGE)), 0);
	for (i = 0; i < RANGES; i++) {
		at = base + 2 * i * PAGE;
		assert_int_equal(vm_map_fd(&v, 0, fd, 2 * i * PAGE, PAGE, true,
					   true, &at),
				 0);
	}
	for (i = 0; i < PIECES - 1; i++)
		list[i] = v.a[A_DATA].iova + (PIECES - 2 - i) * PAGE;
	vm_fill_queues(&v, &e);
	neighbour_gap_us(&n);
	ring_full(1, 5);
	usleep(SLOW_MS * 1000 / 2);
	calm = is_calm("long commands", 5000);
	start = now_ms();
	assert_int_equal(vm_unmap_range(&v, 0, base, 2 * RANGES * PAGE), 0);
	print_message("unmapped in %llu ms\n",
		      (unsigned long long)(now_ms() - start));
	usleep(20000);
	calm &= is_calm("unmap beside them", 5000);
	usleep(2 * SLOW_MS * 1000); /* they have ended */
	ring_full(6, 9);
	usleep(SLOW_MS * 1000 / 2);
	neighbour_gap_us(&n);
	start = now_ms();
	assert_int_equal(vm_unmap(&v, A_DATA), 0);
	assert_true(now_ms() - start > SLOW_MS / 6);
	calm &= is_calm("unmap of theirs", 5000);
	close(fd);
	return calm;
}

/* ---- limits ---- */

static void
set_limit(int ios)
{
	json_decref(
		rpc("bdev_set_qos_limit", json_pack("{s:s,s:i}", "name", "lq",
						    "rw_ios_per_sec", ios)));
}

/* All that a controller may have waits for a limit; then it is lifted, then all is given up. */
static bool
limit(void)
{
	uint64_t *list = (uint64_t *)v.a[A_LIST].va;
	struct sqe e = { .opc = OPC_WRITE,
			 .nsid = 1,
			 .prp1 = v.a[A_DATA].iova,
			 .prp2 = v.a[A_LIST].iova,
			 .dw12 = 127 };
	unsigned i;
	bool calm;

	for (i = 0; i < 15; i++)
		list[i] = v.a[A_DATA].iova + (i + 1) * PAGE;
	for (i = 0; i < DEPTH; i++) {
		e.dw10 = i * 128;
		memcpy(v.a[A_SQ].va + i * sizeof(e), &e, sizeof(e));
	}
	ring_full(1, 1); /* the memory's first touch */
	usleep(50000);
	neighbour_gap_us(&n);
	set_limit(100);
	ring_full(2, MANY);
	usleep(300000);
	calm = is_calm("waiting", 20000);
	set_limit(0);
	usleep(300000);
	calm &= is_calm("let go", 3000);
	set_limit(100);
	for (i = 1; i <= MANY; i++) {
		__atomic_store_n(v.db + 2 * i + 1, FULL, __ATOMIC_RELEASE);
		__atomic_store_n(v.db + 2 * i, FULL - 1, __ATOMIC_RELEASE);
	}
	usleep(100000);
	neighbour_gap_us(&n);
	region_put(v.c, 0, 0x14, 0, 4); /* CC.EN */
	for (i = 0; vm_csts(&v) & CSTS_RDY; i++) {
		assert_true(i < 1000);
		usleep(1000);
	}
	print_message("given up: neighbour's largest gap %llu us\n",
		      (unsigned long long)neighbour_gap_us(&n));
	set_limit(0);
	return calm;
}

/* ---- many clients ---- */

#define CROWD 8u

/* Each has as many commands of 64 KiB under way as two queues hold, on a disk of its own; memory moves them. */
static bool
many_clients(void)
{
	static struct vm crowd[CROWD];
	struct sqe e = { .opc = OPC_WRITE, .nsid = 1, .dw12 = 127 };
	unsigned i, k, q, tail = 0;
	uint64_t end;
	bool calm;

	for (i = 0; i < CROWD; i++) {
		uint64_t *list;
		char name[8];

		snprintf(name, sizeof(name), "crowd%u", i);
		vm_start(&crowd[i], name, false);
		vm_more_queues(&crowd[i], 2, false);
		list = (uint64_t *)crowd[i].a[A_LIST].va;
		for (k = 0; k < 15; k++)
			list[k] = crowd[i].a[A_DATA].iova + (k + 1) * PAGE;
		e.prp1 = crowd[i].a[A_DATA].iova;
		e.prp2 = crowd[i].a[A_LIST].iova;
		for (k = 0; k < DEPTH; k++) {
			e.opc = k % 2 ? OPC_WRITE : OPC_READ;
			e.dw10 = k * 128;
			memcpy(crowd[i].a[A_SQ].va + k * sizeof(e), &e,
			       sizeof(e));
		}
	}
	for (end = now_ms() + 600; now_ms() < end; usleep(500)) {
		if (now_ms() < end - 300) /* memory's first touch */
			neighbour_gap_us(&n);
		for (i = 0; i < CROWD * 2; i++) {
			q = i % 2 + 1;
			/* What it has not completed yet is no head, and is not believed. */
			__atomic_store_n(crowd[i / 2].db + 2 * q + 1, tail,
					 __ATOMIC_RELEASE);
			__atomic_store_n(crowd[i / 2].db + 2 * q,
					 (tail + FULL) % DEPTH,
					 __ATOMIC_RELEASE);
		}
		tail = (tail + FULL) % DEPTH;
	}
	calm = is_calm("crowd", 5000);
	for (i = 0; i < CROWD; i++)
		vm_kill(&crowd[i]);
	return calm;
}

static int
setup(void **state)
{
	char name[8], disk[8];
	unsigned i;
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
	wire_malloc("lq", 262144); /* more than caches hold */
	wire_export("limited", "lq");
	for (i = 0; i < CROWD; i++) {
		snprintf(name, sizeof(name), "crowd%u", i);
		snprintf(disk, sizeof(disk), "c%u", i);
		wire_malloc(disk, 262144);
		wire_export(name, disk);
	}
	return 0;
}

int
main(void)
{
#define TEST(burden, where)                               \
	{                                                 \
		"test_" #burden, test_row, NULL, row_end, \
			&(struct row){ burden, where },   \
	}
	const struct CMUnitTest tests[] = {
		TEST(deallocate, "long"), TEST(long_lists, "long"),
		TEST(parked, "long"),	  TEST(compares, "long"),
		TEST(unmap, "long"),	  TEST(many_clients, "long"),
		TEST(limit, "limited"),
	};

	return cmocka_run_group_tests_name("wire burden", tests, setup,
					   daemon_teardown);
}

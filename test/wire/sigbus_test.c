/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client truncates its memory while commands run. It loses its controller, nobody else notices, and the disk holds
 * what was there or what was written, never a zero that somebody made up.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common_vm.h"

#define OLD 0xa5
#define NEW 0x5a
#define DISK (4u << 20)
#define NLB 32u /* 16 KiB: a page list */
#define BATCH 24u
#define MAX_GAP_US 200000u

static int backing;
static bool hugepages, uring;
static struct neighbour n;

static int
setup(void **state)
{
	int err = daemon_setup(state);
	FILE *f;

	if (err)
		return err;
	backing = wire_file("disk", DISK, OLD);
	if (!uring || !wire_uring("disk"))
		wire_aio("disk");
	wire_export("vmf", "disk");
	json_decref(rpc("bdev_malloc_create",
			json_pack("{s:s,s:i,s:i}", "name", "m1", "block_size",
				  512, "num_blocks", DISK / 512)));
	wire_export("vmm", "m1");
	f = fopen("/proc/sys/vm/nr_hugepages", "r+e");
	if (f) {
		fprintf(f, "16\n");
		fclose(f);
	}
	f = fopen("/proc/sys/vm/nr_hugepages", "re");
	if (f) {
		unsigned pages = 0;

		hugepages = fscanf(f, "%u", &pages) == 1 && pages >= 16;
		fclose(f);
	}
	if (!hugepages)
		print_message("no huge pages to be had: plain ones only\n");
	return 0;
}

static int
teardown(void **state)
{
	FILE *f = hugepages ? fopen("/proc/sys/vm/nr_hugepages", "we") : NULL;

	if (f) {
		fprintf(f, "0\n");
		fclose(f);
	}
	close(backing);
	return daemon_teardown(state);
}

/* Each block is all old or all new. */
static void
check_disk(const char *where)
{
	static struct vm v;
	unsigned at, i;

	vm_start(&v, where, false);
	for (at = 0; at < DISK; at += PAGE) {
		memset(v.a[A_DATA].va, 0, PAGE);
		assert_int_equal(vm_io(&v, OPC_READ, at / 512, 8,
				       v.a[A_DATA].iova, 0),
				 0);
		for (i = 0; i < PAGE; i++) {
			uint8_t byte = v.a[A_DATA].va[i];

			if ((byte != OLD && byte != NEW) ||
			    byte != v.a[A_DATA].va[i & ~511u])
				fail_msg("%s: offset %u: %#x", where, at + i,
					 byte);
		}
	}
	vm_kill(&v);
}

static void
fill_disk(const char *where)
{
	static struct vm v;
	unsigned at;

	vm_start(&v, where, false);
	memset(v.a[A_DATA].va, OLD, PAGE);
	for (at = 0; at < DISK; at += PAGE)
		assert_int_equal(vm_io(&v, OPC_WRITE, at / 512, 8,
				       v.a[A_DATA].iova, 0),
				 0);
	vm_kill(&v);
}

/* BATCH writes of NEW, all over the disk; every second one by a list. */
static void
push_writes(struct vm *v, unsigned round)
{
	unsigned i, k, span = NLB / 8;

	for (i = 0; i < BATCH; i++) {
		uint64_t data = v->a[A_DATA].iova + i * span * PAGE;
		uint64_t list = v->a[A_LIST].iova + i * 64;
		struct sqe e = { .opc = OPC_WRITE,
				 .nsid = 1,
				 .prp1 = data,
				 .dw10 = (round * BATCH + i) * NLB %
					 (DISK / 512),
				 .dw12 = NLB - 1 };

		if (i & 1) {
			e.dw12 = 7;
		} else {
			for (k = 1; k < span; k++)
				((uint64_t *)(v->a[A_LIST].va +
					      i * 64))[k - 1] = data + k * PAGE;
			e.prp2 = list;
		}
		vm_push(v, 1, &e);
	}
}

static const struct row {
	const char *name;
	enum area_id id;
} rows[] = {
	{ "data", A_DATA },
	{ "page lists", A_LIST },
	{ "SQ", A_SQ },
	{ "CQ", A_CQ },
	{ "admin queues", A_ADMIN },
	{ "shadow doorbells", A_SHADOW },
};

/* @delay_us: into the first batch. */
static void
truncate_one(const struct row *w, const char *where, bool iommufd, bool huge,
	     unsigned delay_us)
{
	static struct vm v;
	struct sqe identify = { .opc = 6, .dw10 = 1 };

	vm_start_at(&v, where, iommufd, LEGACY_BASE << (huge ? 2 : 0), huge);
	memset(v.a[A_DATA].va, NEW, v.a[A_DATA].len);
	if (w->id == A_SHADOW)
		vm_use_shadow(&v);
	push_writes(&v, delay_us);
	vm_ring(&v, 1);
	usleep(delay_us);
	if (w->id == A_SQ)
		push_writes(&v, delay_us + 1);
	identify.prp1 = v.a[A_DATA].iova;
	if (w->id == A_ADMIN)
		vm_push(&v, 0, &identify);
	assert_int_equal(ftruncate(v.a[w->id].fd, 0), 0);
	/* Work for the daemon to find it by; the client does not look there any more itself. */
	if (w->id != A_SQ && w->id != A_ADMIN && w->id != A_SHADOW &&
	    w->id != A_LIST)
		push_writes(&v, delay_us + 1);
	if (w->id == A_LIST) {
		struct sqe e = { .opc = OPC_WRITE,
				 .nsid = 1,
				 .prp1 = v.a[A_DATA].iova,
				 .prp2 = v.a[A_LIST].iova,
				 .dw12 = NLB - 1 };

		vm_push(&v, 1, &e);
	}
	v.shadow = false;
	vm_ring(&v, w->id == A_ADMIN ? 0 : 1);
	if (!vm_dropped(&v, 3000))
		fail_msg("%s, %s, %s: not dropped", w->name,
			 iommufd ? "iommufd" : "legacy", where);
	vm_kill(&v);
}

/* Shadow doorbells are offered where BAR0 cannot be mapped, the rest is the same there. */
static void
truncate_all(bool huge)
{
	static const char *const where[] = { "vmf", "vmm" };
	unsigned i, k, m, delay;
	uint64_t gap, largest = 0;

	neighbour_start(&n, "vm0");
	for (k = 0; k < 2; k++) {
		fill_disk(where[k]);
		for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			if (rows[i].id == A_SHADOW && !daemon_hides_bar0)
				continue;
			for (m = 0; m < 2; m++) {
				neighbour_gap_us(&n);
				for (delay = 0; delay < 400; delay += 130)
					truncate_one(&rows[i], where[k], m,
						     huge, delay);
				gap = neighbour_gap_us(&n);
				largest = gap > largest ? gap : largest;
				if (gap > MAX_GAP_US)
					fail_msg("%s: a gap of %llu us",
						 rows[i].name,
						 (unsigned long long)gap);
			}
		}
		check_disk(where[k]);
	}
	print_message("neighbour's largest gap: %llu us\n",
		      (unsigned long long)largest);
	neighbour_stop(&n);
}

static void
test_plain(void **state)
{
	truncate_all(false);
}

static void
test_huge(void **state)
{
	if (!hugepages)
		skip();
	truncate_all(true);
}

/* A read of the disk that has nowhere to go: the same end. */
static void
test_reads(void **state)
{
	static const char *const where[] = { "vmf", "vmm" };
	static struct vm v;
	unsigned i, m, k;

	neighbour_start(&n, "vm0");
	for (i = 0; i < 2; i++) {
		for (m = 0; m < 2; m++) {
			vm_start(&v, where[i], m);
			for (k = 0; k < 32; k++)
				vm_io_push(&v, OPC_READ, 8 * k, 8,
					   v.a[A_DATA].iova + k * PAGE, 0);
			assert_int_equal(ftruncate(v.a[A_DATA].fd, PAGE), 0);
			for (k = 0; k < 16; k++)
				vm_io_push(&v, OPC_READ, 8 * k, 8,
					   v.a[A_DATA].iova + (k + 1) * PAGE,
					   0);
			assert_true(vm_dropped(&v, 3000));
			vm_kill(&v);
		}
	}
	assert_true(neighbour_gap_us(&n) < MAX_GAP_US);
	neighbour_stop(&n);
}

/* A hole reads as zeros, which are then the client's own word; nothing fails. */
static void
test_holes(void **state)
{
	static const char *const where[] = { "vmf", "vmm" };
	static struct vm v;
	unsigned i, m, k;

	for (i = 0; i < 2; i++) {
		for (m = 0; m < 2; m++) {
			vm_start(&v, where[i], m);
			for (k = 0; k < 50; k++) {
				memset(v.a[A_DATA].va, NEW, 8 * PAGE);
				vm_io_push(&v, OPC_WRITE, 0, 8,
					   v.a[A_DATA].iova, 0);
				assert_int_equal(
					fallocate(v.a[A_DATA].fd,
						  FALLOC_FL_PUNCH_HOLE |
							  FALLOC_FL_KEEP_SIZE,
						  0, 8 * PAGE),
					0);
				assert_int_equal(vm_wait(&v, 1, 5000, NULL), 0);
			}
			assert_int_equal(vm_io(&v, OPC_WRITE, 0, 8,
					       v.a[A_DATA].iova, 0),
					 0);
			memset(v.a[A_DATA].va + PAGE, NEW, PAGE);
			assert_int_equal(vm_io(&v, OPC_READ, 0, 8,
					       v.a[A_DATA].iova + PAGE, 0),
					 0);
			for (k = 0; k < PAGE; k++)
				assert_int_equal(v.a[A_DATA].va[PAGE + k], 0);
			assert_int_equal(vm_csts(&v), CSTS_RDY);
			vm_kill(&v);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_holes),
	};

	int failed = cmocka_run_group_tests_name("wire sigbus", tests, setup,
						 teardown);

	daemon_hides_bar0 = true;
	failed += cmocka_run_group_tests_name("wire sigbus, BAR0 hidden", tests,
					      setup, teardown);
	uring = true;
	return failed + cmocka_run_group_tests_name("wire sigbus, io_uring",
						    tests, setup, teardown);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that goes while commands run: on it, beside it, under the queues. The disk of vms takes 300 ms, so that there
 * is time to look.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "common_vm.h"

#define SLOW_MS 300u
#define DATA(v) ((v)->a[A_DATA].iova)

static int
setup(void **state)
{
	int err = daemon_setup(state);

	if (err)
		return err;
	wire_malloc("m1", 8192);
	wire_malloc("m2", 8192);
	wire_delay("slow", "m1", SLOW_MS);
	wire_export("vms", "slow");
	json_decref(rpc("nvmf_subsystem_add_ns",
			json_pack("{s:s,s:{s:s}}", "nqn",
				  "nqn.2024-01.io.example:vms", "namespace",
				  "bdev_name", "m2")));
	return 0;
}

/* To the namespace that is fast. */
static void
push_fast(struct vm *v, uint64_t prp1)
{
	struct sqe e = { .opc = OPC_READ, .nsid = 2, .prp1 = prp1, .dw12 = 7 };

	vm_push(v, 1, &e);
	vm_ring(v, 1);
}

static const char *const modes[] = { "legacy", "iommufd" };

/*
 * A command on range A runs. The unmap of B is answered at once; that of A when the command has ended, not before; I/O
 * elsewhere, of this client and of others, goes on all the time.
 */
static void
test_waits_for_its_own_only(void **state)
{
	unsigned i, done;

	for (i = 0; i < 2; i++) {
		static struct neighbour n;
		struct cqe c;
		uint64_t b = 0x40000000, start;
		static struct vm v;
		int fd = memfd_create("b", MFD_CLOEXEC);

		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		neighbour_start(&n, "vm0");
		vm_start(&v, "vms", i);
		assert_int_equal(vm_map_fd(&v, v.ioas, fd, 0, 1 << 20, true,
					   true, &b),
				 0);
		memset(v.a[A_DATA].va, 0xcc, 2 * PAGE);
		start = now_ms();
		vm_io_push(&v, OPC_READ, 0, 8, DATA(&v), 0);
		usleep(20000);
		assert_int_equal(vm_unmap_range(&v, v.ioas, b, 1 << 20), 0);
		assert_in_range(now_ms() - start, 20, SLOW_MS * 2 / 3);
		vm_unmap_send(&v, DATA(&v), v.a[A_DATA].len);
		for (done = 0; now_ms() - start < SLOW_MS * 2 / 3; done++) {
			push_fast(&v, v.a[A_LIST].iova);
			assert_int_equal(vm_wait(&v, 1, 100, &c), 0);
		}
		assert_true(done > 10);
		assert_int_equal(vm_unmap_reply(&v), 0);
		assert_true(now_ms() - start >= SLOW_MS - 1);
		/* It is there by then, data and completion. */
		assert_int_equal(v.a[A_DATA].va[0], 0);
		assert_int_equal(vm_wait(&v, 1, 50, &c), 0);
		assert_true(neighbour_is_calm(&n, modes[i], 100000));
		neighbour_stop(&n);
		vm_kill(&v);
		close(fd);
	}
}

/* A write is waited for as well: what the client puts there afterwards never gets to the disk. */
static void
test_late_write(void **state)
{
	unsigned i, k;

	for (i = 0; i < 2; i++) {
		static struct vm v;

		vm_start(&v, "vms", i);
		memset(v.a[A_DATA].va, 0x3c, 16 * PAGE);
		for (k = 0; k < 16; k++)
			vm_io_push(&v, OPC_WRITE, 8 * k, 8, DATA(&v) + k * PAGE,
				   0);
		usleep(20000);
		assert_int_equal(vm_unmap(&v, A_DATA), 0);
		memset(v.a[A_DATA].va, 0xbd, 16 * PAGE);
		for (k = 0; k < 16; k++)
			assert_int_equal(vm_wait(&v, 1, 1000, NULL), 0);
		assert_int_equal(vm_map(&v, A_DATA), 0);
		for (k = 0; k < 16; k++)
			vm_io_push(&v, OPC_READ, 8 * k, 8, DATA(&v) + k * PAGE,
				   0);
		for (k = 0; k < 16; k++)
			assert_int_equal(vm_wait(&v, 1, 1000, NULL), 0);
		for (k = 0; k < 16 * PAGE; k++)
			assert_int_equal(v.a[A_DATA].va[k], 0x3c);
		vm_kill(&v);
	}
}

/* Never mapped: fails at once. Gone just now: waits whether it comes back. */
static void
test_new_commands(void **state)
{
	static struct vm v;
	uint64_t start;

	vm_start(&v, "vm0", false);
	start = now_ms();
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, 0x7000000000, 0),
			 ST_DATA_XFER);
	assert_true(now_ms() - start < 60);
	assert_int_equal(vm_unmap(&v, A_DATA), 0);
	start = now_ms();
	vm_io_push(&v, OPC_READ, 0, 8, DATA(&v), 0);
	assert_int_equal(vm_wait(&v, 1, 30, NULL), -1);
	assert_int_equal(vm_map(&v, A_DATA), 0);
	assert_int_equal(vm_wait(&v, 1, 1000, NULL), 0);
	assert_int_equal(vm_unmap(&v, A_DATA), 0);
	start = now_ms();
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, DATA(&v), 0), ST_DATA_XFER);
	assert_in_range(now_ms() - start, 80, 2000);
	/* And 100 ms later it is like any other that is not there. */
	usleep(100000);
	start = now_ms();
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, DATA(&v), 0), ST_DATA_XFER);
	assert_true(now_ms() - start < 60);
	assert_int_equal(vm_csts(&v), CSTS_RDY);
	vm_kill(&v);
}

/*
 * The memory of a queue goes: nothing is fetched, nothing posted. At the same IOVA, from another file even, it goes on,
 * with the doorbells that were rung meanwhile.
 */
static void
test_queue_pauses(void **state)
{
	static const struct {
		const char *name;
		enum area_id id;
		bool in_flight; /* the command runs when the memory goes */
	} rows[] = {
		{ "SQ, rung meanwhile", A_SQ, false },
		{ "SQ, running", A_SQ, true },
		{ "CQ, rung meanwhile", A_CQ, false },
		{ "CQ, running", A_CQ, true },
		{ "admin queues", A_ADMIN, false },
	};
	unsigned i, k;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum area_id id = rows[i].id;
		unsigned q = id == A_ADMIN ? 0 : 1;
		struct sqe identify = { .opc = 6, .dw10 = 1 };
		static struct vm v;

		vm_start(&v, "vms", false);
		identify.prp1 = DATA(&v);
		for (k = 0; k < 3; k++) {
			uint8_t before[2 * PAGE];

			if (rows[i].in_flight) {
				vm_io_push(&v, OPC_READ, 0, 8, DATA(&v), 0);
				usleep(20000);
			}
			assert_int_equal(vm_unmap(&v, id), 0);
			if (!rows[i].in_flight) {
				if (q)
					vm_io_push(&v, OPC_READ, 0, 8, DATA(&v),
						   0);
				else
					vm_push(&v, 0, &identify);
				vm_ring(&v, q);
			}
			memcpy(before, v.a[id].va, v.a[id].len);
			if (vm_wait(&v, q, SLOW_MS + 100, NULL) != -1) {
				/* Only its CQ holds a completion back. */
				assert_true(id == A_SQ && rows[i].in_flight);
				assert_int_equal(vm_map(&v, id), 0);
				continue;
			}
			assert_false(id == A_SQ && rows[i].in_flight);
			assert_memory_equal(before, v.a[id].va, v.a[id].len);
			assert_int_equal(vm_csts(&v), CSTS_RDY);
			assert_int_equal(vm_map(&v, id), 0);
			if (vm_wait(&v, q, 2000, NULL))
				fail_msg("%s: it does not go on", rows[i].name);
		}
		vm_kill(&v);
	}
}

static bool
cfs_within(struct vm *v, unsigned ms)
{
	uint64_t end = now_ms() + ms;

	do {
		if (vm_csts(v) & CSTS_CFS)
			return true;
		usleep(10000);
	} while (now_ms() < end);
	return false;
}

/* Two seconds with work to do and without its memory: the controller fails. Without work it may take any time. */
static void
test_queue_never_comes_back(void **state)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		static struct neighbour n;
		uint64_t start;
		static struct vm v;

		neighbour_start(&n, "vm0");
		vm_start(&v, "vm1", i);
		assert_int_equal(vm_unmap(&v, A_SQ), 0);
		assert_false(cfs_within(&v, 2500));
		start = now_ms();
		vm_io_push(&v, OPC_READ, 0, 8, DATA(&v), 0);
		assert_false(cfs_within(&v, 1500));
		assert_true(cfs_within(&v, 3000));
		assert_in_range(now_ms() - start, 1900, 4000);
		assert_int_equal(v.a[A_CQ].va[14] & 1, 0);
		neighbour_stop(&n);
		vm_kill(&v);
	}
}

/* ---- many, and what is refused ---- */

static void
test_many_at_once(void **state)
{
	struct vu_dma_unmap all = { sizeof(all), VU_DMA_UNMAP_ALL };
	uint64_t base = 0x1000000000, at;
	int fd = memfd_create("many", MFD_CLOEXEC);
	static struct neighbour n;
	static struct vm v;
	unsigned i;

	assert_int_equal(ftruncate(fd, 4096 * 4096), 0);
	neighbour_start(&n, "vm0");
	vm_start(&v, "vm1", false);
	for (i = 0; i < 20000; i++) {
		at = base + i * 2 * PAGE;
		assert_int_equal(vm_map_fd(&v, 0, fd, i % 4096 * PAGE, PAGE,
					   true, i & 1, &at),
				 0);
	}
	neighbour_gap_us(&n);
	/* The last is three pages too long for it. */
	at = base + 20000 * 2 * PAGE;
	assert_int_equal(vm_map_fd(&v, 0, fd, 0, 4 * PAGE, true, true, &at), 0);
	assert_int_equal(vm_unmap_range(&v, 0, base, at + PAGE - base), EINVAL);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at, 0), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, base + 2 * PAGE, 0), 0);
	assert_int_equal(vm_unmap_range(&v, 0, base, at - base), 0);
	print_message("20000 gone: neighbour's largest gap %llu us\n",
		      (unsigned long long)neighbour_gap_us(&n));
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, base + 2 * PAGE, 0),
			 ST_DATA_XFER);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at, 0), 0);
	/* Nothing there is fine, as with the kernel; up to the very end, too. */
	assert_int_equal(vm_unmap_range(&v, 0, base, at - base), 0);
	assert_int_equal(vm_unmap_range(&v, 0, 1ull << 63, 1ull << 63), 0);
	assert_int_equal(vm_unmap_range(&v, 0, 1ull << 63, (1ull << 63) + 1),
			 EINVAL);
	assert_int_equal(vm_unmap_range(&v, 0, base, 0), EINVAL);
	assert_int_equal(vu_call(v.c, VU_DMA_UNMAP, &all, sizeof(all), NULL, 0,
				 NULL),
			 0);
	assert_int_equal(vu_call(v.c, VU_DMA_UNMAP, &all, sizeof(all), NULL, 0,
				 NULL),
			 0);
	all.size = PAGE; /* then it is no UNMAP_ALL */
	assert_int_equal(vu_call(v.c, VU_DMA_UNMAP, &all, sizeof(all), NULL, 0,
				 NULL),
			 EINVAL);
	neighbour_stop(&n);
	vm_kill(&v);
	close(fd);
}

static void
test_splits(void **state)
{
	static const struct {
		uint64_t off, len;
		int want;
	} rows[] = {
		{ 0, 1, EINVAL },
		{ 0, 15, EINVAL },
		{ 1, 15, EINVAL },
		{ 15, 1, EINVAL },
		{ 7, 1, EINVAL },
		{ 15, 100, EINVAL },
		{ 16, 100, 0 } /* behind */,
		{ 0, 16, 0 },
		{ 0, 16, 0 } /* gone */,
	};
	uint64_t at = 0x2000000000;
	static struct vm v;
	unsigned i;

	vm_start(&v, "vm1", false);
	assert_int_equal(vm_map_fd(&v, 0, v.a[A_DATA].fd, 0, 16 * PAGE, true,
				   true, &at),
			 0);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(vm_unmap_range(&v, 0, at + rows[i].off * PAGE,
						rows[i].len * PAGE),
				 rows[i].want);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at + 15 * PAGE, 0),
				 i < 7 ? 0 : ST_DATA_XFER);
	}
	vm_kill(&v);
}

/* Some clients send a descriptor with it: it is closed. */
static void
test_descriptors(void **state)
{
	struct vu_dma_unmap u = { sizeof(u), 0, 0x3000000000, PAGE };
	static struct vm v;
	int fds[16];
	unsigned before, i, n;

	vm_start(&v, "vm1", false);
	before = daemon_fds();
	for (i = 0; i < 16; i++)
		fds[i] = memfd_create("x", MFD_CLOEXEC);
	for (n = 1; n <= 16; n++)
		assert_int_equal(vu_call(v.c, VU_DMA_UNMAP, &u, sizeof(u), fds,
					 n, NULL),
				 0);
	u.address = 1;
	vu_call(v.c, VU_DMA_UNMAP, &u, sizeof(u), fds, 16, NULL);
	daemon_fds_settle(before);
	for (i = 0; i < 16; i++)
		close(fds[i]);
	vm_kill(&v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_for_its_own_only),
		cmocka_unit_test(test_late_write),
		cmocka_unit_test(test_new_commands),
		cmocka_unit_test(test_queue_pauses),
		cmocka_unit_test(test_queue_never_comes_back),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_splits),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests_name("wire unmap", tests, setup,
					   daemon_teardown);
}

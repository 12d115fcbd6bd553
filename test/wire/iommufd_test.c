/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands 19 to 26 at a real daemon: I/O through addresses that the server chose. What fails, and how:
 * iommufd_errno_test.c.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "common_iommufd.h"

/* ---- addresses ---- */

/* Any file offset: the address has its place within the page, and reaches those bytes. */
static void
test_offsets(void **state)
{
	static const struct {
		uint64_t off, len;
	} at[] = { { 0, PG(1) },	 { PG(3), PG(2) },  { 512, PG(1) },
		   { 4095, PG(3) },	 { PG(15), PG(1) }, { 0, PG(16) },
		   { PG(1) + 8, PG(14) } };
	uint8_t *p = mmap(NULL, PG(16), PROT_READ | PROT_WRITE, MAP_SHARED,
			  sc.memory, 0);
	unsigned i, j;

	assert_ptr_not_equal(p, MAP_FAILED);
	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t iova, dw = (at[i].off + 3) & ~3ull;

		for (j = 0; j < PG(16); j++)
			p[j] = (uint8_t)(j * 7 + j / 4096);
		assert_int_equal(vm_map_fd(&sc.v, sc.v.ioas, sc.memory,
					   at[i].off, at[i].len, true, true,
					   &iova),
				 0);
		assert_int_equal(iova % PAGE, at[i].off % PAGE);
		/* A PRP wants a multiple of four. Write these 512 bytes, and read them back elsewhere. */
		iova += dw - at[i].off;
		assert_int_equal(vm_io(&sc.v, OPC_WRITE, i, 1, iova,
				       (iova | (PAGE - 1)) + 1),
				 0);
		memset(sc.v.a[A_DATA].va, 0, 512);
		assert_int_equal(vm_io(&sc.v, OPC_READ, i, 1,
				       sc.v.a[A_DATA].iova, 0),
				 0);
		assert_memory_equal(sc.v.a[A_DATA].va, p + dw, 512);
		iova -= dw - at[i].off;
		assert_int_equal(
			vm_unmap_range(&sc.v, sc.v.ioas, iova, at[i].len), 0);
	}
	munmap(p, PG(16));
}

static void
test_copies(void **state)
{
	uint64_t a, b, c;
	uint8_t *p = mmap(NULL, PG(16), PROT_READ | PROT_WRITE, MAP_SHARED,
			  sc.memory, 0);

	/* Not where it is attached: an address of IOAS 2 means nothing to the device. */
	memset(p, 0x21, PG(16));
	assert_int_equal(vm_io(&sc.v, OPC_WRITE, 0, 8, sc.rw, 0), ST_DATA_XFER);
	assert_int_equal(iom_copy(2, sc.rw + PG(2), PG(4), 1, BOTH, &a), 0);
	assert_true(a != sc.rw + PG(2));
	memset(p + PG(2), 0x5c, PG(1));
	assert_int_equal(vm_io(&sc.v, OPC_WRITE, 0, 8, a, 0), 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, a + PG(3), 0), 0);
	assert_memory_equal(p + PG(2), p + PG(5), PAGE);
	/* Read-only: the device may fetch data from it, not put any there. */
	assert_int_equal(iom_copy(2, sc.ro, PG(4), 1, VU_IOAS_READABLE, &b), 0);
	assert_int_equal(vm_io(&sc.v, OPC_WRITE, 0, 8, b, 0), 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, b, 0), ST_DATA_XFER);
	assert_int_equal(p[PG(8)], 0x21);
	/* Write-only, the other way round. */
	assert_int_equal(iom_copy(1, a, PG(4), 1, VU_IOAS_WRITEABLE, &c), 0);
	assert_int_equal(vm_io(&sc.v, OPC_WRITE, 0, 8, c, 0), ST_DATA_XFER);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, c, 0), 0);
	/* The copy outlives its origin. */
	assert_int_equal(vm_unmap_range(&sc.v, 2, sc.rw, PG(8)), 0);
	assert_int_equal(vm_unmap_range(&sc.v, 1, a, PG(4)), 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, c, 0), 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, a, 0), ST_DATA_XFER);
	munmap(p, PG(16));
}

/* One unmap covers several; UNMAP_ALL takes what is left, and nothing is fine, too. */
static void
test_unmap_many(void **state)
{
	struct vu_ioas_unmap all = { sizeof(all), VU_IOAS_UNMAP_ALL, 2 };
	uint64_t low = UINT64_MAX, high = 0, iova;
	unsigned i;

	assert_int_equal(
		iom_call(VU_IOMMUFD_IOAS_UNMAP, &all, sizeof(all), NULL), 0);
	for (i = 0; i < 100; i++) {
		assert_int_equal(vm_map_fd(&sc.v, 2, sc.memory, PG(i % 8),
					   PG(2), true, i & 1, &iova),
				 0);
		low = iova < low ? iova : low;
		high = iova > high ? iova : high;
	}
	assert_int_equal(vm_unmap_range(&sc.v, 2, low, high - low + PG(1)),
			 ENOENT); /* would split the last */
	assert_int_equal(vm_unmap_range(&sc.v, 2, low, high - low + PG(2)), 0);
	assert_int_equal(vm_unmap_range(&sc.v, 2, low, high - low + PG(2)),
			 ENOENT);
	for (i = 0; i < 50; i++)
		assert_int_equal(vm_map_fd(&sc.v, 2, sc.memory, 0, PG(16), true,
					   true, &iova),
				 0);
	for (i = 0; i < 2; i++)
		assert_int_equal(iom_call(VU_IOMMUFD_IOAS_UNMAP, &all,
					  sizeof(all), NULL),
				 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, sc.v.a[A_DATA].iova, 0),
			 0);
}

/* ---- attachment ---- */

/*
 * Detached, the device is blind: a command in the ring is not fetched, for its queue's memory is away. Attached again,
 * what stands is replayed: the queue goes on.
 */
static void
test_detach_and_back(void **state)
{
	uint64_t data = sc.v.a[A_DATA].iova;
	unsigned i;

	for (i = 0; i < 20; i++) {
		assert_int_equal(iom_detach(), 0);
		assert_int_equal(iom_detach(), EINVAL);
		memset(sc.v.a[A_DATA].va, 0xee, PAGE);
		vm_io_push(&sc.v, OPC_READ, 0, 8, data, 0);
		assert_int_equal(vm_wait(&sc.v, 1, 20, NULL), -1);
		assert_int_equal(sc.v.a[A_DATA].va[17], 0xee);
		assert_int_equal(iom_attach(1), 0);
		assert_int_equal(iom_attach(1), 0); /* again: it is */
		assert_int_equal(vm_wait(&sc.v, 1, 5000, NULL), 0);
	}
	assert_int_equal(vm_csts(&sc.v), CSTS_RDY);
}

/* The rings in both, the data in one of two: where it is not, Data Transfer Error. */
static void
test_reattach(void **state)
{
	uint64_t sq, cq, admin, data = sc.v.a[A_DATA].iova;
	unsigned i;

	/* Other addresses: so the controller has to be set up in IOAS 2 from the start. */
	assert_int_equal(iom_attach(2), 0);
	assert_int_equal(iom_by_id(VU_IOMMUFD_DESTROY_IOAS, 2), EBUSY);
	region_put(sc.v.c, 0, 0x14, 0, 4);
	for (i = 0; i < 1000 && (vm_csts(&sc.v) & CSTS_RDY); i++)
		usleep(1000);
	assert_int_equal(vm_csts(&sc.v), 0);
	assert_int_equal(
		iom_copy(1, sc.v.a[A_ADMIN].iova, PG(2), 2, BOTH, &admin), 0);
	assert_int_equal(iom_copy(1, sc.v.a[A_SQ].iova, PG(1), 2, BOTH, &sq),
			 0);
	assert_int_equal(iom_copy(1, sc.v.a[A_CQ].iova, PG(1), 2, BOTH, &cq),
			 0);
	for (i = 0; i < 2; i++) {
		memset(sc.v.a[i].va, 0, sc.v.a[i].len);
		sc.v.q[i].tail = sc.v.q[i].head = 0;
		sc.v.q[i].phase = 1;
	}
	memset(sc.v.a[A_CQ].va, 0, PAGE);
	region_put(sc.v.c, 0, 0x28, admin, 8);
	region_put(sc.v.c, 0, 0x30, admin + PAGE, 8);
	region_put(sc.v.c, 0, 0x14, 4 << 20 | 6 << 16 | 1, 4);
	for (i = 0; i < 1000 && !(vm_csts(&sc.v) & CSTS_RDY); i++)
		usleep(1000);
	{
		struct sqe c = { .opc = 5,
				 .prp1 = cq,
				 .dw10 = (DEPTH - 1) << 16 | 1,
				 .dw11 = 1 };
		struct sqe s = { .opc = 1,
				 .prp1 = sq,
				 .dw10 = (DEPTH - 1) << 16 | 1,
				 .dw11 = 1 << 16 | 1 };

		assert_int_equal(vm_admin(&sc.v, &c, 5000), 0);
		assert_int_equal(vm_admin(&sc.v, &s, 5000), 0);
	}
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, sc.rw, 0), 0);
	memset(sc.v.a[A_DATA].va, 0x77, PAGE);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, data, 0), ST_DATA_XFER);
	assert_int_equal(sc.v.a[A_DATA].va[0], 0x77);
	assert_int_equal(iom_by_id(VU_IOMMUFD_DESTROY_IOAS, 1), 0);
	assert_int_equal(iom_by_id(VU_IOMMUFD_DESTROY_IOAS, 1), ENOENT);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, sc.rw, 0), 0);
	assert_int_equal(iom_alloc(), 3); /* ids are not used again */
}

static void
test_many_spaces(void **state)
{
	struct vu_ioas_id id = { sizeof(id), 0, 0, 0 };
	static struct neighbour n;
	unsigned got = 0, i;

	neighbour_start(&n, "vm1");
	for (i = 0; i < 1000; i++) {
		int err =
			iom_call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), NULL);

		assert_true(!err || err == ENOSPC);
		assert_true(err || got == i); /* once over quota, always */
		got += !err;
	}
	assert_int_equal(got, 62); /* of 64: two were there */
	assert_int_equal(iom_by_id(VU_IOMMUFD_DESTROY_IOAS, 2), 0);
	assert_int_equal(iom_call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), NULL),
			 0);
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, sc.v.a[A_DATA].iova, 0),
			 0);
	neighbour_stop(&n);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, iom_setup, iom_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_offsets),    TEST(test_copies),
		TEST(test_unmap_many), TEST(test_detach_and_back),
		TEST(test_reattach),   TEST(test_many_spaces),
	};

	return cmocka_run_group_tests_name("wire iommufd", tests, daemon_setup,
					   daemon_teardown);
}

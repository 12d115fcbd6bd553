/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients that come and go for ever, and clients that take all they can get: the daemon does not grow, others go on.
 * CHURN=10000 asks for more rounds than the 500 of every day.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "common_vm.h"

#define SPREAD 5u /* queues, half of which are on the other reactor */

static struct vm v;
static struct neighbour n;

/* What the entries hold, on all queues but the first. */
static void
ring_others(void)
{
	unsigned q;

	for (q = 2; q <= SPREAD; q++)
		__atomic_store_n(v.db + 2 * q, DEPTH - 1, __ATOMIC_RELEASE);
}

/* The ways to leave. */
static void
leave(unsigned how)
{
	uint8_t half[20] = { 1, 0, VU_REGION_READ, 0, 32 };
	struct vfio_irq_set s = { sizeof(s),
				  VFIO_IRQ_SET_DATA_EVENTFD |
					  VFIO_IRQ_SET_ACTION_TRIGGER,
				  VFIO_PCI_MSIX_IRQ_INDEX, 0, 1 };
	unsigned i;
	int fd;

	switch (how % 9) {
	case 0: /* without a word */
		break;
	case 1: /* commands in flight */
		for (i = 0; i < 32; i++)
			vm_io_push(&v, i & 1 ? OPC_READ : OPC_WRITE, 8 * i, 8,
				   v.a[A_DATA].iova + i * PAGE, 0);
		ring_others();
		break;
	case 2: /* half a message */
		vu_send_raw(v.c, half, sizeof(half), NULL, 0);
		break;
	case 3: /* an answer that nobody reads */
		for (i = 0; i < 50; i++)
			vu_send(v.c, VU_DEVICE_GET_INFO, 0,
				(uint32_t[]){ 16, 0, 0, 0 }, 16, NULL, 0);
		break;
	case 4: /* an unmap that waits */
		vm_io_push(&v, OPC_WRITE, 0, 8, v.a[A_DATA].iova, 0);
		ring_others();
		vm_unmap_send(&v, v.a[A_DATA].iova, v.a[A_DATA].len);
		break;
	case 5: /* after an orderly end */
		region_put(v.c, 0, 0x14, 0, 4);
		for (i = 0; i < AREAS; i++)
			assert_int_equal(vm_unmap(&v, (enum area_id)i), 0);
		break;
	case 6: /* descriptors under way */
		fd = eventfd(0, 0);
		for (i = 0; i < 10; i++)
			vu_send(v.c, VU_DEVICE_SET_IRQS, 0, &s, sizeof(s), &fd,
				1);
		close(fd);
		break;
	case 7: /* its memory cut off */
		ring_others();
		for (i = 0; i < AREAS; i++)
			assert_int_equal(ftruncate(v.a[i].fd, 0), 0);
		break;
	case 8: /* rubbish */
		vu_send_raw(
			v.c,
			"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377",
			16, NULL, 0);
		break;
	}
}

/* Are there queues on each reactor? */
static void
check_spread(void)
{
	json_t *stats = rpc("nvmf_get_stats", NULL), *group;
	size_t i;

	json_array_foreach(json_object_get(stats, "poll_groups"), i, group)
		assert_true(json_integer_value(json_object_get(
				    group, "current_io_qpairs")) > 1);
	json_decref(stats);
}

static void
test_churn(void **state)
{
	const char *env = getenv("CHURN");
	unsigned rounds = env ? (unsigned)strtoul(env, NULL, 10) : 500;
	unsigned fds = 0, maps = 0, threads = 0, i;
	uint64_t rss = 0, start = now_ms();
	struct sqe read = { .opc = OPC_READ, .nsid = 1, .dw12 = 7 };

	neighbour_start(&n, "vm1");
	for (i = 0; i < rounds; i++) {
		if (i == rounds / 5) { /* warm */
			fds = daemon_fds();
			maps = daemon_maps();
			rss = daemon_status("VmRSS");
			threads = (unsigned)daemon_status("Threads");
		}
		vm_start(&v, "vm0", i & 1);
		vm_more_queues(&v, SPREAD, false);
		read.prp1 = v.a[A_DATA].iova;
		vm_fill_queues(&v, &read);
		if (!i)
			check_spread();
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0),
				 0);
		leave(i);
		vm_kill(&v);
	}
	close(vu_open_wait("vm0", NULL)); /* the last one has gone */
	for (i = 0;
	     i < 2000 && (daemon_fds() > fds || daemon_maps() > maps + 8); i++)
		usleep(1000);
	print_message("%u clients in %llu ms: RSS %llu kB, then %llu kB; "
		      "%u mappings, then %u; %u fds, then %u; gap %llu us\n",
		      rounds, (unsigned long long)(now_ms() - start),
		      (unsigned long long)rss,
		      (unsigned long long)daemon_status("VmRSS"), maps,
		      daemon_maps(), fds, daemon_fds(),
		      (unsigned long long)neighbour_gap_us(&n));
	assert_true(daemon_fds() <= fds);
	assert_true(daemon_maps() <= maps + 8);
	/* An address sanitizer keeps freed memory. */
	if (!daemon_is_sanitized())
		assert_true(daemon_status("VmRSS") <= rss + 4096);
	assert_true(daemon_status("Threads") <= threads + 2);
	neighbour_stop(&n);
}

/* ---- quotas ---- */

/* Others come, map and do I/O as ever. */
static void
others_work(void)
{
	static struct vm o;
	uint64_t at = 0x5000000000;

	vm_start(&o, "vm2", false);
	assert_int_equal(vm_map_fd(&o, 0, o.a[A_DATA].fd, 0, 1 << 20, true,
				   true, &at),
			 0);
	assert_int_equal(vm_io(&o, OPC_READ, 0, 8, at, 0), 0);
	vm_kill(&o);
}

/* 60 000 one-page maps, of 60 000 files or of as many pieces of a large one: some go, then ENOSPC. Less with sanitizers. */
static void
take_all(bool iommufd, bool one_file)
{
	bool less = daemon_is_sanitized();
	unsigned count = less ? 15000 : 60000;
	unsigned fds = daemon_fds(), i, got = 0;
	uint64_t at, piece = 1ull << 30, gap;
	int big = memfd_create("big", MFD_CLOEXEC), fd, err;

	assert_int_equal(ftruncate(big, (off_t)(4096 * piece)), 0);
	neighbour_start(&n, "vm1");
	vm_start(&v, "vm0", iommufd);
	for (i = 0; i < count; i++) {
		at = 0x10000000000 + i * PAGE;
		fd = one_file ? big : memfd_create("one", MFD_CLOEXEC);
		if (!one_file)
			assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
		err = vm_map_fd(&v, v.ioas, fd, one_file ? i % 4096 * piece : 0,
				PAGE, true, true, &at);
		if (!one_file)
			close(fd);
		if (err && err != ENOSPC)
			fail_msg("map %u: %s", i, strerror(err));
		got += !err;
		if ((i + 1) % (count / 3) == 0)
			others_work();
	}
	gap = neighbour_gap_us(&n);
	print_message("%s, %s: %u of %u maps, %u mappings, gap %llu us\n",
		      iommufd ? "iommufd" : "legacy",
		      one_file ? "one file" : "many files", got, count,
		      daemon_maps(), (unsigned long long)gap);
	assert_in_range(got, less ? 20 : 100, count - 1);
	assert_true(daemon_maps() < 8192);
	/* It still works for who did it, as far as it got. */
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0), 0);
	others_work();
	vm_kill(&v);
	neighbour_stop(&n);
	close(big);
	close(vu_open_wait("vm0", NULL));
	for (i = 0; i < 5000 && daemon_fds() > fds; i++)
		usleep(1000);
	assert_true(daemon_fds() <= fds);
}

static void
test_many_files(void **state)
{
	take_all(false, false);
	take_all(true, false);
}

static void
test_many_pieces(void **state)
{
	take_all(false, true);
	take_all(true, true);
}

/* As many extents as are announced, in one window: 65535, and not one more. */
static void
test_extents(void **state)
{
	unsigned i, got = AREAS;
	uint64_t at;
	int err;

	vm_start(&v, "vm0", false);
	for (i = 0; i < 65535 + 10; i++) {
		at = 0x10000000000 + i * 2 * PAGE;
		err = vm_map_fd(&v, 0, v.a[A_DATA].fd, i % 256 * PAGE, PAGE,
				true, true, &at);
		assert_true(!err || err == ENOSPC);
		got += !err;
	}
	assert_int_equal(got, 65535);
	at = 0x10000000000;
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at, 0), 0);
	others_work();
	assert_int_equal(vm_unmap_range(&v, 0, at, PAGE), 0);
	assert_int_equal(
		vm_map_fd(&v, 0, v.a[A_DATA].fd, 0, PAGE, true, true, &at), 0);
	assert_int_equal(vm_unmap_range(&v, 0, at, 1ull << 40), 0);
	assert_int_equal(
		vm_map_fd(&v, 0, v.a[A_DATA].fd, 0, PAGE, true, true, &at), 0);
	vm_kill(&v);
}

static int
setup(void **state)
{
	int err;

	daemon_spreads = true;
	err = daemon_setup(state);
	if (err)
		return err;
	wire_malloc("m1", 8192);
	wire_export("vm2", "m1");
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_many_files),
		cmocka_unit_test(test_many_pieces),
		cmocka_unit_test(test_extents),
	};

	return cmocka_run_group_tests_name("wire churn", tests, setup,
					   daemon_teardown);
}

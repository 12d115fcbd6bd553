/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that are not what they should be, and what their owners do to them later. A neighbour does I/O meanwhile.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "common_vm.h"

static struct neighbour n;
static struct vm v;

enum kind {
	PIPE,
	SOCKET,
	ZERO,
	FILE_ON_DISK,
	DIRECTORY,
	EVENTFD,
	EPOLL,
	TIMERFD,
	OPATH,
	PROC,
	MEMFD,
	KINDS
};

static int
open_kind(enum kind k)
{
	int fds[2];

	switch (k) {
	case PIPE:
		assert_int_equal(pipe(fds), 0);
		close(fds[1]);
		return fds[0];
	case SOCKET:
		return socket(AF_INET, SOCK_STREAM, 0);
	case ZERO:
		return open("/dev/zero", O_RDWR);
	case FILE_ON_DISK:
		return open("hostile.tmp", O_RDWR | O_CREAT, 0600);
	case DIRECTORY:
		return open("/dev/shm", O_RDONLY | O_DIRECTORY);
	case EVENTFD:
		return eventfd(0, 0);
	case EPOLL:
		return epoll_create1(0);
	case TIMERFD:
		return timerfd_create(CLOCK_MONOTONIC, 0);
	case OPATH:
		return open("/dev/shm", O_PATH);
	case PROC:
		return open("/proc/self/maps", O_RDONLY);
	default:
		return memfd_create("ok", 0);
	}
}

static int
set_irq(int c, int fd)
{
	struct vfio_irq_set s = { .argsz = sizeof(s),
				  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
					   VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX,
				  .count = 1 };

	return vu_call(c, VU_DEVICE_SET_IRQS, &s, sizeof(s), &fd, 1, NULL);
}

static void
test_refused(void **state)
{
	unsigned before, k, mode;
	uint64_t at = 0x8000000000;
	int fd, err;

	for (mode = 0; mode < 2; mode++) {
		vm_start(&v, "vm0", mode);
		assert_int_equal(set_irq(v.c, fd = eventfd(0, 0)), 0);
		before = daemon_fds();
		for (k = 0; k < KINDS; k++) {
			close(fd);
			fd = open_kind((enum kind)k);
			assert_true(fd >= 0);
			if (k == FILE_ON_DISK || k == MEMFD)
				assert_int_equal(ftruncate(fd, 1 << 20), 0);
			if (k == FILE_ON_DISK)
				unlink("hostile.tmp");
			if (k != MEMFD) {
				err = vm_map_fd(&v, v.ioas, fd, 0, PAGE, true,
						false, &at);
				if (err != EINVAL && err != EACCES)
					fail_msg("memory of kind %u: %d", k,
						 err);
			}
			if (k != EVENTFD) {
				err = set_irq(v.c, fd);
				if (err != EINVAL)
					fail_msg("interrupt of kind %u: %d", k,
						 err);
			}
		}
		close(fd);
		daemon_fds_settle(before);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0),
				 0);
		vm_kill(&v);
	}
}

/* How many lines of the daemon's log hold @text. */
static unsigned
logged(const char *text)
{
	char path[64], line[1024];
	unsigned count = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/log", d.dir);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		count += strstr(line, text) != NULL;
	fclose(f);
	return count;
}

/* The interrupt's eventfd blocks: a raise stalls nobody, and the client goes. */
static void
test_stuck_eventfd(void **state)
{
	uint64_t full = UINT64_MAX - 1, gap;
	unsigned i;
	int fd;

	neighbour_start(&n, "vm1");
	for (i = 0; i < 5; i++) {
		vm_start(&v, "vm0", i & 1);
		fd = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(set_irq(v.c, fd), 0);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0),
				 0);
		assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
		if (read(fd, &gap, sizeof(gap)) < 0)
			fail();
		assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
		neighbour_gap_us(&n);
		vm_io_push(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0);
		assert_true(vm_dropped(&v, 3000));
		gap = neighbour_gap_us(&n);
		print_message(
			"stuck eventfd: neighbour's largest gap %llu us\n",
			(unsigned long long)gap);
		assert_true(gap < 50000);
		if (!i) { /* one line, which says all; later ones are limited */
			assert_int_equal(logged("failed"), 1);
			assert_int_equal(
				logged("dropped: its controller failed: "
				       "an interrupt eventfd blocks"),
				1);
		}
		close(fd);
		vm_kill(&v);
	}
	neighbour_stop(&n);
}

static void
test_bar0_is_sealed(void **state)
{
	struct vu_region_info info = { .info = { .argsz = sizeof(info) } };
	struct reply r;
	char byte = 0;

	vm_start(&v, "vm0", false);
	assert_int_equal(vu_call(v.c, VU_DEVICE_GET_REGION_INFO, &info,
				 sizeof(info), NULL, 0, &r),
			 0);
	assert_true(r.fd >= 0);
	assert_int_equal(ftruncate(r.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(r.fd, 1 << 30), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(r.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(pwrite(r.fd, &byte, 1, 1 << 30), -1);
	/* A hole is zeros: doorbells back at 0, which is the client's own affair. */
	if (!fallocate(r.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		       1 << 20))
		vm_csts(&v);
	close(r.fd);
	vm_kill(&v);
	vm_start(&v, "vm0", false);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0), 0);
	vm_kill(&v);
}

/* ---- closes that hang ---- */

#define LINGER_S 3

/* A TCP socket with data that nobody takes, and LINGER: its last close waits for LINGER_S. *peer keeps it so. */
static int
lingering(int *peer)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { 1, LINGER_S };
	socklen_t len = sizeof(addr);
	static char buf[65536];
	int l = socket(AF_INET, SOCK_STREAM, 0), fd;

	assert_int_equal(bind(l, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&addr, &len), 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	*peer = accept(l, NULL, NULL);
	close(l);
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
				    sizeof(linger)),
			 0);
	return fd;
}

static const struct hang {
	const char *name;
	unsigned command, nfds;
	bool vanish; /* before the daemon reads it */
} hangs[] = {
	{ "as memory", VU_DMA_MAP, 1, false },
	{ "as interrupts", VU_DEVICE_SET_IRQS, 16, false },
	{ "with an unmap", VU_DMA_UNMAP, 64, false },
	{ "one too many", VU_DMA_MAP, 65, false },
	{ "as many as go", VU_DMA_MAP, 253, false },
	{ "never read", VU_DMA_MAP, 253, true },
};
#define HANGS (sizeof(hangs) / sizeof(hangs[0]))

/* All of them in a row; the daemon stands still meanwhile, so that its closes are the last ones. */
static void
hang_all(int *c, int *peers)
{
	struct vu_dma_map m = { 32, 3, 0, 0x9000000000, PAGE };
	struct vu_dma_unmap u = { 24, 0, 0x9000000000, PAGE };
	struct vfio_irq_set s = { 20,
				  VFIO_IRQ_SET_DATA_EVENTFD |
					  VFIO_IRQ_SET_ACTION_TRIGGER,
				  VFIO_PCI_MSIX_IRQ_INDEX, 0, 16 };
	unsigned i, k;
	int fds[253];

	kill(d.pid, SIGSTOP);
	for (k = 0; k < HANGS; k++) {
		unsigned cmd = hangs[k].command;
		const void *p = cmd == VU_DMA_MAP     ? (void *)&m
				: cmd == VU_DMA_UNMAP ? (void *)&u
						      : (void *)&s;

		for (i = 0; i < hangs[k].nfds; i++)
			fds[i] = i ? dup(fds[0]) : lingering(&peers[k]);
		vu_send(c[k], cmd, 0, p,
			cmd == VU_DMA_MAP     ? sizeof(m)
			: cmd == VU_DMA_UNMAP ? sizeof(u)
					      : sizeof(s),
			fds, hangs[k].nfds);
		for (i = 0; i < hangs[k].nfds; i++)
			close(fds[i]);
		if (hangs[k].vanish)
			close(c[k]);
	}
	kill(d.pid, SIGCONT);
}

static void
test_hung_closes(void **state)
{
	uint64_t start, gap, at;
	int c[HANGS], peers[HANGS], fd;
	unsigned k, done = 0, before;
	char vm[8];

	before = daemon_fds();
	for (k = 0; k < HANGS; k++) {
		snprintf(vm, sizeof(vm), "hm%u", k);
		c[k] = vu_open_wait(vm, QEMU_JSON);
	}
	neighbour_start(&n, "vm1");
	hang_all(c, peers);
	usleep(50000);
	neighbour_gap_us(&n);
	start = now_ms();
	/* Others connect, map, do I/O, unmap and leave all the time. */
	fd = memfd_create("other", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 8ll << 30), 0);
	for (; now_ms() - start < LINGER_S * 1000 / 2; done++) {
		vm_start(&v, "vm0", done & 1);
		at = 0xa000000000;
		assert_int_equal(vm_map_fd(&v, v.ioas, fd, 0, 8ull << 30, true,
					   true, &at),
				 0);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at, 0), 0);
		assert_int_equal(vm_unmap_range(&v, v.ioas, at, 8ull << 30), 0);
		vm_kill(&v);
	}
	gap = neighbour_gap_us(&n);
	print_message("closes hang: %u machines came and went, gap %llu us\n",
		      done, (unsigned long long)gap);
	assert_true(done > 10);
	assert_true(gap < 100000);
	neighbour_stop(&n);
	close(fd);
	/* They do end, and those listeners serve again. */
	for (k = 0; k < HANGS; k++) {
		if (!hangs[k].vanish)
			close(c[k]);
		snprintf(vm, sizeof(vm), "hm%u", k);
		c[k] = vu_open_wait(vm, QEMU_JSON);
		assert_true(now_ms() - start > LINGER_S * 900 - 100);
	}
	for (k = 0; k < HANGS; k++) {
		close(c[k]);
		close(peers[k]);
	}
	daemon_fds_settle(before);
}

/* ---- a large client that dies ---- */

static void
test_dying_giant(void **state)
{
	uint64_t len = 4ull << 30, gap, at, off, largest = 0;
	const char *env = getenv("GIANT_GIB");
	unsigned i;
	uint8_t *p;
	int fd;

	if (env)
		len = strtoull(env, NULL, 10) << 30;
	if (sysconf(_SC_AVPHYS_PAGES) * (int64_t)PAGE <
	    (int64_t)(len + len / 8 + (1ull << 30)))
		skip();
	neighbour_start(&n, "vm1");
	for (i = 0; i < 2; i++) {
		vm_start(&v, "vm0", i);
		fd = memfd_create("giant", MFD_CLOEXEC);
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		at = 0x1000000000;
		assert_int_equal(
			vm_map_fd(&v, v.ioas, fd, 0, len, true, true, &at), 0);
		/* The client touches all of it, the daemon a part in each MiB. */
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert_ptr_not_equal(p, MAP_FAILED);
		for (off = 0; off < len; off += PAGE)
			p[off] = 1;
		for (off = 0; off < len; off += 1 << 20)
			assert_int_equal(vm_io(&v, OPC_READ, 0, 8, at + off, 0),
					 0);
		munmap(p, len);
		usleep(50000);
		neighbour_gap_us(&n);
		close(fd); /* the daemon's is the last reference */
		vm_kill(&v);
		vm_start(&v, "vm0", i); /* back when all of it is gone */
		gap = neighbour_gap_us(&n);
		largest = gap > largest ? gap : largest;
		vm_kill(&v);
	}
	print_message("%llu GiB die: neighbour's largest gap %llu us\n",
		      (unsigned long long)(len >> 30),
		      (unsigned long long)largest);
	assert_true(largest < 5000);
	neighbour_stop(&n);
}

static int
setup(void **state)
{
	int err = daemon_setup(state);
	char name[8];
	unsigned k;

	for (k = 0; !err && k < HANGS; k++) {
		snprintf(name, sizeof(name), "hm%u", k);
		json_decref(
			rpc("bdev_malloc_create",
			    json_pack("{s:s,s:i,s:i}", "name", name,
				      "block_size", 512, "num_blocks", 64)));
		wire_export(name, name);
	}
	return err;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_stuck_eventfd),
		cmocka_unit_test(test_bar0_is_sealed),
		cmocka_unit_test(test_hung_closes),
		cmocka_unit_test(test_dying_giant),
	};

	return cmocka_run_group_tests_name("wire hostile fds", tests, setup,
					   daemon_teardown);
}

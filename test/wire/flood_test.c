/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages that take the daemon as long as messages can, one behind the other: its neighbour on the same reactor waits for one
 * of them, not for all that are in the socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common_iommufd.h"

#define FLOOD_MS 400u
#define FLOODERS 3u

static struct vm v;
static struct neighbour n;

struct flood {
	pthread_t thread[FLOODERS];
	bool stop;
	uint8_t *message; /* with its header */
	size_t len;
	int fds[16]; /* with each */
	unsigned nfds;
};
static struct flood fl;

/* Nobody waits for an answer, for none comes. */
static void *
flood_run(void *arg)
{
	struct flood *f = arg;

	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED))
		vu_send_raw(v.c, f->message, f->len, f->fds, f->nfds);
	return NULL;
}

static void
flood_start(unsigned cmd, const void *payload, size_t len)
{
	struct vu_hdr hdr = { 7, (uint16_t)cmd, (uint32_t)(sizeof(hdr) + len),
			      VU_F_NO_REPLY, 0 };

	fl.stop = false;
	fl.len = sizeof(hdr) + len;
	fl.message = calloc(1, fl.len);
	memcpy(fl.message, &hdr, sizeof(hdr));
	if (payload)
		memcpy(fl.message + sizeof(hdr), payload, len);
	assert_int_equal(pthread_create(&fl.thread[0], NULL, flood_run, &fl),
			 0);
}

static void
flood_stop(void)
{
	__atomic_store_n(&fl.stop, true, __ATOMIC_RELAXED);
	pthread_join(fl.thread[0], NULL);
	free(fl.message);
	fl.nfds = 0;
}

/* Does that until the neighbour keeps calm. */
static void
calmly(const char *what, void (*act)(const void *arg), const void *arg,
       unsigned most_us)
{
	bool calm = false;
	unsigned i;

	for (i = 0; i < NEIGHBOUR_TRIES && !calm; i++) {
		neighbour_gap_us(&n);
		act(arg);
		calm = neighbour_is_calm(&n, what, most_us);
	}
	if (!calm)
		neighbour_suffers(&n);
}

struct message {
	unsigned cmd;
	const void *payload;
	size_t len;
};

static void
flood_for_a_while(const void *arg)
{
	const struct message *m = arg;

	flood_start(m->cmd, m->payload, m->len);
	usleep(FLOOD_MS * 1000);
	flood_stop();
	assert_int_equal(vm_csts(&v), CSTS_RDY);
}

static void
flood(const char *what, unsigned cmd, const void *payload, size_t len,
      unsigned most_us)
{
	struct message m = { cmd, payload, len };

	calmly(what, flood_for_a_while, &m, most_us);
}

static int
setup_vm(void **state)
{
	neighbour_start(&n, "vm1");
	vm_start(&v, "vm0", false);
	return 0;
}

static int
teardown_vm(void **state)
{
	vm_kill(&v);
	neighbour_stop(&n);
	return 0;
}

/* Of all that a client may map, but the last would be split: refused, each after a look at all. */
static void
test_splitting_unmaps(void **state)
{
	struct vu_dma_unmap u = { sizeof(u), 0, 0x1000000000, 0 };
	int fd = memfd_create("many", MFD_CLOEXEC);
	unsigned i, count = 60000;
	uint64_t at;

	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	for (i = 0; i <= count; i++) {
		at = u.address + 2 * i * PAGE;
		assert_int_equal(vm_map_fd(&v, 0, fd, 0,
					   i < count ? PAGE : 2 * PAGE, true,
					   true, &at),
				 0);
	}
	u.size = (2 * count + 1) * PAGE;
	assert_int_equal(vu_call(v.c, VU_DMA_UNMAP, &u, sizeof(u), NULL, 0,
				 NULL),
			 EINVAL);
	flood("splitting unmaps", VU_DMA_UNMAP, &u, sizeof(u), 2500);
	close(fd);
}

#define WATCHERS 4000u /* of an eventfd: its write takes 0.2 ms */

static int
watched_eventfd(int *watches)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int fd = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(0);
	struct rlimit rl;
	unsigned i;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	for (i = 0; i < WATCHERS; i++) {
		watches[i] = dup(fd);
		if (watches[i] >= 0)
			epoll_ctl(ep, EPOLL_CTL_ADD, watches[i], &ev);
	}
	watches[WATCHERS] = ep;
	return fd;
}

/* All vectors, each a write of an eventfd for which many wait. */
static void
test_triggers(void **state)
{
	struct vfio_irq_set s = { .argsz = sizeof(s),
				  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
					   VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX };
	struct vfio_irq_info info = { .argsz = sizeof(info),
				      .index = VFIO_PCI_MSIX_IRQ_INDEX };
	static int watches[WATCHERS + 1];
	int fds[64], fd = watched_eventfd(watches);
	struct reply r;
	unsigned i;

	assert_int_equal(vu_call(v.c, VU_DEVICE_GET_IRQ_INFO, &info,
				 sizeof(info), NULL, 0, &r),
			 0);
	memcpy(&info, r.data, sizeof(info));
	for (i = 0; i < 64; i++)
		fds[i] = fd;
	for (s.start = 0; s.start < info.count; s.start += s.count) {
		s.count = info.count - s.start;
		s.count = s.count < 64 ? s.count : 64;
		assert_int_equal(vu_call(v.c, VU_DEVICE_SET_IRQS, &s, sizeof(s),
					 fds, s.count, NULL),
				 0);
	}
	s.start = 0;
	s.count = info.count;
	s.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
	print_message("%u vectors\n", info.count);
	flood("triggers", VU_DEVICE_SET_IRQS, &s, sizeof(s), 30000);
	for (i = 0; i <= WATCHERS; i++)
		close(watches[i]);
	close(fd);
}

/*
 * Bound anew on and on: what is replaced is closed by the threads that map others' memory, so the next message waits for that;
 * else thousands of descriptors would be open, and each map of others behind them.
 */
static void
test_bindings(void **state)
{
	struct vfio_irq_set s = { .argsz = sizeof(s),
				  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
					   VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX,
				  .count = sizeof(fl.fds) / sizeof(int) };
	unsigned before = daemon_fds(), most = 0, now, i;
	uint64_t start;

	for (i = 0; i < s.count; i++)
		fl.fds[i] = eventfd(0, EFD_NONBLOCK);
	fl.nfds = s.count;
	flood_start(VU_DEVICE_SET_IRQS, &s, sizeof(s));
	for (start = now_ms(); now_ms() - start < FLOOD_MS; usleep(1000)) {
		now = daemon_fds();
		most = now > most ? now : most;
	}
	flood_stop();
	print_message("%u descriptors more at most\n", most - before);
	assert_true(most - before < 10 * s.count);
	for (i = 0; i < s.count; i++)
		close(fl.fds[i]);
	assert_int_equal(vm_csts(&v), CSTS_RDY);
}

#define CRUMBS (FLOODERS << 16)

/* Its share of a message of zeros, a byte at a time. */
static void *
crumbs_run(void *arg)
{
	unsigned i;

	for (i = 0; i < CRUMBS / FLOODERS; i++)
		if (send(v.c, "", 1, MSG_NOSIGNAL) != 1)
			return arg;
	return NULL;
}

static void
send_crumbs(const void *arg)
{
	struct vu_hdr hdr = { 7, 99, sizeof(hdr) + CRUMBS, VU_F_NO_REPLY, 0 };
	void *failed;
	unsigned i;

	vu_send_raw(v.c, &hdr, sizeof(hdr), NULL, 0);
	for (i = 0; i < FLOODERS; i++)
		assert_int_equal(pthread_create(&fl.thread[i], NULL, crumbs_run,
						&fl),
				 0);
	for (i = 0; i < FLOODERS; i++) {
		pthread_join(fl.thread[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(vm_csts(&v), CSTS_RDY);
}

/* Long messages of no known command. In crumbs: several send them, so that there is always one more. */
static void
test_crumbs(void **state)
{
	calmly("crumbs", send_crumbs, NULL, 20000);
	flood("long messages", 99, NULL, 1 << 20, 5000);
}

/* All doorbells at once, most of which do not exist: each is told to the host. */
static void
test_doorbells(void **state)
{
	struct {
		struct vu_region_access a;
		uint32_t db[1024];
	} w = { { 0x1000, 0, sizeof(w.db) }, { 0 } };
	unsigned i;

	for (i = 0; i < 1024; i++)
		w.db[i] = i < 4 ? 0 : i;
	flood("doorbells", VU_REGION_WRITE, &w, sizeof(w), 5000);
}

static void
come_and_go(const void *arg)
{
	uint64_t start = now_ms();
	unsigned count;

	for (count = 0; now_ms() - start < FLOOD_MS; count++)
		close(vu_open_wait("vm0",
				   count & 1 ? QEMU_JSON : IOMMUFD_JSON));
	print_message("%u clients\n", count);
}

/* Connected, greeted and gone, on and on. */
static void
test_comings(void **state)
{
	vm_kill(&v);
	calmly("comings", come_and_go, NULL, 5000);
	vm_start(&v, "vm0", false);
}

static void
leave_and_return(const void *arg)
{
	unsigned i;

	for (i = 0; i < 100; i++) {
		assert_int_equal(iom_detach(), 0);
		assert_int_equal(iom_attach(v.ioas), 0);
	}
}

/* iommufd: as many mappings as there may be leave the device at once, and come back. */
static void
test_detach(void **state)
{
	int fd = memfd_create("many", MFD_CLOEXEC);
	unsigned count;
	uint64_t at;

	vm_kill(&v);
	vm_start(&v, "vm0", true);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	for (count = 0;; count++) {
		int err = vm_map_fd(&v, v.ioas, fd, 0, PAGE, true, true, &at);

		if (err) {
			assert_int_equal(err, ENOSPC);
			break;
		}
	}
	print_message("%u mappings\n", count);
	sc.v = v;
	calmly("detach", leave_and_return, NULL, 2500);
	close(fd);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_vm, teardown_vm)
	const struct CMUnitTest tests[] = {
		TEST(test_splitting_unmaps), TEST(test_triggers),
		TEST(test_bindings),	     TEST(test_crumbs),
		TEST(test_doorbells),	     TEST(test_comings),
		TEST(test_detach),
	};

	return cmocka_run_group_tests_name("wire flood", tests, daemon_setup,
					   daemon_teardown);
}

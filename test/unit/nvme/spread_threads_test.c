/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues on two reactors that run on threads of their own, for a sanitizer to watch: all
 * that home does to them (create, delete, reset, unmap, namespaces, destroy) while I/O runs.
 * This thread is the guest and home.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "unit.h"

#define SECONDS 3
#define QUEUES 4
#define DEPTH 16
#define BLOCKS 65536
#define DATA 0x40000000ull /* another mapping of the guest's memory */

static bool over;

static void *
elsewhere(void *arg)
{
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
		reactor_step(reactor_get(1));
	return NULL;
}

struct stress {
	struct guest g;
	uint64_t off; /* of the data in memory */
	unsigned held[QUEUES + 1];
	unsigned done, cycles;
	uint32_t rnd;
};

static uint32_t
pick(struct stress *s, uint32_t n)
{
	s->rnd = s->rnd * 1103515245 + 12345;
	return (s->rnd >> 16) % n;
}

static bool
alive(struct stress *s, uint16_t q)
{
	return s->g.q[q].depth != 0;
}

/* Each queue has blocks and a page of its own; the page is the block's number, over and over. */
static void
submit(struct stress *s, uint16_t q, uint8_t op)
{
	uint64_t lba = q * 64u + s->held[q];
	iova_t page = DATA + (q * DEPTH + s->held[q]) * 4096ull;

	if (!alive(s, q) || s->held[q] == DEPTH - 2)
		return;
	s->held[q]++;
	guest_submit(&s->g, q, guest_rw(&s->g, op, lba, 1, page, 512));
}

static void
reap(struct stress *s)
{
	struct nvme_cqe cqe;

	for (uint16_t q = 1; q <= QUEUES; q++) {
		while (alive(s, q) && guest_take(&s->g, q, &cqe)) {
			s->held[q]--;
			s->done++;
		}
	}
}

static void
spin(struct stress *s, unsigned rounds)
{
	while (rounds--) {
		guest_step(&s->g, 1);
		reap(s);
	}
}

static bool
settled(struct stress *s)
{
	for (unsigned q = 1; q <= QUEUES; q++)
		if (s->held[q])
			return false;
	return true;
}

static void
settle(struct stress *s)
{
	for (unsigned i = 0; i < 2000000 && !settled(s); i++)
		spin(s, 1);
	assert_true(settled(s));
}

static void
map_data(struct stress *s)
{
	guest_map(&s->g, DATA, 1 << 20, s->off, IOAS_READ | IOAS_WRITE);
}

static void
bring_up(struct stress *s)
{
	s->g.used = s->off + (1 << 20);
	memset(s->held, 0, sizeof(s->held));
	assert_int_equal(guest_enable(&s->g, 32), 1);
	for (uint16_t q = 1; q <= QUEUES; q++)
		assert_int_equal(guest_create_q(&s->g, q, DEPTH, true), 0);
	s->cycles++;
}

static void
recreate(struct stress *s, uint16_t q)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_delete_sq, .cdw10 = q };

	if (!alive(s, q) || s->g.used > s->g.opts.mem_len - (1 << 20))
		return;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	sqe.opcode = nvme_admin_delete_cq;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	s->held[q] = 0;
	s->g.q[q].depth = 0;
	assert_int_equal(guest_create_q(&s->g, q, DEPTH, true), 0);
}

static void
admin(struct stress *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_set_features,
				.cdw10 = 6,
				.cdw11 = pick(s, 2) };

	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	sqe.opcode = nvme_admin_get_log_page;
	sqe.nsid = 0xffffffff;
	sqe.cdw10 = 127 << 16 | (1 + pick(s, 2));
	sqe.prp1 = GUEST_IOVA + s->off;
	sqe.cdw11 = 0;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
}

static void
bind_vectors(struct guest *g)
{
	int fds[9];

	for (unsigned i = 0; i < 9; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(irq_bind(g->irqs, IRQ_MSIX, 0, 9, fds), 0);
}

static void
disturb(struct stress *s)
{
	struct guest *g = &s->g;

	switch (pick(s, 13)) {
	case 0:
		guest_disable(g);
		bring_up(s);
		break;
	case 1:
		recreate(s, (uint16_t)(1 + pick(s, QUEUES)));
		break;
	case 2:
		guest_unmap(g, DATA, 1 << 20);
		map_data(s);
		break;
	case 3: /* rings and all */
		guest_unmap(g, GUEST_IOVA, g->opts.mem_len);
		spin(s, pick(s, 20));
		guest_map(g, GUEST_IOVA, g->opts.mem_len, 0,
			  IOAS_READ | IOAS_WRITE);
		break;
	case 4:
		guest_remove_ns(g, 1);
		spin(s, pick(s, 20));
		assert_int_equal(guest_add_ns(g, "ram", 1), 0);
		break;
	case 5:
		if (pick(s, 4))
			break;
		guest_destroy_ctrl(g);
		guest_create_ctrl(g);
		bring_up(s);
		break;
	case 6:
		admin(s);
		break;
	case 7: /* the pin for a while */
		irq_unbind(g->irqs, IRQ_MSIX, 0, 0);
		spin(s, pick(s, 20));
		bind_vectors(g);
		break;
	default:
		spin(s, 20);
	}
}

struct meeting {
	struct reactor_msg msg;
	bool back;
};

static void
came_back(struct reactor_msg *m)
{
	container_of(m, struct meeting, msg)->back = true;
}

static void
went(struct reactor_msg *m)
{
	m->fn = came_back;
	reactor_send(reactor_get(0), m);
}

/* A sanitizer does not see that guests order what they do by memory that is mapped twice. */
static void
meet(struct stress *s)
{
	struct meeting m = { .msg.fn = went };

	reactor_send(reactor_get(1), &m.msg);
	while (!m.back)
		guest_step(&s->g, 1);
}

/* After all that: what is written on one queue is read on another. */
static void
verify(struct stress *s)
{
	uint8_t *mem = s->g.mem + s->off;

	settle(s);
	for (uint16_t q = 1; q <= QUEUES; q++) {
		uint16_t to = (uint16_t)(q % QUEUES + 1);

		memset(mem, 0x10 + q, 512);
		meet(s);
		assert_int_equal(
			guest_cmd(&s->g, q,
				  guest_rw(&s->g, 1, 7000, 1, DATA, 512), NULL),
			0);
		memset(mem, 0, 512);
		meet(s);
		assert_int_equal(
			guest_cmd(&s->g, to,
				  guest_rw(&s->g, 2, 7000, 1, DATA, 512), NULL),
			0);
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(mem[i], 0x10 + q);
	}
}

static void
test_stress(void **state)
{
	struct stress *s = *state;
	uint64_t end = util_now_ns() + SECONDS * 1000000000ull;

	bring_up(s);
	for (unsigned i = 0; util_now_ns() < end; i++) {
		for (unsigned n = pick(s, 30); n; n--)
			submit(s, (uint16_t)(1 + pick(s, QUEUES)),
			       (uint8_t)(1 + pick(s, 2)));
		disturb(s);
		if (i % 16 == 0)
			verify(s);
	}
	verify(s);
	print_message("  %u commands, %u lives\n", s->done, s->cycles);
	assert_true(s->done > 100 && s->cycles > 3);
}

static pthread_t thread;

static int
setup(void **state)
{
	static const struct guest_opts opts = { .bdev = "ram" };
	struct bdev_malloc_params ram = { .name = "ram",
					  .block_len = 512,
					  .num_blocks = BLOCKS,
					  .numa = -1 };
	unsigned cores[2] = { 0, 1 };
	struct reactor_config cfg = { .cores = cores,
				      .ncores = 2,
				      .idle = REACTOR_IDLE_POLL,
				      .no_pin = true };
	struct stress *s = calloc(1, sizeof(*s));
	struct bdev_ctl c = { 0 };

	if (!s || reactors_init(&cfg) || bdev_init() ||
	    bdev_malloc_create(&ram, &c) || nvme_core_init(reactor_get(0)) ||
	    nvme_core_init(reactor_get(1)))
		return -1;
	over = false;
	if (pthread_create(&thread, NULL, elsewhere, NULL))
		return -1;
	guest_init(&s->g, &opts);
	s->rnd = 1;
	s->off = s->g.used;
	map_data(s);
	bind_vectors(&s->g);
	*state = s;
	return 0;
}

static void
deleted(struct bdev_ctl *c, int err)
{
	assert_int_equal(err, 0);
}

static int
teardown(void **state)
{
	struct stress *s = *state;
	struct bdev_ctl c = { .done = deleted };

	guest_fini(&s->g);
	free(s);
	bdev_delete("ram", NULL, &c);
	for (unsigned i = 0; i < 1000 && bdev_find("ram"); i++)
		reactor_step(reactor_get(0));
	__atomic_store_n(&over, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	nvme_core_fini(reactor_get(0));
	nvme_core_fini(reactor_get(1));
	bdev_fini();
	reactors_fini();
	return 0;
}

int
spread_threads_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stress),
	};

	return cmocka_run_group_tests_name("spread_threads", tests, setup,
					   teardown);
}

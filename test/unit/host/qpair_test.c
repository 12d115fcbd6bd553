/* SPDX-License-Identifier: BSD-3-Clause */
/* Queue pairs: rings that wrap, limits, doorbells of all kinds, data. */
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "unit.h"

struct seen {
	unsigned n, bad;
	uint16_t cid, status;
};

static void
done(void *arg, const struct belfry_cqe *cqe)
{
	struct seen *s = arg;

	s->n++;
	s->cid = cqe->cid;
	s->status = cqe->status >> 1;
	s->bad += cqe->cid >= 1024 || s->status;
}

/* Poll until @want completions came, or 20 seconds have gone. */
static unsigned
drain(struct belfry_qpair *q, struct seen *s, unsigned want)
{
	uint64_t end = util_now_ns() + 20000000000ull;

	while (s->n < want && util_now_ns() < end) {
		int n = belfry_poll(q, 1024, done, s);

		assert_true(n >= 0);
		if (!n)
			sched_yield(); /* the peer may need this core */
	}
	return s->n;
}

static const struct db_case {
	const char *name;
	enum belfry_mode mode;
	struct peer_opts po;
	bool by_message, shadow;
	int iv;
} db_cases[] = {
	{ "mapped doorbells", BELFRY_LEGACY, { 0 }, .iv = -1 },
	{ "mapped doorbells, iommufd",
	  BELFRY_IOMMUFD,
	  { .iommufd = true },
	  .iv = -1 },
	{ "with interrupts", BELFRY_LEGACY, { 0 }, .iv = 0 },
	{ "not mapped by choice",
	  BELFRY_LEGACY,
	  { 0 },
	  .by_message = true,
	  .iv = -1 },
	{ "not mappable", BELFRY_LEGACY, { .trap = true }, .iv = -1 },
	{ "the file is too short to map",
	  BELFRY_LEGACY,
	  { .faults = PEER_SHORT_BAR },
	  .iv = -1 },
	{ "shadow doorbells",
	  BELFRY_LEGACY,
	  { .dbbuf = true },
	  .shadow = true,
	  .iv = -1 },
	{ "shadow doorbells, trapped",
	  BELFRY_LEGACY,
	  { .dbbuf = true, .trap = true },
	  .shadow = true,
	  .iv = -1 },
	{ "no room for a larger CQ", BELFRY_LEGACY, { .mqes = 8 }, .iv = -1 },
};

/* 1000 commands through a ring of eight, in uneven batches. */
static void
rings(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(db_cases); i++) {
		const struct db_case *c = &db_cases[i];
		struct belfry_qpair *q;
		struct seen s = { 0 };
		struct belfry_sqe sqe;
		struct rig r;
		bool msgs;

		assert_int_equal(rig_open(&r, &c->po, c->mode, c->by_message),
				 0);
		assert_int_equal(belfry_enable(r.h, 0), 0);
		if (c->shadow)
			assert_int_equal(belfry_shadow_doorbells(r.h), 0);
		assert_int_equal(belfry_qpair_create(r.h, 8, c->iv, &q), 0);
		assert_int_equal(belfry_qpair_id(q), 1);
		for (unsigned n = 0; n < 1000;) {
			unsigned batch = n % 8;

			for (; batch < 8 && n < 1000; batch++) {
				belfry_sqe_rw(&sqe, false, 1, 0, 1,
					      (uint16_t)(n % 1024));
				if (belfry_push(q, &sqe) == -EAGAIN)
					break;
				n++;
			}
			assert_int_equal(belfry_ring(q), 0);
			if (drain(q, &s, n) != n)
				fail_msg("%s: %u of %u", c->name, s.n, n);
		}
		assert_int_equal(s.bad, 0);
		assert_int_equal(peer_ios(r.peer), 1000);
		msgs = peer_db_messages(r.peer) > 100;
		if (msgs != (c->by_message || (c->po.trap && !c->shadow) ||
			     (c->po.faults & PEER_SHORT_BAR)) &&
		    !(c->shadow && c->po.trap))
			fail_msg("%s: %d", c->name,
				 (int)peer_db_messages(r.peer));
		assert_int_equal(belfry_qpair_destroy(q), 0);
		rig_close(&r);
	}
}

static void
limits(void **state)
{
	struct peer_opts po = { .faults = PEER_LOSE_IO };
	struct belfry_sqe sqe = { { 2 } };
	struct belfry_qpair *q, *q2;
	struct seen s = { 0 };
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_qpair_create(r.h, 4, -1, &q), 0);
	assert_int_equal(belfry_qpair_create(r.h, 2, -1, &q2), 0);
	assert_int_equal(belfry_qpair_id(q2), 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(belfry_push(q, &sqe), 0);
	assert_int_equal(belfry_push(q, &sqe), -EAGAIN);
	assert_int_equal(belfry_ring(q), 0);
	for (int i = 0; i < 20000 && peer_ios(r.peer) < 3; i++)
		usleep(1000);
	/* Fetched, so the SQ is empty; but nothing may be pushed, as the CQ has room for three. */
	assert_int_equal(belfry_push(q, &sqe), -EAGAIN);
	assert_int_equal(belfry_poll(q, 8, done, &s), 0);
	assert_int_equal(belfry_disable(r.h), 0);
	assert_int_equal(belfry_push(q, &sqe), -ESHUTDOWN);
	assert_int_equal(belfry_poll(q, 8, done, &s), 0);
	assert_int_equal(belfry_ring(q), 0);
	assert_int_equal(belfry_qpair_destroy(q), 0);
	assert_int_equal(belfry_qpair_destroy(NULL), 0);
	/* q2 is left to the disconnect; its id is free once the controller was reset. */
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_qpair_create(r.h, 4, -1, &q), 0);
	assert_int_equal(belfry_qpair_id(q), 1);
	rig_close(&r);
}

/* Entries that nobody asked for are not taken, whatever their phase says. */
static void
uninvited(void **state)
{
	struct peer_opts po = { 0 };
	struct belfry_qpair *q;
	struct seen s = { 0 };
	struct belfry_sqe sqe;
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_qpair_create(r.h, 8, -1, &q), 0);
	for (int i = 0; i < 16; i++)
		q->cq[i].status = 1;
	assert_int_equal(belfry_poll(q, 1024, done, &s), 0);
	belfry_sqe_rw(&sqe, false, 1, 0, 1, 3);
	assert_int_equal(belfry_push(q, &sqe), 0);
	assert_int_equal(belfry_poll(q, 1024, done, &s), 1);
	assert_int_equal(s.n, 1);
	rig_close(&r);
}

/* Different sizes, so PRP2 is nothing, a page and a list; written, read back, compared. */
static void
data(void **state)
{
	static const uint32_t lens[] = { 512, 4096, 8192, 12288, 65536, 131072 };
	struct peer_opts po = { .iommufd = true, .store = true };
	struct belfry_mem *m;
	struct belfry_qpair *q;
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_qpair_create(r.h, 8, -1, &q), 0);
	assert_int_equal(belfry_mem_alloc(r.h, 1 << 20,
					  BELFRY_MEM_READ | BELFRY_MEM_WRITE,
					  &m),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		uint8_t *w = (uint8_t *)m->va + 8192 + 512,
			*rd = (uint8_t *)m->va + (512 << 10);

		for (uint32_t k = 0; k < lens[i]; k++)
			w[k] = (uint8_t)(k * 31 + i + k / 512);
		memset(rd, 0, lens[i]);
		for (int write = 1; write >= 0; write--) {
			uint64_t at =
				m->iova + (write ? 8192 + 512 : 512 << 10);
			struct seen s = { 0 };
			struct belfry_sqe sqe;

			belfry_sqe_rw(&sqe, write, 1, 5, lens[i] / 512, 9);
			assert_int_equal(belfry_sqe_prp(&sqe, at, lens[i],
							m->va, m->iova),
					 0);
			assert_int_equal(belfry_push(q, &sqe), 0);
			assert_int_equal(belfry_ring(q), 0);
			assert_int_equal(drain(q, &s, 1), 1);
			assert_int_equal(s.status, 0);
			assert_int_equal(s.cid, 9);
		}
		assert_memory_equal(w, rd, lens[i]);
	}
	rig_close(&r);
}

static void
interrupt(void **state)
{
	struct peer_opts po = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct belfry_qpair *q;
	struct seen s = { 0 };
	struct belfry_sqe sqe;
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_irq_enable(r.h, &fd, 1), 0);
	assert_int_equal(belfry_qpair_create(r.h, 8, 0, &q), 0);
	assert_int_equal(q->lazy, 0);
	belfry_sqe_rw(&sqe, false, 1, 0, 1, 0);
	assert_int_equal(belfry_push(q, &sqe), 0);
	assert_int_equal(belfry_ring(q), 0);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(drain(q, &s, 1), 1);
	rig_close(&r);
	close(fd);
}

static void
no_shadow(void **state)
{
	struct peer_opts po = { 0 };
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_shadow_doorbells(r.h), -ENODEV);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_shadow_doorbells(r.h), -ENOTSUP);
	rig_close(&r);
}

int
qpair_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rings),     cmocka_unit_test(limits),
		cmocka_unit_test(uninvited), cmocka_unit_test(data),
		cmocka_unit_test(interrupt), cmocka_unit_test(no_shadow),
	};

	return cmocka_run_group_tests_name("qpair", tests, NULL, NULL);
}

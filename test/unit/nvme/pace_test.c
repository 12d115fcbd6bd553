/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When interrupts are due: a model of a host and a queue, driven through every order of their
 * steps; what is learned of hosts; and the whole path in a controller.
 */
#include "unit.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define US 1000u
#define ROUND (5 * US)

/* ---- the model ---- */

enum host_kind {
	RINGS_AT_END, /* takes all that it sees, then tells its head once */
	RINGS_EACH,
	RINGS_LATE, /* every third entry, if at all */
	PEEKS,	    /* takes entries without an interrupt, too */
};

struct model {
	struct nvme_cq cq;
	uint32_t db; /* the head's doorbell */
	uint64_t now;
	uint32_t posted, taken;
	uint64_t posted_at[32];
	unsigned interrupts;
	bool irq, in_handler;
};

static struct nvme_group model_group; /* no shadow doorbells */

static void
model_init(struct model *m, uint32_t depth)
{
	*m = (struct model){ .now = 1000000 };
	m->cq = (struct nvme_cq){ .group = &model_group,
				  .depth = depth,
				  .adaptive = true };
	pace_init(&m->cq);
}

/* The queue moved in memory. */
static void
model_at(struct model *m)
{
	m->cq.head_db = &m->db;
}

static void
post(struct model *m)
{
	struct nvme_cq *cq = &m->cq;

	m->posted_at[m->posted++ % 32] = m->now;
	cq->tail = (cq->tail + 1) % cq->depth;
	if (cq->busy)
		cq->busy--;
	cq->unsignalled++;
	if (cq->irq_pending)
		return;
	cq->irq_pending = true;
	pace_begin(cq, m->now);
}

/* The end of a round, as cq_raise() does it. */
static enum pace
look(struct model *m)
{
	struct nvme_cq *cq = &m->cq;
	enum pace due;

	m->now += ROUND;
	if (!cq->irq_pending)
		return PACE_NONE;
	due = pace_look(cq, m->now);
	if (due == PACE_LATER)
		return due;
	cq->irq_pending = false;
	cq->unsignalled = 0;
	if (due == PACE_NOW) {
		m->irq = true;
		m->interrupts++;
	}
	return due;
}

static bool
host_can(const struct model *m, enum host_kind kind)
{
	return m->in_handler || m->irq ||
	       (kind == PEEKS && m->taken != m->posted);
}

/* One step of the host: enter the handler, take an entry, or find none and leave. */
static void
host_step(struct model *m, enum host_kind kind)
{
	bool ring = false;

	if (!m->in_handler && m->irq) {
		m->irq = false;
		m->in_handler = true;
		return;
	}
	if (m->taken != m->posted) {
		m->taken++;
		ring = kind == RINGS_EACH ||
		       (kind == RINGS_LATE && m->taken % 3 == 0);
	} else {
		ring = kind != RINGS_LATE;
		m->in_handler = false;
	}
	if (ring)
		m->db = m->taken % m->cq.depth;
}

/*
 * From here on nobody posts, and the host runs. It must not have to wait for an interrupt longer
 * than it may be held back; at the end it has seen all.
 */
static void
settle(struct model m, enum host_kind kind, const char *path)
{
	model_at(&m);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t since = m.posted_at[m.taken % 32];

		if (m.taken != m.posted && !host_can(&m, kind) &&
		    m.now > since + HOLD_MAX_NS + 2 * ROUND)
			fail_msg("host %d waits: %s", kind, path);
		if (host_can(&m, kind))
			host_step(&m, kind);
		else
			look(&m);
	}
	if (m.taken != m.posted)
		fail_msg("host %d never sees an entry: %s", kind, path);
	if (m.cq.irq_pending && m.taken == m.posted && m.db == m.cq.tail)
		fail_msg("host %d: owed for ever: %s", kind, path);
}

#define STEPS 11

static unsigned long states;

static void
explore(const struct model *from, enum host_kind kind, char *path, unsigned n)
{
	static const char name[] = "PHL";

	states++;
	path[n] = '\0';
	settle(*from, kind, path);
	if (n == STEPS)
		return;
	for (unsigned what = 0; what < 3; what++) {
		struct model m = *from;

		model_at(&m);
		if (what == 0) {
			if (m.posted - m.taken >= m.cq.depth - 1 ||
			    (m.posted + m.cq.depth - m.db) % m.cq.depth ==
				    m.cq.depth - 1)
				continue; /* no room */
			post(&m);
		} else if (what == 1) {
			if (!host_can(&m, kind))
				continue;
			host_step(&m, kind);
		} else {
			look(&m);
		}
		path[n] = name[what];
		explore(&m, kind, path, n + 1);
	}
	path[n] = '\0';
}

/* No order of posts, rounds and steps of the host loses an interrupt, whatever was learned before. */
static void
test_every_order(void **state)
{
	static const struct {
		uint8_t batch;
		uint16_t busy, skip;
	} before[] = { { 1, 0, 0 }, { 3, 4, 0 }, { 8, 0, 0 }, { 8, 9, 2 } };
	char path[STEPS + 1];

	for (unsigned kind = RINGS_AT_END; kind <= PEEKS; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
			struct model m;

			model_init(&m, 8);
			m.cq.pace.batch = before[i].batch;
			m.cq.pace.skip = before[i].skip;
			m.cq.busy = before[i].busy;
			explore(&m, kind, path, 0);
		}
	}
	assert_true(states > 100000);
}

/* ---- what is learned ---- */

/* One command at a time: each at once, whatever the host's pace. */
static void
test_one_at_a_time(void **state)
{
	struct model m;

	model_init(&m, 64);
	model_at(&m);
	for (unsigned i = 0; i < 1000; i++) {
		m.cq.busy = 1;
		post(&m);
		assert_int_equal(look(&m), PACE_NOW);
		m.now += i * 100;
		while (host_can(&m, RINGS_AT_END))
			host_step(&m, RINGS_AT_END);
	}
}

/*
 * A host that is never idle: it submits a command every 20 us, each is completed 15 us later, and an
 * interrupt is taken 60 us after it was raised. Gives the interrupts for @n of them.
 */
static unsigned
busy_host(struct model *m, unsigned n)
{
	unsigned before = m->interrupts;
	uint64_t taken_at = 0;

	for (unsigned i = 0; i < n; i++) {
		m->cq.busy++;
		for (unsigned r = 0; r < 4; r++) {
			if (r == 3)
				post(m);
			look(m);
			if (m->irq && !taken_at)
				taken_at = m->now + 60 * US;
			if (!taken_at || m->now < taken_at)
				continue;
			taken_at = 0;
			while (host_can(m, RINGS_AT_END))
				host_step(m, RINGS_AT_END);
		}
	}
	return m->interrupts - before;
}

static void
test_batches(void **state)
{
	struct model m;

	model_init(&m, 64);
	model_at(&m);
	busy_host(&m, 200);
	assert_in_range(m.cq.pace.batch, 4, 8);
	assert_in_range(busy_host(&m, 1000), 60, 260);
	/* It goes on with one at a time: that is noticed soon. */
	m.interrupts = 0;
	for (unsigned i = 0; i < 100; i++) {
		unsigned rounds = 0;

		while (host_can(&m, RINGS_AT_END))
			host_step(&m, RINGS_AT_END);
		m.cq.busy = 1;
		post(&m);
		while (look(&m) == PACE_LATER)
			rounds++;
		assert_true(rounds <= HOLD_MAX_NS / ROUND);
		if (i > 3)
			assert_int_equal(rounds, 0);
	}
}

/* A host that does not tell its head for long does not pay for it again and again. */
static void
test_late_heads(void **state)
{
	unsigned held = 0;
	struct model m;

	model_init(&m, 64);
	model_at(&m);
	for (unsigned i = 0; i < 4000; i++) {
		m.cq.busy = 1;
		post(&m);
		while (look(&m) == PACE_LATER)
			held++;
		while (host_can(&m, RINGS_LATE))
			host_step(&m, RINGS_LATE);
	}
	assert_true(held < 4000 / 4); /* in rounds */
}

/* ---- in a controller ---- */

static const struct nvme_sqe flush = { .opcode = 0, .nsid = 1 };

/* A completion in a round of its own. */
static void
complete(struct guest *g)
{
	struct nvme_sq *sq = g->ctrl->group.sqs[1];

	if (sq->cold) /* after a sleep: a round may leave it out */
		sq_heat(sq);
	guest_submit(g, 1, flush);
	guest_step(g, 1);
}

static void
hold_for_ms(struct guest *g, unsigned ms)
{
	g->ctrl->group.cqs[1]->irq_deadline = reactor_now() + ms * 1000000ull;
}

static void
test_consuming(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct reactor_poller *p = &core_of(g->r)->poller;
	int fd = bind_vector(g, IRQ_MSIX, 1);
	struct nvme_cqe cqe;

	complete(g);
	assert_int_equal(irqs_seen(fd), 1);
	complete(g); /* not yet taken what it was told of */
	hold_for_ms(g, 10000);
	guest_step(g, 5);
	assert_int_equal(irqs_seen(fd), 0);
	assert_int_equal(p->sleep(p), 0);    /* no sleep on it */
	assert_true(guest_take(g, 1, &cqe)); /* that, and no more */
	guest_step(g, 1);
	assert_int_equal(irqs_seen(fd), 1);
	complete(g);
	hold_for_ms(g, 10000);
	guest_step(g, 1);
	assert_true(guest_take(g, 1, &cqe));
	assert_true(guest_take(g, 1, &cqe)); /* all */
	guest_step(g, 5);
	assert_int_equal(irqs_seen(fd), 0);
	complete(g);
	assert_int_equal(irqs_seen(fd), 1);
	complete(g); /* nothing moves: in time */
	guest_run_ms(g, 2);
	assert_int_equal(irqs_seen(fd), 1);
	close(fd);
}

/* Coalescing Disable of the vector, and the listener's option: at once, always. */
static void
test_at_once(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sqe cd = { .opcode = 9, .cdw10 = 9, .cdw11 = 1 << 16 | 1 };
	int fd = bind_vector(g, IRQ_MSIX, 1);

	if (!g->opts.plain_irq) {
		complete(g);
		complete(g);
		hold_for_ms(g, 10000);
		guest_step(g, 1);
		assert_int_equal(irqs_seen(fd), 1);
		assert_int_equal(guest_cmd(g, 0, cd, NULL), 0);
		guest_step(g, 1); /* what is held back is due */
		assert_int_equal(irqs_seen(fd), 1);
	}
	for (unsigned i = 0; i < 20; i++) {
		complete(g);
		assert_int_equal(irqs_seen(fd), 1);
	}
	close(fd);
}

static int
setup_plain(void **state)
{
	static const struct guest_opts opts = { .bdev = "disk",
						.plain_irq = true };

	return world_new(state, &opts, true);
}

static void
test_masked(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_MSIX, 1);
	struct nvme_cqe cqe;

	assert_int_equal(irq_mask(g->irqs, IRQ_MSIX, 1, 1, true), 0);
	complete(g);
	complete(g);
	guest_run_ms(g, 2);
	assert_int_equal(irqs_seen(fd), 0);
	assert_int_equal(irq_mask(g->irqs, IRQ_MSIX, 1, 1, false), 0);
	assert_int_equal(irqs_seen(fd), 1);
	complete(g);
	guest_run_ms(g, 2);
	assert_int_equal(irqs_seen(fd), 1);
	for (unsigned i = 0; i < 3; i++)
		assert_true(guest_take(g, 1, &cqe));
	close(fd);
}

/* A head that is none holds nothing back for long, and is reported. */
static void
test_bad_head(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	int fd = bind_vector(g, IRQ_MSIX, 1);

	complete(g);
	assert_int_equal(irqs_seen(fd), 1);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t errors = g->ctrl->error_count;

		g->db[3] = 0xffffff00u + i;
		complete(g);
		guest_run_ms(g, 1);
		assert_int_equal(irqs_seen(fd), 1);
		assert_true(g->ctrl->error_count > errors);
	}
	close(fd);
}

/* The reactor is told for how long hosts go on by themselves: it naps only where they do. */
static void
test_naps(void **state)
{
	static const struct {
		const char *name;
		uint8_t batch;
		uint64_t gap_ns;     /* between entries */
		uint32_t count;	     /* entries an interrupt */
		uint32_t busy, vary; /* commands besides: always, at times */
		uint32_t nap_ns;
	} cases[] = {
		{ "an emulated guest", 8, 50 * US, 8, 1, 6, 200 * US },
		{ "a batch", 4, 20 * US, 3, 6, 6, 80 * US },
		{ "no longer than that", 8, 150 * US, 8, 1, 6, 200 * US },
		{ "has sent all that it has", 8, 50 * US, 4, 8, 0, 30 * US },
		{ "has little to send", 8, 50 * US, 4, 1, 6, 0 },
		{ "a fast host", 8, 4 * US, 32, 1, 6, 0 },
		{ "waits for each", 1, 50 * US, 1, 0, 0, 0 },
		{ "with pauses", 8, 1000 * US, 8, 1, 6, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct nvme_core core = { .poller.nap_ns = 1 };
		struct nvme_cq cq = { .depth = 64 };
		uint64_t now = 1000000;

		pace_init(&cq);
		cq.pace.batch = cases[i].batch;
		for (unsigned n = 0; n < 1000; n++) {
			cq.unsignalled = cases[i].count;
			cq.busy = cases[i].busy + n * 5 % (cases[i].vary + 1);
			pace_fetched(&cq);
			now += cases[i].count * cases[i].gap_ns;
			pace_nap(&core, &cq, now);
		}
		if (core.poller.nap_ns != cases[i].nap_ns)
			fail_msg("%s: %u", cases[i].name, core.poller.nap_ns);
		cq.pace.batch = 1;
		for (unsigned n = 0; n < 8; n++)
			pace_nap(&core, &cq, now);
		assert_int_equal(core.poller.nap_ns, 0);
	}
}

int
pace_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_order),
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_late_heads),
		cmocka_unit_test_setup_teardown(test_consuming, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_at_once, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_at_once, setup_plain,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_masked, world_setup,
						world_teardown),
		cmocka_unit_test(test_naps),
		cmocka_unit_test_setup_teardown(test_bad_head, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
